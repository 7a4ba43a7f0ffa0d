"""``BatchTimers``: the timers of a BATCH job, where one key is processed at a time.

There are no watermarks on the way: event time stands at its beginning while the records of a key are
processed, and goes to its end when they have been. Then all event-time timers of the key fire, then all
processing-time timers. What callbacks register is ignored, as in Flink: a timer that sets itself anew would
never let the key go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.execution.timers import FireTimer

__all__ = ["BatchTimers"]


class BatchTimers:
    """The ``TimerService`` of one key after the other.

    >>> timers = BatchTimers(lambda: 0)
    >>> for timestamp in (7, 3, 7):
    ...     timers.register_event_time_timer(timestamp)
    >>> timers.end_key("a", lambda *timer: print("event", *timer), lambda *timer: print("clock", *timer))
    event 3 a None
    event 7 a None
    """

    def __init__(self, processing_time: Callable[[], int]) -> None:
        self._processing_time = processing_time
        self._watermark_ms = MIN_WATERMARK
        # Dicts for their order: timers of one time fire as they were registered.
        self._event_time: dict[tuple[int, Any], None] = {}
        self._clock: dict[tuple[int, Any], None] = {}

    def current_processing_time(self) -> int:
        """The clock."""
        return self._processing_time()

    def current_watermark(self) -> int:
        """The beginning of event time; its end while timers fire."""
        return self._watermark_ms

    def register_event_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Set a timer of the key that is being processed."""
        if self._watermark_ms != MAX_WATERMARK:
            self._event_time[timestamp, namespace] = None

    def register_processing_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Set a timer of the key that is being processed."""
        if self._watermark_ms != MAX_WATERMARK:
            self._clock[timestamp, namespace] = None

    def delete_event_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Take a timer back."""
        self._event_time.pop((timestamp, namespace), None)

    def delete_processing_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Take a timer back."""
        self._clock.pop((timestamp, namespace), None)

    def end_key(self, key: Any, on_event_time: FireTimer, on_processing_time: FireTimer) -> None:
        """All records of a key have been processed: fire what is set, and begin event time anew."""
        self._watermark_ms = MAX_WATERMARK
        for timers, fire in ((self._event_time, on_event_time), (self._clock, on_processing_time)):
            for timer in sorted(timers, key=_timestamp):
                if timer in timers:  # else a callback took it back
                    del timers[timer]
                    fire(timer[0], key, timer[1])
        self._watermark_ms = MIN_WATERMARK


def _timestamp(timer: tuple[int, Any]) -> int:
    return timer[0]
