"""What user functions answer, on its way to outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zmflow.api.output_tag import OutputTag
from zmflow.execution.chain_code import ROWS_HELD_MAX
from zmflow.execution.collector import Collector


class Batches:
    """An output that keeps batches apart."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[Any], list[int] | None]] = []

    def emit(self, rows: Sequence[Any], timestamps: Sequence[int] | None) -> None:
        self.emit_side("", rows, timestamps)

    def emit_side(self, tag_id: str, rows: Sequence[Any], timestamps: Sequence[int] | None) -> None:
        self.taken.append((tag_id, list(rows), None if timestamps is None else list(timestamps)))

    def emit_watermark(self, watermark_ms: int) -> None:
        raise AssertionError

    def emit_status(self, *, idle: bool) -> None:
        raise AssertionError


def test_a_pair_with_a_tag_goes_to_that_side_output() -> None:
    """Only a pair whose first item is an OutputTag is taken for one; other tuples are records."""
    output = Batches()
    collector = Collector(output)
    tag: OutputTag[int] = OutputTag("late")
    collector.collect([(tag, 1), (1, tag), (tag,), (tag, 2, 3), ("late", 1)], 5)
    collector.flush()
    assert output.taken == [
        ("", [(1, tag), (tag,), (tag, 2, 3), ("late", 1)], [5, 5, 5, 5]),
        ("late", [1], [5]),
    ]


def test_a_batch_is_all_timed_or_all_untimed() -> None:
    """Where timed records follow untimed ones, the batch before moves on first: order stays."""
    output = Batches()
    collector = Collector(output)
    tag: OutputTag[str] = OutputTag("side")
    collector.collect(["a", (tag, "x")], None)
    collector.collect(["b", "c", (tag, "y")], 2)
    collector.collect(["d"], 3)
    collector.collect(["e"], None)
    collector.flush()
    assert output.taken == [
        ("", ["a"], None),
        ("side", ["x"], None),
        ("", ["b", "c", "d"], [2, 2, 3]),
        ("", ["e"], None),
        ("side", ["y"], [2]),
    ]
    collector.flush()
    assert len(output.taken) == 5


def test_a_generator_without_end_holds_a_bounded_number() -> None:
    """Records move on while a call is still yielding, with the timestamps that belong to them."""
    output = Batches()
    collector = Collector(output)
    collector.collect(["first"], 1)
    collector.collect(iter(range(2 * ROWS_HELD_MAX)), 2)
    collector.collect(((OutputTag("side"), n) for n in range(ROWS_HELD_MAX + 1)), 3)
    collector.flush()
    assert all(len(rows) <= ROWS_HELD_MAX for _, rows, _ in output.taken)
    assert all(len(rows) == len(times or ()) for _, rows, times in output.taken)
    main = [row for tag, rows, _ in output.taken for row in rows if not tag]
    assert main == ["first", *range(2 * ROWS_HELD_MAX)]
    assert sum(len(rows) for tag, rows, _ in output.taken if tag) == ROWS_HELD_MAX + 1
