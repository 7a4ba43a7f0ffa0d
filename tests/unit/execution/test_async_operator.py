"""Order, capacity, timeouts and retries of asynchronous calls, in one thread and virtual time."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.api.async_functions import (
    AsyncFunction,
    AsyncOperator,
    AsyncRetryStrategy,
    NoRetryStrategy,
    empty_result_predicate,
    has_exception_predicate,
)
from zmflow.api.async_stream import AsyncDataStream
from zmflow.api.environment import StreamExecutionEnvironment
from zmflow.api.functions import RuntimeContext
from zmflow.api.metric_group import MetricGroup
from zmflow.api.output_tag import OutputTag
from zmflow.api.time import Time
from zmflow.api.watermark_strategy import WatermarkGenerator
from zmflow.errors import JobGraphError, ZmflowError
from zmflow.execution.async_calls import CallDone
from zmflow.execution.async_operator import AsyncWaitOperator
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.stream_operator import MAX_WATERMARK, OperatorContext, Timestamps
from zmflow.graph.transformations import ErrorPolicy
from zmflow.state.function_states import FunctionStates

CONTEXT = RuntimeContext("j", "job", "task", "async", 0, 1, 128, 0, "here")
LATE: OutputTag[str] = OutputTag("late")


class Looked(AsyncFunction[Any, Any]):
    """Its coroutines are never run: the host below says what they return."""

    def __init__(self) -> None:
        self.life: list[str] = []

    def open(self, runtime_context: RuntimeContext) -> None:
        self.life.append("open")

    async def async_invoke(self, value: Any) -> list[Any]:
        raise AssertionError

    def timeout(self, value: Any) -> list[Any]:
        return [f"{value} too late"]

    def close(self) -> None:
        self.life.append("close")


class Host:
    """A task and its event loop, as far as the operator sees them; the test plays both."""

    def __init__(
        self, keyed_state: Any = None, on_error: ErrorPolicy = "fail", functions: Any = None, **changes: Any
    ) -> None:
        specification = AsyncOperator(Looked(), 0, 3, ordered=True, retry_strategy=NoRetryStrategy())
        self.now_ms = 0
        self.out: list[Any] = []
        self.side: list[Any] = []
        self.running: dict[int, Any] = {}
        self.canceled: list[Any] = []
        self.woken = 0
        self.blocked = 0
        self.while_blocked: Callable[[], None] = lambda: pytest.fail("nothing can end the waiting")
        self.operator = AsyncWaitOperator(replace(specification, **changes))
        self.operator.attach(self)
        self.metrics = MetricGroup()
        runtime = replace(
            CONTEXT, keyed_state=keyed_state, function_states=functions, metric_group=self.metrics
        )
        self.operator.open(OperatorContext(runtime, self, lambda: self.now_ms, on_error=on_error))

    # AsyncHost

    def calls(self, function: Callable[[Any], Awaitable[Any]], done: CallDone) -> Host:
        self._done = done
        return self

    def wake(self) -> None:
        self.woken += 1

    def wait(self, until_ms: int | None) -> None:
        self.blocked += 1
        self.while_blocked()

    # AsyncCalls

    def start(self, calls: Sequence[tuple[int, Any]]) -> None:
        self.running.update(calls)

    def cancel(self, number: int) -> None:
        self.canceled.append(self.running.pop(number))

    def close(self) -> None:
        self.running.clear()

    # Output

    def emit(self, rows: Sequence[Any], timestamps: Timestamps) -> None:
        self.out += list(rows) if timestamps is None else list(zip(rows, timestamps, strict=True))

    def emit_side(self, tag_id: str, rows: Sequence[Any], timestamps: Timestamps) -> None:
        self.side += [(tag_id, row) for row in rows]

    def emit_watermark(self, watermark_ms: int) -> None:
        self.out.append(f"watermark {watermark_ms}")

    def emit_status(self, *, idle: bool) -> None:
        self.out.append("idle" if idle else "active")

    # what tests do

    def push(self, *rows: Any, timestamps: list[int] | None = None) -> None:
        self.operator.process(rows, timestamps)

    def report(self, value: Any, results: Any = None, error: BaseException | None = None) -> None:
        """The call for a value ends; by default with its value in capitals."""
        number = next(number for number, given in self.running.items() if given == value)
        del self.running[number]
        results = [value.upper()] if results is None and error is None else results
        self._done(number, results, error)

    def end(self, value: Any, results: Any = None, error: BaseException | None = None) -> None:
        """The call for a value ends, and the task looks at it."""
        self.report(value, results, error)
        self.operator.woken()

    def at(self, now_ms: int) -> None:
        """The clock shows this."""
        self.now_ms = now_ms
        due_ms = self.operator.next_processing_time_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.operator.advance_processing_time(now_ms)

    def taken(self) -> list[Any]:
        """What left since the last time."""
        out, self.out = self.out, []
        return out


def test_ordered_results_leave_in_the_order_of_their_records() -> None:
    """A quick call waits for the slow one before it; timestamps are the records'."""
    host = Host(ordered=True)
    host.push("a", "b", timestamps=[1, 2])
    host.end("b", ["B1", "B2"])
    assert host.taken() == []
    host.end("a")
    assert host.taken() == [("A", 1), ("B1", 2), ("B2", 2)]


