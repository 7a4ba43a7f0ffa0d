"""Process functions, with keys and without, with one input and two, driven in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from zmflow.api.functions import CoFlatMapFunction, KeySelector
from zmflow.api.output_tag import DEAD_LETTERS, OutputTag
from zmflow.api.process_functions import (
    CoProcessFunction,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
)
from zmflow.api.timer_service import TimeDomain
from zmflow.errors import ZmflowError
from zmflow.execution.stream_operator import MIN_WATERMARK
from zmflow.state.descriptors import ListStateDescriptor, ValueStateDescriptor
from zmflow.testing.harness import OperatorHarness

ODD: OutputTag[int] = OutputTag("odd")


class Split(ProcessFunction[int, Any]):
    """Even numbers with what the context says; odd ones to the side."""

    def process_element(self, value: int, ctx: Any) -> Any:
        if value % 2:
            yield ODD, value
        else:
            times = ctx.timer_service()
            yield value, ctx.timestamp(), times.current_watermark(), times.current_processing_time()


def test_a_process_function_sees_time_and_has_side_outputs() -> None:
    """Timestamps go with the records, to the side output as well; watermarks and clock can be asked."""
    harness = OperatorHarness(Split(), processing_time_ms=100)
    harness.push_batch([1, 2, 3], [10, 20, 30])
    harness.watermark(25)
    harness.processing_time(200)
    harness.push(4)
    assert harness.output() == [((2, 20, MIN_WATERMARK, 100), 20), ((4, None, 25, 200), None)]
    assert harness.side_output(ODD) == [(1, 10), (3, 30)]


def test_timers_need_keys() -> None:
    """A function without keys that sets a timer is told what to do."""

    class Sets(ProcessFunction[int, int]):
        def process_element(self, value: int, ctx: Any) -> None:
            ctx.timer_service().register_event_time_timer(value)

    with pytest.raises(ZmflowError, match="key_by"):
        OperatorHarness(Sets()).push(1)


def test_keyed_state_needs_keys() -> None:
    """A function without keys that asks for state is told what to do, and is closed."""
    closed = []

    class Wants(ProcessFunction[int, int]):
        def open(self, runtime_context: Any) -> None:
            runtime_context.get_state(ValueStateDescriptor("x"))

        def process_element(self, value: int, ctx: Any) -> None: ...

        def close(self) -> None:
            closed.append(True)

    with pytest.raises(ZmflowError, match="key_by"):
        OperatorHarness(Wants())
    assert closed


class Buffering(KeyedProcessFunction[str, tuple[str, int], Any]):
    """Keeps values until event time reaches their timestamp, then emits all of the key."""

    def open(self, runtime_context: Any) -> None:
        self.kept = runtime_context.get_list_state(ListStateDescriptor("kept"))

    def process_element(self, value: tuple[str, int], ctx: Any) -> Any:
        assert ctx.get_current_key() == value[0]
        self.kept.add(value[1])
        ctx.timer_service().register_event_time_timer(ctx.timestamp())

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        assert ctx.time_domain() is TimeDomain.EVENT_TIME
        assert ctx.timestamp() == timestamp
        yield ctx.get_current_key(), list(self.kept.get()), ctx.timer_service().current_watermark()
        self.kept.clear()


def first(value: Any) -> Any:
    return value[0]


def test_event_time_timers_fire_with_their_key_before_the_watermark_goes_on() -> None:
    """What they emit has the timer's timestamp; the watermark they see is the new one and follows them."""
    harness = OperatorHarness(Buffering(), key_selector=first)
    harness.push(("a", 1), timestamp=10)
    harness.push(("b", 2), timestamp=5)
    harness.push(("a", 3), timestamp=10)
    harness.watermark(4)
    harness.watermark(12)
    assert harness.everything() == [
        (4,),
        (("b", [2], 12), 5),
        (("a", [1, 3], 12), 10),
        (12,),
    ]


class Alarm(KeyedProcessFunction[str, str, Any]):
    """Sets a timer of the clock and one of event time, and takes the latter back if told to."""

    def process_element(self, value: str, ctx: Any) -> Any:
        times = ctx.timer_service()
        times.register_processing_time_timer(50)
        times.register_event_time_timer(50)
        if value.endswith("!"):
            times.delete_event_time_timer(50)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        return [(ctx.get_current_key(), ctx.time_domain().name)]


def test_processing_time_timers_emit_records_without_timestamp() -> None:
    """Timers of the clock are not about event time; those taken back do not fire; at the end of the
    input pending timers of the clock are dropped, those of event time fire."""
    harness = OperatorHarness(Alarm(), key_selector=lambda value: value[0])
    harness.push("a", timestamp=1)
    harness.push("b!", timestamp=1)
    harness.processing_time(50)
    assert harness.output() == [(("a", "PROCESSING_TIME"), None), (("b", "PROCESSING_TIME"), None)]
    harness.clear_output()
    harness.push("c", timestamp=1)
    assert harness.values() == [("c", "PROCESSING_TIME")]  # its time had passed: it fires at once
    harness.end_input()
    assert harness.output()[1:] == [(("a", "EVENT_TIME"), 50), (("c", "EVENT_TIME"), 50)]


