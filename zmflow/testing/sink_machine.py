"""Random use of a sink, compared with what must be visible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from zmflow.api.sinks import Sink
from zmflow.testing.sink_run import SinkCheckpoint, SinkRun

__all__ = ["PlaceOfRecords", "check_random_use"]

STEPS = 30

SUBTASKS_MAX = 3


class PlaceOfRecords(Protocol):
    """Where a sink writes, and the numbered records it is given."""

    position: int
    sink: Sink[object]

    def write(self, run: SinkRun, count: int, subtask: int = 0) -> None:
        """The next records go to a subtask."""
        ...

    def goes_back_to(self, position: int) -> None:
        """The records after this one come again."""
        ...

    def sees(self, count: int, *, at_least: int | None = None) -> None:
        """Fails unless the first records are visible once; ``at_least`` where some may be invisible."""
        ...

    def ends(self) -> None:
        """Fails unless everything is visible and nothing else left."""
        ...


_subtasks = st.integers(0, SUBTASKS_MAX - 1)
_parallelisms = st.integers(1, SUBTASKS_MAX)


class _SinkMachine(RuleBasedStateMachine):
    """A run, what of it is in the last complete checkpoint, and runs that have not noticed their end."""

    def __init__(self, new_place: Callable[[], PlaceOfRecords], *, commits_each_checkpoint: bool) -> None:
        super().__init__()
        self._place = new_place()
        self._all_at_once = commits_each_checkpoint
        self._attempt = 0
        self._checkpoint: SinkCheckpoint | None = None
        self._durable = 0  # records before the last complete checkpoint
        self._heard = True  # whether every subtask knows that it is complete
        self._late: list[SinkRun] = []
        self._run = SinkRun(self._place.sink, 2)

    @rule(count=st.integers(1, 5), subtask=_subtasks)
    def write(self, count: int, subtask: int) -> None:
        """A batch."""
        self._place.write(self._run, count, subtask % self._run.parallelism)

    @rule(passed_ms=st.sampled_from([1, 400, 70_000]))
    def time_passes(self, passed_ms: int) -> None:
        """The clock goes on."""
        self._run.tick(passed_ms)

    @rule(notified=st.lists(_subtasks, max_size=SUBTASKS_MAX, unique=True))
    def checkpoint(self, notified: list[int]) -> None:
        """A checkpoint that is complete; some subtasks hear of it."""
        self._checkpoint = self._run.barrier()
        self._durable = self._place.position
        hearing = [subtask for subtask in notified if subtask < self._run.parallelism]
        self._run.complete(self._checkpoint, hearing)
        self._heard = len(hearing) == self._run.parallelism

    @rule(subtasks=st.lists(_subtasks, max_size=SUBTASKS_MAX, unique=True))
    def abandoned_checkpoint(self, subtasks: list[int]) -> None:
        """A checkpoint that some subtasks have taken, and that is never complete."""
        self._run.barrier([subtask for subtask in subtasks if subtask < self._run.parallelism])

    @rule(parallelism=_parallelisms, ending=st.sampled_from(["kill", "fail", "late"]))
    def restart(self, parallelism: int, ending: str) -> None:
        """The run ends, one way or another, and the next goes on from the last complete checkpoint."""
        if ending == "late":
            self._late.append(self._run)
        else:
            getattr(self._run, ending)()
        self._attempt += 1
        self._place.goes_back_to(self._durable)
        self._run = SinkRun(
            self._place.sink,
            parallelism,
            self._checkpoint,
            attempt=self._attempt,
            now_ms=self._run.now_ms + 100,
        )
        self._heard = True  # what was restored is committed at once

    @rule()
    def late_end(self) -> None:
        """A run of the past notices that it has ended."""
        if self._late:
            self._late.pop(0).fail()

    @invariant()
    def only_what_is_durable_is_visible(self) -> None:
        """And all of it, where every subtask knows."""
        exact = self._all_at_once and self._heard
        self._place.sees(self._durable, at_least=None if exact else 0)

    def teardown(self) -> None:
        """The input ends."""
        self._run.finish()
        for late in self._late:
            late.fail()
        self._place.ends()


def check_random_use(
    new_place: Callable[[], PlaceOfRecords], *, commits_each_checkpoint: bool, examples: int
) -> None:
    """Use sinks at random, and fail with the shortest use that goes wrong.

    Args:
        new_place: makes an empty place.
        commits_each_checkpoint: whether all that a complete checkpoint covers is visible.
        examples: how many runs.
    """

    class Machine(_SinkMachine):
        """Uses sinks of these places."""

        def __init__(self) -> None:
            super().__init__(new_place, commits_each_checkpoint=commits_each_checkpoint)

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
