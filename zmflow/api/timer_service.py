"""What a process function can ask about time, and the timers that it can set."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

__all__ = ["TimeDomain", "TimerService"]


class TimeDomain(Enum):
    """What a timer waits for: the clock, or event time as watermarks tell it."""

    EVENT_TIME = 0
    PROCESSING_TIME = 1


class TimerService(Protocol):
    """Times in milliseconds since 1970. Timers belong to the current key; setting one twice sets it once.

    A timer whose time has passed fires as soon as possible: with the next watermark, or at once.
    """

    def current_processing_time(self) -> int:
        """The clock."""
        ...

    def current_watermark(self) -> int:
        """How far event time is; -2**63 before the first watermark."""
        ...

    def register_processing_time_timer(self, timestamp: int) -> None:
        """Call ``on_timer`` with this key when the clock shows this."""
        ...

    def register_event_time_timer(self, timestamp: int) -> None:
        """Call ``on_timer`` with this key when event time has reached this."""
        ...

    def delete_processing_time_timer(self, timestamp: int) -> None:
        """Take a timer of this key back; nothing happens where there is none."""
        ...

    def delete_event_time_timer(self, timestamp: int) -> None:
        """Take a timer of this key back; nothing happens where there is none."""
        ...