class Pairing(KeyedCoProcessFunction[str, Any, Any, Any]):
    """Waits for the record of the other side, ten milliseconds at most."""

    def open(self, runtime_context: Any) -> None:
        self.waiting = runtime_context.get_state(ValueStateDescriptor("waiting"))

    def process_element1(self, value: Any, ctx: Any) -> Any:
        return self.pair("left", value, ctx)

    def process_element2(self, value: Any, ctx: Any) -> Any:
        return self.pair("right", value, ctx)

    def pair(self, side: str, value: Any, ctx: Any) -> Any:
        other = self.waiting.value()
        if other is None or other[0] == side:
            self.waiting.update((side, value))
            ctx.timer_service().register_event_time_timer(ctx.timestamp() + 10)
            return
        self.waiting.clear()
        yield ctx.get_current_key(), other[1], value

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        if self.waiting.value() is not None:
            yield OutputTag("alone"), (ctx.get_current_key(), self.waiting.value())
            self.waiting.clear()


def test_two_keyed_inputs_share_state_and_timers() -> None:
    """Records of one key meet whatever their side; who stays alone goes to the side output."""
    harness = OperatorHarness(Pairing(), key_selector=first, second_key_selector=lambda value: value[1])
    harness.push(("a", 1), timestamp=1)
    harness.push_second((2, "a"), timestamp=2)
    harness.push_second((3, "b"), timestamp=3)
    harness.watermark(20)
    assert harness.output() == [(("a", ("a", 1), (2, "a")), 2)]
    assert harness.side_output(OutputTag("alone")) == [(("b", ("right", (3, "b"))), 13)]


def test_a_co_process_function_of_keyed_streams_has_timers() -> None:
    """The class without "Keyed" in its name works on keyed streams, as in Flink."""

    class Later(CoProcessFunction[int, int, str]):
        def process_element1(self, value: int, ctx: Any) -> Any:
            ctx.timer_service().register_event_time_timer(value)

        def process_element2(self, value: int, ctx: Any) -> Any:
            ctx.timer_service().register_event_time_timer(value)

        def on_timer(self, timestamp: int, ctx: Any) -> Any:
            yield f"at {timestamp}"

    harness = OperatorHarness(Later(), key_selector=lambda value: 0)
    harness.push(5)
    harness.push_second(3)
    harness.watermark(5)
    assert harness.output() == [("at 3", 3), ("at 5", 5)]


def test_co_flat_map_answers_with_nothing_or_many() -> None:
    """None is nothing; a generator is as many as it yields."""

    class Spread(CoFlatMapFunction[int, str, Any]):
        def flat_map1(self, value: int) -> Any:
            return range(value) if value else None

        def flat_map2(self, value: str) -> Any:
            yield from value

    harness = OperatorHarness(Spread())
    harness.push_batch([0, 2])
    harness.push_second("xy", timestamp=9)
    assert harness.output() == [(0, None), (1, None), ("x", 9), ("y", 9)]


class Fragile(KeyedProcessFunction[str, Any, Any]):
    """Yields something, then fails for what is not a number."""

    def open(self, runtime_context: Any) -> None:
        self.total = runtime_context.get_state(ValueStateDescriptor("total"))

    def process_element(self, value: Any, ctx: Any) -> Any:
        yield "began"
        self.total.update((self.total.value() or 0) + int(value))
        yield self.total.value()


@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_a_record_whose_function_raises_is_rejected_whole(policy: Any) -> None:
    """Nothing of what its call had yielded is emitted; a dead letter has its timestamp and the error."""
    harness = OperatorHarness(Fragile(), key_selector=lambda value: 0, on_error=policy)
    harness.push_batch(["1", "x", "2"], [1, 2, 3])
    assert harness.output() == [("began", 1), (1, 1), ("began", 3), (3, 3)]
    letters = [(("x", "ValueError: invalid literal for int() with base 10: 'x'"), 2)]
    assert harness.side_output(DEAD_LETTERS) == (letters if policy == "dead_letter" else [])


def test_without_a_policy_the_error_of_the_function_comes_out() -> None:
    """By default an error fails the task."""
    with pytest.raises(ValueError, match="'x'"):
        OperatorHarness(Fragile(), key_selector=lambda value: 0).push("x")


class Opened(KeySelector[Any, Any]):
    """A key selector with a life of its own."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def open(self, runtime_context: Any) -> None:
        self.calls.append("open key")

    def get_key(self, value: Any) -> Any:
        return value

    def close(self) -> None:
        self.calls.append("close key")
        raise RuntimeError("key")


def test_functions_are_closed_in_the_opposite_order_whatever_happens() -> None:
    """Each is closed though another's close raises; the first error comes out."""
    calls: list[str] = []

    class Failing(KeyedProcessFunction[Any, Any, Any]):
        def open(self, runtime_context: Any) -> None:
            calls.append("open function")

        def process_element(self, value: Any, ctx: Any) -> None: ...

        def close(self) -> None:
            calls.append("close function")
            raise RuntimeError("function")

    harness = OperatorHarness(Failing(), key_selector=Opened(calls))
    with pytest.raises(RuntimeError, match="function"):
        harness.close()
    assert calls == ["open key", "open function", "close function", "close key"]
