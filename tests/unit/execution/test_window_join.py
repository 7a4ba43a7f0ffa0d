"""Window joins run: tagged records through the window operator, against a nested loop."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow import StreamExecutionEnvironment
from zmflow.api.joins import CoGroupedStreams, JoinedStreams
from zmflow.api.time import Time
from zmflow.api.windows import EventTimeSessionWindows, TumblingEventTimeWindows
from zmflow.execution.windows.operators import window_operator
from zmflow.testing.harness import OperatorHarness

SIZE_MS = 10

Row = tuple[str, int, int]
"""Key, timestamp, number."""

rows = st.lists(st.tuples(st.sampled_from("ab"), st.integers(-15, 30)), max_size=15)


def numbered(side: list[tuple[str, int]]) -> list[Row]:
    return [(key, timestamp, number) for number, (key, timestamp) in enumerate(side)]


def run(stream: Any, first: list[Row], second: list[Row]) -> OperatorHarness:
    """Push both streams' rows, tagged as the join's maps tag them, and end the input."""
    harness = OperatorHarness(window_operator(stream._node.operator))
    for is_first, side in ((True, first), (False, second)):
        for row in side:
            harness.push((is_first, row), timestamp=row[1])
    harness.end_input()
    return harness


def streams() -> tuple[Any, Any]:
    env = StreamExecutionEnvironment.get_execution_environment()
    return env.from_collection([1]), env.from_collection([2])


@settings(max_examples=100, deadline=None)
@given(rows, rows)
def test_a_tumbling_join_is_the_nested_loop(
    left: list[tuple[str, int]], right: list[tuple[str, int]]
) -> None:
    """All pairs of one key and window, with the window's last timestamp, and no other."""
    first, second = numbered(left), numbered(right)
    joined = (
        JoinedStreams(*streams())
        .where(lambda row: row[0])
        .equal_to(lambda row: row[0])
        .window(TumblingEventTimeWindows.of(Time.milliseconds(SIZE_MS)))
        .apply(lambda one, other: (one, other))
    )
    expected = Counter(
        ((one, other), one[1] // SIZE_MS * SIZE_MS + SIZE_MS - 1)
        for one in first
        for other in second
        if one[0] == other[0] and one[1] // SIZE_MS == other[1] // SIZE_MS
    )
    assert Counter(tuple(record) for record in run(joined, first, second).output()) == expected


def test_sessions_are_of_both_streams_together() -> None:
    """A record of the second stream bridges two of the first: one session, one call."""
    grouped = (
        CoGroupedStreams(*streams())
        .where(lambda row: row[0])
        .equal_to(lambda row: row[0])
        .window(EventTimeSessionWindows.with_gap(Time.milliseconds(5)))
        .apply(lambda one, other: [(list(one), list(other))])
    )
    first, second = [("a", 0, 0), ("a", 8, 1)], [("a", 4, 0), ("b", 4, 1)]
    assert run(grouped, first, second).output() == [
        (([], [("b", 4, 1)]), 8),
        (([("a", 0, 0), ("a", 8, 1)], [("a", 4, 0)]), 12),
    ]
