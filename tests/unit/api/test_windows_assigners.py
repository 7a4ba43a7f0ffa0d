"""Assigners: which windows a record is in, and what is refused."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest

from zmflow.api.time import Duration, Time
from zmflow.api.windows import (
    CountSlidingWindowAssigner,
    CountTumblingWindowAssigner,
    CountWindow,
    DynamicEventTimeSessionWindows,
    EventTimeSessionWindows,
    EventTimeTrigger,
    GlobalWindow,
    GlobalWindows,
    NeverTrigger,
    ProcessingTimeSessionWindows,
    ProcessingTimeTrigger,
    SessionWindowTimeGapExtractor,
    SlidingEventTimeWindows,
    SlidingProcessingTimeWindows,
    TimeWindow,
    TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
    WindowAssigner,
    WindowStagger,
)
from zmflow.api.windows.window import MAX_TIMESTAMP, NO_TIMESTAMP
from zmflow.errors import JobGraphError, ZmflowError


class Now(WindowAssigner.WindowAssignerContext):
    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms

    def get_current_processing_time(self) -> int:
        return self.now_ms

    def get_runtime_context(self) -> Any:
        raise AssertionError("not asked for")


def assigned(assigner: WindowAssigner[Any, Any], timestamp: int, element: Any = None, now_ms: int = 0) -> Any:
    return list(assigner.assign_windows(element, timestamp, Now(now_ms)))


@pytest.mark.parametrize(
    ("timestamp", "offset", "start"),
    [(0, 0, 0), (9, 0, 0), (10, 0, 10), (-1, 0, -10), (-10, 0, -10), (-11, 0, -20), (0, 3, -7), (2, -3, -3)],
)
def test_tumbling_windows_begin_at_multiples_of_the_size(timestamp: int, offset: int, start: int) -> None:
    """Also before 1970, and moved by an offset of either sign."""
    window = TimeWindow(start, start + 10)
    assert assigned(TumblingEventTimeWindows(10, offset), timestamp) == [window]
    assert assigned(TumblingProcessingTimeWindows(10, offset), 999, now_ms=timestamp) == [window]
    assert TimeWindow.get_window_start_with_offset(timestamp, offset, 10) == start


def test_sliding_windows_overlap_or_leave_gaps() -> None:
    """A record is in every window that covers it, the latest first; in none where the slide is larger."""
    sliding = SlidingEventTimeWindows.of(Time.milliseconds(10), Time.milliseconds(4))
    assert assigned(sliding, 0) == [TimeWindow(0, 10), TimeWindow(-4, 6), TimeWindow(-8, 2)]
    sparse = SlidingProcessingTimeWindows(2, 5)
    assert assigned(sparse, 0, now_ms=1) == [TimeWindow(0, 2)]
    assert assigned(sparse, 0, now_ms=3) == []


def test_sizes_are_amounts_of_time() -> None:
    """Time, Duration and timedelta are taken, with PyFlink's representation."""
    for size in (Time.seconds(5), Duration.of_seconds(5), timedelta(seconds=5)):
        assert (
            repr(TumblingEventTimeWindows.of(size, Time.seconds(1))) == "TumblingEventTimeWindows(5000, 1000)"
        )
    assert repr(SlidingEventTimeWindows(10, 5)) == "SlidingEventTimeWindows(10, 5, 0)"
    assert repr(EventTimeSessionWindows.with_gap(Time.seconds(1))) == "EventTimeSessionWindows(1000)"


def test_sessions_begin_with_each_record() -> None:
    """One window of the gap; a dynamic gap is a function or an extractor, and must be positive."""

    class Gap(SessionWindowTimeGapExtractor):
        def extract(self, element: Any) -> int:
            return len(element)

    assert assigned(EventTimeSessionWindows(5), -3) == [TimeWindow(-3, 2)]
    assert assigned(ProcessingTimeSessionWindows(5), -3, now_ms=7) == [TimeWindow(7, 12)]
    assert assigned(EventTimeSessionWindows.with_dynamic_gap(Gap()), 1, "four") == [TimeWindow(1, 5)]
    assert assigned(ProcessingTimeSessionWindows.with_dynamic_gap(len), 1, "abc", 7) == [TimeWindow(7, 10)]
    assert assigned(DynamicEventTimeSessionWindows.with_dynamic_gap(Gap()), 1, "four") == [TimeWindow(1, 5)]
    with pytest.raises(ZmflowError, match="gap of 0 ms"):
        assigned(EventTimeSessionWindows.with_dynamic_gap(len), 1, "")


