"""Process functions of keyed streams, with one input or two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.operators import UserFunction
from zmflow.api.timer_service import TimeDomain
from zmflow.execution.error_guard import ProcessCall
from zmflow.execution.keyed_operator import KeyedOperator
from zmflow.execution.process_contexts import KeyedContext, TimerContext
from zmflow.execution.process_operator import calls_of

__all__ = ["KeyedProcess"]


class KeyedProcess(KeyedOperator):
    """A function with keyed state and timers.

    Args:
        function: a keyed process function, or any with two inputs.
        key_selectors: one for each input.
    """

    def __init__(self, function: Any, key_selectors: Sequence[UserFunction]) -> None:
        super().__init__(key_selectors)
        self._function = function
        self._timer_function = getattr(function, "on_timer", None)

    def open_function(self, runtime: RuntimeContext) -> list[tuple[ProcessCall, Any]]:
        context = KeyedContext(self.timers, self.keyed_state)
        self._timer_context = TimerContext(self.timers, self.keyed_state)
        self._functions.open(self._function, runtime)
        return [(self._guarded(call), context) for call in calls_of(self._function)]

    def on_timer(self, timestamp: int, namespace: Any, domain: TimeDomain) -> None:  # noqa: ARG002
        assert self._timer_function is not None, "a function without on_timer sets no timers"
        self._call_on_timer(self._timer_function, self._timer_context, timestamp, domain)
