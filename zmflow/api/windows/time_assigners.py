"""Tumbling and sliding windows of event and processing time, and ``GlobalWindows``.

Sizes are given as ``Time``, ``Duration`` or ``timedelta``. An offset moves where windows begin: windows of a
day begin at midnight UTC; with ``Time.hours(-8)`` at midnight in UTC+8.
"""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

import random
from collections.abc import Collection
from enum import Enum
from typing import Any, Self

from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.windows.assigner import WindowAssigner
from zmflow.api.windows.time_triggers import EndOfStreamTrigger, EventTimeTrigger, ProcessingTimeTrigger
from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.triggers import NeverTrigger
from zmflow.api.windows.window import NO_TIMESTAMP, GlobalWindow, TimeWindow
from zmflow.errors import JobGraphError

__all__ = [
    "GlobalWindows",
    "SlidingEventTimeWindows",
    "SlidingProcessingTimeWindows",
    "TumblingEventTimeWindows",
    "TumblingProcessingTimeWindows",
    "WindowStagger",
    "refuse_missing_timestamp",
]


def refuse_missing_timestamp(assigner: object) -> JobGraphError:
    """The error for a record without a timestamp in windows of event time."""
    return JobGraphError(
        f"A record without a timestamp reached {type(assigner).__name__}.",
        hint="Call assign_timestamps_and_watermarks() before key_by(), or use windows of processing time.",
    )


class WindowStagger(Enum):
    """Whether tumbling windows of all subtasks begin at once: spreading them spreads the work of firing.

    ALIGNED: all at once. RANDOM: each subtask at a moment of its own. NATURAL: with its first record.
    """

    ALIGNED = "aligned"
    RANDOM = "random"
    NATURAL = "natural"

    def get_stagger_offset(self, current_processing_time: int, size: int) -> int:
        """By how much windows of this size begin later."""
        if self is WindowStagger.NATURAL:
            return current_processing_time % size
        # Chance only spreads load; nothing that must be repeatable depends on it.
        return random.randrange(size) if self is WindowStagger.RANDOM else 0  # noqa: S311


class _Tumbling(WindowAssigner[Any, TimeWindow]):
    def __init__(self, size: int, offset: int = 0, stagger: WindowStagger = WindowStagger.ALIGNED) -> None:
        if size <= 0 or abs(offset) >= size:
            raise JobGraphError(
                f"{type(self).__name__} has a size of {size} ms and an offset of {offset} ms.",
                hint="The size must be positive, and the offset smaller than it.",
            )
        self.size = size
        self.offset = offset
        self.stagger = stagger
        self._staggered_offset = offset if stagger is WindowStagger.ALIGNED else None

    @classmethod
    def of(
        cls,
        size: TimeAmount,
        offset: TimeAmount | None = None,
        window_stagger: WindowStagger = WindowStagger.ALIGNED,
    ) -> Self:
        """Windows of this size.

        Args:
            size: the length of each window.
            offset: how much later than a multiple of the size windows begin; may be negative.
            window_stagger: whether the windows of all subtasks begin at once.
        """
        return cls(
            whole_millis(size, "of()"), 0 if offset is None else whole_millis(offset, "of()"), window_stagger
        )

    def _window(self, instant: int, context: WindowAssigner.WindowAssignerContext) -> TimeWindow:
        if self._staggered_offset is None:
            spread = self.stagger.get_stagger_offset(context.get_current_processing_time(), self.size)
            self._staggered_offset = (self.offset + spread) % self.size
        start = instant - (instant - self._staggered_offset) % self.size
        return TimeWindow(start, start + self.size)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size}, {self.offset})"


class TumblingEventTimeWindows(_Tumbling):
    """Windows of event time, one after the other.

    >>> TumblingEventTimeWindows(size=60_000)
    TumblingEventTimeWindows(60000, 0)
    """

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        if timestamp == NO_TIMESTAMP:
            raise refuse_missing_timestamp(self)
        return (self._window(timestamp, context),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return EventTimeTrigger()

    def is_event_time(self) -> bool:
        return True


class TumblingProcessingTimeWindows(_Tumbling):
    """Windows of processing time, one after the other."""

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        return (self._window(context.get_current_processing_time(), context),)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return ProcessingTimeTrigger()

    def is_event_time(self) -> bool:
        return False


class _Sliding(WindowAssigner[Any, TimeWindow]):
    def __init__(self, size: int, slide: int, offset: int = 0) -> None:
        if size <= 0 or slide <= 0 or abs(offset) >= slide:
            raise JobGraphError(
                f"{type(self).__name__} has size {size} ms, slide {slide} ms and offset {offset} ms.",
                hint="Size and slide must be positive, and the offset smaller than the slide.",
            )
        self.size = size
        self.slide = slide
        self.offset = offset

    @classmethod
    def of(cls, size: TimeAmount, slide: TimeAmount, offset: TimeAmount | None = None) -> Self:
        """Windows of this size, a new one after each slide.

        Args:
            size: the length of each window.
            slide: the time between the beginnings of two windows.
            offset: how much later than a multiple of the slide windows begin; may be negative.
        """
        return cls(
            whole_millis(size, "of()"),
            whole_millis(slide, "of()"),
            0 if offset is None else whole_millis(offset, "of()"),
        )

    def _windows(self, instant: int) -> list[TimeWindow]:
        last = instant - (instant - self.offset) % self.slide
        return [
            TimeWindow(start, start + self.size) for start in range(last, instant - self.size, -self.slide)
        ]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.size}, {self.slide}, {self.offset})"


class SlidingEventTimeWindows(_Sliding):
    """Windows of event time that overlap where the slide is less than the size."""

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        if timestamp == NO_TIMESTAMP:
            raise refuse_missing_timestamp(self)
        return self._windows(timestamp)

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return EventTimeTrigger()

    def is_event_time(self) -> bool:
        return True


class SlidingProcessingTimeWindows(_Sliding):
    """Windows of processing time that overlap where the slide is less than the size."""

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[TimeWindow]:
        return self._windows(context.get_current_processing_time())

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return ProcessingTimeTrigger()

    def is_event_time(self) -> bool:
        return False


_GLOBAL = (GlobalWindow(),)


class GlobalWindows(WindowAssigner[Any, GlobalWindow]):
    """One window for all records of a key. It never fires by itself: give it a trigger."""

    def __init__(self, default_trigger: Trigger[Any, Any] | None = None) -> None:
        self._default_trigger = default_trigger or NeverTrigger()

    @staticmethod
    def create() -> GlobalWindows:
        """The assigner."""
        return GlobalWindows()

    @staticmethod
    def create_with_end_of_stream_trigger() -> GlobalWindows:
        """The assigner with a window that fires once, when the input has ended."""
        return GlobalWindows(EndOfStreamTrigger())

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[GlobalWindow]:
        return _GLOBAL

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return self._default_trigger

    def is_event_time(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "GlobalWindows()"
