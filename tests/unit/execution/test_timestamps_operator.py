"""Timestamps, periodic watermarks, generators and idleness, in virtual time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.api.functions import RuntimeContext
from zmflow.api.metric_group import MetricGroup
from zmflow.api.time import Duration
from zmflow.api.watermark_strategy import (
    NO_TIMESTAMP,
    TimestampAssigner,
    WatermarkGenerator,
    WatermarkOutput,
    WatermarksOperator,
    WatermarkStrategy,
)
from zmflow.errors import ZmflowError
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.execution.stream_operator import MAX_WATERMARK, OperatorContext, Timestamps
from zmflow.execution.timestamps_operator import TimestampsAndWatermarksOperator
from zmflow.graph.transformations import ErrorPolicy

CONTEXT = RuntimeContext("j", "job", "task", "timestamps", 0, 1, 128, 0, "here")


class Drive:
    """An operator, its clock, and everything that leaves it, in order."""

    def __init__(
        self, strategy: WatermarkStrategy[Any], interval_ms: int = 200, on_error: ErrorPolicy = "fail"
    ) -> None:
        self.now_ms = 1000
        self.out: list[Any] = []
        self.side: list[Any] = []
        self.operator = TimestampsAndWatermarksOperator(WatermarksOperator(strategy, interval_ms))
        self.metrics = MetricGroup()
        runtime = replace(CONTEXT, metric_group=self.metrics)
        self.operator.open(OperatorContext(runtime, self, lambda: self.now_ms, on_error=on_error))

    def emit(self, rows: Sequence[Any], timestamps: Timestamps) -> None:
        self.out += list(rows) if timestamps is None else list(zip(rows, timestamps, strict=True))

    def emit_side(self, tag_id: str, rows: Sequence[Any], timestamps: Timestamps) -> None:
        self.side += [(tag_id, row, timestamps) for row in rows]

    def emit_watermark(self, watermark_ms: int) -> None:
        self.out.append(f"watermark {watermark_ms}")

    def emit_status(self, *, idle: bool) -> None:
        self.out.append("idle" if idle else "active")

    def push(self, *rows: Any, timestamps: list[int] | None = None) -> None:
        self.operator.process(rows, timestamps)

    def wait(self, millis: int) -> None:
        """Let time pass: the operator is called when it asks to be."""
        end_ms = self.now_ms + millis
        while (due_ms := self.operator.next_processing_time_ms()) is not None and due_ms <= end_ms:
            self.now_ms = max(self.now_ms, due_ms)
            self.operator.advance_processing_time(self.now_ms)
        self.now_ms = end_ms

    def taken(self) -> list[Any]:
        """What left since the last time."""
        out, self.out = self.out, []
        return out


def own(value: Any, record_timestamp: int) -> int:
    """The record is its own timestamp."""
    return int(value)


BOUNDED = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(10)).with_timestamp_assigner(own)


def test_records_get_timestamps_and_the_watermark_follows_periodically() -> None:
    """The watermark is the highest timestamp less the bound, less one, every 200 ms if it has grown."""
    drive = Drive(BOUNDED)
    drive.push(100, 130, 120)
    assert drive.taken() == [(100, 100), (130, 130), (120, 120)]
    drive.wait(199)
    assert drive.taken() == []
    drive.wait(1)
    assert drive.taken() == ["watermark 119"]
    drive.push(50)
    drive.wait(400)
    assert drive.taken() == [(50, 50)]
    drive.push(131)
    drive.wait(0)
    assert drive.taken() == [(131, 131), "watermark 120"]


def test_monotonous_timestamps_have_the_watermark_right_behind() -> None:
    """The bound is zero."""
    drive = Drive(WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(own))
    drive.push(7)
    drive.wait(200)
    assert drive.taken() == [(7, 7), "watermark 6"]


def test_nothing_wakes_an_operator_that_has_nothing_to_say() -> None:
    """Without new timestamps and without idleness there is no timer."""
    drive = Drive(BOUNDED)
    assert drive.operator.next_processing_time_ms() is None
    drive.push(5)
    assert drive.operator.next_processing_time_ms() == 1200
    drive.wait(200)
    assert drive.operator.next_processing_time_ms() is None
    assert Drive(WatermarkStrategy.no_watermarks()).operator.next_processing_time_ms() is None


def test_no_watermarks_only_assigns() -> None:
    """Timestamps are assigned, event time stands still."""
    drive = Drive(WatermarkStrategy.no_watermarks().with_timestamp_assigner(own))
    drive.push(7)
    drive.wait(1000)
    assert drive.taken() == [(7, 7)]


def test_an_assigner_sees_the_timestamp_a_record_has() -> None:
    """The second argument is the record's timestamp, or the least integer where it has none."""

    class Later(TimestampAssigner[Any]):
        def extract_timestamp(self, value: Any, record_timestamp: int) -> int:
            return 0 if record_timestamp == NO_TIMESTAMP else record_timestamp + 1

    drive = Drive(WatermarkStrategy.no_watermarks().with_timestamp_assigner(Later()))
    drive.push("a", timestamps=[41])
    drive.push("b")
    assert drive.taken() == [("a", 42), ("b", 0)]


