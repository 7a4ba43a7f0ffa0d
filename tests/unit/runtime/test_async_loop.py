"""The event loop beside a task: real coroutines, real threads."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Any

import pytest

from zmflow.api.async_functions import (
    AsyncFunction,
    AsyncOperator,
    AsyncRetryStrategy,
    NoRetryStrategy,
    has_exception_predicate,
)
from zmflow.api.functions import RuntimeContext
from zmflow.execution.async_operator import AsyncWaitOperator
from zmflow.execution.stream_operator import OperatorContext, Timestamps
from zmflow.runtime.async_loop import AsyncLoop, OperatorHost
from zmflow.runtime.channels import Mailbox

WAIT_S = 20.0

CONTEXT = RuntimeContext("j", "job", "task", "async", 0, 1, 128, 0, "here")

Outcome = tuple[int, Any, BaseException | None]


@contextmanager
def loop_of(function: Callable[[Any], Awaitable[Any]]) -> Iterator[tuple[AsyncLoop, SimpleQueue[Outcome]]]:
    """A loop, and the queue of what its calls came to."""
    outcomes: SimpleQueue[Outcome] = SimpleQueue()
    loop = AsyncLoop(function, lambda *outcome: outcomes.put(outcome))
    try:
        yield loop, outcomes
    finally:
        loop.close()


def test_calls_overlap() -> None:
    """Each call waits for all the others: one after the other they would never end."""
    arrived = 0
    all_there = asyncio.Event()

    async def meet(value: int) -> list[int]:
        nonlocal arrived
        arrived += 1
        if arrived == 3:
            all_there.set()
        await all_there.wait()
        return [value]

    with loop_of(meet) as (loop, outcomes):
        loop.start([(0, 10), (1, 11)])
        loop.start([(2, 12)])
        ended = sorted(outcomes.get(timeout=WAIT_S) for _ in range(3))
    assert ended == [(0, [10], None), (1, [11], None), (2, [12], None)]


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), asyncio.CancelledError("theirs")])
def test_whatever_a_call_raises_is_its_outcome(error: BaseException) -> None:
    """Even what would end a program or a loop is reported, and the loop goes on."""

    async def fail(value: int) -> list[int]:
        if value:
            raise error
        return []

    with loop_of(fail) as (loop, outcomes):
        loop.start([(7, 1)])
        assert outcomes.get(timeout=WAIT_S) == (7, None, error)
        loop.start([(8, 0)])
        assert outcomes.get(timeout=WAIT_S) == (8, [], None)


def test_a_cancelled_call_ends_and_is_not_reported() -> None:
    """The coroutine gets its CancelledError, the others their outcomes."""
    canceled: SimpleQueue[int] = SimpleQueue()

    async def hang(value: int) -> list[int]:
        if value == 0:
            return []
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            canceled.put(value)
            raise
        raise AssertionError

    with loop_of(hang) as (loop, outcomes):
        loop.start([(0, 5)])
        loop.cancel(0)
        loop.start([(1, 0)])
        assert outcomes.get(timeout=WAIT_S) == (1, [], None)
        loop.cancel(1)
    assert outcomes.empty()


def test_closing_cancels_everything() -> None:
    """Calls under way are cancelled and can clean up; nothing is reported, and the thread is gone."""
    begun = threading.Event()
    cleaned = threading.Event()

    async def hang(value: int) -> list[int]:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()
        return []

    with loop_of(hang) as (loop, outcomes):
        loop.start([(0, 5)])
        assert begun.wait(WAIT_S)
    assert cleaned.is_set()
    assert outcomes.empty()
    assert not [thread for thread in threading.enumerate() if thread.name == "async-calls"]
    loop.close()


class Task:
    """A task with one operator, its mailbox and its outputs."""

    def __init__(self, operator: AsyncWaitOperator) -> None:
        self.rows: list[Any] = []
        self.threads: set[int] = set()
        self.flushes = 0
        self.mailbox: Mailbox = SimpleQueue()
        self.deferred: deque[tuple[Any, Any]] = deque()
        self.operator = operator
        self.host = OperatorHost(operator.woken, self.mailbox, self.deferred, self.control, self, self.now_ms)
        operator.attach(self.host)
        operator.open(OperatorContext(CONTEXT, self, self.now_ms))

    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def control(self, item: Any) -> None:
        if isinstance(item, BaseException):
            raise item

    def due(self) -> float:
        return time.perf_counter() + 0.005

    def flush_due(self, now: float) -> None:
        self.flushes += 1

    def emit(self, rows: Sequence[Any], timestamps: Timestamps) -> None:
        self.threads.add(threading.get_ident())
        self.rows += rows

    def emit_side(self, tag_id: str, rows: Sequence[Any], timestamps: Timestamps) -> None: ...

    def emit_watermark(self, watermark_ms: int) -> None: ...

    def emit_status(self, *, idle: bool) -> None: ...


@contextmanager
def task_with(specification: AsyncOperator) -> Iterator[Task]:
    """A task with this operator, which is closed at the end."""
    task = Task(AsyncWaitOperator(specification))
    try:
        yield task
    finally:
        task.operator.close()


HANGING = (29, 69)


class Sometimes(AsyncFunction[int, int]):
    """Fails the first time, hangs for some records."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    async def async_invoke(self, value: int) -> list[int]:
        await asyncio.sleep(0.001 * (value % 3))
        if value in HANGING:
            await asyncio.Event().wait()
        if value not in self.seen:
            self.seen.add(value)
            raise ConnectionError
        return [value]

    def timeout(self, value: int) -> list[int]:
        return [-value]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_operator_with_a_real_loop(ordered: bool) -> None:
    """Retries and timeouts with real time: every record leaves once, and only on the task's thread."""
    strategy = AsyncRetryStrategy.fixed_delay(3, 5, exception_predicate=has_exception_predicate)
    with task_with(AsyncOperator(Sometimes(), 300, 16, ordered, strategy)) as task:
        task.operator.process(list(range(100)), None)
        task.operator.finish()
    # On a busy machine others may take too long as well.
    left = [abs(value) for value in task.rows]
    assert (left if ordered else sorted(left)) == list(range(100))
    assert {-value for value in HANGING} <= set(task.rows)
    assert task.threads == {threading.get_ident()}


