"""What an asynchronous operator has beside its task: an event loop on a thread of its own, and a way back.

The way back is the task's mailbox. Between batches the task finds there which operator was woken; an operator
that must wait takes from the mailbox what is its own, and leaves the rest for the task.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from queue import Empty
from typing import Any, Protocol

from zmflow.execution.async_calls import CallDone
from zmflow.runtime.channels import Mailbox
from zmflow.telemetry.logs import get_logger

__all__ = ["STOP_TIMEOUT_S", "AsyncLoop", "FlushedOutputs", "OperatorHost"]

STOP_TIMEOUT_S = 1.0
"""How long coroutines may take to end once they are cancelled: enough to close a connection; a task that is
over must not keep its slot for one that hangs."""


class AsyncLoop:
    """Runs coroutines; an implementation of ``AsyncCalls``.

    The thread has the context of the one that makes it, so that what coroutines log is the task's.

    Args:
        function: called on the loop's thread for each value.
        done: called there with each outcome.
        name: of the thread.
    """

    def __init__(
        self, function: Callable[[Any], Awaitable[Any]], done: CallDone, name: str = "async-calls"
    ) -> None:
        self._function = function
        self._done = done
        self._running: dict[int, asyncio.Task[None]] = {}
        self._closed = False
        self._loop = asyncio.new_event_loop()
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name=name, daemon=True)
        self._thread.start()

    def start(self, calls: Sequence[tuple[int, Any]]) -> None:
        """Call the function for each (number, value)."""
        self._loop.call_soon_threadsafe(self._begin, calls)

    def cancel(self, number: int) -> None:
        """Nobody waits for this call any more."""
        self._loop.call_soon_threadsafe(self._cancel, number)

    def close(self) -> None:
        """Cancel everything and end the thread; waits STOP_TIMEOUT_S for that."""
        if self._closed:
            return
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(2 * STOP_TIMEOUT_S)
        if self._thread.is_alive():
            get_logger().warning("asynchronous calls do not end", thread=self._thread.name)

    # -- on the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            self._running.clear()  # nothing is reported any more
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=STOP_TIMEOUT_S))
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.close()

    def _begin(self, calls: Sequence[tuple[int, Any]]) -> None:
        for number, value in calls:
            self._running[number] = self._loop.create_task(self._call(number, value))

    def _cancel(self, number: int) -> None:
        task = self._running.pop(number, None)
        if task is not None:
            task.cancel()

    async def _call(self, number: int, value: Any) -> None:
        """One call. Whatever it raises is an outcome: an exception that left here could end the loop."""
        results: Any = None
        failure: BaseException | None = None
        try:
            results = await self._function(value)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything, SystemExit too
            failure = error
        if self._running.pop(number, None) is not None:  # else it was cancelled from outside
            self._done(number, results, failure)


class FlushedOutputs(Protocol):
    """The outputs of a task, which must be flushed while one of its operators waits."""

    def due(self) -> float:
        """When the next flush is due, by ``time.perf_counter``; infinity: none is."""
        ...

    def flush_due(self, now: float) -> None:
        """Flush what is due."""
        ...


class OperatorHost:
    """The task, as one of its operators sees it; an implementation of ``AsyncHost``.

    As an item of the mailbox it means: let the operator know that it was woken.

    Args:
        woken: what to call then.
        mailbox: the task's.
        deferred: what came while an operator waited; the task takes from here first.
        control: the task's answer to items that no channel sent: raises when the task is to end.
        outputs: flushed while the operator waits.
        processing_time: the clock.
    """

    def __init__(
        self,
        woken: Callable[[], None],
        mailbox: Mailbox,
        deferred: deque[tuple[Any, Any]],
        control: Callable[[Any], None],
        outputs: FlushedOutputs,
        processing_time: Callable[[], int],
    ) -> None:
        self.waited_s = 0.0
        self._woken = woken
        self._mailbox = mailbox
        self._deferred = deferred
        self._control = control
        self._outputs = outputs
        self._clock = processing_time

    def calls(self, function: Callable[[Any], Awaitable[Any]], done: CallDone) -> AsyncLoop:
        """An event loop on a thread of its own."""
        return AsyncLoop(function, done)

    def wake(self) -> None:
        """From any thread: end the waiting of the operator, or let the task call ``notify``."""
        self._mailbox.put((None, self))

    def notify(self) -> None:
        """On the task's thread, when it finds this in its mailbox."""
        self._woken()

    def wait(self, until_ms: int | None) -> None:
        """On the task's thread: sleep until ``wake`` was called or the clock shows this."""
        begin = time.perf_counter()
        try:
            while not self._took_own(until_ms):
                self._outputs.flush_due(time.perf_counter())
                if until_ms is not None and self._clock() >= until_ms:
                    return
        finally:
            self.waited_s += time.perf_counter() - begin

    def _took_own(self, until_ms: int | None) -> bool:
        """Sleep until something comes or must be done; whether this operator was woken."""
        wait_s = self._outputs.due() - time.perf_counter()
        if until_ms is not None:
            wait_s = min(wait_s, (until_ms - self._clock()) / 1000)
        try:
            sender, item = self._mailbox.get(timeout=None if wait_s == float("inf") else max(0.0, wait_s))
        except Empty:
            return False
        if item is self:
            return True
        if sender is None and not isinstance(item, OperatorHost):
            self._control(item)
        self._deferred.append((sender, item))
        return False
