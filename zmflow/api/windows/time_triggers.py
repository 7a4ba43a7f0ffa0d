"""Triggers that follow time: event, processing, continuous, end of stream, timeout."""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

from typing import Any

from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.windows.trigger import QuietTrigger, Trigger, TriggerResult
from zmflow.api.windows.window import Window
from zmflow.errors import JobGraphError
from zmflow.state.descriptors import ReducingStateDescriptor, ValueStateDescriptor

__all__ = [
    "ContinuousEventTimeTrigger",
    "ContinuousProcessingTimeTrigger",
    "EndOfStreamTrigger",
    "EventTimeTrigger",
    "ProcessingTimeTrigger",
    "ProcessingTimeoutTrigger",
]


class EventTimeTrigger(QuietTrigger):
    """Fires once the watermark passes the end of the window; later, for every record allowed to be late."""

    @staticmethod
    def create() -> EventTimeTrigger:
        """The trigger."""
        return EventTimeTrigger()

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        if window.max_timestamp() <= ctx.get_current_watermark():
            return TriggerResult.FIRE
        ctx.register_event_time_timer(window.max_timestamp())
        return TriggerResult.CONTINUE

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return TriggerResult.FIRE if time == window.max_timestamp() else TriggerResult.CONTINUE

    def can_merge(self) -> bool:
        return True

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        if window.max_timestamp() > ctx.get_current_watermark():
            ctx.register_event_time_timer(window.max_timestamp())

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        ctx.delete_event_time_timer(window.max_timestamp())


class ProcessingTimeTrigger(QuietTrigger):
    """Fires once the clock passes the end of the window."""

    @staticmethod
    def create() -> ProcessingTimeTrigger:
        """The trigger."""
        return ProcessingTimeTrigger()

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        ctx.register_processing_time_timer(window.max_timestamp())
        return TriggerResult.CONTINUE

    def on_processing_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return TriggerResult.FIRE

    def can_merge(self) -> bool:
        return True

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        if window.max_timestamp() > ctx.get_current_processing_time():
            ctx.register_processing_time_timer(window.max_timestamp())

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        ctx.delete_processing_time_timer(window.max_timestamp())


def _checked_interval(interval: TimeAmount) -> int:
    interval_ms = whole_millis(interval, "of()")
    if interval_ms <= 0:
        raise JobGraphError(f"The interval of a trigger is {interval_ms} ms.", hint="It must be positive.")
    return interval_ms


