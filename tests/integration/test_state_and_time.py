"""State, event time, timers and windows in the worker processes of an embedded cluster."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from zmflow import (
    DEAD_LETTERS,
    Accumulator,
    Duration,
    KeyedProcessFunction,
    MapFunction,
    OutputTag,
    ProcessWindowFunction,
    RuntimeContext,
    StreamExecutionEnvironment,
    TumblingEventTimeWindows,
    ValueStateDescriptor,
    WatermarkStrategy,
)
from zmflow.api.environment import environment_context
from zmflow.api.execution_config import ExecutionConfig
from zmflow.config import Settings
from zmflow.errors import JobFailedError

pytestmark = pytest.mark.integration

KEYS = "abcdefg"
RECORDS = [(KEYS[i % len(KEYS)], i, i * 10) for i in range(700)]
"""Key, value, milliseconds of event time: a hundred of each key over seven seconds."""

STRATEGY: WatermarkStrategy[tuple[str, int, int]] = WatermarkStrategy.for_bounded_out_of_orderness(
    Duration.of_seconds(1)
).with_timestamp_assigner(lambda record, _: record[2])


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """An environment of parallelism 2 that runs its jobs on embedded clusters."""
    texts = {"parallelism.default": "2", "execution.target": "embedded"}
    with environment_context(Settings().with_values(texts, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


class Counted(ProcessWindowFunction[Any, Any, str, Any]):
    """Begin and size of a window."""

    def process(self, key: str, context: Any, elements: Any) -> Iterator[tuple[str, int, int]]:
        yield key, context.window().start, len(list(elements))


class SumAtTheEnd(KeyedProcessFunction):
    """Sums the values of a key and says so when event time has passed the last of them."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.total = runtime_context.get_state(ValueStateDescriptor("total"))

    def process_element(self, value: tuple[str, int, int], ctx: Any) -> None:
        self.total.update((self.total.value() or 0) + value[1])
        ctx.timer_service().register_event_time_timer(1_000_000)

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[tuple[str, int]]:
        yield ctx.get_current_key(), self.total.value()


def test_windows_of_a_shuffled_stream_hold_every_record(env: StreamExecutionEnvironment) -> None:
    """One-second windows per key, from two sources' subtasks with watermarks of their own."""
    stream = env.from_collection(RECORDS).assign_timestamps_and_watermarks(STRATEGY)
    windows = stream.key_by(lambda r: r[0]).window(TumblingEventTimeWindows.of(Duration.of_seconds(1)))
    late: OutputTag[Any] = OutputTag("late")
    counted = windows.side_output_late_data(late).process(Counted())
    with counted.execute_and_collect() as rows:
        found = {(key, start): count for key, start, count in rows}
    expected: dict[tuple[str, int], int] = {}
    for key, _, at in RECORDS:
        expected[key, at // 1000 * 1000] = expected.get((key, at // 1000 * 1000), 0) + 1
    assert found == expected


def test_timers_fire_at_the_end_of_the_input(env: StreamExecutionEnvironment) -> None:
    """The end of all inputs is the end of event time: each key says its sum, once."""
    stream = env.from_collection(RECORDS).assign_timestamps_and_watermarks(STRATEGY)
    with stream.key_by(lambda r: r[0]).process(SumAtTheEnd()).execute_and_collect() as rows:
        assert sorted(rows) == [(key, sum(r[1] for r in RECORDS if r[0] == key)) for key in KEYS]


def test_dead_letters_are_the_records_that_raise(env: StreamExecutionEnvironment) -> None:
    """The job goes on; each poisonous record comes with its error."""
    inverses = env.from_collection([4, 0, 2]).map(lambda value: 8 // value).on_error("dead_letter")
    letters = inverses.get_side_output(DEAD_LETTERS)
    with inverses.map(str).union(letters.map(repr)).execute_and_collect() as rows:
        assert sorted(rows) == [
            "(0, 'ZeroDivisionError: integer division or modulo by zero')",
            "2",
            "4",
        ]


class Greeting(KeyedProcessFunction):
    """Reads a job parameter."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.greeting = runtime_context.get_job_parameter("greeting", "none")

    def process_element(self, value: str, ctx: Any) -> Iterator[str]:
        yield f"{self.greeting}, {value}"


def test_functions_read_job_parameters(env: StreamExecutionEnvironment) -> None:
    """Whatever characters they have."""
    ExecutionConfig(env).set_global_job_parameters({"greeting": "good day: it's"})
    with env.from_collection(["you"]).key_by(str).process(Greeting()).execute_and_collect() as rows:
        assert list(rows) == ["good day: it's, you"]


class Longest(Accumulator[str, str]):
    """An accumulator of the program's own."""

    def __init__(self) -> None:
        self.text = ""

    def add(self, value: str) -> None:
        self.text = max(self.text, value, key=len)

    def get_local_value(self) -> str:
        return self.text

    def reset_local(self) -> None:
        self.text = ""

    def merge(self, other: Longest) -> None:
        self.add(other.text)


class Watched(MapFunction[str, str]):
    """Counts what passes, and says at the end that it did."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.passed = runtime_context.get_int_counter("passed")
        self.longest = runtime_context.add_accumulator("longest", Longest())
        self.closed = runtime_context.get_int_counter("closed")

    def map(self, value: str) -> str:
        self.passed.add(1)
        self.longest.add(value)
        return value

    def close(self) -> None:
        self.closed.add(1)


def test_accumulators_of_all_subtasks_reach_the_client(env: StreamExecutionEnvironment) -> None:
    """Merged: built-in ones and the program's own, what close() adds included."""
    env.from_collection(["a", "bbb", "cc", "d"]).map(Watched()).print()
    result = env.execute()
    assert result.get_all_accumulator_results() == {"passed": 4, "longest": "bbb", "closed": 2}
    assert (result.get_accumulator_result("passed"), result.get_accumulator_result("none")) == (4, None)


def test_accumulators_of_a_running_job_can_be_asked_for(env: StreamExecutionEnvironment) -> None:
    """They are those of tasks that wait for input at the moment, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        lines = env.socket_text_stream("127.0.0.1", listener.getsockname()[1])
        lines.rebalance().map(Watched()).print()
        client = env.execute_async()
        try:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"a\nbbb\ncc\n")
                while (results := client.get_accumulators()).get("passed") != 3:
                    assert client.get_job_status() in ("CREATED", "RUNNING")
                assert results == {"passed": 3, "longest": "bbb", "closed": 0}
            ended = client.get_job_execution_result().get_all_accumulator_results()
            assert ended == client.get_accumulators() == {"passed": 3, "longest": "bbb", "closed": 2}
        finally:
            client.close()


class Hoard(MapFunction[int, int]):
    """Accumulates what should have been a stream."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.all = runtime_context.add_accumulator("all", Longest())

    def map(self, value: int) -> int:
        self.all.add("x" * value)
        return value


def test_accumulators_that_are_too_large_fail_the_job_and_say_so(env: StreamExecutionEnvironment) -> None:
    """Nothing is cut off silently."""
    env.from_collection([70_000]).map(Hoard()).print()
    with pytest.raises(JobFailedError, match=r"The accumulators of a task are \d+ bytes; 65536 are allowed"):
        env.execute()
