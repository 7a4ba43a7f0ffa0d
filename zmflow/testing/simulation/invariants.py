"""What must hold at every step, whatever fails.

1. Each brain's own ``check`` passes after everything it handles.
2. A slot has at most one owner: of the workers of one slot of a TaskManager at most one lives, and the
   living workers of a TaskManager were not given more resources than it has.
3. No execution attempt runs twice under one leader.
4. Among the workers of TaskManagers that are registered with the current leader there are never two live
   attempts of one subtask. A TaskManager the leader has given up (it cannot know what still runs there,
   when the way between them is cut) is outside of this until it registers again.
5. Live tasks in one worker are of its job, of one sharing group, and of different vertices; live subtasks of
   one index of a co-location group are in one worker. (As 4: where the leader rules.)
6. A job that is FINISHED had each of its subtasks finish, the finished attempts were wired to each
   other, and none of its tasks runs any more.
7. No brain is told what makes no sense to it: an invalid transition.
8. A message of an older epoch changes nothing but log lines, and is answered by a refusal at most.
9. A TaskManager that is drained or late gets no new slots.
10. The numbers of the checkpoints of a job grow, and each has one end.
11. A complete checkpoint has a part of every task that had not finished when it was triggered, written by the
    attempt that is current.
12. Nobody is told that a checkpoint is complete before its metadata is stored.
13. Tasks begin from the newest complete checkpoint, which is not deleted, and only from its parts.
14. Tasks are told to begin a checkpoint after the enumerators of all their sources have answered.
15. No more checkpoints are under way than may be, and those that are wait for running tasks (in ``check``).
16. Tasks are sent to a worker only where the files they name are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zmflow.coordination.effects import Effect, Log, Send
from zmflow.protocol.messages import DeployTasks, Refused, ResourceProfile, UnknownTaskManager
from zmflow.protocol.resources import fits, left_over
from zmflow.testing.simulation.checkpoint_rules import CheckpointRules
from zmflow.testing.simulation.jobs import JobPlan
from zmflow.testing.simulation.leader_view import accepts_slots, job_state, knows_taskmanager
from zmflow.testing.simulation.world import Violation

if TYPE_CHECKING:
    from zmflow.testing.simulation.jobmanager import JobManagerProcess
    from zmflow.testing.simulation.taskmanager import TaskManagerProcess
    from zmflow.testing.simulation.worker import LiveTask, WorkerProcess

__all__ = ["Invariants", "only_tells"]

Subtask = tuple[str, str, int]


class Invariants:
    """The rules, and what is needed to see that one is broken.

    Args:
        plans: the jobs of this simulation.
    """

    __slots__ = (
        "_begun",
        "_doubles",
        "_finished",
        "_owners",
        "_states",
        "checkpoints",
        "leader",
        "live",
        "plans",
    )

    def __init__(self, plans: list[JobPlan]) -> None:
        self.plans = {plan.job_id: plan for plan in plans}
        self.leader: JobManagerProcess | None = None
        self.checkpoints = CheckpointRules()
        self.live: dict[Subtask, list[LiveTask]] = {}
        self._doubles: dict[Subtask, None] = {}  # subtasks with more than one live attempt
        self._begun: set[tuple[int, str]] = set()
        self._finished: dict[Subtask, LiveTask] = {}
        self._owners: dict[tuple[str, int], WorkerProcess] = {}
        self._states: dict[str, str] = {}

    def is_bounded(self, job_id: str) -> bool:
        """Whether the tasks of this job end by themselves."""
        return self.plans[job_id].bounded

    # -- slots ------------------------------------------------------------------------------------

    def worker_starts(self, worker: WorkerProcess) -> None:
        """Rule 2, when a TaskManager forks a worker."""
        taskmanager = worker.taskmanager
        slot = (taskmanager.name, worker.order.slot_index)
        owner = self._owners.get(slot)
        if owner is not None and owner.living:
            raise Violation(
                f"slot {slot[1]} of {slot[0]} goes to {worker.allocation_id} of {worker.job_id}"
                f" while the worker of {owner.allocation_id} of {owner.job_id} lives",
                worker.allocation_id,
                owner.allocation_id,
                taskmanager.name,
            )
        self._owners[slot] = worker
        free: ResourceProfile = taskmanager.resources
        for other in (*taskmanager.workers.values(), worker):
            if other.living:
                if not fits(other.order.resources, free):
                    raise Violation(
                        f"{taskmanager.name} gives away more than it has: {other.order.resources}, "
                        f"{free} was left",
                        worker.allocation_id,
                        taskmanager.name,
                    )
                free = left_over(free, other.order.resources)

    def worker_ended(self, worker: WorkerProcess) -> None:
        """A worker is gone with its tasks."""
        for task in worker.tasks.values():
            self._forget(task)

    def find(self, job_id: str, attempt: str, allocation: str) -> LiveTask | None:
        """The live task of an attempt in the worker of an allocation."""
        _, vertex, index, _ = attempt.rsplit("/", 3)
        for task in self.live.get((job_id, vertex, int(index)), ()):
            if (task.deployment.attempt_id, task.worker.allocation_id) == (attempt, allocation):
                return task
        return None

    # -- tasks ------------------------------------------------------------------------------------

    def tasks_sent(self, taskmanager: TaskManagerProcess, message: DeployTasks) -> None:
        """Rule 16, when a TaskManager passes tasks on."""
        for task in message.tasks:
            here = taskmanager.files.get(task.job_id, ())
            for file in task.files:
                if file.digest not in here:
                    raise Violation(
                        f"{task.attempt_id} goes to a worker of {taskmanager.name}, which does not have its "
                        f"file {file.name!r}",
                        task.attempt_id,
                        task.job_id,
                        taskmanager.name,
                    )

    def task_begins(self, task: LiveTask) -> None:
        """Rules 3, 4 and 5, when a worker begins a task."""
        deployment = task.deployment
        attempt = (task.epoch, deployment.attempt_id)
        if attempt in self._begun:
            raise Violation(f"{deployment.attempt_id} runs twice", deployment.attempt_id, deployment.job_id)
        self._begun.add(attempt)
        self._check_sharing(task)
        lives = self.live.setdefault(task.subtask, [])
        lives.append(task)
        if len(lives) > 1:
            self._doubles[task.subtask] = None
            self._check_doubles()

    def task_ended(self, task: LiveTask, state: str) -> None:
        """A task ended by itself or because it was cancelled."""
        self._forget(task)
        if state == "FINISHED" and self.leader is not None and task.epoch == self.leader.epoch:
            self.checkpoints.task_finished(task)
        before = self._finished.get(task.subtask)
        # An older attempt may finish last, on a TaskManager that was given up.
        if state == "FINISHED" and (before is None or before.age < task.age):
            self._finished[task.subtask] = task

    def _forget(self, task: LiveTask) -> None:
        lives = self.live[task.subtask]
        lives.remove(task)
        if len(lives) < 2:
            self._doubles.pop(task.subtask, None)

    def _check_sharing(self, task: LiveTask) -> None:
        deployment, worker = task.deployment, task.worker
        about = (deployment.attempt_id, worker.allocation_id, deployment.job_id)
        if deployment.job_id != worker.job_id:
            raise Violation(f"{deployment.attempt_id} runs in a slot of {worker.job_id}", *about)
        shape = self.plans[deployment.job_id].shape
        group = shape.groups[deployment.vertex_id]
        for other in worker.tasks.values():
            if other.deployment.vertex_id == deployment.vertex_id:
                raise Violation(f"{worker.allocation_id} has two subtasks of {deployment.vertex_id}", *about)
            if shape.groups[other.deployment.vertex_id] != group:
                raise Violation(f"{worker.allocation_id} is shared by two sharing groups", *about)
        together = shape.co_located.get(deployment.vertex_id)
        if together is None or not self._ruled(task):
            return
        for vertex, name in shape.co_located.items():
            if name != together:
                continue
            for other in self.live.get((deployment.job_id, vertex, deployment.subtask_index), ()):
                if other.worker is not worker and self._ruled(other):
                    raise Violation(
                        f"{deployment.attempt_id} and {other.deployment.attempt_id} are co-located and in "
                        f"two slots: {worker.allocation_id} and {other.worker.allocation_id}",
                        *about,
                    )

    def _ruled(self, task: LiveTask) -> bool:
        """Whether the task lives where the current leader rules."""
        if self.leader is None or not task.worker.living:
            return False
        return knows_taskmanager(self.leader.brain, task.worker.taskmanager.name)

    def _check_doubles(self) -> None:
        for subtask in self._doubles:
            ruled = [task for task in self.live[subtask] if self._ruled(task)]
            if len(ruled) > 1:
                attempts = [task.deployment.attempt_id for task in ruled]
                where = [task.worker.allocation_id for task in ruled]
                raise Violation(
                    f"{attempts[0]} in {where[0]} and {attempts[1]} in {where[1]} run at the same time",
                    *attempts,
                    *where,
                    subtask[0],
                )

    # -- the leader -------------------------------------------------------------------------------

    def leader_moved(self, leader: JobManagerProcess) -> None:
        """Rules 4 and 6, after everything the leader handled."""
        if self._doubles:
            self._check_doubles()
        for job_id in self.plans:
            state = job_state(leader.brain, job_id)
            if state != self._states.get(job_id, ""):
                self._states[job_id] = state
                if state == "FINISHED":
                    self._check_finished(job_id, leader.epoch)

    def slot_allocated(self, leader: JobManagerProcess, taskmanager: str, allocation: str) -> None:
        """Rule 9, when the leader asks a TaskManager for a slot."""
        if not accepts_slots(leader.brain, taskmanager):
            raise Violation(
                f"{allocation} is cut from {taskmanager}, which is drained or late", taskmanager, allocation
            )

    def leader_ended(self) -> None:
        """The leader is gone; the next one knows nothing of what was."""
        self.leader = None
        self._states.clear()
        self.checkpoints.leader_ended()

    def _check_finished(self, job_id: str, epoch: int) -> None:
        for subtask, lives in self.live.items():
            if subtask[0] == job_id:
                for task in lives:
                    if task.epoch == epoch and self._ruled(task):
                        attempt = task.deployment.attempt_id
                        raise Violation(f"{job_id} is FINISHED and {attempt} still runs", job_id, attempt)
        finished = {
            subtask[1:]: task.deployment
            for subtask, task in self._finished.items()
            if subtask[0] == job_id and task.epoch == epoch
        }
        newest = max(finished.values(), key=lambda task: task.attempt_number, default=None)
        attempts = {task.attempt_id for task in finished.values()}
        for vertex in self.plans[job_id].shape.graph.vertices:
            first = finished.get((vertex.vertex_id, 0), newest)
            for index in range(first.parallelism if first is not None else 1):
                done = finished.get((vertex.vertex_id, index))
                if done is None:
                    raise Violation(f"{job_id} is FINISHED, {vertex.vertex_id}/{index} never was", job_id)
                for partition in done.partitions:
                    for target in partition.targets:
                        if target.attempt_id not in attempts:
                            raise Violation(
                                f"{job_id} is FINISHED, but {done.attempt_id} sent to {target.attempt_id},"
                                " which did not finish",
                                job_id,
                                done.attempt_id,
                                target.attempt_id,
                            )

    # -- logs -------------------------------------------------------------------------------------

    def logged(self, who: str, log: Log) -> None:
        """Rule 7."""
        if log.level == "warning" and "makes no sense" in log.sentence:
            raise Violation(f"{who}: {log.sentence}", *log.fields.values())


def only_tells(effects: list[Effect] | list[Send]) -> bool:
    """Whether these effects change nothing: log lines and refusals (rule 8)."""
    return all(
        isinstance(effect, Log)
        or (isinstance(effect, Send) and isinstance(effect.message, (Refused, UnknownTaskManager)))
        for effect in effects
    )
