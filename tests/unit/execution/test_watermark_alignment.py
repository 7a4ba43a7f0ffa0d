"""When readers of an alignment group report, how far they may go, and who is not waited for."""

from __future__ import annotations

import pytest

from zmflow.api.watermark_strategy import WatermarkAlignment
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.execution.watermark_alignment import (
    SILENCE_INTERVALS,
    SILENCE_LEAST_MS,
    UNANSWERED_REPORTS,
    AlignmentGroup,
    ReaderAlignment,
)

ALIGNMENT = WatermarkAlignment("group", max_drift_ms=10, update_interval_ms=1000)


def begun_group(**reached: int) -> AlignmentGroup:
    """A group that answers, with members that have reported at 0."""
    group = AlignmentGroup(now_ms=-1000)
    for member, watermark_ms in reached.items():
        group.report(member, watermark_ms, ALIGNMENT, now_ms=0)
    return group


def test_a_reader_ahead_of_its_group_pauses_until_the_slowest_is_near() -> None:
    """The slowest member and the drift say how far a reader may go."""
    group, reader = begun_group(slow=80), ReaderAlignment(ALIGNMENT)
    for slow_ms, pauses in ((80, True), (89, True), (90, False)):
        group.report("slow", slow_ms, ALIGNMENT, now_ms=0)
        allowed_ms = group.report("fast", 100, ALIGNMENT, now_ms=0)
        assert allowed_ms is not None
        reader.allow("v1", allowed_ms)
        assert reader.pauses(100) is pauses


def test_nobody_waits_for_himself() -> None:
    """Alone, or behind all others, a reader is not held up by what it said last."""
    group = begun_group(slow=5)
    assert group.report("slow", 5, ALIGNMENT, now_ms=0) == MAX_WATERMARK
    group.report("fast", 100, ALIGNMENT, now_ms=0)
    assert group.report("slow", 6, ALIGNMENT, now_ms=0) == 110


@pytest.mark.parametrize("how", ["idle", "gone", "silent"])
def test_a_member_that_says_nothing_holds_nobody_up(how: str) -> None:
    """Idle, finished and lost members do not count; without any other there is no limit."""
    group, now_ms = begun_group(slow=5), 100
    assert group.report("fast", 50, ALIGNMENT, now_ms=100) == 15
    if how == "idle":
        group.report("slow", MAX_WATERMARK, ALIGNMENT, now_ms=100)
    elif how == "gone":
        group.gone("slow")
        group.gone("slow")  # a message may come twice
    else:
        now_ms = SILENCE_INTERVALS * ALIGNMENT.update_interval_ms
        assert group.report("fast", 50, ALIGNMENT, now_ms) == 15
        now_ms += 1
    assert group.report("fast", 50, ALIGNMENT, now_ms) == MAX_WATERMARK


def test_a_member_that_restarts_has_the_time_to() -> None:
    """Ten of very short intervals are less than a restart takes."""
    hasty = WatermarkAlignment("group", max_drift_ms=10, update_interval_ms=20)
    group = AlignmentGroup(now_ms=-20)
    group.report("slow", 5, hasty, now_ms=0)
    assert group.report("fast", 50, hasty, now_ms=SILENCE_LEAST_MS) == 15
    group.report("slow", 1, hasty, now_ms=SILENCE_LEAST_MS)
    assert group.report("fast", 50, hasty, now_ms=SILENCE_LEAST_MS + 1) == 11


def test_a_group_hears_everybody_before_it_answers() -> None:
    """Who reports first is not told that there is nobody else."""
    group = AlignmentGroup(now_ms=0)
    assert group.report("fast", 50, ALIGNMENT, now_ms=0) is None
    assert group.report("slow", 5, ALIGNMENT, now_ms=999) is None
    assert group.report("fast", 50, ALIGNMENT, now_ms=1000) == 15


def test_readers_report_at_intervals_and_not_before_their_first_watermark() -> None:
    """A report is due every interval; before its first watermark a reader would hold all the others up."""
    reader = ReaderAlignment(ALIGNMENT)
    assert reader.next_report_ms(MIN_WATERMARK, idle=False) is None
    assert reader.report(MIN_WATERMARK, 500, idle=False) is None
    assert reader.report(50, 700, idle=False) == 50
    assert reader.next_report_ms(55, idle=False) == 1700
    assert reader.report(55, 1699, idle=False) is None
    assert reader.report(60, 1700, idle=True) == MAX_WATERMARK


def test_before_it_is_answered_a_reader_goes_as_far_as_the_drift() -> None:
    """From where it began; a reader that is idle before its first watermark has not begun."""
    reader = ReaderAlignment(ALIGNMENT)
    assert not reader.pauses(10**6)
    assert reader.report(MIN_WATERMARK, 0, idle=True) == MAX_WATERMARK
    assert not reader.pauses(10**6)
    reader.report(100, 1000, idle=False)
    reader.report(105, 2000, idle=False)
    assert not reader.pauses(110)
    assert reader.pauses(111)


def test_the_keeper_that_knows_most_counts_until_it_is_gone() -> None:
    """One that began anew allows more than it should; one that does not answer holds nobody back for long."""
    reader = ReaderAlignment(ALIGNMENT)
    reader.report(0, 0, idle=False)
    reader.allow("knows", 50)
    reader.allow("new", MAX_WATERMARK)
    assert reader.pauses(51)
    for at in range(1, UNANSWERED_REPORTS + 1):
        assert reader.pauses(51)
        reader.report(51, 1000 * at, idle=False)
        reader.allow("new", 200)
    assert not reader.pauses(200)
    assert reader.pauses(201)
    reader.allow("knows", 60)
    assert reader.pauses(61)
