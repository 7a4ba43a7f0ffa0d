"""The interval join against a model that looks at every pair there is."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.api.interval_join import IntervalJoinOperator
from zmflow.api.join_functions import ProcessJoinFunction
from zmflow.api.output_tag import DEAD_LETTERS, OutputTag
from zmflow.errors import ZmflowError
from zmflow.execution.interval_join_operator import IntervalJoinProcess
from zmflow.testing.harness import OperatorHarness

LEFT_LATE: OutputTag[Any] = OutputTag("left-late")
RIGHT_LATE: OutputTag[Any] = OutputTag("right-late")


def key_of(value: Any) -> Any:
    return value[0]


class Pair(ProcessJoinFunction[Any, Any, Any]):
    """The pair and what the context says of it."""

    def process_element(self, left: Any, right: Any, ctx: Any) -> Any:
        yield left, right, ctx.get_left_timestamp(), ctx.get_right_timestamp(), ctx.get_timestamp()


def joined(lower_ms: int, upper_ms: int, function: Any = None, **options: Any) -> OperatorHarness:
    """A harness around the join of records ``(key, timestamp)``."""
    spec = IntervalJoinOperator(
        (key_of, key_of), function or Pair(), lower_ms, upper_ms, LEFT_LATE.tag_id, RIGHT_LATE.tag_id
    )
    return OperatorHarness(IntervalJoinProcess(spec), **options)


def test_both_bounds_are_included_and_results_have_the_later_timestamp() -> None:
    """A right record from 2 before to 3 after the left one makes a pair, whoever comes first."""
    harness = joined(-2, 3)
    for timestamp in (7, 8, 10):
        harness.push_second(("a", timestamp), timestamp)
    harness.push(("a", 10), 10)
    for timestamp in (13, 14):
        harness.push_second(("a", timestamp), timestamp)
    harness.push_second(("b", 10), 10)
    pairs = [(record.value[1][1], record.timestamp) for record in harness.output()]
    assert pairs == [(8, 10), (10, 10), (13, 13)]
    assert harness.values()[0] == (("a", 10), ("a", 8), 10, 8, 10)


steps = st.lists(
    st.tuples(st.sampled_from(["left", "right", "watermark"]), st.sampled_from("ab"), st.integers(-12, 25)),
    max_size=40,
)


@settings(max_examples=400, deadline=None)
@given(steps, st.integers(-8, 8), st.integers(0, 8))
def test_every_pair_and_no_other(sequence: list[tuple[str, str, int]], lower: int, length: int) -> None:
    """Out of order, late, with bounds on either side of zero: the pairs are those that Flink's rules say."""
    upper = lower + length
    harness = joined(lower, upper)
    watermark = -(2**63)
    kept: dict[str, list[tuple[str, int, int]]] = {"left": [], "right": []}
    expected: Counter[Any] = Counter()
    late: dict[str, list[Any]] = {"left": [], "right": []}
    for number, (what, key, timestamp) in enumerate(sequence):
        if what == "watermark":
            harness.watermark(timestamp)
            watermark = max(watermark, timestamp)
            continue
        record = (key, timestamp, number)
        (harness.push if what == "left" else harness.push_second)(record, timestamp)
        if timestamp < watermark:
            late[what].append((record, timestamp))
            continue
        kept[what].append(record)
        for other in kept["right" if what == "left" else "left"]:
            left, right = (record, other) if what == "left" else (other, record)
            lives = other[1] + max(0, upper if what == "right" else -lower) > watermark
            if left[0] == right[0] and lives and left[1] + lower <= right[1] <= left[1] + upper:
                last = max(left[1], right[1])
                expected[((left, right, left[1], right[1], last), last)] += 1
    assert Counter(tuple(record) for record in harness.output()) == expected
    assert harness.side_output(LEFT_LATE) == late["left"]
    assert harness.side_output(RIGHT_LATE) == late["right"]


def test_nothing_stays_when_event_time_has_passed() -> None:
    """State and timers of both sides are gone once no record can want them."""
    harness = joined(-5, 5)
    for timestamp in range(100):
        harness.push(("a", timestamp), timestamp)
        harness.push_second(("b", timestamp), timestamp)
    assert 0 < len(harness.event_time_timers()) < 50  # one for each bucket, not for each record
    harness.watermark(200)
    assert harness.event_time_timers() == []
    groups = (harness.keyed_state.snapshot(group) for group in harness.keyed_state.key_groups)
    assert all(not snapshot.states for snapshot in groups)


def test_a_plain_callable_makes_one_record_of_a_pair() -> None:
    """For most joins a function of the two records is enough."""
    harness = joined(0, 0, lambda left, right: left[1] + right[1])
    harness.push(("a", 4), 4)
    harness.push_second(("a", 4), 4)
    assert harness.output() == [(8, 4)]


def test_a_record_without_timestamp_is_refused() -> None:
    """There is no interval without time; the message says what is missing."""
    with pytest.raises(ZmflowError, match="assign_timestamps_and_watermarks"):
        joined(0, 1).push(("a", 1))


def test_a_join_function_that_raises_rejects_the_record_that_came() -> None:
    """No pair of that record is emitted; the dead letter is the record, not the pair."""

    def fragile(left: Any, right: Any) -> float:
        return right[1] / left[1]

    harness = joined(-9, 9, fragile, on_error="dead_letter")
    harness.push(("a", 2), 2)
    harness.push(("a", 0), 0)
    harness.push_second(("a", 4), 4)
    assert harness.output() == []
    assert harness.side_output(DEAD_LETTERS) == [((("a", 4), "ZeroDivisionError: division by zero"), 4)]


def test_in_batch_mode_nothing_is_late() -> None:
    """One key at a time, in order of timestamps, with event time at its beginning."""
    harness = joined(-1, 1, batch_mode=True)
    harness.push_second(("a", 5), 5)
    harness.push(("a", 6), 6)
    harness.push(("a", 4), 4)
    harness.end_input()
    assert [record.value[:2] for record in harness.output()] == [
        (("a", 4), ("a", 5)),
        (("a", 6), ("a", 5)),
    ]


def test_late_records_without_a_tag_are_counted() -> None:
    """Without a side output a late record is dropped, and counted."""
    operator = IntervalJoinProcess(IntervalJoinOperator((key_of, key_of), Pair(), 0, 1))
    harness = OperatorHarness(operator)
    harness.watermark(10)
    harness.push(("a", 9), 9)
    harness.push_second(("a", 10), 10)
    assert harness.metrics()["numLateRecordsDropped"] == 1
    assert harness.output() == []
