"""The leader's time for a large cluster: 1,000 TaskManagers of 16 slots, 10,000 subtasks."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from zmflow.config import Settings
from zmflow.coordination.dispatcher import Dispatcher
from zmflow.coordination.effects import Effect, MessageReceived, Send
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import Epoch
from zmflow.protocol.messages import (
    AllocateSlot,
    DataEndpoint,
    DeployTasks,
    Heartbeat,
    Hello,
    Message,
    OfferSlot,
    RegisterTaskManager,
)
from zmflow.testing.control_plane import RESOURCES, VERSIONS

from .job_graphs import edge, graph, submit, vertex

TASKMANAGERS = 1_000
SLOTS = 16
SUBTASKS = 10_000
SCHEDULING_MAX_S = 2.0
"""Processor time of the brain from the submission to the last deployment, the same on every machine."""
HEARTBEAT_ROUND_MAX_S = 0.1
ENDPOINT = DataEndpoint("host", "ipc:///run/w", "tcp://10.0.0.1:4000")


class Cluster:
    """A leader with all its TaskManagers registered, and the processor time it has taken since."""

    def __init__(self) -> None:
        self.brain = Dispatcher(Epoch(1), "jm", Settings(), VERSIONS, 1, lambda: 0.5)
        for number in range(TASKMANAGERS):
            name = f"tm-{number}"
            self.say(name, Hello(0, VERSIONS, "taskmanager", name))
            self.say(name, RegisterTaskManager(1, name, f"host-{number}", 1, SLOTS, RESOURCES))
        self.say("client", Hello(0, VERSIONS, "client", "client"))
        self.taken_s = 0.0

    def say(self, peer: str, message: Message, now_ms: int = 0) -> list[Effect]:
        """A message arrives."""
        return self.brain.handle(MessageReceived(peer.encode(), message, 1), now_ms)

    def measured(self, work: Callable[[], list[Effect]]) -> list[Effect]:
        """Count the processor time of some work."""
        begun = time.process_time()
        effects = work()
        self.taken_s += time.process_time() - begun
        return effects

    def run(self, job: JobGraph) -> int:
        """Submit a job and offer every slot it is given; gives the number of tasks that are deployed."""
        message = submit("j1", job)
        effects = self.measured(lambda: self.say("client", message))
        deployed = 0
        for effect in effects:
            if isinstance(effect, Send) and isinstance(effect.message, AllocateSlot):
                asked = effect.message
                offer = OfferSlot(1, asked.allocation_id, asked.slot_index, asked.job_id, 7, ENDPOINT)
                peer = effect.peer.decode()
                for answer in self.measured(lambda peer=peer, offer=offer: self.say(peer, offer)):  # type: ignore[misc]
                    if isinstance(answer, Send) and isinstance(answer.message, DeployTasks):
                        deployed += len(answer.message.tasks)
        return deployed


JOBS = {
    "one vertex": graph([vertex("v1", SUBTASKS)]),
    "a shared pipeline": graph(
        [vertex(f"v{n}", SUBTASKS // 5) for n in range(5)],
        [edge(f"v{n}", f"v{n + 1}", pointwise=True) for n in range(4)],
    ),
    "two groups, tasks evened out": graph(
        [vertex("v1", SUBTASKS // 2, "a"), vertex("v2", SUBTASKS // 2, "b")],
        [edge("v1", "v2", pointwise=True)],
        {"taskmanager.load-balance.mode": "tasks"},
    ),
    "an exchange of all to all": graph(
        [vertex("v1", 500), vertex("v2", 500), vertex("v3", 9_000)],
        [edge("v1", "v2"), edge("v2", "v3", pointwise=True)],
    ),
}


@pytest.mark.parametrize("name", JOBS)
def test_ten_thousand_subtasks_are_scheduled_in_two_seconds(name: str):
    """Matching, offers, assignment and deployments together."""
    cluster = Cluster()
    assert cluster.run(JOBS[name]) == SUBTASKS
    cluster.brain.check()
    assert cluster.taken_s < SCHEDULING_MAX_S


def test_a_round_of_heartbeats_takes_less_than_a_tenth_of_a_second():
    """Every TaskManager is heard and answered, beside a large job."""
    cluster = Cluster()
    cluster.run(JOBS["one vertex"])
    rounds = []
    for number in range(1, 6):
        begun = time.process_time()
        for tm in range(TASKMANAGERS):
            name = f"tm-{tm}"
            (answer,) = cluster.say(name, Heartbeat(1, name, number), number * 1_000)
            assert isinstance(answer, Send)
            cluster.brain.deadline_ms()
        rounds.append(time.process_time() - begun)
    assert min(rounds) < HEARTBEAT_ROUND_MAX_S, rounds
