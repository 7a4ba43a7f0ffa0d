"""``MetricGroup``: where the functions of an operator register their metrics.

``RuntimeContext.get_metrics_group()`` is the operator's own; groups in it are the user's.

>>> group = MetricGroup(operator="Parse")
>>> bad = group.counter("bad_lines")
>>> bad.inc()
>>> group.counter("bad_lines").get_count()
1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from zmflow.api.metric_registry import MetricKey, MetricRegistry
from zmflow.api.metrics import Counter, Distribution, Gauge, Meter, encodable

__all__ = ["MetricGroup", "operator_scopes"]


class MetricGroup:
    """Registers metrics under the operator's name and the user's groups.

    To ask twice for the same name is to get the same metric. Ask in ``open`` and keep what comes.

    Args:
        registry: the task's metrics.
        operator: the operator's name in the chain; empty for what belongs to the task.
        groups: the user's groups around this one.
    """

    __slots__ = ("_groups", "_operator", "_registry")

    def __init__(
        self,
        registry: MetricRegistry | None = None,
        operator: str = "",
        groups: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self._registry = MetricRegistry() if registry is None else registry
        self._operator = operator
        self._groups = groups

    def add_group(self, name: str, extra: str | None = None) -> MetricGroup:
        """The group of this name inside this one. With ``extra`` the name is a key, as of a label.

        >>> tables = MetricGroup().add_group("table", "users")
        >>> hits = tables.counter("hits")  # table.users.hits
        """
        group = (encodable(str(name)), "" if extra is None else encodable(str(extra)))
        return MetricGroup(self._registry, self._operator, (*self._groups, group))

    def counter(self, name: str) -> Counter:
        """A count: ``inc()``, ``dec()``. ``zmflow info`` shows the sum of all subtasks."""
        return self._registry.register(self._key(name), Counter())

    def gauge(self, name: str, obj: Callable[[], object]) -> None:
        """A value that the engine asks for, about once a second.

        It asks on the task's thread between two batches, so ``obj`` may read what the function keeps; while
        it runs the task waits. Numbers are shown as they are, None not at all, everything else by its text.
        What it raises is logged once.

        >>> cache = {}
        >>> MetricGroup().gauge("cache_size", lambda: len(cache))
        """
        self._registry.register(self._key(name), Gauge(obj))

    def meter(self, name: str, time_span_in_seconds: int = 60) -> Meter:
        """A count of events with their rate: ``mark_event()``. The rates of all subtasks are added up."""
        return self._registry.register(self._key(name), Meter(time_span_in_seconds, self._registry.clock))

    def distribution(self, name: str) -> Distribution:
        """Count, sum, least, greatest and mean of values: ``update(value)``."""
        return self._registry.register(self._key(name), Distribution())

    def of_operator(self, operator: str) -> MetricGroup:
        """The group of one of the task's operators."""
        return MetricGroup(self._registry, operator)

    def _key(self, name: str) -> MetricKey:
        return MetricKey(self._operator, self._groups, encodable(str(name)))


def operator_scopes(names: Sequence[str]) -> list[str]:
    """What the operators of a chain are called in their metrics: by their names, made distinct.

    >>> operator_scopes(["Source", "Map", "Map"])
    ['Source', 'Map', 'Map (2)']
    """
    return [
        f"{name} ({names[:index].count(name) + 1})" if name in names[:index] else name
        for index, name in enumerate(names)
    ]