def test_unordered_results_leave_as_they_come() -> None:
    """A quick call overtakes a slow one."""
    host = Host(ordered=False)
    host.push("a", "b")
    host.end("b")
    host.end("a")
    assert host.taken() == ["B", "A"]


@pytest.mark.parametrize("ordered", [True, False])
def test_no_result_crosses_a_watermark(ordered: bool) -> None:
    """Watermarks and statuses keep their place between the results of the records around them."""
    host = Host(ordered=ordered)
    host.push("a", timestamps=[1])
    host.operator.advance_watermark(10)
    host.push("b", timestamps=[11])
    host.operator.input_status(idle=True)
    host.end("b")
    assert host.taken() == []
    host.end("a")
    assert host.taken() == [("A", 1), "watermark 10", ("B", 11), "idle"]


def test_events_pass_at_once_when_nothing_is_under_way() -> None:
    """There is nothing to wait for."""
    host = Host()
    host.operator.advance_watermark(10)
    host.operator.input_status(idle=True)
    assert host.taken() == ["watermark 10", "idle"]


def test_events_behind_a_slow_call_do_not_pile_up() -> None:
    """Of many watermarks the last one stays, of alternating statuses what they come to."""
    host = Host()
    host.push("a")
    for watermark in range(100):
        host.operator.advance_watermark(watermark)
    for idle in (True, False, True, False, True):
        host.operator.input_status(idle=idle)
    host.end("a")
    assert host.taken() == ["A", "watermark 99", "idle"]


def test_the_input_waits_while_the_operator_is_full() -> None:
    """The fourth record of three is begun when the first has ended; then the batch goes on."""
    host = Host(capacity=3)
    host.while_blocked = lambda: host.report("a")
    host.push("a", "b", "c", "d")
    assert host.blocked == 1
    assert host.taken() == ["A"]
    assert sorted(host.running.values()) == ["b", "c", "d"]


def test_a_result_that_may_not_leave_yet_takes_room() -> None:
    """Capacity counts what has not left: results that wait in order are bounded, too."""
    host = Host(capacity=2)
    host.push("a", "b")
    host.end("b")
    host.while_blocked = lambda: host.report("a")
    host.push("c")
    assert host.blocked == 1


def test_the_task_is_woken_once_for_many_results() -> None:
    """Whoever comes second finds the task woken already."""
    host = Host()
    host.push("a", "b", "c")
    for value in "abc":
        host.report(value)
    assert host.woken == 1
    host.operator.woken()
    assert host.taken() == ["A", "B", "C"]


