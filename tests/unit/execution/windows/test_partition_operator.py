"""``full_window_partition``: all records of a subtask, or of a key, when the input has ended."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from windowed import Average, first

from zmflow.api.windows import MapPartitionFunction, Order, PartitionWindowOperator
from zmflow.execution.windows.partition_operator import FullPartitionOperator
from zmflow.testing.harness import OperatorHarness

RECORDS = [("b", 3), ("a", 2), ("b", 1), ("a", 2)]


class Sizes(MapPartitionFunction[Any, int]):
    def map_partition(self, values: Iterable[Any]) -> Iterable[int]:
        yield len(list(values))


def second(record: tuple[str, int]) -> int:
    return record[1]


@pytest.mark.parametrize(
    ("specification", "expected"),
    [
        (PartitionWindowOperator("map", Sizes()), [4]),
        (PartitionWindowOperator("map", Sizes(), first), [2, 2]),
        (PartitionWindowOperator("map", lambda records: None), []),
        (PartitionWindowOperator("sort", second), [("b", 1), ("a", 2), ("a", 2), ("b", 3)]),
        (
            PartitionWindowOperator("sort", second, None, Order.DESCENDING),
            [("b", 3), ("a", 2), ("a", 2), ("b", 1)],
        ),
        (PartitionWindowOperator("sort", second, first), [("b", 1), ("b", 3), ("a", 2), ("a", 2)]),
        (PartitionWindowOperator("reduce", lambda x, y: (x[0], x[1] + y[1])), [("b", 8)]),
        (PartitionWindowOperator("reduce", lambda x, y: (x[0], x[1] + y[1]), first), [("b", 4), ("a", 4)]),
        (PartitionWindowOperator("aggregate", Average()), [2.0]),
        (PartitionWindowOperator("aggregate", Average(), first), [2.0, 2.0]),
    ],
)
def test_partitions_are_handed_out_at_the_end(specification: Any, expected: list[Any]) -> None:
    """Nothing before, and nothing twice; keys in the order in which they came."""
    harness = OperatorHarness(FullPartitionOperator(specification))
    harness.push_batch(RECORDS[:3], [1, 2, 3])
    harness.push_batch(RECORDS[3:], [4])
    harness.watermark(100)
    assert harness.output() == []
    harness.end_input()
    assert harness.output() == [(value, None) for value in expected]


def test_an_empty_partition_has_no_result() -> None:
    """Of no records there is nothing to reduce, and no key."""
    for kind, function in (("map", Sizes()), ("sort", second), ("reduce", max), ("aggregate", Average())):
        harness = OperatorHarness(FullPartitionOperator(PartitionWindowOperator(kind, function)))  # type: ignore[arg-type]
        harness.end_input()
        assert harness.output() == []
