"""The kinds of metrics: what a function counts and measures while it runs.

They are plain objects of the thread that uses them; other threads read them at any moment. So everything a
reader needs together is replaced in one assignment, and nothing is locked.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Callable
from dataclasses import dataclass

from zmflow.protocol.metric_samples import GaugeValue, Number, sized

__all__ = [
    "Counter",
    "Distribution",
    "DistributionValue",
    "Gauge",
    "Meter",
    "MeterValue",
    "Metric",
    "as_number",
    "encodable",
]

GAUGE_TEXT_LENGTH_MAX = 200
"""Characters of a gauge's text that are kept: what a line of a terminal shows, about twice."""

RATE_MARKS = 12
"""How many parts the time span of a meter has: its rate is over the span or up to a twelfth more. Flink
moves on every 5 s of 60."""

RATE_TIME_LEAST_S = 1.0
"""Least time a rate is over, so that a meter's first event does not make a thousand a second."""


class Metric:
    """What all metrics are. They come from a ``MetricGroup``."""

    __slots__ = ()


class Counter(Metric):
    """A count that goes up, or down.

    >>> counter = Counter()
    >>> counter.inc()
    >>> counter.inc(5)
    >>> counter.dec(2)
    >>> counter.get_count()
    4
    """

    __slots__ = ("_count",)

    def __init__(self) -> None:
        self._count = 0

    def inc(self, n: int = 1) -> None:
        """Count ``n`` more."""
        self._count += n

    def dec(self, n: int = 1) -> None:
        """Count ``n`` less."""
        self._count -= n

    def get_count(self) -> int:
        """The count of this subtask."""
        return self._count


@dataclass(frozen=True, slots=True)
class MeterValue:
    """What a meter shows: all events, and events per second over its time span."""

    count: int
    rate: float


class Meter(Metric):
    """Counts events and says how many there are per second. To mark one costs what counting costs: no clock
    is read.

    Args:
        time_span_in_seconds: how far back the rate looks.
        clock: seconds, from any beginning.

    >>> meter = Meter(60, clock=iter([0.0, 10.0, 20.0]).__next__)
    >>> meter.mark_event(30)
    >>> meter.get_rate()
    3.0
    >>> meter.mark_event(10)
    >>> meter.get_rate(), meter.get_count()
    (2.0, 40)
    """

    __slots__ = ("_clock", "_count", "_marks", "_time_span_s")

    def __init__(self, time_span_in_seconds: int = 60, clock: Callable[[], float] = lambda: 0.0) -> None:
        self._time_span_s = time_span_in_seconds
        self._clock = clock
        self._count = 0
        # (time, count), oldest first; at most one that is older than the time span
        self._marks: tuple[tuple[float, int], ...] = ((clock(), 0),)

    def mark_event(self, value: int = 1) -> None:
        """So many events have happened."""
        self._count += value

    def get_count(self) -> int:
        """The events of this subtask."""
        return self._count

    def get_rate(self) -> float:
        """Events per second over the time span, or since the meter is there."""
        now, count, marks = self._clock(), self._count, self._marks
        outdated = sum(1 for time, _ in marks[1:] if time <= now - self._time_span_s)
        marks = marks[outdated:]
        if now - marks[-1][0] >= self._time_span_s / RATE_MARKS:
            marks = (*marks, (now, count))
        self._marks = marks
        since, counted = marks[0]
        return (count - counted) / max(now - since, RATE_TIME_LEAST_S)

    @property
    def value(self) -> MeterValue:
        """What it shows now."""
        return MeterValue(self._count, self.get_rate())


@dataclass(frozen=True, slots=True)
class DistributionValue:
    """What a distribution shows; everything is 0 before the first value."""

    count: int = 0
    sum: float = 0
    min: float = 0
    max: float = 0

    @property
    def mean(self) -> float:
        """The arithmetic mean.

        >>> DistributionValue(count=4, sum=10, min=1, max=5).mean
        2.5
        """
        return self.sum / self.count if self.count else 0.0


class Distribution(Metric):
    """How many values there were, their sum, the least, the greatest and the mean.

    >>> sizes = Distribution()
    >>> for size in (3, 1, 5):
    ...     sizes.update(size)
    >>> sizes.value, sizes.value.mean
    (DistributionValue(count=3, sum=9, min=1, max=5), 3.0)
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: tuple[int, float, float, float] = (0, 0, math.inf, -math.inf)

    def update(self, value: float) -> None:
        """Take a value."""
        count, total, least, most = self._seen
        self._seen = (
            count + 1,
            total + value,
            value if value < least else least,
            value if value > most else most,
        )

    @property
    def value(self) -> DistributionValue:
        """What it shows now."""
        seen = self._seen
        return DistributionValue(*seen) if seen[0] else DistributionValue()


class Gauge(Metric):
    """A value that a function of the user answers with when it is asked.

    >>> gauge = Gauge(lambda: [1, 2])
    >>> gauge.refresh()
    >>> gauge.value
    '[1, 2]'
    """

    __slots__ = ("_call", "failed", "value")

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call
        self.value: GaugeValue | None = None  # before it was asked, and when it had nothing to say
        self.failed = False  # ever

    def refresh(self) -> None:
        """Ask. Runs code of the user, which may raise anything; then the gauge has no value."""
        self.value = None
        self.value = _gauge_value(self._call())


def _gauge_value(answer: object) -> GaugeValue | None:
    """Numbers stay numbers, of whatever library; everything else is text. None is no value."""
    if answer is None:
        return None
    if not isinstance(answer, str):
        try:
            number = as_number(answer)
        except (TypeError, ValueError, OverflowError):
            pass
        else:
            if math.isfinite(number):
                return number
    text = encodable(str(answer))
    return text if len(text) <= GAUGE_TEXT_LENGTH_MAX else text[: GAUGE_TEXT_LENGTH_MAX - 1] + "…"


def as_number(value: object) -> Number:
    """The number as Python has it, of a size that can travel.

    Raises:
        TypeError: it is no number.

    >>> as_number(True), as_number(2**70)
    (1, 1.1805916207174113e+21)
    """
    if not isinstance(value, numbers.Number):
        raise TypeError(f"{value!r} is no number.")
    try:
        whole = int(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        return float(value)  # type: ignore[arg-type]
    return sized(whole)


def encodable(text: str) -> str:
    """The text as it can travel: what is no character becomes a question mark.

    >>> encodable("a\\ud800")
    'a?'
    """
    return text.encode("utf-8", "replace").decode("utf-8")