def test_without_an_assigner_records_keep_what_they_have() -> None:
    """Timestamps of the source count; records without any pass as they are."""
    drive = Drive(WatermarkStrategy.for_monotonous_timestamps())
    drive.push("a", timestamps=[41])
    drive.push("b")
    drive.wait(200)
    assert drive.taken() == [("a", 41), "b", "watermark 40"]


@pytest.mark.parametrize("timestamp", [1.5, None, "1"])
def test_a_timestamp_that_is_no_integer_is_refused(timestamp: Any) -> None:
    """The error names the record and the value, where it happens and not in another task."""
    drive = Drive(WatermarkStrategy.no_watermarks().with_timestamp_assigner(lambda value, _: timestamp))
    with pytest.raises(ZmflowError, match="no whole number") as caught:
        drive.push("the record")
    assert "the record" in str(caught.value)


@pytest.mark.parametrize("policy", ["skip", "dead_letter"])
def test_a_record_without_a_timestamp_need_not_fail_the_job(policy: ErrorPolicy) -> None:
    """It is left out or becomes a dead letter; the others of its batch go on."""
    drive = Drive(BOUNDED, on_error=policy)
    drive.push("1", "x", "3")
    drive.push("y", timestamps=[7])
    assert drive.taken() == [("1", 1), ("3", 3)]
    assert drive.metrics.counter(RECORDS_REJECTED).get_count() == 2
    letters = [(tag, row[0], row[1][:10], timestamps) for tag, row, timestamps in drive.side]
    assert letters == (
        []
        if policy == "skip"
        else [("dead-letters", "x", "ValueError", None), ("dead-letters", "y", "ValueError", [7])]
    )


def test_other_kinds_of_integers_become_pythons() -> None:
    """A bool, or an integer of another library, is an int afterwards."""

    class Foreign:
        def __index__(self) -> int:
            return 12

    drive = Drive(WatermarkStrategy.no_watermarks().with_timestamp_assigner(lambda value, _: value))
    given = Foreign()
    drive.push(given, True)
    assert drive.taken() == [(given, 12), (True, 1)]


def test_a_quiet_stream_is_idle_until_a_record_comes() -> None:
    """Idle after the timeout, active before the next record, whatever its timestamp."""
    drive = Drive(BOUNDED.with_idleness(Duration.of_millis(500)))
    drive.push(100)
    drive.wait(600)
    assert drive.taken() == [(100, 100), "watermark 89"]
    drive.wait(400)
    assert drive.taken() == ["idle"]
    assert drive.operator.idle
    assert drive.operator.next_processing_time_ms() is None
    drive.push(20)
    assert drive.taken() == ["active", (20, 20)]
    drive.wait(400)
    assert drive.taken() == []
    drive.wait(800)
    assert drive.taken() == ["idle"]


def test_a_stream_that_never_says_anything_is_idle_too() -> None:
    """Idleness counts from the beginning."""
    drive = Drive(WatermarkStrategy.no_watermarks().with_idleness(Duration.of_millis(100)))
    drive.wait(1000)
    assert drive.taken() == ["idle"]


def test_incoming_watermarks_end_here_but_for_the_last() -> None:
    """The operator makes its own; the chain hands on the end of event time, of a stream that is active."""
    drive = Drive(BOUNDED.with_idleness(Duration.of_millis(100)))
    drive.operator.advance_watermark(5000)
    drive.wait(1000)
    assert drive.taken() == ["idle"]
    drive.operator.advance_watermark(MAX_WATERMARK)
    drive.operator.finish()
    assert drive.taken() == ["active"]
    assert drive.operator.next_processing_time_ms() is None


