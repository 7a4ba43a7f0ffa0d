"""Metrics on their way: what a task says of each of its metrics, and what those of a vertex come to.

They evolve as messages do: fields are only appended, with a default.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

__all__ = ["GaugeValue", "MetricKind", "MetricSample", "Number", "VertexMetric", "identifier", "sized"]

INT_MAX = 2**63 - 1
"""Whole numbers beyond it travel as floats: MessagePack has none that are larger than twice this."""

MetricKind: TypeAlias = Literal["counter", "gauge", "meter", "distribution"]

Number: TypeAlias = int | float

GaugeValue: TypeAlias = int | float | str


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class MetricSample(_Struct, frozen=True):
    """One metric of one task at one moment. Which fields count is up to the kind.

    =============  ==========================
    counter        count
    meter          count, rate
    distribution   count, sum, min, max
    gauge          value
    =============  ==========================
    """

    operator: str  # distinct within the chain; empty for what belongs to the task
    groups: list[tuple[str, str]]  # of the user, outermost first: (name, "") or (key, value)
    name: str
    kind: MetricKind
    count: Number = 0
    rate: Number = 0  # per second, over the meter's time span
    sum: Number = 0
    min: Number = 0
    max: Number = 0
    value: GaugeValue = 0


class VertexMetric(_Struct, frozen=True):
    """One metric of all subtasks of a vertex. Fields that its kind does not have are None.

    Counts and sums are added up, and so are the rates of meters; distributions are merged. A gauge has no sum
    that means something for every gauge, so it keeps the value of each subtask beside the least and greatest.
    """

    operator: str
    groups: list[tuple[str, str]]
    name: str
    kind: MetricKind
    subtasks: int  # how many of them report it
    count: Number | None = None
    rate: Number | None = None
    sum: Number | None = None
    min: Number | None = None  # of a gauge: of those values that are numbers
    max: Number | None = None
    mean: Number | None = None
    values: list[tuple[int, GaugeValue]] = []  # of a gauge: (subtask index, value)


def sized(number: Number) -> Number:
    """The number, of a size that can travel.

    >>> sized(2**62), sized(2**70)
    (4611686018427387904, 1.1805916207174113e+21)
    """
    if isinstance(number, float) or abs(number) <= INT_MAX:
        return number
    try:
        return float(number)
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def identifier(groups: list[tuple[str, str]] | tuple[tuple[str, str], ...], name: str) -> str:
    """A metric's name with its groups, as Flink writes it.

    >>> identifier([("cache", ""), ("table", "users")], "hits")
    'cache.table.users.hits'
    """
    parts = [part for key, value in groups for part in (key, value) if part]
    return ".".join([*parts, name])
