"""Coroutines of ``AsyncDataStream`` without a thread: each runs to its end when it is started."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from zmflow.execution.async_calls import AsyncCalls, CallDone

__all__ = ["InlineHost"]


class InlineHost:
    """What an operator has beside its chain; an implementation of ``AsyncHost``.

    Args:
        woken: what to call after ``wake``.
    """

    def __init__(self, woken: Callable[[], None]) -> None:
        self._woken = woken
        self._awake = False

    def calls(self, function: Callable[[Any], Awaitable[Any]], done: CallDone) -> AsyncCalls:
        """An event loop of its own, which runs while something is started."""
        return _InlineCalls(function, done)

    def wake(self) -> None:
        """The operator is to look at what has ended."""
        self._awake = True

    def wait(self, until_ms: int | None) -> None:
        """Nothing is under way that could be waited for."""

    def notify(self) -> bool:
        """Let the operator act, if it was woken."""
        if not self._awake:
            return False
        self._awake = False
        self._woken()
        return True


class _InlineCalls:
    def __init__(self, function: Callable[[Any], Awaitable[Any]], done: CallDone) -> None:
        self._function = function
        self._done = done
        self._loop = asyncio.new_event_loop()

    def start(self, calls: Sequence[tuple[int, Any]]) -> None:
        """Run each to its end."""
        for number, value in calls:
            try:
                results = self._loop.run_until_complete(self._call(value))
            except Exception as error:  # noqa: BLE001 - it is an outcome of the call
                self._done(number, None, error)
            else:
                self._done(number, results, None)

    async def _call(self, value: Any) -> Any:
        return await self._function(value)

    def cancel(self, number: int) -> None:
        """It has ended already."""

    def close(self) -> None:
        """End the loop."""
        self._loop.close()
