"""A simulated worker process: it becomes ready, runs the tasks it is given, ends; or does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from zmflow.coordination.effects import StartWorker
from zmflow.protocol.checkpoints import CheckpointBarrier, SnapshotMetrics, StateFile
from zmflow.protocol.messages import (
    AwaitsCheckpoint,
    CancelTasks,
    CheckpointAcknowledged,
    CheckpointDeclined,
    CollectedRows,
    CoordinatorSnapshot,
    DataEndpoint,
    DeployTasks,
    FreeSlot,
    Message,
    NotifyCheckpoint,
    OperatorEvent,
    SnapshotCoordinator,
    TaskCounters,
    TaskDeployment,
    TaskFailure,
    TaskMetrics,
    TaskState,
    TaskStateChanged,
    TriggerCheckpoint,
    WorkerReady,
)
from zmflow.testing.simulation.world import World

if TYPE_CHECKING:
    from zmflow.testing.simulation.taskmanager import TaskManagerProcess

__all__ = ["LiveTask", "WorkerProcess"]

START_MAX_MS = 120
"""A forked worker is ready within some tens of milliseconds."""

REPORT_MAX_MS = 40
"""Longest time between two states of a task that does nothing in particular."""

END_MAX_MS = 60
"""A worker that is told to end closes sockets and log files first."""

BOUNDED_MAX_MS = 6_000
"""Longest run of a bounded task; several heartbeats, so that faults hit running tasks."""

# Probabilities, of workers and of tasks: high enough to happen in every tenth seed or so, and low enough to
# let most jobs make progress.
NEVER_READY = 0.03
DIES_STARTING = 0.02
IGNORES_CANCEL = 0.08
DOES_NOT_LEAVE = 0.05
IS_READY_TWICE = 0.04
DIES_EARLY = 0.03
REPORTS_AGAIN = 0.04
SKIPS_INITIALIZING = 0.7
"""Whether the report is skipped: it is allowed, and halves what a deployment costs to simulate."""

TALKS = 0.05
"""Of the tasks that run: how many ask their split enumerator, and how many report counters."""

EARLY_MAX_MS = 400
"""A worker that dies early does so while its slot is accepted and its tasks are on their way."""

AGAIN_MAX_MS = 2_000
"""How late a report that was made can be made again: by then the next attempt may run."""

SNAPSHOT_MAX_MS = 120
"""How long a task writes its part of a checkpoint: long enough that failures come meanwhile."""

BARRIER_MAX_MS = 30
"""How long a barrier is on its way from task to task."""

DECLINES = 0.01
NEVER_ANSWERS = 0.01
"""Of the parts of checkpoints, and of the snapshots of enumerators."""

USER_FAILURE = TaskFailure("user", "ValueError: planted by the simulator")


@dataclass(slots=True)
class LiveTask:
    """One running attempt."""

    deployment: TaskDeployment
    epoch: int  # of the leader that deployed it
    worker: WorkerProcess
    cancelling: bool = False
    stuck: bool = False  # ignores that it was asked to stop, and keeps its worker from leaving
    newest_barrier: int = 0
    awaits_after: int = -1  # its input has ended; a complete checkpoint with a greater number ends it

    @property
    def subtask(self) -> tuple[str, str, int]:
        """Which subtask this is an attempt of."""
        deployment = self.deployment
        return deployment.job_id, deployment.vertex_id, deployment.subtask_index

    @property
    def age(self) -> tuple[int, int]:
        """Grows from one attempt of a subtask to the next, and from one leader to the next."""
        return self.epoch, self.deployment.attempt_number


class WorkerProcess:
    """The process behind one allocation; a child of a TaskManager, with which it dies."""

    __slots__ = (
        "allocation_id",
        "job_id",
        "leaving",
        "living",
        "order",
        "ready",
        "said_ms",
        "taskmanager",
        "tasks",
        "told_ms",
        "world",
    )

    def __init__(self, taskmanager: TaskManagerProcess, order: StartWorker, world: World) -> None:
        self.world = world
        self.taskmanager = taskmanager
        self.order = order
        self.allocation_id = order.allocation_id
        self.job_id = order.job_id
        self.living = True
        self.ready = False
        self.leaving = False
        self.tasks: dict[str, LiveTask] = {}
        self.said_ms = self.told_ms = 0  # when the newest message from it, and to it, arrives
        if world.happens(NEVER_READY):
            world.count("worker never ready")
        elif world.happens(DIES_STARTING):
            world.count("worker dies while it starts")
            world.agenda.after(world.draw_ms(1, START_MAX_MS), self.die, "exit status 1")
        else:
            world.agenda.after(world.draw_ms(5, START_MAX_MS), self._become_ready)

    @property
    def endpoint(self) -> DataEndpoint:
        """Where its data plane would listen: different for every worker there ever was."""
        return DataEndpoint(self.taskmanager.name, f"{self.taskmanager.name}/{self.allocation_id}", "")

    def _become_ready(self) -> None:
        if self.living:
            self.ready = True
            self._say(WorkerReady(0, self.allocation_id, 1, self.endpoint))
            if self.world.happens(IS_READY_TWICE):
                self.world.count("worker ready twice")
                self._say_later(WorkerReady(0, self.allocation_id, 1, self.endpoint))
            if self.world.happens(DIES_EARLY):
                self.world.count("worker dies early")
                early_ms = self.world.draw_ms(1, EARLY_MAX_MS)
                self.world.agenda.after(early_ms, self.die, "killed by signal 7 (SIGBUS)")

    # -- what it is told --------------------------------------------------------------------------

    def tell(self, message: Message) -> None:
        """The TaskManager sends it a message; in order, some milliseconds later."""
        if not self.ready:
            return  # not connected
        self.told_ms = max(self.told_ms, self.world.agenda.now_ms + self.world.draw_ms(0, 2))
        self.world.agenda.at(self.told_ms, self._hear, message)

    def _hear(self, message: Message) -> None:
        if not self.living:
            return
        if isinstance(message, DeployTasks):
            for deployment in message.tasks:
                self._begin(LiveTask(deployment, message.epoch, self))
        elif isinstance(message, CancelTasks):
            for attempt in message.attempt_ids:
                task = self.tasks.get(attempt)
                if task is not None:
                    self._cancel(task)
        elif isinstance(message, TriggerCheckpoint):
            for attempt in message.attempt_ids:
                task = self.tasks.get(attempt)
                if task is not None:
                    self.take_part(task, message.barrier)
        elif isinstance(message, SnapshotCoordinator):
            self.world.agenda.after(self.world.draw_ms(0, REPORT_MAX_MS), self._snapshot_enumerator, message)
        elif isinstance(message, NotifyCheckpoint):
            self._hear_end(message)
        elif isinstance(message, FreeSlot):
            if self.world.happens(DOES_NOT_LEAVE):
                self.world.count("worker does not leave")
            elif not self.leaving and not any(task.stuck for task in self.tasks.values()):
                self.leaving = True
                self.world.agenda.after(self.world.draw_ms(1, END_MAX_MS), self.die, "exit status 0")

    def _begin(self, task: LiveTask) -> None:
        world = self.world
        world.invariants.task_begins(task)
        self.tasks[task.deployment.attempt_id] = task
        delay_ms = world.draw_ms(1, REPORT_MAX_MS)
        if world.chance.random() >= SKIPS_INITIALIZING:
            world.agenda.after(delay_ms, self._progress, task, "INITIALIZING")
            delay_ms += world.draw_ms(0, REPORT_MAX_MS)
        world.agenda.after(delay_ms, self._progress, task, "RUNNING")
        if world.invariants.is_bounded(task.deployment.job_id):
            restore = task.deployment.restore
            if restore is None or not restore.finished:
                delay_ms += world.draw_ms(0, BOUNDED_MAX_MS)
            world.agenda.after(delay_ms, self._input_ends, task)

    def _cancel(self, task: LiveTask) -> None:
        if task.cancelling:
            return
        task.cancelling = True
        if self.world.happens(IGNORES_CANCEL):
            self.world.count("task ignores cancel")
            task.stuck = True
        else:
            self.world.agenda.after(self.world.draw_ms(0, REPORT_MAX_MS), self._end, task, "CANCELED")

    # -- checkpoints ------------------------------------------------------------------------------

    def take_part(self, task: LiveTask, barrier: CheckpointBarrier) -> None:
        """A barrier reaches a task: it writes its part, and passes the barrier on."""
        if not self._is_live(task) or barrier.checkpoint_id <= task.newest_barrier:
            return
        world = self.world
        task.newest_barrier = barrier.checkpoint_id
        if not world.happens(NEVER_ANSWERS):
            world.agenda.after(world.draw_ms(0, SNAPSHOT_MAX_MS), self._acknowledge, task, barrier)
        for partition in task.deployment.partitions:
            for target in partition.targets:
                delay_ms = world.draw_ms(0, BARRIER_MAX_MS)
                allocation = target.allocation_id
                world.agenda.after(delay_ms, self._pass_on, target.attempt_id, allocation, barrier)

    def _pass_on(self, attempt: str, allocation: str, barrier: CheckpointBarrier) -> None:
        task = self.world.invariants.find(self.job_id, attempt, allocation)
        if task is not None:
            task.worker.take_part(task, barrier)

    def _acknowledge(self, task: LiveTask, barrier: CheckpointBarrier) -> None:
        if not self._is_live(task) or task.cancelling:
            return
        attempt, number = task.deployment.attempt_id, barrier.checkpoint_id
        if self.world.happens(DECLINES):
            self.world.count("checkpoint declined")
            self._say(CheckpointDeclined(0, self.allocation_id, attempt, number, "planted by the simulator"))
            return
        file = StateFile(f"{attempt}@{number}", 1)
        self.world.invariants.checkpoints.acknowledged(task, number, file.path)
        said = CheckpointAcknowledged(0, self.allocation_id, attempt, number, file, SnapshotMetrics())
        self._say(said)
        if self.world.happens(REPORTS_AGAIN):
            self._say_later(said)

    def _snapshot_enumerator(self, asked: SnapshotCoordinator) -> None:
        if not self.living or self.world.happens(NEVER_ANSWERS):
            return
        failure = "planted by the simulator" if self.world.happens(DECLINES) else ""
        job, vertex, number = asked.job_id, asked.vertex_id, asked.checkpoint_id
        if not failure:
            self.world.invariants.checkpoints.enumerator_snapshotted(job, vertex, number)
        state = b"" if failure else f"{vertex}@{number}".encode()
        self._say(CoordinatorSnapshot(0, job, vertex, number, asked.coordinator_number, state, failure))

    def _input_ends(self, task: LiveTask) -> None:
        """It has nothing left to do; where it has something to commit, it waits for its last checkpoint."""
        if not self._is_live(task) or task.cancelling:
            return
        plan = self.world.invariants.plans[self.job_id]
        if plan.checkpoints is None or not plan.checkpoints.commits:
            self._end(task, "FINISHED")
            return
        task.awaits_after = task.newest_barrier
        attempt = task.deployment.attempt_id
        self._say(AwaitsCheckpoint(0, self.allocation_id, attempt, task.awaits_after))

    def _hear_end(self, message: NotifyCheckpoint) -> None:
        if not message.completed:
            return
        for task in list(self.tasks.values()):
            if 0 <= task.awaits_after < message.checkpoint_id <= task.newest_barrier:
                delay_ms = self.world.draw_ms(0, REPORT_MAX_MS)
                self.world.agenda.after(delay_ms, self._end, task, "FINISHED")

    # -- what it says -----------------------------------------------------------------------------

    def fail(self, task: LiveTask) -> None:
        """User code of a task raises."""
        self._end(task, "FAILED", USER_FAILURE)

    def _is_live(self, task: LiveTask) -> bool:
        return self.living and self.tasks.get(task.deployment.attempt_id) is task

    def _progress(self, task: LiveTask, state: TaskState) -> None:
        if self._is_live(task) and not task.cancelling:
            self._say(TaskStateChanged(0, self.allocation_id, task.deployment.attempt_id, state))
            if state == "RUNNING":
                self._talk(task.deployment)

    def _talk(self, task: TaskDeployment) -> None:
        """What a running task may say besides its states."""
        job, vertex, index = task.job_id, task.vertex_id, task.subtask_index
        if self.world.invariants.plans[job].collected:
            self._say(CollectedRows(0, job, vertex, "c", index, 1, b"", False, task.attempt_number))
        draw = self.world.chance.random()
        if draw < TALKS:
            number = task.coordinator_number
            self._say(OperatorEvent(0, job, vertex, 0, index, -1, b"", task.attempt_number, number))
        elif draw < 2 * TALKS:
            counters = TaskCounters(task.attempt_id, 1, 2, 3, 4, 5, 6)
            self._say(TaskMetrics(0, self.allocation_id, [counters]))

    def _end(self, task: LiveTask, state: TaskState, failure: TaskFailure | None = None) -> None:
        if self._is_live(task):
            del self.tasks[task.deployment.attempt_id]
            self.world.invariants.task_ended(task, state)
            report = TaskStateChanged(0, self.allocation_id, task.deployment.attempt_id, state, failure)
            self._say(report)
            if self.world.happens(REPORTS_AGAIN):
                self.world.count("report made again")
                self._say_later(report)

    def _say_later(self, message: Message) -> None:
        self.world.agenda.after(self.world.draw_ms(1, AGAIN_MAX_MS), self._say_again, message)

    def _say_again(self, message: Message) -> None:
        if self.living:
            self._say(message)

    def _say(self, message: Message) -> None:
        self.said_ms = max(self.said_ms, self.world.agenda.now_ms + self.world.draw_ms(0, 2))
        self.world.agenda.at(self.said_ms, self.taskmanager.hear_worker, self, message)

    # -- its end ----------------------------------------------------------------------------------

    def die(self, reason: str) -> None:
        """It is gone at once; the TaskManager hears its last words first, then how it went."""
        if self.living:
            self.vanish()
            self.said_ms = max(self.said_ms, self.world.agenda.now_ms + self.world.draw_ms(0, 5))
            self.world.agenda.at(self.said_ms, self.taskmanager.worker_exited, self, reason)

    def vanish(self) -> None:
        """It is gone, and there is nobody to hear of it."""
        self.living = False
        self.world.invariants.worker_ended(self)
        self.tasks.clear()
