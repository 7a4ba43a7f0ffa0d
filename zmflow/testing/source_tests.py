"""The conformance kit of sources that can be read again: what must hold, and why the engine needs it.

The tests of a source are these few lines; everything else is inherited::

    class TestMySource(SourceTests):
        @pytest.fixture
        def source(self):
            return MySource("somewhere")

        @pytest.fixture
        def expected(self):
            return ["every", "record", "there", "is"]

A source that does not end is read until as many records are there as are expected. The records may be of
any kind that can be compared, and come in any order. The kit needs pytest, which zmflow itself does not.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from typing import Any

import cloudpickle
import pytest

from zmflow.api.sources import Source
from zmflow.testing.source_run import SourceCheckpoint, SourceRun

__all__ = ["SourceTests"]

INTERRUPTIONS_MAX = 20
"""Of a run with more batches not every one is interrupted at, but that many places spread over it."""


class SourceTests:
    """What every source with checkpoints has to do."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        """The source; a few hundred records in several splits and several batches find the most."""
        raise NotImplementedError("Override the fixture source.")

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        """Every record, in any order."""
        raise NotImplementedError("Override the fixture expected.")

    @pytest.fixture
    def run_to_end(self, source: Source[Any, Any], expected: Sequence[Any]) -> _Runs:
        """Reads what is left, and compares."""
        return _Runs(source, expected)

    def test_it_travels(self, source: Source[Any, Any]) -> None:
        """It is pickled with the job, and its copy is the same."""
        copy = pickle.loads(cloudpickle.dumps(source))
        assert (type(copy), copy.name, copy.bounded) == (type(source), source.name, source.bounded)
        source.validate()

    @pytest.mark.parametrize("parallelism", [1, 2, 5])
    def test_every_record_is_read_once(self, run_to_end: _Runs, parallelism: int) -> None:
        """Whatever the parallelism, and with readers that are there for nothing."""
        run_to_end(SourceRun(run_to_end.source, parallelism), [])

    @pytest.mark.parametrize("parallelism", [1, 3])
    def test_snapshots_disturb_nothing(self, run_to_end: _Runs, parallelism: int) -> None:
        """A checkpoint after each batch, completed or not, changes nothing of what is read."""
        run = SourceRun(run_to_end.source, parallelism)
        seen: list[Any] = []
        for place, batch in enumerate(run_to_end.batches(run)):
            seen += batch
            checkpoint = run.snapshot()
            if place % 2:
                run.complete(checkpoint)
        run_to_end.compare(seen)

    @pytest.mark.parametrize(
        ("before", "after"),
        [(1, 1), (2, 2), (3, 1), (1, 3), (2, 5)],
        ids=str,
    )
    def test_it_goes_on_from_any_checkpoint(self, run_to_end: _Runs, before: int, after: int) -> None:
        """After what was read before the checkpoint comes the rest, with as many readers or with others.

        What was read between the checkpoint and the failure is read again.
        """
        for checkpoint, seen in run_to_end.interruptions(before):
            run_to_end(SourceRun(run_to_end.source, after, checkpoint), seen)

    def test_it_goes_on_again_and_again(self, run_to_end: _Runs) -> None:
        """Each run ends after one round of its readers; the parallelism changes all the time."""
        parallelisms = [2, 1, 3]
        run = SourceRun(run_to_end.source, 2)
        seen: list[Any] = []
        rounds = 0
        while not run_to_end.complete(run, seen):
            for subtask in range(run.parallelism):
                seen += run.poll(subtask)
            run.tick()
            rounds += 1
            if rounds % 4 == 0:  # some rounds go by with requests alone
                checkpoint = run.snapshot()
                run.close()
                run = SourceRun(run_to_end.source, parallelisms[rounds // 4 % 3], checkpoint)
        run.close()
        run_to_end.compare(seen)

    @pytest.mark.parametrize("completed", [False, True], ids=["no checkpoint", "a checkpoint"])
    def test_a_reader_restarts_alone(self, run_to_end: _Runs, completed: bool) -> None:
        """It has what it had in the checkpoint, and what was assigned to it since goes back and is read by
        whoever asks. What it had read since, or without a checkpoint ever, is read again."""
        for place in range(0, run_to_end.batch_count(2), 3):
            run = SourceRun(run_to_end.source, 2)
            seen: list[list[Any]] = [[], []]
            kept: list[list[Any]] = [[], []]
            checkpoint = None
            for index, (subtask, batch) in enumerate(run_to_end.turns(run)):
                seen[subtask] += batch
                if completed and index == place // 2:
                    checkpoint = run.snapshot()
                    run.complete(checkpoint)
                    kept = [list(records) for records in seen]
                if index == place:
                    break
            run.restart_reader(0, checkpoint)
            run_to_end(run, [*kept[0], *seen[1]])

    def test_readers_can_be_closed_anywhere(self, run_to_end: _Runs) -> None:
        """A task ends when it ends: before the first batch, between two, with splits that nobody reads."""
        for place in range(min(5, run_to_end.batch_count(1))):
            run = SourceRun(run_to_end.source, 2)
            for _, _ in zip(range(place), run_to_end.batches(run), strict=False):
                pass
            run.close()


class _Runs:
    """Runs of one source, and what they must have read in the end."""

    def __init__(self, source: Source[Any, Any], expected: Sequence[Any]) -> None:
        self.source = source
        self.expected = sorted(expected, key=repr)

    def __call__(self, run: SourceRun, seen: Sequence[Any]) -> None:
        """Read what is left; with what was seen before, that must be everything."""
        records = list(seen)
        for batch in self.batches(run, len(records)):
            records += batch
        run.close()
        self.compare(records)

    def compare(self, records: Sequence[Any]) -> None:
        """These must be all records."""
        found = sorted(records, key=repr)
        if found != self.expected:
            lost, more = list(self.expected), []
            for record in found:
                if record in lost:
                    lost.remove(record)
                else:
                    more.append(record)
            pytest.fail(f"Of {len(self.expected)} records lost: {lost[:5]}, read twice: {more[:5]}")

    def complete(self, run: SourceRun, seen: Sequence[Any]) -> bool:
        """Whether a run has read all: it has ended, or, where it never does, there are enough records."""
        return run.ended if self.source.bounded else len(seen) >= len(self.expected)

    def turns(self, run: SourceRun, before: int = 0) -> Iterator[tuple[int, Sequence[Any]]]:
        """The batches of a run, of which so many records are there already; the readers take turns. With each
        comes whose it is."""
        count, idle = before, 0
        while not run.ended and (self.source.bounded or count < len(self.expected)):
            idle += 1
            for subtask in range(run.parallelism):
                if batch := run.poll(subtask):
                    count, idle = count + len(batch), 0
                    yield subtask, batch
            run.tick()
            assert idle < 1000, f"The readers return nothing any more, after {count} records."

    def batches(self, run: SourceRun, before: int = 0) -> Iterator[Sequence[Any]]:
        """The batches alone."""
        return (batch for _, batch in self.turns(run, before))

    def batch_count(self, parallelism: int) -> int:
        """How many batches a run has."""
        run = SourceRun(self.source, parallelism)
        count = sum(1 for _ in self.batches(run))
        run.close()
        return count

    def interruptions(self, parallelism: int) -> Iterator[tuple[SourceCheckpoint, list[Any]]]:
        """Checkpoints at the beginning, after batches all over a run and at its end, each with what was
        returned before it. The run goes on after each."""
        step = max(1, self.batch_count(parallelism) // INTERRUPTIONS_MAX)
        run = SourceRun(self.source, parallelism)
        seen: list[Any] = []
        yield run.snapshot(), []
        for place, batch in enumerate(self.batches(run)):
            seen += batch
            if place % step == 0:
                yield run.snapshot(), list(seen)
        if self.source.bounded:
            yield run.snapshot(), seen
        run.close()
