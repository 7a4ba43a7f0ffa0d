"""``WatermarkStrategy``: where the timestamps of records come from, and how far event time is.

A watermark of *t* says that no record with a timestamp of *t* or less will come, apart from late ones. A
strategy is a value: each ``with_`` method returns a new one.

>>> strategy = (
...     WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(5))
...     .with_timestamp_assigner(lambda value, record_timestamp: value[1])
...     .with_idleness(Duration.of_minutes(1))
... )
>>> strategy.bound_ms, strategy.idle_timeout_ms
(5000, 60000)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

from zmflow.api.checked_text import checked_text
from zmflow.api.time import Duration, TimeAmount, whole_millis
from zmflow.config.options import AUTO_WATERMARK_INTERVAL
from zmflow.errors import JobGraphError

__all__ = [
    "NO_TIMESTAMP",
    "TimestampAssigner",
    "WatermarkAlignment",
    "WatermarkGenerator",
    "WatermarkOutput",
    "WatermarkStrategy",
    "WatermarksOperator",
]

NO_TIMESTAMP = -(2**63)
"""What an assigner is told of a record that has no timestamp yet; Flink's Long.MIN_VALUE."""

_DEFAULT_UPDATE_INTERVAL = Duration.of_seconds(1)  # Flink's

T = TypeVar("T")
IN = TypeVar("IN", contravariant=True)


class TimestampAssigner(ABC, Generic[IN]):
    """The timestamp of a record, in milliseconds since 1970. A plain function will do, too."""

    @abstractmethod
    def extract_timestamp(self, value: IN, record_timestamp: int) -> int:
        """The timestamp of ``value``; ``record_timestamp`` is the one it has, or ``NO_TIMESTAMP``."""


class WatermarkOutput(Protocol):
    """Where a generator says how far event time is."""

    def emit_watermark(self, watermark_ms: int) -> None:
        """No record with a timestamp of this or less will come. One that is not above the last is ignored."""
        ...

    def mark_idle(self) -> None:
        """There is nothing for now: others need not wait for this stream."""
        ...

    def mark_active(self) -> None:
        """There is something again; a watermark says so as well."""
        ...


class WatermarkGenerator(ABC, Generic[IN]):
    """Makes the watermarks of a stream. One object per subtask, made by the factory of ``for_generator``.

    >>> class EndOfDay(WatermarkGenerator[dict]):
    ...     def on_event(self, event, event_timestamp, output):
    ...         if event["kind"] == "end of day":
    ...             output.emit_watermark(event_timestamp)
    >>> strategy = WatermarkStrategy.for_generator(EndOfDay)
    """

    @abstractmethod
    def on_event(self, event: IN, event_timestamp: int, output: WatermarkOutput) -> None:
        """A record has passed. A watermark emitted here follows it at once."""

    def on_periodic_emit(self, output: WatermarkOutput) -> None:
        """Called every ``pipeline.auto-watermark-interval``: emit a watermark, or not."""


@dataclass(frozen=True, slots=True)
class WatermarkAlignment:
    """Sources of one group wait for each other.

    Args:
        group: its name; sources of a job that give the same name are in it together.
        max_drift_ms: how far a source may be ahead of the slowest one.
        update_interval_ms: how often sources say how far they are.
    """

    group: str
    max_drift_ms: int
    update_interval_ms: int


