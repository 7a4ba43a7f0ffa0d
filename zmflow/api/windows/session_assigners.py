"""Session windows: they end when a key was quiet for a gap. Each record begins one; those that meet merge."""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable
from typing import Any, Self

from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.windows.assigner import MergingWindowAssigner, WindowAssigner
from zmflow.api.windows.time_assigners import refuse_missing_timestamp
from zmflow.api.windows.time_triggers import EventTimeTrigger, ProcessingTimeTrigger
from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.window import NO_TIMESTAMP, TimeWindow
from zmflow.errors import JobGraphError, ZmflowError

__all__ = [
    "DynamicEventTimeSessionWindows",
    "DynamicProcessingTimeSessionWindows",
    "EventTimeSessionWindows",
    "ProcessingTimeSessionWindows",
    "SessionWindowTimeGapExtractor",
]


class SessionWindowTimeGapExtractor(ABC):
    """How long the session of a record lasts when no other record follows."""

    @abstractmethod
    def extract(self, element: Any) -> int:
        """The gap in milliseconds, more than 0."""


_Extractor = SessionWindowTimeGapExtractor | Callable[[Any], int]


class _Session(MergingWindowAssigner[Any, TimeWindow]):
    def merge_windows(
        self, windows: Iterable[TimeWindow], callback: MergingWindowAssigner.MergeCallback[TimeWindow]
    ) -> None:
        TimeWindow.merge_windows(windows, callback)


class _FixedGap(_Session):
    def __init__(self, session_gap: int) -> None:
        if session_gap <= 0:
            raise JobGraphError(
                f"{type(self).__name__} has a gap of {session_gap} ms.", hint="The gap must be positive."
            )
        self.session_gap = session_gap

    @classmethod
    def with_gap(cls, size: TimeAmount) -> Self:
        """Sessions end when the key was quiet this long."""
        return cls(whole_millis(size, "with_gap()"))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.session_gap})"


class _DynamicGap(_Session):
    def __init__(self, extractor: _Extractor) -> None:
        self._extractor = extractor

    @classmethod
    def with_dynamic_gap(cls, extractor: _Extractor) -> Self:
        """Sessions whose gap depends on the record: an extractor, or a function that returns milliseconds."""
        return cls(extractor)

    def _window(self, element: Any, instant: int) -> TimeWindow:
        extractor = self._extractor
        gap_ms = (
            extractor.extract(element)
            if isinstance(extractor, SessionWindowTimeGapExtractor)
            else extractor(element)
        )
        if gap_ms <= 0:
            raise ZmflowError(
                f"A session gap of {gap_ms} ms was extracted.",
                detail=f"{element!r:.200}",
                hint="The gap must be positive.",
            )
        return TimeWindow(instant, instant + gap_ms)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class EventTimeSessionWindows(_FixedGap):
    """Sessions of event time with a fixed gap."""

    @staticmethod
    def with_dynamic_gap(extractor: _Extractor) -> DynamicEventTimeSessionWindows:
        """Sessions whose gap depends on the record: an extractor, or a function that returns milliseconds."""
        return DynamicEventTimeSessionWindows(extractor)

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        if timestamp == NO_TIMESTAMP:
            raise refuse_missing_timestamp(self)
        return (TimeWindow(timestamp, timestamp + self.session_gap),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return EventTimeTrigger()

    def is_event_time(self) -> bool:
        return True


class ProcessingTimeSessionWindows(_FixedGap):
    """Sessions of processing time with a fixed gap."""

    @staticmethod
    def with_dynamic_gap(extractor: _Extractor) -> DynamicProcessingTimeSessionWindows:
        """Sessions whose gap depends on the record: an extractor, or a function that returns milliseconds."""
        return DynamicProcessingTimeSessionWindows(extractor)

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        now_ms = context.get_current_processing_time()
        return (TimeWindow(now_ms, now_ms + self.session_gap),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return ProcessingTimeTrigger()

    def is_event_time(self) -> bool:
        return False


class DynamicEventTimeSessionWindows(_DynamicGap):
    """Sessions of event time whose gap depends on the record."""

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        if timestamp == NO_TIMESTAMP:
            raise refuse_missing_timestamp(self)
        return (self._window(element, timestamp),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return EventTimeTrigger()

    def is_event_time(self) -> bool:
        return True


class DynamicProcessingTimeSessionWindows(_DynamicGap):
    """Sessions of processing time whose gap depends on the record."""

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        return (self._window(element, context.get_current_processing_time()),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return ProcessingTimeTrigger()

    def is_event_time(self) -> bool:
        return False
