"""What an operator needs from outside to have work under way beside its task's thread."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

__all__ = ["AsyncCalls", "AsyncHost", "CallDone"]

CallDone: TypeAlias = Callable[[int, Any, BaseException | None], None]
"""Told on any thread that a call has ended: its number, what it returned, what it raised."""


class AsyncCalls(Protocol):
    """Runs the coroutines of one operator on a thread of its own."""

    def start(self, calls: Sequence[tuple[int, Any]]) -> None:
        """Call the function for each (number, value); numbers are used once."""
        ...

    def cancel(self, number: int) -> None:
        """Nobody waits for this call any more; it may be reported nevertheless."""
        ...

    def close(self) -> None:
        """Cancel everything; nothing is reported afterwards."""
        ...


class AsyncHost(Protocol):
    """The task, as one operator sees it that has work under way elsewhere."""

    def calls(self, function: Callable[[Any], Awaitable[Any]], done: CallDone) -> AsyncCalls:
        """Somewhere for coroutines to run."""
        ...

    def wake(self) -> None:
        """From any thread: let the task call the operator's ``woken``, between two batches, or return from
        the ``wait`` it is in."""
        ...

    def wait(self, until_ms: int | None) -> None:
        """On the task's thread: sleep until ``wake`` was called or the clock shows this.

        May return early. While it sleeps, nothing of the chain is called: no batch, no timer, no ``woken`` of
        another operator, for the one that waits is in the middle of something. Outputs that are due are
        flushed. Raises when the task is cancelled.
        """
        ...