def test_what_was_not_yet_said_is_said_at_the_end() -> None:
    """finish() emits the last watermark, should the end of event time not have passed."""
    drive = Drive(BOUNDED)
    drive.push(100)
    drive.operator.finish()
    assert drive.taken() == [(100, 100), "watermark 89"]


def test_an_interval_of_zero_never_emits_periodically() -> None:
    """The setting turns periodic watermarks off."""
    drive = Drive(BOUNDED, interval_ms=0)
    drive.push(100)
    drive.wait(10_000)
    assert drive.taken() == [(100, 100)]


class Punctuated(WatermarkGenerator[int]):
    """A watermark behind each record that can be divided by ten; idle at 13."""

    def on_event(self, event: int, event_timestamp: int, output: WatermarkOutput) -> None:
        if event % 10 == 0:
            output.emit_watermark(event_timestamp)
        if event == 13:
            output.mark_idle()
        if event == 14:
            output.mark_active()

    def on_periodic_emit(self, output: WatermarkOutput) -> None:
        output.emit_watermark(1000)


def test_a_generator_speaks_between_records() -> None:
    """What a generator says about a record goes out right behind it; nothing goes back."""
    drive = Drive(WatermarkStrategy.for_generator(Punctuated).with_timestamp_assigner(own), interval_ms=0)
    drive.push(11, 20, 12, 10, 13, 14, 30, 15)
    assert drive.taken() == [
        (11, 11),
        (20, 20),
        "watermark 20",
        (12, 12),
        (10, 10),
        (13, 13),
        "idle",
        (14, 14),
        "active",
        (30, 30),
        "watermark 30",
        (15, 15),
    ]


def test_a_generator_is_asked_periodically() -> None:
    """on_periodic_emit is called every interval, records or not."""
    drive = Drive(WatermarkStrategy.for_generator(Punctuated))
    drive.wait(200)
    assert drive.taken() == ["watermark 1000"]
    assert drive.operator.next_processing_time_ms() == 1400


def test_a_factory_must_make_generators() -> None:
    """What a factory returns is checked when the operator is opened."""
    with pytest.raises(ZmflowError, match="makes no WatermarkGenerator"):
        Drive(WatermarkStrategy.for_generator(dict))  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.lists(st.integers(-1000, 1000), min_size=1, max_size=6), st.integers(0, 500))),
    st.integers(0, 50),
)
def test_watermarks_grow_and_keep_the_bound(batches: list[tuple[list[int], int]], bound: int) -> None:
    """Watermarks rise, lie bound and one below the highest timestamp, and no record is lost or reordered."""
    strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(bound))
    drive = Drive(strategy.with_timestamp_assigner(own))
    watermarks: list[int] = []
    highest: list[int] = []
    for rows, pause in batches:
        drive.push(*rows)
        drive.wait(pause)
        highest.append(max([*rows, *highest[-1:]]))
        out = drive.taken()
        assert [row for row in out if isinstance(row, tuple)] == [(row, row) for row in rows]
        said = [int(item.split()[1]) for item in out if isinstance(item, str)]
        assert all(watermark == highest[-1] - bound - 1 for watermark in said)
        watermarks += said
    assert watermarks == sorted(set(watermarks))


def test_what_was_reached_does_not_wait_for_the_interval() -> None:
    """It is the watermark that would be given out now; a generator's is the one it gave out."""
    drive = Drive(BOUNDED)
    drive.push(100, 70)
    assert drive.operator.reached_ms == 89
    drive.operator.advance_watermark(MAX_WATERMARK)
    assert drive.operator.reached_ms == MAX_WATERMARK


def test_a_stream_whose_source_pauses_is_not_idle() -> None:
    """The time of the pause does not count, before it nor after it."""
    drive = Drive(BOUNDED.with_idleness(Duration.of_millis(1000)))
    drive.push(100)
    drive.wait(900)
    drive.operator.held = True
    drive.wait(5000)
    drive.operator.held = False
    drive.wait(900)
    assert "idle" not in drive.taken()
    drive.wait(1000)
    assert drive.taken() == ["idle"]
