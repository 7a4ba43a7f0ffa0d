"""The operator harness itself: virtual time, outputs, state, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from zmflow.api.functions import CoMapFunction, FilterFunction, FlatMapFunction, MapFunction
from zmflow.api.metrics import DistributionValue, MeterValue
from zmflow.api.output_tag import OutputTag
from zmflow.api.process_functions import KeyedProcessFunction
from zmflow.errors import JobGraphError, ZmflowError
from zmflow.execution.stream_operator import MAX_WATERMARK, OperatorContext, StreamOperator
from zmflow.state.descriptors import ValueStateDescriptor
from zmflow.testing.harness import OperatorHarness, Record


class Clock(KeyedProcessFunction[str, str, Any]):
    """Sets a timer each 10 ms from the first record on, three times; tells what the clock shows."""

    def open(self, runtime_context: Any) -> None:
        self.left = runtime_context.get_state(ValueStateDescriptor("left"))

    def process_element(self, value: str, ctx: Any) -> None:
        self.left.update(3)
        ctx.timer_service().register_processing_time_timer(ctx.timer_service().current_processing_time() + 10)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        now = ctx.timer_service().current_processing_time()
        yield timestamp, now
        self.left.update(self.left.value() - 1)
        if self.left.value():
            ctx.timer_service().register_processing_time_timer(now + 10)


def test_each_timer_fires_when_the_clock_shows_its_time() -> None:
    """Going on to 35 fires the timers of 10, 20 and 30, one after the other, each at its own time."""
    harness = OperatorHarness(Clock(), key_selector=str)
    harness.push("a")
    assert harness.next_processing_time_ms() == 10
    harness.processing_time(35)
    assert harness.output() == [((10, 10), None), ((20, 20), None), ((30, 30), None)]
    assert harness.next_processing_time_ms() is None


def test_the_clock_does_not_go_back() -> None:
    """A test that lets time run backwards is wrong and is told so."""
    harness = OperatorHarness(Clock(), key_selector=str, processing_time_ms=5)
    with pytest.raises(ValueError, match="does not go back to 4"):
        harness.processing_time(4)


def test_timers_can_be_listed() -> None:
    """The test sees what is set, for which key and when."""
    harness = OperatorHarness(Clock(), key_selector=str, processing_time_ms=5)
    harness.push_batch(["b", "a"])
    assert harness.processing_time_timers() == [(15, "b", None), (15, "a", None)]
    assert harness.event_time_timers() == []


class Both(CoMapFunction[int, int, str]):
    """Names the input of each record."""

    def map1(self, value: int) -> str:
        return f"first {value}"

    def map2(self, value: int) -> str:
        return f"second {value}"


def test_event_time_is_the_least_of_two_inputs() -> None:
    """A watermark of one input alone goes nowhere; that of both moves event time to the lesser one."""
    harness = OperatorHarness(Both())
    harness.push(1, timestamp=1)
    harness.watermark(10, of_input=1)
    assert harness.watermarks() == []
    harness.watermark(7, of_input=2)
    harness.push_second(2)
    harness.watermark(3, of_input=2)
    assert harness.everything() == [("first 1", 1), (7,), ("second 2", None)]


def test_functions_without_a_context_are_driven_too() -> None:
    """Map, flat map and filter functions give what they give in a job."""

    class Increment(MapFunction[int, int]):
        def map(self, value: int) -> int:
            return value + 1

    class Twice(FlatMapFunction[int, int]):
        def flat_map(self, value: int) -> Any:
            return [value, value]

    class Odd(FilterFunction[int]):
        def filter(self, value: int) -> bool:
            return value % 2 == 1

    for function, expected in ((Increment(), [2, 3]), (Twice(), [1, 1, 2, 2]), (Odd(), [1])):
        harness = OperatorHarness(function)
        harness.push_batch([1, 2])
        assert harness.values() == expected


def test_a_map_function_of_a_keyed_stream_has_the_state_of_its_key() -> None:
    """With a key selector a plain function class reaches keyed state."""

    class Count(MapFunction[str, int]):
        def open(self, runtime_context: Any) -> None:
            self.count = runtime_context.get_state(ValueStateDescriptor("count"))

        def map(self, value: str) -> int:
            count = (self.count.value() or 0) + 1
            self.count.update(count)
            return count

    harness = OperatorHarness(Count(), key_selector=str)
    harness.push_batch(["a", "b", "a"])
    assert harness.values() == [1, 1, 2]
    harness.state(ValueStateDescriptor("count"), "a").update(10)
    harness.push("a")
    assert harness.values()[-1] == 11


class Closing(StreamOperator):
    """Notes what is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def open(self, context: OperatorContext) -> None:
        self.calls.append("open")
        self.output = context.output

    def process(self, rows: Any, timestamps: Any) -> None:
        self.output.emit_side("side", list(rows), timestamps)

    def advance_watermark(self, watermark_ms: int) -> None:
        self.calls.append(f"watermark {watermark_ms}")

    def finish(self) -> None:
        self.calls.append("finish")

    def close(self) -> None:
        self.calls.append("close")


