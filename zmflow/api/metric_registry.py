"""The metrics of one task, by name.

The task's thread registers them and asks the gauges; whoever samples may be another thread. Nothing that is
wrong with a metric fails a task: a metric that cannot be shown works all the same, and the log says why once.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from zmflow.api.metrics import Gauge, Metric
from zmflow.protocol.metric_samples import identifier

__all__ = ["MetricKey", "MetricRegistry"]

METRICS_PER_TASK_MAX = 200
"""A sample is about 80 bytes and travels four times a second: 200 of them are 64 KB/s of each task. Who has
more has probably made one for each key."""

IDENTIFIER_LENGTH_MAX = 256
"""Characters of operator, groups and name together; limits a sample as the number limits the samples."""

GAUGE_INTERVAL_S = 1.0
"""How often gauges are asked: they are code of the user that runs between two batches. Also how often a task
without input wakes for them."""

M = TypeVar("M", bound=Metric)


class MetricKey(NamedTuple):
    """Which metric of a task: operator, the user's groups as (name, "") or (key, value), name."""

    operator: str
    groups: tuple[tuple[str, str], ...]
    name: str

    def __str__(self) -> str:
        parts = (self.operator, identifier(self.groups, self.name))
        return ".".join(part for part in parts if part)


class MetricRegistry:
    """Every metric that is shown.

    Args:
        clock: seconds from any beginning, for the rates of meters and for when gauges are due.
        warn: takes a sentence for the log.
    """

    def __init__(
        self, clock: Callable[[], float] = lambda: 0.0, warn: Callable[[str], object] = lambda _: None
    ) -> None:
        self.clock = clock
        self.gauges_due_s = float("inf")
        """When ``ask_due_gauges`` has something to do; never, while there are no gauges."""
        self._warn = warn
        self._warned: set[str] = set()
        self._metrics: dict[MetricKey, Metric] = {}

    def register(self, key: MetricKey, metric: M) -> M:
        """The metric of this name: the given one, or that of the same kind which is there already.

        Gauges are not shared, because each asks a function of its own: the first stays.
        """
        known = self._metrics.get(key)
        if type(known) is type(metric) and not isinstance(known, Gauge):
            return known
        if known is not None:
            kind = type(known).__name__.lower()
            self._warn_once("name", f"The metric {key} is not shown: its name belongs to another {kind}.")
        elif len(str(key)) > IDENTIFIER_LENGTH_MAX:
            self._warn_once(
                "length",
                f"The metric {str(key)[:IDENTIFIER_LENGTH_MAX]}… is not shown, and neither are others whose "
                f"names have more than {IDENTIFIER_LENGTH_MAX} characters with operator and groups.",
            )
        elif len(self._metrics) >= METRICS_PER_TASK_MAX:
            self._warn_once(
                "number",
                f"The metric {key} and those after it are not shown: a task has {METRICS_PER_TASK_MAX} at "
                "most. Has the function one for each key?",
            )
        else:
            self._metrics[key] = metric
            if isinstance(metric, Gauge):
                self.gauges_due_s = float("-inf")
        return metric

    def metrics(self) -> list[tuple[MetricKey, Metric]]:
        """Every metric, in the order they were registered; may be called from any thread."""
        return list(self._metrics.items())

    def ask_due_gauges(self) -> None:
        """Ask the gauges when it is time to."""
        if self.gauges_due_s != float("inf") and self.clock() >= self.gauges_due_s:
            self.gauges_due_s = self.clock() + GAUGE_INTERVAL_S
            self.ask_gauges()

    def ask_gauges(self) -> None:
        """Ask every gauge for its value; on the task's thread, where it cannot race with its function."""
        for key, gauge in self.metrics():
            if isinstance(gauge, Gauge):
                try:
                    gauge.refresh()
                except Exception as error:  # noqa: BLE001 - whatever user code raises
                    if not gauge.failed:
                        gauge.failed = True
                        reason = "".join(traceback.format_exception_only(error)).strip()
                        self._warn(f"The gauge {key} is not shown while it raises: {reason}")

    def _warn_once(self, problem: str, sentence: str) -> None:
        if problem not in self._warned:
            self._warned.add(problem)
            self._warn(sentence)