@dataclass(frozen=True, slots=True)
class WatermarkStrategy(Generic[T]):
    """Timestamps and watermarks of a stream. Made by its static methods, refined by ``with_`` methods.

    Args:
        bound_ms: the watermark follows the highest timestamp at this distance; None: it does not.
        generator_factory: makes the generator of a subtask, where the program has one of its own.
        timestamp_assigner: gives records their timestamps; None: they keep those they have.
        idle_timeout_ms: without a record for so long, the stream does not hold others back.
        alignment: which sources must not run ahead of each other.
    """

    bound_ms: int | None = None
    generator_factory: Callable[[], WatermarkGenerator[T]] | None = None
    timestamp_assigner: TimestampAssigner[T] | Callable[[T, int], int] | None = None
    idle_timeout_ms: int | None = None
    alignment: WatermarkAlignment | None = None

    @staticmethod
    def no_watermarks() -> WatermarkStrategy[Any]:
        """Event time stands still until the input ends: for jobs that live in processing time."""
        return WatermarkStrategy()

    @staticmethod
    def for_monotonous_timestamps() -> WatermarkStrategy[Any]:
        """For timestamps that never go back within a subtask: the watermark is right behind them."""
        return WatermarkStrategy(bound_ms=0)

    @staticmethod
    def for_bounded_out_of_orderness(max_out_of_orderness: TimeAmount) -> WatermarkStrategy[Any]:
        """For records that come out of order, but at most by this much."""
        call = "for_bounded_out_of_orderness()"
        return WatermarkStrategy(bound_ms=_millis_of(max_out_of_orderness, call, least=0))

    @staticmethod
    def for_generator(factory: Callable[[], WatermarkGenerator[T]]) -> WatermarkStrategy[T]:
        """Watermarks as a generator of the program's own makes them.

        Args:
            factory: makes one for each subtask; a ``WatermarkGenerator`` class, if it takes no arguments.
        """
        if isinstance(factory, WatermarkGenerator):
            raise JobGraphError(
                f"for_generator() takes what makes generators, not one: {factory!r}.",
                hint=f"Pass the class {type(factory).__name__}, or a function that makes one.",
            )
        if not callable(factory):
            raise JobGraphError(f"for_generator() takes a callable without arguments, not {factory!r}.")
        return WatermarkStrategy(generator_factory=factory)

    def with_timestamp_assigner(
        self, timestamp_assigner: TimestampAssigner[Any] | Callable[[Any, int], int]
    ) -> WatermarkStrategy[T]:
        """A record's timestamp is what this returns for ``(value, record_timestamp)``, in milliseconds."""
        given: object = timestamp_assigner
        if isinstance(given, type) and issubclass(given, TimestampAssigner):
            raise JobGraphError(
                f"with_timestamp_assigner() was given the class {given.__name__} itself.",
                hint=f"Make an object of it: {given.__name__}().",
            )
        if not isinstance(given, TimestampAssigner) and not callable(given):
            raise JobGraphError(
                "with_timestamp_assigner() takes a TimestampAssigner or a callable of (value, "
                f"record_timestamp), not {given!r}."
            )
        return replace(self, timestamp_assigner=timestamp_assigner)

    def with_idleness(self, idle_timeout: TimeAmount) -> WatermarkStrategy[T]:
        """Without a record for so long, the stream is idle and does not hold event time back."""
        return replace(self, idle_timeout_ms=_millis_of(idle_timeout, "with_idleness()", least=1))

    def with_watermark_alignment(
        self,
        watermark_group: str,
        max_allowed_watermark_drift: TimeAmount,
        update_interval: TimeAmount | None = None,
    ) -> WatermarkStrategy[T]:
        """Let a source pause while it is ahead of the slowest one of its group, all their subtasks counted.

        It is aligned where the strategy is in the source's own task: given to ``from_source``, or to a stream
        that is chained to its source. Elsewhere it has no effect, and the job says so once. Sources that are
        idle or have finished are not waited for. In BATCH mode nothing is aligned.

        Args:
            watermark_group: sources of the job that give the same name wait for each other.
            max_allowed_watermark_drift: how far ahead a source may be; looked at before each batch it reads.
            update_interval: how often sources say how far they are; by default every second.
        """
        call = "with_watermark_alignment()"
        return replace(
            self,
            alignment=WatermarkAlignment(
                checked_text(watermark_group, call),
                _millis_of(max_allowed_watermark_drift, call, least=0),
                _millis_of(update_interval or _DEFAULT_UPDATE_INTERVAL, call, least=1),
            ),
        )


@dataclass(frozen=True, slots=True)
class WatermarksOperator:
    """Gives records timestamps and makes watermarks.

    Args:
        strategy: how.
        interval_ms: how often a watermark is emitted, if it has grown; 0: never periodically.
        of_source: whether it is a part of the source before it, as ``from_source`` was given the strategy.
    """

    strategy: WatermarkStrategy[Any]
    interval_ms: int = AUTO_WATERMARK_INTERVAL.parse(AUTO_WATERMARK_INTERVAL.default_text)
    of_source: bool = False


def _millis_of(amount: TimeAmount, call: str, least: int) -> int:
    millis = whole_millis(amount, call)
    if millis < least:
        raise JobGraphError(f"{call} takes a time of at least {least} ms, not {amount!r}.")
    return millis