def test_windows_that_touch_merge() -> None:
    """Groups of windows that overlap or touch are reported once, with the window that covers them."""
    merged: list[tuple[list[TimeWindow], TimeWindow]] = []

    class Callback:
        def merge(self, to_be_merged: Any, merge_result: TimeWindow) -> None:
            merged.append((sorted(to_be_merged), merge_result))

    windows = [TimeWindow(20, 25), TimeWindow(0, 5), TimeWindow(5, 9), TimeWindow(30, 31), TimeWindow(24, 26)]
    TimeWindow.merge_windows(windows, Callback())
    assert merged == [
        ([TimeWindow(0, 5), TimeWindow(5, 9)], TimeWindow(0, 9)),
        ([TimeWindow(20, 25), TimeWindow(24, 26)], TimeWindow(20, 26)),
    ]


def test_windows_are_values() -> None:
    """They are equal, hashed, ordered and pickled by what they are."""
    for window in (TimeWindow(1, 2), CountWindow(3), GlobalWindow.get()):
        again = pickle.loads(pickle.dumps(window))
        assert again == window
        assert hash(again) == hash(window)
        assert type(again) is type(window)
    assert TimeWindow(1, 2).max_timestamp() == 1
    assert CountWindow(1).max_timestamp() == GlobalWindow().max_timestamp() == MAX_TIMESTAMP
    assert sorted([TimeWindow(2, 3), TimeWindow(1, 9)])[0] == TimeWindow(1, 9)
    assert repr(TimeWindow(1, 2)) == "TimeWindow(start=1, end=2)"


def test_default_triggers_follow_the_time_of_the_windows() -> None:
    """Event time, processing time, and never for the global window."""
    assert type(TumblingEventTimeWindows(5).get_default_trigger(None)) is EventTimeTrigger
    assert type(SlidingProcessingTimeWindows(5, 5).get_default_trigger(None)) is ProcessingTimeTrigger
    assert type(GlobalWindows.create().get_default_trigger(None)) is NeverTrigger


def test_staggered_windows_begin_where_they_first_met_a_record() -> None:
    """NATURAL moves windows to the clock of the first record, for good; RANDOM is below the size."""
    natural = TumblingProcessingTimeWindows.of(Time.milliseconds(10), None, WindowStagger.NATURAL)
    assert assigned(natural, 0, now_ms=13) == [TimeWindow(13, 23)]
    assert assigned(natural, 0, now_ms=25) == [TimeWindow(23, 33)]
    assert all(0 <= WindowStagger.RANDOM.get_stagger_offset(5, 3) < 3 for _ in range(20))


@pytest.mark.parametrize(
    "make",
    [
        lambda: TumblingEventTimeWindows(0),
        lambda: TumblingEventTimeWindows(5, 5),
        lambda: SlidingEventTimeWindows(5, 0),
        lambda: SlidingEventTimeWindows(5, 2, -2),
        lambda: EventTimeSessionWindows(0),
        lambda: CountTumblingWindowAssigner.of(0),
        lambda: CountSlidingWindowAssigner.of(2, -1),
        lambda: TumblingEventTimeWindows.of(5),  # type: ignore[arg-type]
    ],
)
def test_impossible_windows_are_refused(make: Any) -> None:
    """When the program is written, not when it runs."""
    with pytest.raises(JobGraphError):
        make()


@pytest.mark.parametrize(
    "assigner", [TumblingEventTimeWindows(5), SlidingEventTimeWindows(5, 2), EventTimeSessionWindows(5)]
)
def test_event_time_needs_timestamps(assigner: Any) -> None:
    """A record without one is an error that says what to call."""
    with pytest.raises(JobGraphError, match="assign_timestamps_and_watermarks"):
        assigned(assigner, NO_TIMESTAMP)
