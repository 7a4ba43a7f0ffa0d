"""The operator behind ``AsyncDataStream``: calls under way, and the order in which their results leave.

Coroutines run on a thread of their own; what they return comes back through an inbox, and everything else
happens on the task's thread: retries, timeouts, state, emission. The operator holds its input up while
``capacity`` records are under way. Watermarks and statuses wait in line with the records they follow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count, repeat
from typing import Any

from zmflow.api.async_functions import AsyncFunction, AsyncOperator
from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.errors import ZmflowError
from zmflow.execution.async_calls import AsyncCalls, AsyncHost
from zmflow.execution.batches import Rows
from zmflow.execution.keyed_runtime import keyed_runtime
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.process_operator import FunctionOperator
from zmflow.execution.stream_operator import MAX_WATERMARK, OperatorContext, Timestamps
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark
from zmflow.state.chunks import KeyedChunk
from zmflow.state.operator_state import OperatorStateMode

__all__ = ["AsyncWaitOperator", "Call", "CallQueue"]


UNDER_WAY = "async-calls"
"""Operator state, or the kind of chunk where the stream has keys: the records under way."""


class Call:
    """A record under way: what is known about it."""

    __slots__ = (
        "attempts",
        "deadline_ms",
        "key",
        "number",
        "rejected",
        "results",
        "segment",
        "timestamp",
        "value",
    )

    def __init__(self, value: Any, timestamp: int | None, deadline_ms: int | None, key: Any = None) -> None:
        self.value = value
        self.timestamp = timestamp
        self.deadline_ms = deadline_ms
        self.key = key
        self.attempts = 1
        self.number = -1  # of the coroutine that runs for it; -1 while none does
        self.results: Sequence[Any] | None = None  # None until they are there
        self.rejected = False  # an error came of it, and the results are what is said of that
        self.segment: _Segment | None = None


class _Segment:
    """Calls whose results may leave in any order, and what is to be said when all have left."""

    __slots__ = ("completed", "events", "open")

    def __init__(self) -> None:
        self.open = 0
        self.completed: deque[Call] = deque()
        self.events: deque[TimeEvent] = deque()


class CallQueue:
    """Which results may leave, and when.

    Unordered, a segment is what lies between two time events; ordered, each call is a segment of its own.

    >>> queue = CallQueue(ordered=False)
    >>> slow, quick, late = Call("slow", None, None), Call("quick", None, None), Call("late", None, None)
    >>> queue.put(slow), queue.put(quick), queue.put_event(Watermark(5)), queue.put(late)
    (None, None, None, None)
    >>> queue.complete(late, []), queue.complete(quick, [])
    (None, None)
    >>> [item.value for item in queue.ready()]
    ['quick']
    >>> queue.complete(slow, [])
    >>> [getattr(item, "value", item) for item in queue.ready()]
    ['slow', Watermark(timestamp_ms=5), 'late']
    """

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._segments: deque[_Segment] = deque([_Segment()])
        self._held: dict[Call, None] = {}  # all that have not left, in the order they came

    def __len__(self) -> int:
        return len(self._held)

    def __iter__(self) -> Iterator[Call]:
        """The calls that have not left, in the order they came."""
        return iter(self._held)

    def put(self, call: Call) -> None:
        """A call has begun."""
        segment = self._segments[-1]
        if segment.events or (self._ordered and (segment.open or segment.completed)):
            segment = _Segment()
            self._segments.append(segment)
        segment.open += 1
        call.segment = segment
        self._held[call] = None

    def put_event(self, event: TimeEvent) -> None:
        """A time event came behind the calls that are there.

        Only what matters stays: the last of two watermarks, and neither of two statuses, which alternate.
        So there are at most three events between two calls.
        """
        events = self._segments[-1].events
        if events and type(events[-1]) is type(event):
            events.pop()
            if isinstance(event, StreamStatus):
                return
        events.append(event)

    def complete(self, call: Call, results: Sequence[Any]) -> None:
        """A call has its results."""
        segment = call.segment
        assert segment is not None
        call.results = results
        segment.open -= 1
        segment.completed.append(call)

    def ready(self) -> Iterator[Call | TimeEvent]:
        """What may leave now; it has left when the iterator goes on."""
        segments = self._segments
        while True:
            segment = segments[0]
            while segment.completed:
                call = segment.completed.popleft()
                del self._held[call]
                yield call
            if segment.open:
                return
            while segment.events:
                yield segment.events.popleft()
            if len(segments) == 1:
                return
            segments.popleft()


class AsyncWaitOperator(FunctionOperator):
    """Calls an asynchronous function for each record.

    Args:
        specification: what to call, and how.
    """

    makes_watermarks = True

    needs_host = True

    def __init__(self, specification: AsyncOperator) -> None:
        super().__init__()
        self._specification = specification
        function = specification.function
        self._function = function if isinstance(function, AsyncFunction) else _PlainFunction()
        self._invoke = function.async_invoke if isinstance(function, AsyncFunction) else function
        self._capacity = specification.capacity
        self._queue = CallQueue(ordered=specification.ordered)
        predicate = specification.retry_strategy.get_retry_predicate()
        self._again_after = predicate.result_predicate()
        self._again_for = predicate.exception_predicate()
        self._numbers = count()
        self._running: dict[int, Call] = {}
        self._retries: list[tuple[int, int, Call]] = []  # heap of (when, number of the last attempt, call)
        self._inbox: deque[tuple[int, Any, BaseException | None]] = deque()  # written by another thread
        self._host: AsyncHost | None = None
        self._calls: AsyncCalls | None = None
        self._again: list[tuple[Any, int | None]] = []  # restored, and not called for again yet

    def attach(self, host: AsyncHost) -> None:
        """The task this operator runs in; called before ``open``."""
        self._host = host

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        self._clock = context.processing_time
        self._output = context.output
        runtime, selector = context.runtime, self._specification.key_selector
        self._key_of = None
        if selector is not None:
            runtime, self.keyed_state = keyed_runtime(context)
            self._key_of = self._functions.open_callable(selector, runtime)
        self._functions.open(self._function, runtime)
        assert self._host is not None
        self._calls = self._host.calls(self._invoke, self._done)
        if context.restored is not None:
            for chunk in context.restored.of_kind(UNDER_WAY):
                self._again += chunk.values
        if runtime.function_states is not None:
            self._again += runtime.function_states.store.take(UNDER_WAY, OperatorStateMode.SPLIT)

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        begin = 0
        while begin < len(rows):
            room = self._capacity - len(self._queue)
            if room <= 0:
                self._wait()
                continue
            end = begin + room
            self._begin(rows[begin:end], None if timestamps is None else timestamps[begin:end])
            begin = end
        if self._inbox:
            self._turn()

    def advance_watermark(self, watermark_ms: int) -> None:
        if watermark_ms >= MAX_WATERMARK:
            self._drain()
        else:
            self._queue.put_event(Watermark(watermark_ms))
            self._emit()

    def input_status(self, *, idle: bool) -> None:
        """The input went idle, or is active again."""
        self._queue.put_event(StreamStatus(idle))
        self._emit()

    def woken(self) -> None:
        """Called on the task's thread after ``AsyncHost.wake``."""
        self._turn()

    def next_processing_time_ms(self) -> int | None:
        oldest = next(iter(self._queue), None)
        deadline_ms = None if oldest is None else oldest.deadline_ms
        retry_ms = self._retries[0][0] if self._retries else None
        if deadline_ms is None or retry_ms is None:
            return deadline_ms if retry_ms is None else retry_ms
        return min(deadline_ms, retry_ms)

    def advance_processing_time(self, now_ms: int) -> None:
        self._turn(now_ms)

    def finish(self) -> None:
        self._drain()

    def close(self) -> None:
        if self._calls is not None:
            self._calls.close()
        super().close()

    def snapshot_state(self, context: SnapshotContext) -> None:
        """The records under way, in the order they came, with their timestamps."""
        calls = [(call.value, call.timestamp) for call in self._queue]
        if self._key_of is None:
            context.add_list(UNDER_WAY, calls)
            return
        keys, groups = [call.key for call in self._queue], self.keyed_state.key_groups
        context.keyed.append(KeyedChunk(UNDER_WAY, UNDER_WAY, groups.start, groups.stop - 1, keys, calls))

    def begin(self) -> None:
        """Call again for the records that were under way."""
        again, self._again = self._again, []
        for value, timestamp in again:
            self.process([value], None if timestamp is None else [timestamp])

    # -- calls -----------------------------------------------------------------------------------------

    def _begin(self, rows: Rows, timestamps: Timestamps) -> None:
        timeout_ms = self._specification.timeout_ms
        deadline_ms = self._clock() + timeout_ms if timeout_ms else None
        key_of = self._key_of
        begun = []
        for value, timestamp in zip(rows, repeat(None) if timestamps is None else timestamps, strict=False):
            call = Call(value, timestamp, deadline_ms, None if key_of is None else key_of(value))
            self._queue.put(call)
            begun.append(self._attempt(call))
        assert self._calls is not None
        self._calls.start(begun)

    def _attempt(self, call: Call) -> tuple[int, Any]:
        call.number = next(self._numbers)
        self._running[call.number] = call
        return call.number, call.value

    def _done(self, number: int, results: Any, error: BaseException | None) -> None:
        """A coroutine has ended; on its thread."""
        inbox = self._inbox
        inbox.append((number, results, error))
        if len(inbox) == 1:  # else somebody has woken the task, which empties the inbox
            assert self._host is not None
            self._host.wake()

    def _wait(self) -> None:
        if not self._inbox:
            assert self._host is not None
            self._host.wait(self.next_processing_time_ms())
        self._turn()

    def _drain(self) -> None:
        while len(self._queue):
            self._wait()
        self._emit()

    def _turn(self, now_ms: int | None = None) -> None:
        """Look at what has ended, what took too long, and what is to be tried again."""
        if now_ms is None:
            now_ms = self._clock()
        inbox = self._inbox
        while inbox:
            number, results, error = inbox.popleft()
            call = self._running.pop(number, None)
            if call is not None:
                call.number = -1
                self._ended(call, results, error, now_ms)
        self._time_out(now_ms)
        self._retry(now_ms)
        self._emit()

    def _ended(self, call: Call, results: Any, error: BaseException | None, now_ms: int) -> None:
        if error is None:
            try:
                results = self._checked(results)
            except ZmflowError as wrong:
                error = wrong
        if self._is_worth_another(call, results, error, now_ms):
            delay_ms = self._specification.retry_strategy.get_backoff_time_millis(call.attempts)
            heappush(self._retries, (now_ms + delay_ms, next(self._numbers), call))
        elif error is not None:
            self._queue.complete(call, self._rejection(call, error))
        else:
            self._queue.complete(call, results)

    def _is_worth_another(self, call: Call, results: Any, error: BaseException | None, now_ms: int) -> bool:
        if error is None:
            wanted = self._again_after is not None and self._again_after(results)
        else:
            wanted = isinstance(error, Exception) and self._again_for is not None and self._again_for(error)
        if not wanted or (call.deadline_ms is not None and now_ms > call.deadline_ms):
            return False
        return self._specification.retry_strategy.can_retry(call.attempts)

    def _time_out(self, now_ms: int) -> None:
        late = []
        for call in self._queue:  # by deadline, for all have the same timeout
            if call.deadline_ms is None or call.deadline_ms > now_ms:
                break
            if call.results is None:
                late.append(call)
        for call in late:
            if call.number >= 0:
                del self._running[call.number]
                assert self._calls is not None
                self._calls.cancel(call.number)
            self._set_key(call)
            try:
                results = self._checked(self._function.timeout(call.value))
            except Exception as error:  # noqa: BLE001 - what becomes of it is the operator's policy
                results = self._rejection(call, error)
            self._queue.complete(call, results)

    def _retry(self, now_ms: int) -> None:
        again = []
        while self._retries and self._retries[0][0] <= now_ms:
            call = heappop(self._retries)[2]
            if call.results is None:  # else it has timed out meanwhile
                call.attempts += 1
                again.append(self._attempt(call))
        if again:
            assert self._calls is not None
            self._calls.start(again)

    # -- emission --------------------------------------------------------------------------------------

    def _emit(self) -> None:
        collect = self._collector.collect
        for item in self._queue.ready():
            if isinstance(item, Call):
                collect(self._leaving(item), item.timestamp)
                continue
            self._collector.flush()
            if isinstance(item, Watermark):
                self._output.emit_watermark(item.timestamp_ms)
            else:
                self._output.emit_status(idle=item.idle)
        self._collector.flush()

    def _leaving(self, call: Call) -> Iterable[Any]:
        """What leaves for a call whose turn it is."""
        assert call.results is not None
        if call.rejected:
            return call.results
        self._set_key(call)
        try:
            results = self._function.on_completion(call.value, call.results) or ()
            return results if self._on_error == "fail" else list(results)
        except Exception as error:  # noqa: BLE001 - what becomes of it is the operator's policy
            return self._rejection(call, error)

    def _rejection(self, call: Call, error: BaseException) -> Sequence[Any]:
        """What leaves for a record that an error came of; raises it where errors fail the job."""
        if self._on_error == "fail" or not isinstance(error, Exception):
            raise error
        self._reject()
        call.rejected = True
        if self._on_error == "skip":
            return ()
        return ((DEAD_LETTERS, (call.value, f"{type(error).__name__}: {error}")),)

    def _set_key(self, call: Call) -> None:
        if self._key_of is not None:
            self.keyed_state.set_current_key(call.key)

    def _checked(self, results: Any) -> Sequence[Any]:
        if isinstance(results, list):
            return results
        if results is None or isinstance(results, (str, bytes)) or not isinstance(results, Iterable):
            raise ZmflowError(
                "The result of AsyncFunction cannot be none."
                if results is None
                else "The result of AsyncFunction should be of list type.",
                detail=f"{type(self._specification.function).__name__} returned {results!r:.200}.",
                hint="Return a list from async_invoke() and timeout(); [] for no results.",
            )
        return list(results)


class _PlainFunction(AsyncFunction[Any, Any]):
    """What an ``async def`` function does not say: it is a function class's defaults."""

    async def async_invoke(self, value: Any) -> Iterable[Any]:
        raise NotImplementedError
