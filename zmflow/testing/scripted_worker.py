"""A worker process that follows a script, for ``control_plane``."""

from __future__ import annotations

from dataclasses import dataclass, field

from zmflow.protocol.checkpoints import SnapshotMetrics, StateFile
from zmflow.protocol.messages import (
    CancelTasks,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CoordinatorSnapshot,
    DataEndpoint,
    DeployTasks,
    Message,
    SnapshotCoordinator,
    TaskDeployment,
    TaskFailure,
    TaskState,
    TaskStateChanged,
    WorkerReady,
)

__all__ = ["Behaviour", "ScriptedWorker"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a scripted worker does."""

    becomes_ready: bool = True
    finishes: bool = True  # tasks end by themselves; otherwise they run until they are cancelled
    obeys_cancel: bool = True
    leaves: bool = True  # ends when its slot is freed
    failure: TaskFailure | None = None  # its first task fails with this
    failures: int = 1_000_000  # attempts of it that do; later ones do not
    snapshots: bool = True  # answers when a checkpoint wants something of it
    declines: str = ""  # why its tasks cannot take part in checkpoints
    state: StateFile | None = None  # of each of its tasks, in each checkpoint


@dataclass(slots=True)
class ScriptedWorker:
    """A worker process that follows a ``Behaviour``."""

    allocation_id: str
    behaviour: Behaviour
    pid: int
    live: dict[str, TaskDeployment] = field(default_factory=dict)
    received: list[Message] = field(default_factory=list)
    barriers: set[tuple[str, int]] = field(default_factory=set)  # attempts and the checkpoints they have seen

    def start(self) -> list[Message]:
        """The first messages of its life."""
        if not self.behaviour.becomes_ready:
            return []
        address = f"ipc://{self.allocation_id}"
        return [WorkerReady(0, self.allocation_id, self.pid, DataEndpoint("h", address, ""))]

    def take(self, message: Message) -> list[Message]:
        """What it answers."""
        self.received.append(message)
        if isinstance(message, DeployTasks):
            return self._deploy(message)
        if isinstance(message, CancelTasks) and self.behaviour.obeys_cancel:
            return [self.report(a, "CANCELED") for a in message.attempt_ids if a in self.live]
        if isinstance(message, SnapshotCoordinator) and self.behaviour.snapshots:
            state = f"{message.vertex_id} at {message.checkpoint_id}".encode()
            number, at = message.coordinator_number, message.checkpoint_id
            return [CoordinatorSnapshot(0, message.job_id, message.vertex_id, at, number, state)]
        return []

    def snapshot(self, attempt: str, checkpoint_id: int) -> list[Message]:
        """What it says when the barrier of a checkpoint reaches a task for the first time."""
        behaviour = self.behaviour
        if behaviour.declines:
            return [CheckpointDeclined(0, self.allocation_id, attempt, checkpoint_id, behaviour.declines)]
        if not behaviour.snapshots:
            return []
        metrics = SnapshotMetrics(state_bytes=behaviour.state.size_bytes if behaviour.state else 0)
        return [
            CheckpointAcknowledged(0, self.allocation_id, attempt, checkpoint_id, behaviour.state, metrics)
        ]

    def report(self, attempt: str, state: TaskState, failure: TaskFailure | None = None) -> TaskStateChanged:
        """A report of a task's state; a terminal one ends the task."""
        if state in ("FINISHED", "FAILED", "CANCELED"):
            self.live.pop(attempt, None)
        return TaskStateChanged(0, self.allocation_id, attempt, state, failure)

    def _deploy(self, message: DeployTasks) -> list[Message]:
        answers: list[Message] = []
        for task in message.tasks:
            self.live[task.attempt_id] = task
            answers += [self.report(task.attempt_id, "INITIALIZING"), self.report(task.attempt_id, "RUNNING")]
        first = message.tasks[0]
        if self.behaviour.failure is not None and first.attempt_number < self.behaviour.failures:
            answers.append(self.report(first.attempt_id, "FAILED", self.behaviour.failure))
        elif self.behaviour.finishes:
            answers += [self.report(attempt, "FINISHED") for attempt in list(self.live)]
        return answers