class ContinuousEventTimeTrigger(QuietTrigger):
    """Fires each time the watermark passes a multiple of the interval, and at the end of the window."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._fire_time: ReducingStateDescriptor[int] = ReducingStateDescriptor("fire-time", min)

    @staticmethod
    def of(interval: TimeAmount) -> ContinuousEventTimeTrigger:
        """Fire at this interval."""
        return ContinuousEventTimeTrigger(_checked_interval(interval))

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        if window.max_timestamp() <= ctx.get_current_watermark():
            return TriggerResult.FIRE
        ctx.register_event_time_timer(window.max_timestamp())
        if ctx.get_partitioned_state(self._fire_time).get() is None:
            self._register_next(timestamp - timestamp % self.interval, window, ctx)
        return TriggerResult.CONTINUE

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        if time == window.max_timestamp():
            return TriggerResult.FIRE
        fire_time = ctx.get_partitioned_state(self._fire_time)
        if fire_time.get() != time:
            return TriggerResult.CONTINUE
        fire_time.clear()
        self._register_next(time, window, ctx)
        return TriggerResult.FIRE

    def can_merge(self) -> bool:
        return True

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        ctx.merge_partitioned_state(self._fire_time)
        next_ms = ctx.get_partitioned_state(self._fire_time).get()
        if next_ms is not None:
            ctx.register_event_time_timer(next_ms)
        # The merged windows take the timers of their ends with them when they are cleared.
        if window.max_timestamp() > ctx.get_current_watermark():
            ctx.register_event_time_timer(window.max_timestamp())

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        fire_time = ctx.get_partitioned_state(self._fire_time)
        next_ms = fire_time.get()
        if next_ms is not None:
            ctx.delete_event_time_timer(next_ms)
            fire_time.clear()
        ctx.delete_event_time_timer(window.max_timestamp())

    def _register_next(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> None:
        next_ms = min(time + self.interval, window.max_timestamp())
        ctx.get_partitioned_state(self._fire_time).add(next_ms)
        ctx.register_event_time_timer(next_ms)


class ContinuousProcessingTimeTrigger(QuietTrigger):
    """Fires each time the clock passes a multiple of the interval, and at the end of the window."""

    def __init__(self, interval: int) -> None:
        self.interval = interval
        self._fire_time: ReducingStateDescriptor[int] = ReducingStateDescriptor("fire-time", min)

    @staticmethod
    def of(interval: TimeAmount) -> ContinuousProcessingTimeTrigger:
        """Fire at this interval."""
        return ContinuousProcessingTimeTrigger(_checked_interval(interval))

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        if ctx.get_partitioned_state(self._fire_time).get() is None:
            now_ms = ctx.get_current_processing_time()
            self._register_next(now_ms - now_ms % self.interval, window, ctx)
        return TriggerResult.CONTINUE

    def on_processing_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        fire_time = ctx.get_partitioned_state(self._fire_time)
        if fire_time.get() != time:
            return TriggerResult.CONTINUE
        fire_time.clear()
        # A timer at the end of the window, registered again there, would fire again at once, for ever.
        if time < window.max_timestamp():
            self._register_next(time, window, ctx)
        return TriggerResult.FIRE

    def can_merge(self) -> bool:
        return True

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        ctx.merge_partitioned_state(self._fire_time)
        next_ms = ctx.get_partitioned_state(self._fire_time).get()
        if next_ms is not None:
            ctx.register_processing_time_timer(next_ms)

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        fire_time = ctx.get_partitioned_state(self._fire_time)
        next_ms = fire_time.get()
        if next_ms is not None:
            ctx.delete_processing_time_timer(next_ms)
            fire_time.clear()

    def _register_next(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> None:
        next_ms = min(time + self.interval, window.max_timestamp())
        ctx.get_partitioned_state(self._fire_time).add(next_ms)
        ctx.register_processing_time_timer(next_ms)


class EndOfStreamTrigger(QuietTrigger):
    """Fires once, when the input has ended."""

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        ctx.register_event_time_timer(window.max_timestamp())
        return TriggerResult.CONTINUE

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return TriggerResult.FIRE_AND_PURGE if time == window.max_timestamp() else TriggerResult.CONTINUE

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        ctx.delete_event_time_timer(window.max_timestamp())


class ProcessingTimeoutTrigger(QuietTrigger):
    """Fires when another trigger does, and when that took longer than a timeout.

    The timeout begins with the first record of the window; with ``reset_timer_on_new_record``, the last.
    With ``should_clear_on_timeout`` the nested trigger begins anew after a timeout.
    """

    def __init__(
        self,
        nested_trigger: Trigger[Any, Any],
        timeout: int,
        reset_timer_on_new_record: bool = False,
        should_clear_on_timeout: bool = True,
    ) -> None:
        self.nested_trigger = nested_trigger
        self.timeout = timeout
        self.reset_timer_on_new_record = reset_timer_on_new_record
        self.should_clear_on_timeout = should_clear_on_timeout
        self._timeout_at: ValueStateDescriptor[int] = ValueStateDescriptor("timeout")

    @staticmethod
    def of(
        nested_trigger: Trigger[Any, Any],
        timeout: TimeAmount,
        reset_timer_on_new_record: bool = False,
        should_clear_on_timeout: bool = True,
    ) -> ProcessingTimeoutTrigger:
        """Add a timeout of processing time to a trigger."""
        return ProcessingTimeoutTrigger(
            nested_trigger, _checked_interval(timeout), reset_timer_on_new_record, should_clear_on_timeout
        )

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        result = self.nested_trigger.on_element(element, timestamp, window, ctx)
        if result.is_fire():
            self.clear(window, ctx)
            return result
        timeout_at = ctx.get_partitioned_state(self._timeout_at)
        if timeout_at.value() is not None and self.reset_timer_on_new_record:
            self._forget(ctx)
        if timeout_at.value() is None:
            instant = ctx.get_current_processing_time() + self.timeout
            timeout_at.update(instant)
            ctx.register_processing_time_timer(instant)
        return result

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        result = self.nested_trigger.on_event_time(time, window, ctx)
        if result.is_fire():
            self._forget(ctx)
        return result

    def on_processing_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        timed_out = ctx.get_partitioned_state(self._timeout_at).value() == time
        result = self.nested_trigger.on_processing_time(time, window, ctx)
        if not timed_out:
            return result
        self._forget(ctx)
        if self.should_clear_on_timeout:
            self.nested_trigger.clear(window, ctx)
        return TriggerResult.FIRE_AND_PURGE if result.is_purge() else TriggerResult.FIRE

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        self._forget(ctx)
        self.nested_trigger.clear(window, ctx)

    def _forget(self, ctx: Trigger.TriggerContext) -> None:
        timeout_at = ctx.get_partitioned_state(self._timeout_at)
        instant = timeout_at.value()
        if instant is not None:
            ctx.delete_processing_time_timer(instant)
            timeout_at.clear()
