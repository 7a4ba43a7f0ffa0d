"""Triggers that count, compare or wrap others; those that follow time are in ``time_triggers``."""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from zmflow.api.windows.trigger import QuietTrigger, Trigger, TriggerResult
from zmflow.api.windows.window import Window
from zmflow.errors import JobGraphError
from zmflow.state.descriptors import ReducingStateDescriptor, ValueStateDescriptor

__all__ = ["CountTrigger", "DeltaTrigger", "NeverTrigger", "PurgingTrigger"]


class CountTrigger(QuietTrigger):
    """Fires at every n-th record of a window; the contents stay."""

    def __init__(self, window_size: int) -> None:
        if isinstance(window_size, bool) or not isinstance(window_size, int) or window_size < 1:
            raise JobGraphError(f"A trigger counts to {window_size!r}.", hint="It must be at least 1.")
        self.window_size = window_size
        self._count: ReducingStateDescriptor[int] = ReducingStateDescriptor("count", operator.add)

    @staticmethod
    def of(window_size: int) -> CountTrigger:
        """Fire at every ``window_size``-th record."""
        return CountTrigger(window_size)

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        count = ctx.get_partitioned_state(self._count)
        count.add(1)
        return self._result(count)

    def can_merge(self) -> bool:
        return True

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        ctx.merge_partitioned_state(self._count)

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        ctx.get_partitioned_state(self._count).clear()

    def _result(self, count: Any) -> TriggerResult:
        if count.get() < self.window_size:
            return TriggerResult.CONTINUE
        count.clear()
        return TriggerResult.FIRE


class DeltaTrigger(QuietTrigger):
    """Fires when a record is further than a threshold from the record that fired last, or came first.

    >>> meters = DeltaTrigger.of(1000.0, lambda old, new: new["position"] - old["position"])
    """

    def __init__(self, threshold: float, delta_function: Callable[[Any, Any], float]) -> None:
        self.threshold = threshold
        self.delta_function = delta_function
        self._last: ValueStateDescriptor[tuple[Any]] = ValueStateDescriptor("last-element")

    @staticmethod
    def of(threshold: float, delta_function: Callable[[Any, Any], float]) -> DeltaTrigger:
        """Fire when ``delta_function(old, new)`` is greater than the threshold."""
        return DeltaTrigger(threshold, delta_function)

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        # Wrapped, so that a record that is None is told from no record.
        last = ctx.get_partitioned_state(self._last)
        kept = last.value()
        if kept is None:
            last.update((element,))
            return TriggerResult.CONTINUE
        if self.delta_function(kept[0], element) <= self.threshold:
            return TriggerResult.CONTINUE
        last.update((element,))
        return TriggerResult.FIRE

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        ctx.get_partitioned_state(self._last).clear()


class NeverTrigger(QuietTrigger):
    """Never fires: the default of ``GlobalWindows``, which need another one to be of use."""


class PurgingTrigger(QuietTrigger):
    """Makes another trigger forget the contents of the window each time it fires."""

    def __init__(self, nested_trigger: Trigger[Any, Any]) -> None:
        self.nested_trigger = nested_trigger

    @staticmethod
    def of(nested_trigger: Trigger[Any, Any]) -> PurgingTrigger:
        """Purge whenever this trigger fires."""
        return PurgingTrigger(nested_trigger)

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        return _purging(self.nested_trigger.on_element(element, timestamp, window, ctx))

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return _purging(self.nested_trigger.on_event_time(time, window, ctx))

    def on_processing_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return _purging(self.nested_trigger.on_processing_time(time, window, ctx))

    def can_merge(self) -> bool:
        return self.nested_trigger.can_merge()

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        self.nested_trigger.on_merge(window, ctx)

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        self.nested_trigger.clear(window, ctx)


def _purging(result: TriggerResult) -> TriggerResult:
    return TriggerResult.FIRE_AND_PURGE if result.is_fire() else result