@pytest.mark.parametrize("end", ["watermark", "finish"])
def test_the_end_waits_for_what_is_under_way(end: str) -> None:
    """Before event time ends, and before the operator finishes, every result has left."""
    host = Host()
    host.push("a", "b")
    left = ["b", "a"]
    host.while_blocked = lambda: host.report(left.pop())
    if end == "watermark":
        host.operator.advance_watermark(MAX_WATERMARK)
    else:
        host.operator.finish()
    assert host.taken() == ["A", "B"]


def test_a_call_that_takes_too_long_is_given_up() -> None:
    """timeout() gives its results; the call is cancelled, and what it still says is ignored."""
    host = Host(timeout_ms=100)
    host.push("a")
    host.at(99)
    assert host.taken() == []
    number = next(iter(host.running))
    host.at(100)
    assert host.taken() == ["a too late"]
    assert host.canceled == ["a"]
    host._done(number, ["A"], None)
    host.operator.woken()
    assert host.taken() == []
    assert host.operator.next_processing_time_ms() is None


def test_timeouts_pass_while_the_operator_is_full() -> None:
    """A blocked operator wakes up for its deadlines."""
    host = Host(timeout_ms=100, capacity=1)
    host.push("a")

    def pass_time() -> None:
        host.now_ms = 100

    host.while_blocked = pass_time
    host.push("b")
    assert host.taken() == ["a too late"]


def test_by_default_a_timeout_is_an_error() -> None:
    """A function without timeout() fails the task, and the record is named."""

    async def lookup(value: str) -> list[str]:
        raise AssertionError

    host = Host(function=lookup, timeout_ms=100)
    host.push("the record")
    with pytest.raises(TimeoutError, match="the record"):
        host.at(100)


def test_what_a_call_raises_is_raised_on_the_tasks_thread() -> None:
    """The very exception, with the user's own traceback."""
    host = Host()
    host.push("a")
    error = ValueError("the user's")
    with pytest.raises(ValueError, match="the user's") as caught:
        host.end("a", error=error)
    assert caught.value is error


@pytest.mark.parametrize("results", [7, "text"])
def test_results_must_be_a_list(results: Any) -> None:
    """A text is no list of letters, a number no list at all; the function is named."""
    host = Host()
    host.push("a")
    with pytest.raises(ZmflowError, match="should be of list type") as caught:
        host.end("a", results)
    assert "Looked" in str(caught.value)


def test_no_result_is_an_empty_list_and_not_none() -> None:
    """None is most likely a forgotten return."""
    host = Host()
    host.push("a", "b")
    host.end("a", [])
    number = next(iter(host.running))
    host._done(number, None, None)
    with pytest.raises(ZmflowError, match="cannot be none"):
        host.operator.woken()


def test_a_failed_call_is_made_again_after_its_delay() -> None:
    """Up to max_attempts times; the last failure is the outcome."""
    strategy = AsyncRetryStrategy.fixed_delay(2, 50, exception_predicate=has_exception_predicate)
    host = Host(timeout_ms=1000, retry_strategy=strategy)
    host.push("a")
    host.end("a", error=OSError("first"))
    assert host.running == {}
    host.at(49)
    assert host.running == {}
    host.at(50)
    host.end("a", error=OSError("second"))
    host.at(100)
    with pytest.raises(OSError, match="third"):
        host.end("a", error=OSError("third"))


def test_results_can_be_a_reason_to_call_again() -> None:
    """Empty results are tried again; what comes then is taken."""
    strategy = AsyncRetryStrategy.exponential_backoff(5, 10, 1000, 2, result_predicate=empty_result_predicate)
    host = Host(timeout_ms=1000, retry_strategy=strategy)
    host.push("a")
    host.end("a", [])
    host.at(10)
    host.end("a", [])
    host.at(29)
    assert host.running == {}
    host.at(30)
    host.end("a")
    assert host.taken() == ["A"]


def test_the_timeout_spans_all_attempts() -> None:
    """A retry that would come too late does not come at all."""
    strategy = AsyncRetryStrategy.fixed_delay(9, 80, exception_predicate=has_exception_predicate)
    host = Host(timeout_ms=100, retry_strategy=strategy)
    host.push("a")
    host.end("a", error=OSError())
    host.at(80)
    host.end("a", error=OSError())
    host.at(100)
    assert host.taken() == ["a too late"]
    host.at(160)
    assert host.running == {}


