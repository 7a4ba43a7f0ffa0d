"""Keyed functions in BATCH mode: one key at a time at the end of the input, timers when the key changes."""

from __future__ import annotations

from typing import Any

from zmflow.api.process_functions import (
    BroadcastProcessFunction,
    KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
)
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.state.descriptors import MapStateDescriptor
from zmflow.testing.harness import OperatorHarness

RULES: MapStateDescriptor[str, int] = MapStateDescriptor("rules")


def first(value: Any) -> Any:
    return value[0]


class Traced(KeyedProcessFunction[str, tuple[str, int], Any]):
    """Says everything that happens to it; each timer tries to set another one."""

    def process_element(self, value: tuple[str, int], ctx: Any) -> Any:
        times = ctx.timer_service()
        times.register_event_time_timer(value[1])
        times.register_processing_time_timer(value[1])
        yield value, times.current_watermark()

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        times = ctx.timer_service()
        times.register_event_time_timer(timestamp + 1)
        times.register_processing_time_timer(timestamp + 1)
        yield ctx.get_current_key(), ctx.time_domain().name, timestamp, times.current_watermark()


def test_one_key_at_a_time_and_its_timers_after_it() -> None:
    """Nothing before the end; records of a key in order of their timestamps while event time stands at
    its beginning; then event-time timers, then those of the clock, and none that they set."""
    harness = OperatorHarness(Traced(), key_selector=first, batch_mode=True)
    harness.push_batch([("a", 9), ("b", 5), ("a", 3)], [9, 5, 3])
    harness.processing_time(100)
    assert harness.output() == []
    harness.end_input()
    assert harness.output() == [
        ((("a", 3), MIN_WATERMARK), 3),
        ((("a", 9), MIN_WATERMARK), 9),
        (("a", "EVENT_TIME", 3, MAX_WATERMARK), 3),
        (("a", "EVENT_TIME", 9, MAX_WATERMARK), 9),
        (("a", "PROCESSING_TIME", 3, MAX_WATERMARK), None),
        (("a", "PROCESSING_TIME", 9, MAX_WATERMARK), None),
        ((("b", 5), MIN_WATERMARK), 5),
        (("b", "EVENT_TIME", 5, MAX_WATERMARK), 5),
        (("b", "PROCESSING_TIME", 5, MAX_WATERMARK), None),
    ]


def test_a_timer_that_is_taken_back_by_another_does_not_fire() -> None:
    """Deleting works while the timers of a key fire, too."""

    class Deleting(KeyedProcessFunction[str, int, Any]):
        def process_element(self, value: int, ctx: Any) -> Any:
            ctx.timer_service().register_event_time_timer(value)

        def on_timer(self, timestamp: int, ctx: Any) -> Any:
            ctx.timer_service().delete_event_time_timer(2)
            return [timestamp]

    harness = OperatorHarness(Deleting(), key_selector=lambda value: 0, batch_mode=True)
    harness.push_batch([1, 2, 3])
    harness.end_input()
    assert harness.values() == [1, 3]


def test_records_without_timestamps_stay_in_order_of_arrival() -> None:
    """Without timestamps there is nothing to sort by."""
    harness = OperatorHarness(Traced(), key_selector=first, batch_mode=True)
    harness.push_batch([("a", 9), ("b", 1), ("a", 3)])
    harness.end_input()
    records = [value[0] for value in harness.values() if isinstance(value[0], tuple)]
    assert records == [("a", 9), ("a", 3), ("b", 1)]


def test_two_inputs_are_one_order_of_timestamps_within_a_key() -> None:
    """A key's records of both sides come as their timestamps say."""

    class Sides(KeyedCoProcessFunction[str, Any, Any, Any]):
        def process_element1(self, value: Any, ctx: Any) -> Any:
            return [(1, value)]

        def process_element2(self, value: Any, ctx: Any) -> Any:
            return [(2, value)]

    harness = OperatorHarness(Sides(), key_selector=first, batch_mode=True)
    harness.push_second_batch([("a", 5), ("b", 1)], [5, 1])
    harness.push_batch([("a", 7), ("a", 2)], [7, 2])
    harness.end_input()
    assert harness.values() == [(1, ("a", 2)), (2, ("a", 5)), (1, ("a", 7)), (2, ("b", 1))]


def test_the_broadcast_side_is_processed_first() -> None:
    """With keys and without, the other side sees all rules, though it came before them."""

    class Plain(BroadcastProcessFunction[str, Any, Any]):
        def process_element(self, value: str, ctx: Any) -> Any:
            yield value, ctx.get_broadcast_state(RULES).get("limit"), ctx.current_watermark()

        def process_broadcast_element(self, value: Any, ctx: Any) -> None:
            ctx.get_broadcast_state(RULES).put("limit", value)

    class Keyed(KeyedBroadcastProcessFunction[str, str, Any, Any]):
        def process_element(self, value: str, ctx: Any) -> Any:
            yield value, ctx.get_broadcast_state(RULES).get("limit"), ctx.current_watermark()

        def process_broadcast_element(self, value: Any, ctx: Any) -> None:
            ctx.get_broadcast_state(RULES).put("limit", value)

    for function, key in ((Plain(), None), (Keyed(), str)):
        harness = OperatorHarness(function, key_selector=key, broadcast_state=[RULES], batch_mode=True)
        harness.push("x")
        harness.push_second(1)
        harness.push_second(2)
        harness.end_input()
        assert harness.values() == [("x", 2, MIN_WATERMARK)]
