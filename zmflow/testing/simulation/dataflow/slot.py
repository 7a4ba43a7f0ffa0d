"""A simulated worker: the tasks of one slot, the split enumerators that live there, its links to the master.

The enumerators are real ``SourceCoordinator`` objects; what their thread would do next is one more thing that
may happen.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

from zmflow.coordination.slots import PhysicalSlot
from zmflow.protocol.checkpoints import (
    CoordinatorSnapshot,
    NotifyCheckpoint,
    SnapshotCoordinator,
    UnalignCheckpoint,
)
from zmflow.protocol.messages import DataEndpoint, ResourceProfile, TaskDeployment, TriggerCheckpoint
from zmflow.runtime.sources.source_coordinator import SourceCoordinator
from zmflow.testing.simulation.dataflow.channel import FlowChannel, FlowOutputs
from zmflow.testing.simulation.dataflow.task import FlowTask

if TYPE_CHECKING:
    from zmflow.testing.simulation.dataflow.flow import Flow

__all__ = ["FlowSlot"]


class FlowSlot:
    """One worker. ``up`` and ``down`` are its links, first in first out."""

    def __init__(self, flow: Flow, number: int) -> None:
        self.flow = flow
        self.name = f"slot-{number}"
        self.alive = True
        self.up: deque[Any] = deque()
        self.down: deque[Any] = deque()
        self.tasks: dict[str, FlowTask] = {}
        self.enumerators: dict[str, SourceCoordinator] = {}
        profile = ResourceProfile()
        endpoint = DataEndpoint("", "", "")
        self.physical = PhysicalSlot(self.name, self.name, "", number, profile, profile, endpoint)
        self._newest: dict[tuple[str, int], FlowTask] = {}

    def __repr__(self) -> str:
        return self.name

    # -- what comes from the master -------------------------------------------------------------------

    def receive(self) -> None:
        """Take what came first."""
        message = self.down.popleft()
        if isinstance(message, NotifyCheckpoint):
            for task in self.tasks.values():
                task.control.append(message)
            if message.completed:
                for each in self.enumerators.values():
                    each.completed(message.checkpoint_id)
        elif isinstance(message, TriggerCheckpoint):
            for attempt in message.attempt_ids:
                if attempt in self.tasks:
                    self.tasks[attempt].control.append(message.barrier)
        elif isinstance(message, UnalignCheckpoint):
            for task in self.tasks.values():
                task.control.append(message)
        elif isinstance(message, SnapshotCoordinator):
            enumerator = self.enumerators.get(message.vertex_id)
            if enumerator is not None and enumerator.number == message.coordinator_number:
                enumerator.snapshot(message.checkpoint_id)
        else:
            getattr(self, f"_{message[0]}")(*message[1:])

    def _deploy(self, deployment: TaskDeployment, inputs: list[FlowChannel], outputs: FlowOutputs) -> None:
        task = FlowTask(self.flow, self, deployment, inputs, outputs)
        self.tasks[deployment.attempt_id] = task
        vertex = deployment.vertex_id
        self._newest[vertex, deployment.subtask_index] = task
        enumerator = self.enumerators.get(vertex)
        if enumerator is not None and enumerator.number < deployment.coordinator_number:
            del self.enumerators[vertex]
            enumerator = None
        if enumerator is None and deployment.subtask_index == 0 and self.flow.master.is_source(vertex):
            self._start_enumerator(deployment)

    def _start_enumerator(self, deployment: TaskDeployment) -> None:
        vertex, number = deployment.vertex_id, deployment.coordinator_number

        def send(subtask: int, attempt: int, payload: bytes) -> None:
            self.up.append(("event", vertex, subtask, attempt, payload))

        def snapshotted(checkpoint_id: int, state: bytes, failure: str) -> None:
            job_id = deployment.job_id
            self.say(CoordinatorSnapshot(0, job_id, vertex, checkpoint_id, number, state, failure))

        enumerator = SourceCoordinator(deployment, "", send, snapshotted)
        enumerator._guard(enumerator._begin)
        self.enumerators[vertex] = enumerator

    def _cancel(self, attempt: str) -> None:
        task = self.tasks.get(attempt)
        if task is not None:
            task.stop()
            self.task_over(task, "CANCELED")

    def _request(self, vertex: str, number: int, subtask: int, attempt: int, restored: int) -> None:
        enumerator = self.enumerators.get(vertex)
        if enumerator is not None and enumerator.number == number:
            enumerator.request(subtask, attempt, restored)

    def _event(self, vertex: str, subtask: int, attempt: int, payload: bytes) -> None:
        task = self._newest.get((vertex, subtask))
        if task is not None and task.phase != "over" and task.deployment.attempt_number == attempt:
            task.control.append(payload)

    # -- what its tasks say ---------------------------------------------------------------------------

    def say(self, message: Any) -> None:
        """A message to the master."""
        self.up.append(message)

    def report(self, task: FlowTask, state: str) -> None:
        """A task is in this state."""
        self.flow.note(f"{task!r}", state)
        self.up.append(("state", task.deployment.attempt_id, state))

    def task_over(self, task: FlowTask, state: str) -> None:
        """A task has ended."""
        self.tasks.pop(task.deployment.attempt_id, None)
        self.report(task, state)

    def request_split(self, task: FlowTask) -> None:
        """The reader of a task asks for a split."""
        deployment = task.deployment
        restored = 0 if deployment.restore is None else deployment.restore.checkpoint_id
        self.up.append(
            (
                "request",
                deployment.vertex_id,
                deployment.coordinator_number,
                deployment.subtask_index,
                deployment.attempt_number,
                restored,
            )
        )

    # -- what may happen ------------------------------------------------------------------------------

    def busy_enumerators(self) -> list[SourceCoordinator]:
        """Those that have something to do."""
        return [each for each in self.enumerators.values() if not each._inbox.empty()]

    def die(self) -> None:
        """kill -9."""
        self.alive = False
        for task in list(self.tasks.values()):
            task.stop()
        self.tasks.clear()
        self.enumerators.clear()
        self.down.clear()
        if self.flow.chance.random() < 0.5:
            self.up.clear()  # what had not left
        self.up.append(("gone",))