def test_functions_are_opened_and_closed_once() -> None:
    """open() comes before the first call, close() after the last; calls under way are dropped."""
    function = Looked()
    host = Host(function=function)
    host.push("a")
    host.operator.close()
    assert function.life == ["open", "close"]
    assert host.running == {}


def test_state_of_the_records_key_is_there_on_completion() -> None:
    """on_completion() runs with the key of its record set, in the order of emission."""

    class Keyed(Looked):
        def on_completion(self, value: Any, results: Sequence[Any]) -> Iterable[Any]:
            for result in results:
                yield result, keys[-1]
            yield LATE, value

    class Backend:
        def set_current_key(self, key: Any) -> None:
            keys.append(key)

    keys: list[Any] = []
    host = Host(Backend(), function=Keyed(), ordered=False, key_selector=len)
    host.push("a", "bb")
    host.end("bb")
    host.end("a")
    assert host.taken() == [("BB", 2), ("A", 1)]
    assert host.side == [("late", "bb"), ("late", "a")]


class Picky(Looked):
    """Fails wherever a function can fail on the task's thread."""

    def timeout(self, value: Any) -> list[Any]:
        raise TimeoutError(value)

    def on_completion(self, value: Any, results: Sequence[Any]) -> Iterable[Any]:
        for result in results:
            yield 1 / result


@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_errors_need_not_fail_the_job(policy: ErrorPolicy) -> None:
    """A record that raises at any point is left out, or becomes a dead letter in its turn."""
    host = Host(on_error=policy, function=Picky(), timeout_ms=100, capacity=9)
    host.push("raises", "returns none", "divides", "hangs", "works")
    host.end("works", [2])
    host.end("divides", [1, 0])
    host.end("raises", error=OSError("down"))
    number = next(number for number, value in host.running.items() if value == "returns none")
    host._done(number, None, None)
    host.at(100)
    assert host.taken() == [0.5]
    assert host.metrics.counter(RECORDS_REJECTED).get_count() == 4
    letters = [(value, text.partition(":")[0]) for _, (value, text) in host.side]
    assert letters == (
        []
        if policy == "skip"
        else [
            ("raises", "OSError"),
            ("returns none", "ZmflowError"),
            ("divides", "ZeroDivisionError"),
            ("hangs", "TimeoutError"),
        ]
    )


def test_a_snapshot_holds_what_has_not_left() -> None:
    """After a restore the records under way are called again, in their order."""
    host = Host(capacity=3)
    host.push("a", "b", "c", timestamps=[1, 2, 3])
    host.end("a")
    host.end("c")
    context = SnapshotContext(1, 0)
    host.operator.snapshot_state(context)
    assert [state.elements for state in context.operator] == [[("b", 2), ("c", 3)]]
    restored = Host(capacity=1, functions=FunctionStates(context.operator, 1))
    restored.while_blocked = lambda: restored.report("b")
    restored.operator.begin()
    restored.end("c")
    assert restored.taken() == [("B", 2), ("C", 3)]


@settings(max_examples=200, deadline=None)
@given(
    ordered=st.booleans(),
    capacity=st.integers(1, 5),
    script=st.lists(st.one_of(st.integers(1, 4), st.just("watermark")), max_size=30),
    seed=st.integers(0, 10**6),
)
def test_every_record_leaves_once_and_between_its_watermarks(
    ordered: bool, capacity: int, script: list[int | str], seed: int
) -> None:
    """Whatever ends when: nothing is lost or doubled or crosses a watermark; ordered keeps the order."""
    chance = random.Random(seed)
    host = Host(ordered=ordered, capacity=capacity)
    host.while_blocked = lambda: host.report(chance.choice(list(host.running.values())))
    expected: list[list[str]] = [[]]
    records = 0
    for step in script:
        if step == "watermark":
            host.operator.advance_watermark(len(expected))
            expected.append([])
            continue
        rows = [f"r{records + number}" for number in range(int(step))]
        records += len(rows)
        host.push(*rows)
        expected[-1] += [row.upper() for row in rows]
        assert len(host.running) <= capacity
        while host.running and chance.random() < 0.4:
            host.end(chance.choice(list(host.running.values())))
    host.operator.finish()
    segments: list[list[str]] = [[]]
    reached = 0
    for item in host.taken():
        if item.startswith("watermark"):
            reached, before = int(item.split()[1]), reached
            segments += [[] for _ in range(reached - before)]
        else:
            segments[-1].append(item)
    assert len(segments) == len(expected)
    for left, wanted in zip(segments, expected, strict=True):
        assert (left if ordered else sorted(left)) == (wanted if ordered else sorted(wanted))


