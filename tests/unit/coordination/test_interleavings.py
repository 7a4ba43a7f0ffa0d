"""Random histories: whatever comes in whatever order, the invariants hold and every job ends."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zmflow.protocol.messages import CancelJob, TaskFailure
from zmflow.testing.control_plane import Behaviour, ControlPlane

from .job_graphs import pipeline, submit
from .test_job_life import free_slots, status

FAILURE = TaskFailure("user", "ValueError: bad")

behaviours = st.sampled_from(
    [
        Behaviour(),
        Behaviour(finishes=False),
        Behaviour(failure=FAILURE),
        Behaviour(becomes_ready=False),
        Behaviour(finishes=False, obeys_cancel=False),
        Behaviour(leaves=False),
    ]
)
actions = st.sampled_from(
    ["submit", "cancel", "kill", "cut", "heal", "lose", "close", "step", "step", "step", "little", "long"]
)


class History:
    """A cluster to which one thing after another happens."""

    def __init__(self, draw, slots: list[int]) -> None:
        self.draw = draw
        self.cluster = ControlPlane(
            slots,
            settings={"task.cancellation.timeout": "1 s", "slot.request.timeout": "20 s"},
            behaviour=lambda _start: draw(behaviours),
        )
        self.cluster.choose = self.choose
        self.jobs = 0
        self.client = self.cluster.add_client()

    def choose(self, heads: Sequence[int]) -> int:
        """Any link may be the next to deliver."""
        return self.draw(st.integers(0, len(heads) - 1)) if len(heads) > 1 else 0

    def _index(self, number: int) -> int:
        return self.draw(st.integers(0, number - 1))

    def submit(self) -> None:
        """One more job, of one to three slots."""
        job = pipeline(self._index(3) + 1)
        self.cluster.say(self.client, submit(f"job{self.jobs}", job))
        self.jobs += 1

    def cancel(self) -> None:
        """A client gives up on some job."""
        if self.jobs:
            self.cluster.say(self.client, CancelJob(1, 1, f"job{self._index(self.jobs)}"))

    def kill(self) -> None:
        """Some worker dies."""
        workers = self.cluster.workers
        if workers:
            self.cluster.kill_worker(workers[self._index(len(workers))])

    def _taskmanager(self) -> str:
        names = list(self.cluster.taskmanagers)
        return names[self._index(len(names))]

    def cut(self) -> None:
        """Nothing travels to and from some TaskManager."""
        self.cluster.taskmanagers[self._taskmanager()].cut = True

    def heal(self) -> None:
        """Everything travels again."""
        for tm in self.cluster.taskmanagers.values():
            tm.cut = False

    def lose(self) -> None:
        """Some TaskManager loses its connection, and what was under way with it."""
        self.cluster.disconnect(self._taskmanager(), noticed=self.draw(st.booleans()))

    def close(self) -> None:
        """The client goes, another comes."""
        self.cluster.close(self.client)
        self.cluster.settle()
        self.client = self.cluster.add_client()

    def step(self) -> None:
        """One delivery."""
        self.cluster.step()

    def little(self) -> None:
        """Half a second passes."""
        self.cluster.advance(500)

    def long(self) -> None:
        """Long enough for every silence to be noticed."""
        self.cluster.advance(6_000)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.lists(actions, max_size=25))
def test_every_history_keeps_the_invariants_and_comes_to_an_end(data, slots, steps):
    """A slot has at most one owner, no subtask runs twice, and after healing all jobs end and all slots
    are free."""
    history = History(data.draw, slots)
    for action in steps:
        getattr(history, action)()
    history.heal()
    cluster = history.cluster
    cluster.behaviour = lambda _start: Behaviour()
    cluster.choose = lambda heads: min(range(len(heads)), key=heads.__getitem__)
    cluster.advance(15_000)
    for number in range(history.jobs):
        cluster.say(history.client, CancelJob(1, 1, f"job{number}"))
    cluster.advance(60_000)
    for number in range(history.jobs):
        assert status(cluster, f"job{number}").summary.state in ("FINISHED", "FAILED", "CANCELED")
    assert free_slots(cluster) == sum(slots)
    assert not cluster.workers
