"""``Trigger``: decides when the contents of a window are handed to the function. The contract."""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from typing import Any, Generic, TypeVar

from zmflow.api.metric_group import MetricGroup
from zmflow.api.windows.window import Window

__all__ = ["QuietTrigger", "Trigger", "TriggerResult"]

T = TypeVar("T", contravariant=True)
W = TypeVar("W", bound=Window, contravariant=True)


class TriggerResult(Enum):
    """What happens to a window: FIRE emits its result, if it has contents; PURGE forgets its contents."""

    CONTINUE = (False, False)
    FIRE_AND_PURGE = (True, True)
    FIRE = (True, False)
    PURGE = (False, True)

    def is_fire(self) -> bool:
        """Whether the result of the window is emitted."""
        return self.value[0]

    def is_purge(self) -> bool:
        """Whether the contents of the window are forgotten."""
        return self.value[1]


class Trigger(ABC, Generic[T, W]):
    """Decides when a window of a key is evaluated.

    One object serves all keys and windows of a subtask: what it remembers belongs into
    ``ctx.get_partitioned_state``, which is kept per key and window. Descriptors are best made once, in the
    constructor.
    """

    class TriggerContext(ABC):
        """Timers and state of one window of one key."""

        @abstractmethod
        def get_current_processing_time(self) -> int:
            """The clock, milliseconds since 1970."""

        @abstractmethod
        def get_current_watermark(self) -> int:
            """How far event time has come."""

        @abstractmethod
        def get_metric_group(self) -> MetricGroup:
            """The metric group of the operator."""

        @abstractmethod
        def register_processing_time_timer(self, time: int) -> None:
            """Have ``on_processing_time`` called when the clock shows this."""

        @abstractmethod
        def register_event_time_timer(self, time: int) -> None:
            """Have ``on_event_time`` called when the watermark reaches this."""

        @abstractmethod
        def delete_processing_time_timer(self, time: int) -> None:
            """Forget a processing-time timer; nothing happens where there is none."""

        @abstractmethod
        def delete_event_time_timer(self, time: int) -> None:
            """Forget an event-time timer; nothing happens where there is none."""

        @abstractmethod
        def get_partitioned_state(self, state_descriptor: Any) -> Any:
            """State of this window of this key."""

    class OnMergeContext(TriggerContext):
        """The context of ``on_merge``: that of the window which others were merged into."""

        @abstractmethod
        def merge_partitioned_state(self, state_descriptor: Any) -> None:
            """Add the state of the merged windows to that of this one: list, reducing or aggregating."""

    @abstractmethod
    def on_element(self, element: T, timestamp: int, window: W, ctx: TriggerContext) -> TriggerResult:
        """A record was added to a window."""

    @abstractmethod
    def on_event_time(self, time: int, window: W, ctx: TriggerContext) -> TriggerResult:
        """The watermark has reached a timer of the window."""

    @abstractmethod
    def on_processing_time(self, time: int, window: W, ctx: TriggerContext) -> TriggerResult:
        """The clock has reached a timer of the window."""

    def can_merge(self) -> bool:
        """Whether the trigger can be used with windows that merge; then ``on_merge`` must be there."""
        return False

    def on_merge(self, window: W, ctx: OnMergeContext) -> None:
        """Other windows were merged into this one; they are cleared after this."""
        raise NotImplementedError(f"{type(self).__name__} cannot merge")

    @abstractmethod
    def clear(self, window: W, ctx: TriggerContext) -> None:
        """The window is over: delete its timers and its state."""


class QuietTrigger(Trigger[Any, Window]):
    """A trigger that never does anything: what built-in triggers have in common."""

    def on_element(
        self, element: Any, timestamp: int, window: Window, ctx: Trigger.TriggerContext
    ) -> TriggerResult:
        return TriggerResult.CONTINUE

    def on_event_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return TriggerResult.CONTINUE

    def on_processing_time(self, time: int, window: Window, ctx: Trigger.TriggerContext) -> TriggerResult:
        return TriggerResult.CONTINUE

    def on_merge(self, window: Window, ctx: Trigger.OnMergeContext) -> None:
        """Nothing is remembered, so there is nothing to merge."""

    def clear(self, window: Window, ctx: Trigger.TriggerContext) -> None:
        """Nothing is remembered."""
