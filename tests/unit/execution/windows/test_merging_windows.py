"""Windows that merge: contents stay where they are, triggers' state and timers follow."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from windowed import harness_of, specification

from zmflow.api.windows import (
    CountTrigger,
    EventTimeSessionWindows,
    EventTimeTrigger,
    MergingWindowAssigner,
    ProcessingTimeSessionWindows,
    TimeWindow,
    Trigger,
)
from zmflow.errors import ZmflowError
from zmflow.execution.windows.merging_windows import MergingWindowSet
from zmflow.execution.windows.window_operator import AnyWindowOperator
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.testing.harness import OperatorHarness


def window_set() -> MergingWindowSet:
    backend = HeapKeyedStateBackend(128, range(128), lambda: 0)
    backend.set_current_key("a")
    return MergingWindowSet(EventTimeSessionWindows(10), backend)


def test_the_first_window_of_a_merge_keeps_the_contents() -> None:
    """A session that grows keeps its state window; only those that meet move contents."""
    merges: list[Any] = []
    windows = window_set()
    first, second = TimeWindow(0, 10), TimeWindow(15, 25)
    assert windows.add(first, lambda *merge: merges.append(merge)) == (first, first)
    grown = TimeWindow(0, 14)
    assert windows.add(TimeWindow(4, 14), lambda *merge: merges.append(merge)) == (grown, first)
    assert windows.add(second, lambda *merge: merges.append(merge)) == (second, second)
    assert merges == [(grown, [first], first, [])]
    bridged = TimeWindow(0, 25)
    assert windows.add(TimeWindow(14, 20), lambda *merge: merges.append(merge)) == (bridged, first)
    assert merges[1] == (bridged, [grown, second], first, [second])
    assert windows.state_window(bridged) == first
    assert windows.state_window(second) is None
    windows.retire(bridged)
    assert windows.state_window(bridged) is None


def test_a_window_inside_another_changes_nothing() -> None:
    """No merge is reported: there is nothing to bring together."""
    windows = window_set()
    windows.add(TimeWindow(0, 20), pytest.fail)
    assert windows.add(TimeWindow(5, 15), pytest.fail) == (TimeWindow(0, 20), TimeWindow(0, 20))
    assert windows.add(TimeWindow(0, 20), pytest.fail) == (TimeWindow(0, 20), TimeWindow(0, 20))


def test_contents_are_not_copied_when_a_session_grows() -> None:
    """Whatever a session holds, one more record leaves it in the namespace of its first window."""
    harness = harness_of(EventTimeSessionWindows(10))
    for timestamp in range(0, 50, 5):
        harness.push(("a", timestamp), timestamp)
    held = list(harness.keyed_state.keys("window-contents", TimeWindow(0, 10)))
    assert held == ["a"]
    assert list(harness.keyed_state.keys("window-contents", TimeWindow(0, 55))) == []
    harness.watermark(100)
    assert harness.values() == [("a", list(range(0, 50, 5)))]


def test_counts_of_merged_sessions_add_up() -> None:
    """The trigger's state is merged like the contents."""
    harness = harness_of(EventTimeSessionWindows(10), trigger=CountTrigger.of(3))
    harness.push_batch([("a", 1), ("a", 2), ("a", 3)], [0, 15, 8])
    assert [sorted(held) for _, held in harness.values()] == [[1, 2, 3]]


def test_sessions_of_processing_time_follow_the_clock() -> None:
    """Each record moves the end of its session."""
    harness = harness_of(ProcessingTimeSessionWindows(10))
    harness.push(("a", 1))
    harness.processing_time(8)
    harness.push(("a", 2))
    harness.processing_time(17)
    assert harness.values() == []
    harness.processing_time(18)
    assert harness.output() == [(("a", [1, 2]), 17)]


class Shrinking(MergingWindowAssigner[Any, TimeWindow]):
    """Merges all windows into one of the past."""

    def assign_windows(self, element: Any, timestamp: int, context: Any) -> Collection[TimeWindow]:
        return [TimeWindow(timestamp, timestamp + 10)]

    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        return EventTimeTrigger()

    def is_event_time(self) -> bool:
        return True

    def merge_windows(self, windows: Iterable[TimeWindow], callback: Any) -> None:
        if len(found := list(windows)) > 1:
            callback.merge(found, TimeWindow(0, 5))


def test_merging_into_the_past_is_an_error() -> None:
    """The result would never fire; the assigner is named."""
    harness = harness_of(Shrinking())
    harness.watermark(20)
    harness.push(("a", 1), 30)
    with pytest.raises(ZmflowError, match="already ended"):
        harness.push(("a", 2), 40)


def test_state_that_cannot_be_merged_is_an_error() -> None:
    """A trigger that merges a single value is told which kinds there are."""
    from zmflow.state.descriptors import ValueStateDescriptor

    class Wrong(EventTimeTrigger):
        def on_merge(self, window: Any, ctx: Any) -> None:
            ctx.merge_partitioned_state(ValueStateDescriptor("last"))

    operator = AnyWindowOperator(specification(EventTimeSessionWindows(10), trigger=Wrong()))
    harness = OperatorHarness(operator)
    harness.push(("a", 1), 0)
    with pytest.raises(ZmflowError, match="'last' of a trigger cannot be merged"):
        harness.push(("a", 2), 5)
