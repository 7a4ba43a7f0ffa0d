"""What must hold of checkpoints at every step. Rules 10 to 15 of ``invariants``, which says them in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from zmflow.protocol.messages import (
    DeployTasks,
    Message,
    NotifyCheckpoint,
    SnapshotCoordinator,
    TaskDeployment,
    TriggerCheckpoint,
)
from zmflow.testing.simulation.world import Violation

if TYPE_CHECKING:
    from zmflow.testing.simulation.jobmanager import JobManagerProcess
    from zmflow.testing.simulation.worker import LiveTask

__all__ = ["CheckpointRules"]


@dataclass(slots=True)
class _Checkpoint:
    location: str = ""
    asked: dict[str, None] = field(default_factory=dict)  # sources
    answered: dict[str, None] = field(default_factory=dict)
    triggered: bool = False
    finished: dict[str, None] = field(default_factory=dict)  # attempts that had when it was triggered
    parts: dict[str, str] = field(default_factory=dict)  # files by attempt
    end: str = ""


@dataclass(slots=True)
class _Job:
    parallelism: dict[str, int] = field(default_factory=dict)
    deployed: dict[tuple[str, int], str] = field(default_factory=dict)  # the attempt of each subtask
    finished: dict[str, None] = field(default_factory=dict)  # attempts
    checkpoints: dict[int, _Checkpoint] = field(default_factory=dict)
    completed_id: int = 0
    completed_ms: int = -1


class CheckpointRules:
    """The rules, for one leader after the other: a new one knows of no checkpoint."""

    __slots__ = ("_allocations", "_jobs")

    def __init__(self) -> None:
        self._allocations: dict[str, str] = {}  # whose they are
        self._jobs: dict[str, _Job] = {}

    def leader_ended(self) -> None:
        """What it began comes to nothing."""
        self._jobs.clear()
        self._allocations.clear()

    def completed_ms(self, job_id: str) -> int:
        """When a checkpoint of this job was complete last; -1: never under this leader."""
        job = self._jobs.get(job_id)
        return -1 if job is None else job.completed_ms

    # -- what is true -----------------------------------------------------------------------------

    def enumerator_snapshotted(self, job_id: str, vertex_id: str, checkpoint_id: int) -> None:
        """An enumerator says what it knows."""
        checkpoint = self._checkpoint(job_id, checkpoint_id)
        if checkpoint is not None:
            checkpoint.answered[vertex_id] = None

    def acknowledged(self, task: LiveTask, checkpoint_id: int, path: str) -> None:
        """A task says that its part is written."""
        checkpoint = self._checkpoint(task.deployment.job_id, checkpoint_id)
        if checkpoint is not None:
            checkpoint.parts[task.deployment.attempt_id] = path

    def task_finished(self, task: LiveTask) -> None:
        """A task ended by itself."""
        job = self._jobs.get(task.deployment.job_id)
        if job is not None:
            job.finished[task.deployment.attempt_id] = None

    def _checkpoint(self, job_id: str, checkpoint_id: int) -> _Checkpoint | None:
        job = self._jobs.get(job_id)
        return None if job is None else job.checkpoints.get(checkpoint_id)

    # -- what the leader says ---------------------------------------------------------------------

    def said(self, leader: JobManagerProcess, message: Message) -> None:
        """The leader sends this."""
        if isinstance(message, DeployTasks):
            self._allocations[message.allocation_id] = message.tasks[0].job_id
            for task in message.tasks:
                self._deployed(leader, task)
        elif isinstance(message, SnapshotCoordinator):
            job = self._jobs[message.job_id]
            self._begun(message.job_id, job, message.checkpoint_id).asked[message.vertex_id] = None
        elif isinstance(message, TriggerCheckpoint):
            self._triggered(message)
        elif isinstance(message, NotifyCheckpoint):
            self._ended(leader, message)

    def _begun(self, job_id: str, job: _Job, number: int) -> _Checkpoint:
        known = job.checkpoints.get(number)
        if known is None:
            newest = max(job.checkpoints, default=0)
            if number <= newest:
                raise Violation(f"{job_id} begins checkpoint {number} after {newest}", job_id)
            known = job.checkpoints[number] = _Checkpoint()
        return known

    def _triggered(self, message: TriggerCheckpoint) -> None:
        job_id = message.attempt_ids[0].split("/")[0]
        job, number = self._jobs[job_id], message.barrier.checkpoint_id
        checkpoint = self._begun(job_id, job, number)
        if checkpoint.triggered:
            return
        checkpoint.triggered = True
        checkpoint.location = message.barrier.location
        checkpoint.finished = dict(job.finished)
        for vertex in checkpoint.asked:
            readers = [attempt for (name, _), attempt in job.deployed.items() if name == vertex]
            if vertex not in checkpoint.answered and not all(attempt in job.finished for attempt in readers):
                raise Violation(
                    f"{job_id} triggers checkpoint {number} before the enumerator of {vertex} answers", job_id
                )

    def _ended(self, leader: JobManagerProcess, message: NotifyCheckpoint) -> None:
        job_id = self._allocations[message.allocation_id]
        job, number = self._jobs[job_id], message.checkpoint_id
        checkpoint = self._begun(job_id, job, number)
        end = "complete" if message.completed else "given up"
        if checkpoint.end not in ("", end):
            raise Violation(f"checkpoint {number} of {job_id} is {checkpoint.end} and {end}", job_id)
        if checkpoint.end or not message.completed:
            checkpoint.end = end
            return
        checkpoint.end = end
        if checkpoint.location and checkpoint.location not in leader.storage.locations:
            raise Violation(f"checkpoint {number} of {job_id} is complete and not stored", job_id)
        for (vertex, index), attempt in job.deployed.items():
            if attempt not in checkpoint.parts and attempt not in checkpoint.finished:
                raise Violation(
                    f"checkpoint {number} of {job_id} is complete without {attempt} of {vertex}/{index}",
                    job_id,
                    attempt,
                )
        job.completed_id = number
        job.completed_ms = leader.world.agenda.now_ms

    def _deployed(self, leader: JobManagerProcess, task: TaskDeployment) -> None:
        job = self._jobs.setdefault(task.job_id, _Job())
        vertex = task.vertex_id
        if job.parallelism.get(vertex) != task.parallelism:
            job.parallelism[vertex] = task.parallelism
            job.deployed = {
                key: attempt
                for key, attempt in job.deployed.items()
                if key[0] != vertex or key[1] < task.parallelism
            }
        job.deployed[vertex, task.subtask_index] = task.attempt_id
        restore = task.restore
        number = 0 if restore is None else restore.checkpoint_id
        about = (task.job_id, task.attempt_id)
        if number != job.completed_id:
            raise Violation(
                f"{task.attempt_id} begins from checkpoint {number}, complete is {job.completed_id}", *about
            )
        if restore is None:
            return
        if restore.location and restore.location not in leader.storage.locations:
            raise Violation(f"{task.attempt_id} begins from checkpoint {number}, which is deleted", *about)
        written = job.checkpoints[number].parts.values()
        for operator in restore.operators:
            for file in (*operator.keyed, *operator.operator):
                if file is not None and file.path not in written:
                    raise Violation(
                        f"{task.attempt_id} is to read {file.path}, which is no part of checkpoint {number}",
                        *about,
                    )
