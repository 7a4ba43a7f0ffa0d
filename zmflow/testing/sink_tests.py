"""The conformance kit of sinks that write exactly once: what must hold, and why the engine needs it.

The tests of a sink are these few lines; everything else is inherited::

    class TestMySink(SinkTests):
        @pytest.fixture
        def new_place(self, tmp_path):
            def place():
                where = ...  # empty; another one with each call
                return SinkPlace(MySink(where), lambda: read_everything_in(where))
            return place

        def record(self, number):
            return {"number": number}  # what visible() returns for it must be equal

The kit needs pytest and hypothesis, which zmflow itself does not.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import pytest

from zmflow.api.sinks import Sink
from zmflow.testing.sink_machine import check_random_use
from zmflow.testing.sink_run import SinkCheckpoint, SinkRun

__all__ = ["SinkPlace", "SinkTests"]


@dataclass(frozen=True)
class SinkPlace:
    """A sink, and a look at what it has written.

    Args:
        sink: writes to a place of its own.
        visible: every record that a reader of the place sees now.
        leftovers: names of what is there that readers do not see: nothing, when a job has ended.
    """

    sink: Sink[Any]
    visible: Callable[[], Sequence[Any]]
    leftovers: Callable[[], Sequence[str]] = tuple


NewPlace: TypeAlias = Callable[[], SinkPlace]


class SinkTests:
    """What every sink with two phases has to do."""

    commits_each_checkpoint: ClassVar[bool] = True
    """Whether all that was written before a checkpoint is visible when it is complete; else some of it may
    wait for a later one."""

    random_runs: ClassVar[int] = 30
    """How many runs of thirty steps ``test_random_use`` tries."""

    @pytest.fixture
    def new_place(self) -> NewPlace:
        """Makes a sink of an empty place."""
        raise NotImplementedError("Override the fixture new_place.")

    def record(self, number: int) -> Any:
        """A record that can be told from others."""
        return str(number)

    @pytest.fixture
    def at(self, new_place: NewPlace) -> _Place:
        """One place, for most tests."""
        return _Place(new_place(), self)

    def test_it_travels(self, at: _Place) -> None:
        """It is pickled with the job."""
        copy = pickle.loads(pickle.dumps(at.sink, protocol=5))
        assert (type(copy), copy.name) == (type(at.sink), at.sink.name)
        at.sink.validate_for(checkpoints=True)

    @pytest.mark.parametrize("parallelism", [1, 3])
    def test_nothing_is_visible_before_its_checkpoint_is_complete(self, at: _Place, parallelism: int) -> None:
        """Neither when it is written, nor when the checkpoint is taken; then all of it, once."""
        run = SinkRun(at.sink, parallelism)
        for subtask in range(parallelism):
            at.write(run, 10, subtask)
        at.sees(0)
        checkpoint = run.barrier()
        at.write(run, 5)
        at.sees(0)
        run.complete(checkpoint)
        at.sees_after_checkpoint(10 * parallelism)
        run.finish()
        at.ends()

    def test_without_checkpoints_the_end_of_the_input_commits(self, at: _Place) -> None:
        """As in BATCH mode."""
        run = SinkRun(at.sink, 2, checkpoints=False)
        at.write(run, 10)
        at.write(run, 10, 1)
        at.sees(0)
        run.finish()
        at.ends()

    @pytest.mark.parametrize("checkpoints", [False, True], ids=["without checkpoints", "with checkpoints"])
    def test_what_fails_before_a_checkpoint_is_never_visible(self, at: _Place, checkpoints: bool) -> None:
        """The next attempt writes it again."""
        run = SinkRun(at.sink, 2, checkpoints=checkpoints)
        at.write(run, 10, 1)
        run.fail()
        at.sees(0)
        at.goes_back_to(0)
        run = SinkRun(at.sink, 2, attempt=1, checkpoints=checkpoints)
        at.write(run, 10)
        run.finish()
        at.ends()

    def test_checkpoints_may_be_empty(self, at: _Place) -> None:
        """Of subtasks that have written nothing, ever or since the last one."""
        run = SinkRun(at.sink, 2)
        run.checkpoint()
        at.write(run, 3)
        for _ in range(3):
            checkpoint = run.checkpoint()
        at.sees_after_checkpoint(3)
        run.kill()
        run = SinkRun(at.sink, 2, checkpoint, attempt=1)
        run.finish()
        at.ends()

    def test_committing_twice_is_committing_once(self, at: _Place) -> None:
        """After a failure it is not known whether a checkpoint was committed, so it is once more."""
        run = SinkRun(at.sink, 2)
        at.write(run, 10)
        at.write(run, 10, 1)
        checkpoint = run.checkpoint()
        run.kill()
        for attempt in (1, 2, 3):
            run = SinkRun(at.sink, 2, checkpoint, attempt=attempt)
            at.sees_after_checkpoint(20)
            run.kill()
        run = SinkRun(at.sink, 2, checkpoint, attempt=4)
        run.finish()
        at.ends()

    @pytest.mark.parametrize("completed", [[], [0], [1]], ids=["no notice", "the first", "the second"])
    @pytest.mark.parametrize("ending", ["kill", "fail"])
    def test_a_notice_that_is_missed_is_made_up_for(
        self, at: _Place, ending: str, completed: list[int]
    ) -> None:
        """By the next one, or when the checkpoint is restored."""
        run = SinkRun(at.sink, 2)
        for _ in range(2):
            at.write(run, 4)
            at.write(run, 4, 1)
            checkpoint = run.barrier()
            run.complete(checkpoint, completed)
        getattr(run, ending)()
        run = SinkRun(at.sink, 2, checkpoint, attempt=1)
        at.sees_after_checkpoint(16)
        at.write(run, 4)
        run.barrier()
        run.complete(run.barrier())
        at.sees_after_checkpoint(20)
        run.finish()
        at.ends()

    @pytest.mark.parametrize("ending", ["kill", "fail", "late"])
    @pytest.mark.parametrize("parallelism", [1, 2, 3])
    def test_what_was_prepared_after_the_restored_checkpoint_is_aborted(
        self, at: _Place, parallelism: int, ending: str
    ) -> None:
        """With as many subtasks, with more and with fewer; several times, until one gets through.

        An attempt may also end late, when the next one runs: it must not take anything from that.
        """
        run = SinkRun(at.sink, 2)
        at.write(run, 6)
        at.write(run, 6, 1)
        restored = run.checkpoint()
        position = at.position
        late = []
        for attempt in range(1, 5):
            at.write(run, 3)
            run.barrier()
            at.write(run, 3)
            run.barrier([0])  # never comes to the others
            at.write(run, 3)
            if ending == "late":
                late.append(run)
            else:
                getattr(run, ending)()
            at.goes_back_to(position)
            run = SinkRun(at.sink, parallelism, restored, attempt=attempt)
            at.sees_after_checkpoint(12)
        for old in late:
            old.fail()
        at.write(run, 6, parallelism - 1)
        run.checkpoint()
        at.sees_after_checkpoint(18)
        run.finish()
        at.ends()

    def test_the_parallelism_changes(self, at: _Place) -> None:
        """Two subtasks, three, one: what waits for its commit is dealt out anew."""
        checkpoint: SinkCheckpoint | None = None
        for attempt, parallelism in enumerate((2, 3, 1, 4)):
            run = SinkRun(at.sink, parallelism, checkpoint, attempt=attempt)
            for _ in range(2):
                for subtask in range(parallelism):
                    at.write(run, 3, subtask)
                checkpoint = run.barrier()
            run.kill()
        run = SinkRun(at.sink, 2, checkpoint, attempt=4)
        at.sees_after_checkpoint(at.position)
        run.finish()
        at.ends()

    def test_a_failure_between_the_end_of_the_input_and_its_checkpoint(self, at: _Place) -> None:
        """What was written last is not committed yet: it is written again."""
        run = SinkRun(at.sink, 2)
        at.write(run, 5)
        checkpoint = run.checkpoint()
        at.write(run, 5, 1)
        run.end_input()
        run.fail()
        at.goes_back_to(5)
        run = SinkRun(at.sink, 2, checkpoint, attempt=1)
        at.write(run, 5)
        run.end_input()
        checkpoint = run.barrier()  # complete, and nobody heard of it
        run.kill()
        SinkRun(at.sink, 1, checkpoint, attempt=2).finish()
        at.ends()

    def test_random_use(self, new_place: NewPlace) -> None:
        """Any order of writing, checkpoints, notices, time, failures and restarts, against a model."""
        check_random_use(
            lambda: _Place(new_place(), self),
            commits_each_checkpoint=self.commits_each_checkpoint,
            examples=self.random_runs,
        )


class _Place:
    """A place, and a source of records that goes back when a checkpoint is restored."""

    def __init__(self, place: SinkPlace, tests: SinkTests) -> None:
        self.sink = place.sink
        self._place = place
        self._tests = tests
        self.position = 0

    def write(self, run: SinkRun, count: int, subtask: int = 0) -> None:
        """The next records go to a subtask."""
        run.write(self._records(self.position, self.position + count), subtask)
        self.position += count

    def goes_back_to(self, position: int) -> None:
        """The source is restored, too."""
        self.position = position

    def _records(self, begin: int, end: int) -> list[Any]:
        return [self._tests.record(number) for number in range(begin, end)]

    def sees(self, count: int, *, at_least: int | None = None) -> None:
        """The first records are visible, once each; or not all of them yet."""
        found = sorted(self._place.visible(), key=repr)
        expected = sorted(self._records(0, count), key=repr)
        if found == expected:
            return
        lost, more = list(expected), []
        for record in found:
            if record in lost:
                lost.remove(record)
            else:
                more.append(record)
        if more or at_least is None or len(found) < at_least:
            pytest.fail(f"Of {count} records invisible: {lost[:5]}; there are too many of: {more[:5]}")

    def sees_after_checkpoint(self, count: int) -> None:
        """So many records were written before the last complete checkpoint."""
        self.sees(count, at_least=None if self._tests.commits_each_checkpoint else 0)

    def ends(self) -> None:
        """The job has ended: all is visible, and nothing is left beside it."""
        self.sees(self.position)
        assert list(self._place.leftovers()) == []