def test_an_operator_object_is_driven_through_its_life() -> None:
    """Open first; at the end of the input the last watermark, then finish; close once."""
    operator = Closing()
    with OperatorHarness(operator) as harness:
        harness.push("late", timestamp=3)
        harness.end_input()
        harness.close()
    assert operator.calls == ["open", f"watermark {MAX_WATERMARK}", "finish", "close"]
    assert harness.side_output(OutputTag("side")) == [Record("late", 3)]
    assert harness.output() == []
    harness.clear_output()
    assert harness.side_output(OutputTag("side")) == []
    assert harness.everything() == []


def test_what_it_cannot_drive_is_refused_with_a_hint() -> None:
    """A plain function, a keyed function without keys, and state where there is none."""
    with pytest.raises(JobGraphError, match="function objects"):
        OperatorHarness(len)
    with pytest.raises(JobGraphError, match="key_selector"):
        OperatorHarness(Clock())
    with pytest.raises(ZmflowError, match="no keyed state"):
        OperatorHarness(Both()).state(ValueStateDescriptor("x"), "a")


def test_accumulators_and_job_parameters_are_there() -> None:
    """A function finds the parameters the test gives it; the test reads its accumulators."""

    class Counting(MapFunction[int, int]):
        def open(self, runtime_context: Any) -> None:
            self.factor = int(runtime_context.get_job_parameter("factor", "1"))
            self.seen = runtime_context.get_int_counter("seen")

        def map(self, value: int) -> int:
            self.seen.add(1)
            return value * self.factor

    harness = OperatorHarness(Counting(), job_parameters={"factor": "3"})
    harness.push_batch([1, 2])
    assert (harness.values(), harness.accumulator("seen")) == ([3, 6], 2)
    assert harness.accumulator("other") is None


class Measuring(MapFunction[int, int]):
    """One metric of each kind, in groups."""

    def open(self, runtime_context: Any) -> None:
        group = runtime_context.get_metrics_group()
        self.seen = group.counter("seen")
        self.values = group.add_group("input").distribution("values")
        self.calls = group.add_group("table", "users").meter("calls")
        self.last = 0
        group.gauge("last", lambda: self.last)

    def map(self, value: int) -> int:
        self.seen.inc()
        self.values.update(value)
        self.calls.mark_event()
        self.last = value
        return value


def test_metrics_are_read_by_name_in_virtual_time() -> None:
    """Gauges are asked when the test looks; the rate of a meter is that of the harness's clock."""
    harness = OperatorHarness(Measuring())
    harness.push_batch([4, 2])
    harness.processing_time(4_000)
    assert harness.metrics() == {
        "seen": 2,
        "input.values": DistributionValue(count=2, sum=6, min=2, max=4),
        "table.users.calls": MeterValue(count=2, rate=0.5),
        "last": 2,
    }


def test_the_error_of_a_gauge_comes_out() -> None:
    """A job goes on without it; a test wants to know."""

    class Broken(MapFunction[int, int]):
        def open(self, runtime_context: Any) -> None:
            runtime_context.get_metrics_group().gauge("broken", lambda: 1 // 0)

        def map(self, value: int) -> int:
            return value

    with pytest.raises(ZeroDivisionError):
        OperatorHarness(Broken()).metrics()
