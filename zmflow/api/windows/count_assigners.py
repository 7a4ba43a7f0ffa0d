"""Windows of a number of records of a key; those that never fill up are never evaluated."""

# ruff: noqa: ARG002 - what an implementation does not ask is of the interface all the same
from __future__ import annotations

from collections.abc import Collection
from typing import Any

from zmflow.api.windows.assigner import WindowAssigner
from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.triggers import CountTrigger, PurgingTrigger
from zmflow.api.windows.window import CountWindow
from zmflow.errors import JobGraphError
from zmflow.state.descriptors import ValueStateDescriptor

__all__ = ["CountSlidingWindowAssigner", "CountTumblingWindowAssigner", "count_assigner"]


def _checked_count(count: int, what: str) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise JobGraphError(f"The {what} of a count window is {count!r}.", hint="It must be at least 1.")
    return count


class _Counting(WindowAssigner[Any, CountWindow]):
    def __init__(self, window_size: int) -> None:
        self.window_size = _checked_count(window_size, "size")
        self._seen: ValueStateDescriptor[int] = ValueStateDescriptor("records-seen")

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        # Purging: a window that is full gets no more records, so nothing is left of it.
        return PurgingTrigger(CountTrigger(self.window_size))

    def is_event_time(self) -> bool:
        return False

    def _position(self, context: WindowAssigner.WindowAssignerContext) -> int:
        """How many records of the key came before this one."""
        seen = context.get_runtime_context().get_state(self._seen)
        position: int = seen.value() or 0
        seen.update(position + 1)
        return position


class CountTumblingWindowAssigner(_Counting):
    """Windows of this many records of a key, one after the other."""

    @staticmethod
    def of(window_size: int) -> CountTumblingWindowAssigner:
        """Windows of ``window_size`` records."""
        return CountTumblingWindowAssigner(window_size)

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[CountWindow]:
        return (CountWindow(self._position(context) // self.window_size),)

    def __repr__(self) -> str:
        return f"CountTumblingWindowAssigner({self.window_size})"


class CountSlidingWindowAssigner(_Counting):
    """Windows of this many records of a key, a new one after every ``window_slide`` records.

    As in PyFlink the first result comes with the first full window; Java's ``countWindow`` with a slide emits
    every ``window_slide`` records what there is: that is ``GlobalWindows`` with a ``CountTrigger`` and a
    ``CountEvictor``.
    """

    def __init__(self, window_size: int, window_slide: int) -> None:
        super().__init__(window_size)
        self.window_slide = _checked_count(window_slide, "slide")

    @staticmethod
    def of(window_size: int, window_slide: int) -> CountSlidingWindowAssigner:
        """Windows of ``window_size`` records, beginning every ``window_slide`` records."""
        return CountSlidingWindowAssigner(window_size, window_slide)

    def assign_windows(
        self, element: Any, timestamp: int, context: WindowAssigner.WindowAssignerContext
    ) -> Collection[CountWindow]:
        position = self._position(context)
        last = position // self.window_slide
        first = max(0, (position - self.window_size) // self.window_slide + 1)
        return [CountWindow(number) for number in range(last, first - 1, -1)]

    def __repr__(self) -> str:
        return f"CountSlidingWindowAssigner({self.window_size}, {self.window_slide})"


def count_assigner(size: int, slide: int = 0) -> WindowAssigner[Any, CountWindow]:
    """The assigner of ``count_window(size, slide)``: tumbling without a slide."""
    if slide == 0:
        return CountTumblingWindowAssigner.of(size)
    return CountSlidingWindowAssigner.of(size, slide)
