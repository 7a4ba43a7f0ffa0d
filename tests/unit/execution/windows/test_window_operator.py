"""Windows of every kind, by example: when they fire, what they hold, what comes too late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from windowed import Average, harness_of, numbers

from zmflow.api.functions import KeySelector, RuntimeContext
from zmflow.api.output_tag import DEAD_LETTERS, OutputTag
from zmflow.api.windows import (
    ContinuousEventTimeTrigger,
    ContinuousProcessingTimeTrigger,
    CountEvictor,
    CountSlidingWindowAssigner,
    CountTrigger,
    CountTumblingWindowAssigner,
    DeltaTrigger,
    EventTimeSessionWindows,
    EventTimeTrigger,
    Evictor,
    GlobalWindows,
    ProcessingTimeoutTrigger,
    ProcessWindowFunction,
    PurgingTrigger,
    SlidingEventTimeWindows,
    TimeEvictor,
    Trigger,
    TriggerResult,
    TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
    WindowFunction,
)
from zmflow.api.windows.operators import AggregateContents, FieldContents, FiredFunction, ReduceContents
from zmflow.errors import JobGraphError, ZmflowError
from zmflow.state.descriptors import ListStateDescriptor, ValueStateDescriptor

TUMBLING = TumblingEventTimeWindows(10)


def test_a_window_fires_when_the_watermark_reaches_its_last_instant() -> None:
    """Once, with the records of each key, stamped with that instant."""
    harness = harness_of(TUMBLING)
    harness.push_batch([("a", 1), ("b", 2), ("a", 3), ("a", 4)], [0, 5, 9, 10])
    harness.watermark(8)
    assert harness.output() == []
    harness.watermark(9)
    assert harness.output() == [(("a", [1, 3]), 9), (("b", [2]), 9)]
    harness.watermark(30)
    assert harness.output()[2:] == [(("a", [4]), 19)]


def test_late_records_are_counted_or_go_to_the_side_output() -> None:
    """A record is late when its window is over, not when it is behind the watermark."""
    harness = harness_of(TUMBLING)
    harness.watermark(9)
    harness.push_batch([("a", 1), ("a", 2)], [9, 10])
    assert harness.metrics()["numLateRecordsDropped"] == 1
    tagged = harness_of(TUMBLING, late_tag="late")
    tagged.watermark(9)
    tagged.push(("a", 1), 9)
    assert tagged.side_output(OutputTag("late")) == [(("a", 1), 9)]
    assert tagged.metrics()["numLateRecordsDropped"] == 0


def test_records_within_the_allowed_lateness_fire_their_window_again() -> None:
    """Each one, with all contents; then the window is cleaned up."""
    harness = harness_of(TUMBLING, lateness_ms=5)
    harness.push(("a", 1), 3)
    harness.watermark(9)
    harness.push_batch([("a", 2), ("b", 3)], [4, 5])
    assert harness.values() == [("a", [1]), ("a", [1, 2]), ("b", [3])]
    harness.watermark(14)
    harness.push(("a", 4), 4)
    assert len(harness.values()) == 3
    assert harness.metrics()["numLateRecordsDropped"] == 1


def test_purging_forgets_contents_and_keeps_the_window() -> None:
    """A late firing has only what came since."""
    harness = harness_of(TUMBLING, trigger=PurgingTrigger.of(EventTimeTrigger()), lateness_ms=5)
    harness.push(("a", 1), 3)
    harness.watermark(9)
    harness.push(("a", 2), 4)
    assert harness.values() == [("a", [1]), ("a", [2])]


def test_processing_time_windows_close_without_records() -> None:
    """The clock alone fires them; timestamps of records do not matter."""
    harness = harness_of(TumblingProcessingTimeWindows(10))
    harness.push(("a", 1))
    harness.processing_time(9)
    harness.push(("a", 2))
    assert harness.output() == []  # the millisecond in which the window ends is not over
    assert harness.next_processing_time_ms() == 10
    harness.processing_time(10)
    assert harness.output() == [(("a", [1, 2]), 9)]
    assert harness.next_processing_time_ms() is None
    harness.push(("a", 3))
    harness.end_input()
    assert len(harness.output()) == 1  # as in Flink: an unfinished window of processing time is dropped


def test_continuous_triggers_fire_in_between() -> None:
    """At multiples of the interval and at the end of the window, by either time."""
    harness = harness_of(TumblingEventTimeWindows(10), trigger=ContinuousEventTimeTrigger(4))
    harness.push(("a", 1), 1)
    for watermark_ms in (3, 4, 7, 8, 9):
        harness.watermark(watermark_ms)
    assert len(harness.values()) == 3
    clock = harness_of(TUMBLING, trigger=ContinuousProcessingTimeTrigger(4))
    clock.push(("a", 1), 1)
    clock.processing_time(20)
    assert len(clock.values()) == 3  # 4, 8 and the window's last instant; not again and again after that


def test_sessions_end_when_a_key_was_quiet() -> None:
    """A record that closes the gap between two sessions makes them one."""
    harness = harness_of(EventTimeSessionWindows(10))
    harness.push_batch([("a", 1), ("a", 2), ("b", 9), ("a", 3)], [0, 15, 2, 8])
    harness.watermark(11)
    assert harness.output() == [(("b", [9]), 11)]
    harness.watermark(24)
    ((key, held), timestamp) = harness.output()[-1]
    assert (key, sorted(held), timestamp) == ("a", [1, 2, 3], 24)


def test_windows_of_a_number_of_records() -> None:
    """Full windows are emitted, others never; sliding ones begin every few records."""
    tumbling = harness_of(CountTumblingWindowAssigner.of(2))
    for number in range(5):
        tumbling.push(("a", number))
    tumbling.end_input()
    assert tumbling.values() == [("a", [0, 1]), ("a", [2, 3])]
    sliding = harness_of(CountSlidingWindowAssigner.of(3, 1))
    for number in range(5):
        sliding.push(("a", number))
    assert sliding.values() == [("a", [0, 1, 2]), ("a", [1, 2, 3]), ("a", [2, 3, 4])]


def test_the_global_window_fires_by_its_trigger_or_at_the_end() -> None:
    """Never by itself; every few records; when a value has moved; at the end of the stream."""
    silent = harness_of(GlobalWindows.create())
    silent.push(("a", 1))
    silent.end_input()
    assert silent.values() == []
    javas_sliding_count = harness_of(
        GlobalWindows.create(), trigger=CountTrigger.of(2), evictor=CountEvictor.of(3)
    )
    moved = harness_of(GlobalWindows.create(), trigger=DeltaTrigger.of(1, lambda old, new: new[1] - old[1]))
    at_end = harness_of(GlobalWindows.create_with_end_of_stream_trigger())
    for harness in (javas_sliding_count, moved, at_end):
        for number in range(4):
            harness.push(("a", number))
    assert javas_sliding_count.values() == [("a", [0, 1]), ("a", [1, 2, 3])]
    assert moved.values() == [("a", [0, 1, 2])]
    assert at_end.values() == []
    at_end.end_input()
    assert at_end.values() == [("a", [0, 1, 2, 3])]


def test_a_timeout_fires_what_has_waited_too_long() -> None:
    """The nested trigger fires when it does; else the timeout, which begins anew with the next record."""
    trigger = ProcessingTimeoutTrigger(CountTrigger.of(3), 10)
    harness = harness_of(GlobalWindows.create(), trigger=PurgingTrigger.of(trigger))
    harness.push(("a", 1))
    harness.processing_time(10)
    assert harness.values() == []
    harness.processing_time(11)
    assert harness.values() == [("a", [1])]
    for number in (2, 3, 4):
        harness.push(("a", number))
    harness.processing_time(100)
    assert harness.values()[1:] == [("a", [2, 3, 4])]


@pytest.mark.parametrize(
    ("contents", "expected"),
    [
        (ReduceContents(lambda x, y: (x[0], x[1] + y[1])), [("a", 7), ("b", 9)]),
        (AggregateContents(Average()), [3.5, 9.0]),
        (FieldContents("sum", 1), [("a", 7), ("b", 9)]),
        (FieldContents("max_by", 1), [("a", 6), ("b", 9)]),
    ],
)
@pytest.mark.parametrize("evictor", [None, CountEvictor.of(9)])
def test_what_windows_aggregate_is_their_result(contents: Any, expected: Any, evictor: Any) -> None:
    """With an evictor all records are kept, and the result is the same."""
    harness = harness_of(TUMBLING, contents=contents, function=None, evictor=evictor)
    harness.push_batch([("a", 1), ("b", 9), ("a", 6)], [1, 2, 3])
    harness.watermark(9)
    assert harness.values() == expected


def test_evictors_take_records_before_or_after_the_function() -> None:
    """What is evicted is gone for later firings; a window that nothing is left of does not fire."""

    class Odd(Evictor[Any, Any]):
        def evict_before(self, elements: list[Any], size: int, window: Any, evictor_context: Any) -> None:
            assert size == len(elements)
            assert evictor_context.get_current_watermark() <= 9
            elements[:] = [element for element in elements if element.get_value()[1] % 2 == 0]

    odd = harness_of(TUMBLING, evictor=Odd())
    odd.push_batch([("a", 1), ("a", 2), ("b", 3)], [0, 1, 2])
    odd.watermark(9)
    assert odd.values() == [("a", [2])]
    after = harness_of(TUMBLING, trigger=CountTrigger.of(2), evictor=TimeEvictor(2, do_evict_after=True))
    after.push_batch([("a", 1), ("a", 2), ("a", 3), ("a", 4)], [0, 5, 6, 6])
    assert after.values() == [("a", [1, 2]), ("a", [2, 3, 4])]


def test_functions_have_state_of_the_window_and_of_the_key() -> None:
    """The window's is cleared by ``clear`` when the window is over; the key's stays."""
    cleared: list[Any] = []

    class Firings(ProcessWindowFunction[Any, Any, str, Any]):
        def open(self, runtime_context: RuntimeContext) -> None:
            self.mine = runtime_context.get_state(ValueStateDescriptor("mine"))

        def process(self, key: str, context: Any, elements: Iterable[Any]) -> Iterator[Any]:
            counts = []
            for store in (context.window_state(), context.global_state()):
                count = store.get_state(ValueStateDescriptor("count"))
                count.update((count.value() or 0) + 1)
                counts.append(count.value())
            self.mine.update((self.mine.value() or 0) + 1)
            yield key, *counts, self.mine.value(), context.current_watermark()

        def clear(self, context: Any) -> None:
            cleared.append(context.window().start)
            context.window_state().get_state(ValueStateDescriptor("count")).clear()

    harness = harness_of(TUMBLING, lateness_ms=5, function=FiredFunction("process", Firings()))
    harness.push_batch([("a", 1), ("b", 1), ("a", 1)], [0, 0, 10])
    harness.watermark(9)
    harness.push(("a", 2), 1)
    harness.watermark(40)
    assert harness.values() == [
        ("a", 1, 1, 1, 9),
        ("b", 1, 1, 1, 9),
        ("a", 2, 2, 2, 9),
        ("a", 1, 3, 3, 40),
    ]
    assert sorted(cleared) == [0, 0, 10]
    assert list(harness.keyed_state.keys("count")) != []


def test_state_of_a_trigger_and_of_a_function_may_have_one_name() -> None:
    """They are kept of one window, and are of different kinds all the same."""

    class Firings(ProcessWindowFunction[Any, Any, str, Any]):
        def process(self, key: str, context: Any, elements: Iterable[Any]) -> Iterator[Any]:
            count = context.window_state().get_list_state(ListStateDescriptor("count"))
            count.add(len(list(elements)))
            yield list(count.get())

    function = FiredFunction("process", Firings())
    harness = harness_of(TUMBLING, trigger=CountTrigger.of(2), function=function)
    harness.push_batch([("a", 1), ("a", 2), ("a", 3), ("a", 4)], [0, 1, 2, 3])
    assert harness.values() == [[2], [2, 4]]


def test_windows_that_merge_have_no_state_of_their_own() -> None:
    """As in Flink: whose would it be?"""

    class Stateful(ProcessWindowFunction[Any, Any, str, Any]):
        def process(self, key: str, context: Any, elements: Iterable[Any]) -> None:
            context.window_state()

    harness = harness_of(EventTimeSessionWindows(5), function=FiredFunction("process", Stateful()))
    harness.push(("a", 1), 1)
    with pytest.raises(ZmflowError, match="no state of their own"):
        harness.watermark(100)


def test_functions_are_opened_and_closed_and_answer_as_they_like() -> None:
    """Key selector and window function have a life cycle; None is nothing; side outputs are pairs."""
    life: list[str] = []

    class Key(KeySelector[Any, str]):
        def open(self, runtime_context: RuntimeContext) -> None:
            life.append("key")

        def get_key(self, value: Any) -> str:
            return str(value[0])

    class Sides(WindowFunction[Any, Any, str, Any]):
        def open(self, runtime_context: RuntimeContext) -> None:
            life.append("open")

        def close(self) -> None:
            life.append("close")

        def apply(self, key: str, window: Any, inputs: Iterable[Any]) -> Any:
            return [(OutputTag("side"), key), window.end] if key == "a" else None

    with harness_of(TUMBLING, key_selector=Key(), function=FiredFunction("apply", Sides())) as harness:
        harness.push_batch([("a", 1), ("b", 2)], [0, 0])
        harness.watermark(9)
        assert harness.output() == [(10, 9)]
        assert harness.side_output(OutputTag("side")) == [("a", 9)]
    assert life == ["key", "open", "close"]


def test_windows_over_a_whole_stream() -> None:
    """There is no key: functions are called without one."""
    harness = harness_of(
        TUMBLING,
        key_selector=None,
        function=FiredFunction("apply_all", lambda window, records: [(window.start, len(list(records)))]),
    )
    harness.push_batch([("a", 1), ("b", 2)], [0, 0])
    harness.watermark(9)
    assert harness.values() == [(0, 2)]


def test_a_trigger_of_the_job_keeps_state_and_timers_of_each_window() -> None:
    """The contract of Trigger: state per key and window, timers, PURGE without FIRE, clear at the end."""
    cleared: list[Any] = []

    class OnThird(Trigger[Any, Any]):
        seen = ValueStateDescriptor("seen")

        def on_element(self, element: Any, timestamp: int, window: Any, ctx: Any) -> TriggerResult:
            seen = ctx.get_partitioned_state(self.seen)
            seen.update((seen.value() or 0) + 1)
            ctx.get_metric_group().counter("asked").inc()
            ctx.register_event_time_timer(window.start + 5)
            if element[1] < 0:
                return TriggerResult.PURGE
            return TriggerResult.FIRE if seen.value() == 3 else TriggerResult.CONTINUE

        def on_event_time(self, time: int, window: Any, ctx: Any) -> TriggerResult:
            return TriggerResult.FIRE if time == window.start + 5 else TriggerResult.CONTINUE

        def on_processing_time(self, time: int, window: Any, ctx: Any) -> TriggerResult:
            return TriggerResult.CONTINUE

        def clear(self, window: Any, ctx: Any) -> None:
            cleared.append(window)
            ctx.get_partitioned_state(self.seen).clear()

    harness = harness_of(SlidingEventTimeWindows(10, 10), trigger=OnThird())
    for number, timestamp in ((1, 0), (-2, 1), (3, 2), (4, 12)):
        harness.push(("a", number), timestamp)
    assert harness.values() == [("a", [3])]
    harness.watermark(5)
    harness.watermark(50)
    assert harness.values() == [("a", [3]), ("a", [3]), ("a", [4])]
    assert len(cleared) == 2
    assert list(harness.keyed_state.keys("seen", cleared[0])) == []
    assert harness.metrics()["asked"] == 4


@pytest.mark.parametrize("assigner", [TUMBLING, EventTimeSessionWindows(10)])
def test_records_that_functions_raise_for_can_be_left_out(assigner: Any) -> None:
    """Skipped, or sent to the dead letters with the error; the others are not harmed."""

    def reduce(one: Any, other: Any) -> Any:
        if other[1] == 0:
            raise ValueError("zero")
        return one[0], one[1] + other[1]

    for policy in ("skip", "dead_letter"):
        harness = harness_of(assigner, contents=ReduceContents(reduce), function=None, on_error=policy)
        harness.push_batch([("a", 1), ("a", 0), ("a", 2)], [0, 1, 2])
        harness.watermark(30)
        assert harness.values() == [("a", 3)]
        assert harness.metrics()["numRecordsRejected"] == 1
        letters = [record.value for record in harness.side_output(DEAD_LETTERS)]
        assert letters == ([(("a", 0), "ValueError: zero")] if policy == "dead_letter" else [])
    with pytest.raises(ValueError, match="zero"):
        harness_of(assigner, contents=ReduceContents(reduce)).push_batch([("a", 1), ("a", 0)], [0, 1])


@pytest.mark.parametrize("assigner", [TUMBLING, EventTimeSessionWindows(9)])
def test_a_batch_job_gives_final_results_only(assigner: Any) -> None:
    """Watermarks on the way do nothing: nothing is late, and each window fires once."""
    harness = harness_of(assigner, contents=AggregateContents(Average()), function=None, batch_mode=True)
    harness.push_batch([("a", 20), ("b", 5)], [20, 1])
    harness.watermark(15)
    harness.push_batch([("a", 2), ("a", 4)], [1, 2])
    assert harness.output() == []
    harness.end_input()
    assert sorted(harness.values()) == [3.0, 5.0, 20.0]


def test_a_batch_job_goes_through_one_key_after_the_other() -> None:
    """Timers of either time fire when the records of a key have ended; timers they set are ignored."""
    harness = harness_of(GlobalWindows.create(), trigger=ContinuousProcessingTimeTrigger(5), batch_mode=True)
    harness.push_batch([("a", 2), ("b", 1), ("a", 1)], [7, 1, 3])
    harness.end_input()
    assert harness.values() == [("a", [1, 2]), ("b", [1])]


def test_records_need_timestamps_for_event_time() -> None:
    """The error says what to call."""
    for assigner in (TUMBLING, EventTimeSessionWindows(5)):
        with pytest.raises(JobGraphError, match="assign_timestamps_and_watermarks"):
            harness_of(assigner).push(("a", 1))


def test_nothing_is_left_of_windows_that_are_over() -> None:
    """Contents, triggers' state, merged windows and timers are all gone."""
    for assigner, trigger in (
        (EventTimeSessionWindows(5), ContinuousEventTimeTrigger(3)),
        (SlidingEventTimeWindows(10, 5), PurgingTrigger.of(CountTrigger.of(2))),
        (CountTumblingWindowAssigner.of(2), None),
    ):
        harness = harness_of(assigner, trigger=trigger, function=FiredFunction("apply", numbers))
        harness.push_batch([("a", 1), ("a", 2), ("a", 3), ("a", 4)], [0, 4, 6, 2])
        harness.watermark(1000)
        backend = harness.keyed_state
        held = [state for group in backend.key_groups for state in backend.snapshot(group).states]
        assert [state.name for state in held if state.name != "records-seen"] == []
        assert harness._operator._timers.event_time_timers() == []
