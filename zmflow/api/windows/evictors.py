"""Evictors: take records out of a window before its function sees them, or after. Java has them, PyFlink not.

A window with an evictor keeps all its records, also for ``reduce`` and ``aggregate``, which are then computed
when it fires, from the records that are left. What is evicted is gone for later firings as well.
"""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from zmflow.api.metric_group import MetricGroup
from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.windows.window import NO_TIMESTAMP, Window
from zmflow.errors import JobGraphError

__all__ = ["CountEvictor", "DeltaEvictor", "Evictor", "TimeEvictor", "TimestampedValue"]

T = TypeVar("T")
W = TypeVar("W", bound=Window)


@dataclass(frozen=True, slots=True)
class TimestampedValue(Generic[T]):
    """A record in a window, with its timestamp."""

    value: T
    timestamp: int = NO_TIMESTAMP

    def get_value(self) -> T:
        """The record."""
        return self.value

    def get_timestamp(self) -> int:
        """Its timestamp, in milliseconds."""
        return self.timestamp

    def has_timestamp(self) -> bool:
        """Whether it has one."""
        return self.timestamp != NO_TIMESTAMP


class Evictor(ABC, Generic[T, W]):
    """Takes records out of the list it is given, which is in order of arrival: ``del elements[:2]``."""

    class EvictorContext(ABC):
        """What time it is."""

        @abstractmethod
        def get_current_processing_time(self) -> int:
            """The clock, milliseconds since 1970."""

        @abstractmethod
        def get_current_watermark(self) -> int:
            """How far event time has come."""

        @abstractmethod
        def get_metric_group(self) -> MetricGroup:
            """The metric group of the operator."""

    def evict_before(
        self, elements: list[TimestampedValue[T]], size: int, window: W, evictor_context: EvictorContext
    ) -> None:
        """Called before the window function, with the records of the window and how many there are."""

    def evict_after(
        self, elements: list[TimestampedValue[T]], size: int, window: W, evictor_context: EvictorContext
    ) -> None:
        """Called after the window function."""


class _BeforeOrAfter(Evictor[Any, Window]):
    """Evicts by one rule, at one of the two times."""

    def __init__(self, do_evict_after: bool) -> None:
        self.do_evict_after = do_evict_after

    def evict_before(
        self,
        elements: list[TimestampedValue[Any]],
        size: int,
        window: Window,
        evictor_context: Evictor.EvictorContext,
    ) -> None:
        if not self.do_evict_after:
            self.evict(elements, size)

    def evict_after(
        self,
        elements: list[TimestampedValue[Any]],
        size: int,
        window: Window,
        evictor_context: Evictor.EvictorContext,
    ) -> None:
        if self.do_evict_after:
            self.evict(elements, size)

    @abstractmethod
    def evict(self, elements: list[TimestampedValue[Any]], size: int) -> None:
        """The rule."""


class CountEvictor(_BeforeOrAfter):
    """Keeps the last records, this many."""

    def __init__(self, max_count: int, do_evict_after: bool = False) -> None:
        super().__init__(do_evict_after)
        if isinstance(max_count, bool) or not isinstance(max_count, int) or max_count < 1:
            raise JobGraphError(f"A CountEvictor keeps {max_count!r} records.", hint="It must be at least 1.")
        self.max_count = max_count

    @staticmethod
    def of(max_count: int, do_evict_after: bool = False) -> CountEvictor:
        """Keep the last ``max_count`` records."""
        return CountEvictor(max_count, do_evict_after)

    def evict(self, elements: list[TimestampedValue[Any]], size: int) -> None:
        del elements[: max(size - self.max_count, 0)]


class TimeEvictor(_BeforeOrAfter):
    """Keeps the records of the last stretch of time before the newest one.

    Records without timestamps, of a stream that has none, all stay.
    """

    def __init__(self, window_size: int, do_evict_after: bool = False) -> None:
        super().__init__(do_evict_after)
        self.window_size = window_size

    @staticmethod
    def of(window_size: TimeAmount, do_evict_after: bool = False) -> TimeEvictor:
        """Keep the records newer than the newest less ``window_size``."""
        return TimeEvictor(whole_millis(window_size, "of()"), do_evict_after)

    def evict(self, elements: list[TimestampedValue[Any]], size: int) -> None:
        if not elements or not elements[0].has_timestamp():
            return
        cutoff = max(element.timestamp for element in elements) - self.window_size
        elements[:] = [element for element in elements if element.timestamp > cutoff]


class DeltaEvictor(_BeforeOrAfter):
    """Keeps the records that are nearer to the last one than a threshold."""

    def __init__(
        self, threshold: float, delta_function: Callable[[Any, Any], float], do_evict_after: bool = False
    ) -> None:
        super().__init__(do_evict_after)
        self.threshold = threshold
        self.delta_function = delta_function

    @staticmethod
    def of(
        threshold: float, delta_function: Callable[[Any, Any], float], do_evict_after: bool = False
    ) -> DeltaEvictor:
        """Keep records whose ``delta_function(record, last record)`` is less than the threshold."""
        return DeltaEvictor(threshold, delta_function, do_evict_after)

    def evict(self, elements: list[TimestampedValue[Any]], size: int) -> None:
        if elements:
            last = elements[-1].value
            elements[:] = [
                element for element in elements if self.delta_function(element.value, last) < self.threshold
            ]