def test_many_records_pass_a_small_capacity() -> None:
    """Ten thousand records through ten places: nothing is lost between the two threads."""

    async def double(value: int) -> list[int]:
        await asyncio.sleep(0)
        return [2 * value]

    with task_with(AsyncOperator(double, 0, 10, True, NoRetryStrategy())) as task:
        for begin in range(0, 10_000, 500):
            task.operator.process(list(range(begin, begin + 500)), None)
        task.operator.finish()
    assert task.rows == [2 * value for value in range(10_000)]


async def never(value: int) -> list[int]:
    """Nothing ends this but being cancelled."""
    await asyncio.Event().wait()
    return [value]


def test_what_comes_while_an_operator_waits_is_kept_for_the_task() -> None:
    """Batches, events and the waking of other operators keep their order; outputs are flushed meanwhile."""
    with task_with(AsyncOperator(never, 50, 1, True, NoRetryStrategy())) as task:
        other = OperatorHost(
            lambda: None,
            task.mailbox,
            task.deferred,
            task.control,
            task,
            task.now_ms,
        )
        sent: list[tuple[Any, Any]] = [("channel", "batch"), (None, b"event"), (None, other)]
        for item in sent:
            task.mailbox.put(item)
        task.operator.process([1], None)
        with pytest.raises(TimeoutError, match="1"):
            task.operator.process([2], None)
        assert list(task.deferred) == sent
        assert task.flushes > 0
        assert task.host.waited_s > 0


def test_a_task_that_is_to_end_does_not_go_on_waiting() -> None:
    """What cancels or fails the task is raised out of the waiting."""
    with task_with(AsyncOperator(never, 0, 1, True, NoRetryStrategy())) as task:
        task.operator.process([1], None)
        task.mailbox.put((None, ConnectionResetError("the end")))
        with pytest.raises(ConnectionResetError, match="the end"):
            task.operator.process([2], None)


def test_between_batches_the_task_is_told_who_was_woken() -> None:
    """The operator's host is the item; notify() lets results leave."""

    async def quick(value: int) -> list[int]:
        return [value]

    with task_with(AsyncOperator(quick, 0, 5, True, NoRetryStrategy())) as task:
        task.operator.process([1], None)
        sender, item = task.mailbox.get(timeout=WAIT_S)
        assert (sender, item) == (None, task.host)
        item.notify()
        assert task.rows == [1]