# -- what the API makes of it -----------------------------------------------------------------------------


def _operator_of(stream: Any) -> AsyncOperator:
    operator = stream._node.operator
    assert isinstance(operator, AsyncOperator)
    return operator


def test_the_four_methods_describe_the_operator() -> None:
    """Order, capacity, timeout, strategy and the key of a keyed stream are in the specification."""
    stream = StreamExecutionEnvironment.get_execution_environment().from_collection(["a"])
    function = Looked()
    strategy = AsyncRetryStrategy.fixed_delay(3, 10)
    assert _operator_of(AsyncDataStream.ordered_wait(stream, function, Time.seconds(1))) == AsyncOperator(
        function, 1000, 100, True, NoRetryStrategy()
    )
    assert _operator_of(
        AsyncDataStream.unordered_wait_with_retry(stream.key_by(len), function, Time.seconds(2), strategy, 7)
    ) == AsyncOperator(function, 2000, 7, False, strategy, len)
    assert _operator_of(AsyncDataStream.unordered_wait(stream, function, Time.seconds(0))).timeout_ms == 0
    assert _operator_of(
        AsyncDataStream.ordered_wait_with_retry(stream, function, Time.seconds(2), strategy)
    ).ordered


def _not_async(value: str) -> list[str]:
    return [value]


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"async_function": _not_async}, "async def"),
        ({"async_function": Looked}, "the class Looked"),
        ({"async_function": WatermarkGenerator}, "the class"),
        ({"timeout": 5}, "Duration"),
        ({"timeout": Time.seconds(-1)}, "timeout"),
        ({"timeout": Time.seconds(0), "async_retry_strategy": AsyncRetryStrategy.fixed_delay(1, 1)}, "more"),
        ({"async_retry_strategy": None}, "AsyncRetryStrategy"),
        ({"capacity": 0}, "capacity"),
        ({"data_stream": [1]}, "not a list"),
    ],
)
def test_wrong_arguments_are_refused_when_they_are_given(changes: dict[str, Any], names: str) -> None:
    """The message names the argument and says what to pass instead."""
    arguments = {
        "data_stream": StreamExecutionEnvironment.get_execution_environment().from_collection(["a"]),
        "async_function": Looked(),
        "timeout": Time.seconds(1),
        "async_retry_strategy": AsyncRetryStrategy.no_restart(),
    }
    with pytest.raises(JobGraphError) as caught:
        AsyncDataStream.unordered_wait_with_retry(**{**arguments, **changes})
    assert names in str(caught.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: AsyncRetryStrategy.fixed_delay(0, 1),
        lambda: AsyncRetryStrategy.fixed_delay(1, 0),
        lambda: AsyncRetryStrategy.exponential_backoff(1, 1, 1, 0),
    ],
)
def test_retry_strategies_take_numbers_above_zero(make: Callable[[], object]) -> None:
    """No attempts, no delay and no multiplier are mistakes."""
    with pytest.raises(JobGraphError, match="greater than zero"):
        make()


def test_a_long_back_off_does_not_overflow() -> None:
    """The greatest delay holds, however many attempts there were."""
    strategy = AsyncRetryStrategy.exponential_backoff(10_000, 100, 60_000, 10.0)
    assert strategy.get_backoff_time_millis(5000) == 60_000
