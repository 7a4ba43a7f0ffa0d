"""The contexts that process functions get: one object for all calls of an operator.

The operator sets ``record_timestamp`` before each call; nothing is allocated per record.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from zmflow.api.process_functions import KeyedOnTimerContext, KeyedProcessContext, ProcessContext
from zmflow.api.timer_service import TimeDomain, TimerService
from zmflow.errors import ZmflowError
from zmflow.execution.stream_operator import MIN_WATERMARK

if TYPE_CHECKING:
    from zmflow.state.backend import KeyedStateBackend

__all__ = ["CurrentTime", "KeyedContext", "TimerContext", "UnkeyedContext"]


class CurrentTime(TimerService):
    """The time service of functions without keys: it tells the time, and sets no timers."""

    def __init__(self, processing_time: Callable[[], int]) -> None:
        self._processing_time = processing_time
        self.watermark_ms = MIN_WATERMARK

    def current_processing_time(self) -> int:
        return self._processing_time()

    def current_watermark(self) -> int:
        return self.watermark_ms

    def register_processing_time_timer(self, timestamp: int) -> NoReturn:
        _refuse_timer(timestamp)

    def register_event_time_timer(self, timestamp: int) -> NoReturn:
        _refuse_timer(timestamp)

    def delete_processing_time_timer(self, timestamp: int) -> NoReturn:
        _refuse_timer(timestamp)

    def delete_event_time_timer(self, timestamp: int) -> NoReturn:
        _refuse_timer(timestamp)


def _refuse_timer(timestamp: int) -> NoReturn:
    raise ZmflowError(
        "A timer was set in a function whose stream has no keys.",
        detail=f"For {timestamp}.",
        hint="Timers belong to a key: call key_by() before process().",
    )


class UnkeyedContext(ProcessContext):
    """For functions without keys."""

    def __init__(self, timer_service: TimerService) -> None:
        self._timer_service = timer_service
        self.record_timestamp: int | None = None

    def timestamp(self) -> int | None:
        return self.record_timestamp

    def timer_service(self) -> TimerService:
        return self._timer_service


class KeyedContext(KeyedProcessContext[Any]):
    """For functions of keyed streams, and a record."""

    def __init__(self, timer_service: TimerService, keyed_state: KeyedStateBackend) -> None:
        self._timer_service = timer_service
        self._keyed_state = keyed_state
        self.record_timestamp: int | None = None

    def timestamp(self) -> int | None:
        return self.record_timestamp

    def timer_service(self) -> TimerService:
        return self._timer_service

    def get_current_key(self) -> Any:
        return self._keyed_state.current_key


class TimerContext(KeyedContext, KeyedOnTimerContext[Any]):
    """For functions of keyed streams, and a timer."""

    domain = TimeDomain.EVENT_TIME

    def time_domain(self) -> TimeDomain:
        return self.domain
