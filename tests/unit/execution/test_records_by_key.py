"""Records that BATCH mode holds: the same whether they fit into memory or not."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow import KeyedProcessFunction, RuntimeContext, ValueStateDescriptor
from zmflow.errors import ZmflowError
from zmflow.execution.records_by_key import BLOCK_RECORDS, RecordsByKey
from zmflow.runtime.spill_files import SpillFiles
from zmflow.testing.harness import OperatorHarness


class Written:
    """Runs in memory, which say what was written."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.closed = False

    def new_run(self) -> Run:
        self.runs.append(Run())
        return self.runs[-1]

    def close(self) -> None:
        self.closed = True


class Run:
    def __init__(self) -> None:
        self.written: list[bytes] = []

    def append(self, block: bytes) -> None:
        self.written.append(block)

    def blocks(self) -> Iterator[bytes]:
        return iter(self.written)


def taken(records: RecordsByKey) -> list[tuple[Any, list[Any]]]:
    return [(key, list(held)) for key, held in records.take()]


BATCHES = st.lists(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", 1, 1.0, True, None, ("x", 2)]), st.integers(0, 3)), max_size=5
    ),
    max_size=8,
)


@settings(deadline=None)
@given(BATCHES, st.booleans(), st.integers(1, 2000))
def test_what_is_taken_does_not_depend_on_memory(
    batches: list[list[tuple[Any, int]]], timed: bool, limit_bytes: int
) -> None:
    """Each key once, its records by time and arrival; keys that Python calls equal are one."""
    written = Written()
    held, spilled = RecordsByKey(), RecordsByKey(limit_bytes, lambda: written)
    for number, batch in enumerate(batches):
        rows = [(key, number, index) for index, (key, _) in enumerate(batch)]
        times = [time for _, time in batch] if timed else None
        for records in (held, spilled):
            records.add(number % 2, lambda row: row[0], rows, times)
    expected = dict(taken(held))
    got = taken(spilled)
    assert len(got) == len(expected)
    assert dict(got) == expected
    assert written.closed == bool(written.runs)


def test_memory_is_given_back_and_blocks_are_bounded() -> None:
    """No block has many more records than it should, be they of one key or of many."""
    written = Written()
    records = RecordsByKey(1_000_000, lambda: written)
    for begin in range(0, 50_000, 1000):
        records.add(0, lambda value: value % 3, list(range(begin, begin + 1000)), None)
    assert len(written.runs) > 2
    sizes = [
        sum(len(part) for _, _, part in pickle.loads(block)) for run in written.runs for block in run.written
    ]
    assert max(sizes) < 2 * BLOCK_RECORDS
    assert sum(sizes) > 30_000
    assert sum(len(list(held)) for _, held in records.take()) == 50_000
    assert taken(records) == []


def test_records_that_cannot_be_written_are_told_of() -> None:
    """What is in memory needs no pickling, what is written away does."""
    records = RecordsByKey(500, Written)
    with pytest.raises(ZmflowError, match="cannot be pickled"):
        records.add(0, lambda value: 1, [1, lambda: None, 2, 3], None)


def test_files_have_no_names(tmp_path: Path) -> None:
    """So nothing is left whatever happens to the process."""
    spill = SpillFiles(str(tmp_path))
    run = spill.new_run()
    run.append(b"x" * 100_000)
    run.append(b"")
    assert list(tmp_path.iterdir()) == []
    assert [len(block) for block in run.blocks()] == [100_000, 0]
    spill.close()
    with pytest.raises(ZmflowError, match="cannot be kept on disk") as raised:
        SpillFiles(str(tmp_path / "missing")).new_run()
    assert "env.run.dir" in str(raised.value)


class Count(KeyedProcessFunction[int, int, int]):
    """How many records the key has had."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(self, value: int, ctx: Any) -> Iterator[int]:
        self.count.update((self.count.value() or 0) + 1)
        yield self.count.value()


def test_state_is_dropped_when_the_key_changes() -> None:
    """Memory does not grow with the keys of a BATCH job."""
    harness = OperatorHarness(Count(), key_selector=lambda value: value % 100, batch_mode=True)
    for value in range(300):
        harness.push(value)
    harness.end_input()
    assert harness.values() == [1, 2, 3] * 100
    assert list(harness.keyed_state.keys("count")) == []
