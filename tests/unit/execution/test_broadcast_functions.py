"""Functions with a broadcast side: who may do what with broadcast and keyed state."""

from __future__ import annotations

from typing import Any

import pytest

from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.process_functions import BroadcastProcessFunction, KeyedBroadcastProcessFunction
from zmflow.errors import ZmflowError
from zmflow.state.descriptors import MapStateDescriptor, ValueStateDescriptor
from zmflow.testing.harness import OperatorHarness

RULES: MapStateDescriptor[str, int] = MapStateDescriptor("rules")
SUM: ValueStateDescriptor[int] = ValueStateDescriptor("sum")


class Limit(BroadcastProcessFunction[int, tuple[str, int], Any]):
    """Emits what is above the limit that was broadcast."""

    def process_element(self, value: int, ctx: Any) -> Any:
        if value > (ctx.get_broadcast_state(RULES).get("limit") or 0):
            yield value, ctx.timestamp(), ctx.current_watermark(), ctx.current_processing_time()

    def process_broadcast_element(self, value: tuple[str, int], ctx: Any) -> Any:
        ctx.get_broadcast_state(RULES).put(*value)
        yield "changed", sorted(ctx.get_broadcast_state(RULES).items())


def test_each_side_sees_what_was_broadcast_so_far() -> None:
    """Rules count from the moment they come; both sides emit."""
    harness = OperatorHarness(Limit(), broadcast_state=[RULES], processing_time_ms=7)
    harness.push(1, timestamp=1)
    harness.watermark(1)
    harness.push_second(("limit", 5), timestamp=2)
    harness.push_batch([1, 6], [3, 4])
    assert harness.output() == [
        ((1, 1, -(2**63), 7), 1),
        (("changed", [("limit", 5)]), 2),
        ((6, 4, 1, 7), 4),
    ]


def test_the_data_side_may_only_read() -> None:
    """The state that the data side gets has no method that changes it; clear refuses."""
    seen: list[Any] = []

    class Reading(BroadcastProcessFunction[int, int, Any]):
        def process_element(self, value: int, ctx: Any) -> None:
            seen.append(ctx.get_broadcast_state(RULES))

        def process_broadcast_element(self, value: int, ctx: Any) -> None:
            state = ctx.get_broadcast_state(RULES)
            state.put_all({"a": 1, "b": 2, "c": 3})
            state.remove("b")
            state["d"] = 4
            del state["d"]

    harness = OperatorHarness(Reading(), broadcast_state=[RULES])
    harness.push_second(0)
    harness.push(0)
    state = seen[0]
    assert (list(state.keys()), list(state.values()), list(state.items())) == (
        ["a", "c"],
        [1, 3],
        [("a", 1), ("c", 3)],
    )
    assert "a" in state
    assert state["b"] is None
    assert not state.is_empty()
    assert not hasattr(state, "put")
    with pytest.raises(ZmflowError, match="only be read"):
        state.clear()


def test_a_state_that_was_not_declared_is_refused() -> None:
    """The message names the states there are."""

    class Wrong(BroadcastProcessFunction[int, int, Any]):
        def process_element(self, value: int, ctx: Any) -> None: ...

        def process_broadcast_element(self, value: int, ctx: Any) -> None:
            ctx.get_broadcast_state(MapStateDescriptor("rulez"))

    with pytest.raises(ZmflowError, match="There is: rules"):
        OperatorHarness(Wrong(), broadcast_state=[RULES]).push_second(1)


class Totals(KeyedBroadcastProcessFunction[str, tuple[str, int], Any, Any]):
    """Sums up per key; a broadcast number is added to the sum of every key."""

    def open(self, runtime_context: Any) -> None:
        self.sum = runtime_context.get_state(SUM)

    def process_element(self, value: tuple[str, int], ctx: Any) -> Any:
        self.sum.update((self.sum.value() or 0) + value[1])
        ctx.timer_service().register_event_time_timer(ctx.timestamp())

    def process_broadcast_element(self, value: Any, ctx: Any) -> Any:
        if value == "read":
            self.sum.value()
        ctx.get_broadcast_state(RULES).put("last", value)

        def add(key: str, state: Any) -> None:
            state.update(state.value() + value)

        ctx.apply_to_keyed_state(SUM, add)

    def on_timer(self, timestamp: int, ctx: Any) -> Any:
        rule = ctx.get_broadcast_state(RULES).get("last")
        yield ctx.get_current_key(), self.sum.value(), rule, ctx.time_domain().name, ctx.timestamp()


def test_the_broadcast_side_reaches_the_state_of_every_key() -> None:
    """apply_to_keyed_state visits each key that has the state; timers of the keyed side may read rules."""
    harness = OperatorHarness(Totals(), key_selector=lambda value: value[0], broadcast_state=[RULES])
    harness.push_batch([("a", 1), ("b", 2)], [1, 2])
    harness.push_second(10)
    harness.push(("c", 3), timestamp=3)
    harness.watermark(3)
    assert harness.output() == [
        (("a", 11, 10, "EVENT_TIME", 1), 1),
        (("b", 12, 10, "EVENT_TIME", 2), 2),
        (("c", 3, 10, "EVENT_TIME", 3), 3),
    ]


def test_the_broadcast_side_has_no_key() -> None:
    """Keyed state used there directly is refused: it would be that of a key that happened to come before."""
    harness = OperatorHarness(
        Totals(), key_selector=lambda value: value[0], broadcast_state=[RULES], on_error="dead_letter"
    )
    harness.push(("a", 1), timestamp=1)
    harness.push_second("read")
    letter = harness.side_output(DEAD_LETTERS)[0].value
    assert letter[0] == "read"
    assert "no key is current" in letter[1]
