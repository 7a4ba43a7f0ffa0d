"""Where a healed cluster must arrive: every job as its client wants it, and what is said is what runs."""

from __future__ import annotations

from zmflow.coordination.task_cancellation import CANCELLATION_MARGIN_MS
from zmflow.protocol.messages import (
    ClusterStatus,
    DrainTaskManager,
    GetCluster,
    GetJob,
    JobStatus,
)
from zmflow.testing.simulation.client import ENDED, LOOK_MS
from zmflow.testing.simulation.cluster import Cluster
from zmflow.testing.simulation.jobmanager import JobManagerProcess
from zmflow.testing.simulation.jobs import CHECKPOINT_MS, JobPlan
from zmflow.testing.simulation.leader_view import job_state, knows_taskmanager
from zmflow.testing.simulation.scenario import CANCELLATION_MS, HEARTBEAT_TIMEOUT_MS, WORKER_WAIT_MS
from zmflow.testing.simulation.worker import BOUNDED_MAX_MS
from zmflow.testing.simulation.world import Violation

__all__ = ["REST_MS", "SETTLE_MS", "arrange_draining", "at_rest", "settled"]

_CANCELLATION_MS = CANCELLATION_MS + CANCELLATION_MARGIN_MS
"""The longest wait for tasks to stop: they ignore it, and the report of their worker's end is lost."""

SETTLE_MS = (
    2 * HEARTBEAT_TIMEOUT_MS  # a connection both ends think is good: given up, then dialled again
    + 2 * LOOK_MS  # a client finds out that its leader is another one
    + 2 * WORKER_WAIT_MS  # a worker that will never be ready, and an offer nobody takes
    + 2 * _CANCELLATION_MS
    + 4_000  # the longest wait of a restart strategy, twice
    + 4_000  # the adaptive scheduler's stabilisation and cool-down
    + 2 * CHECKPOINT_MS  # one that nobody answers is given up, and the next one is complete
    + 3 * BOUNDED_MAX_MS  # bounded tasks run, fail once more by what was under way, and run again
)
"""Within this time after the faults have stopped every job is where it should be: the longest of each
wait in the settings, one after the other."""

REST_MS = HEARTBEAT_TIMEOUT_MS + LOOK_MS + 2 * _CANCELLATION_MS + WORKER_WAIT_MS
"""Within this time after every job was cancelled nothing runs and all slots are free."""


def arrange_draining(cluster: Cluster) -> None:
    """Take back what was drained, but for the one TaskManager that is to become empty."""
    leader = cluster.leader
    if leader is not None:
        for name in cluster.taskmanagers:
            leader.ask(DrainTaskManager(leader.epoch, 1, name, drain=name == cluster.emptied))


def settled(cluster: Cluster) -> str:
    """What is not as it should be yet; empty when everything is.

    Raises:
        Violation: it is not as it should be and cannot become so.
    """
    leader = cluster.leader
    if leader is None:
        return "there is no leader"
    for name in cluster.taskmanagers:
        if not knows_taskmanager(leader.brain, name):
            return f"{name} is not registered"
    if cluster.emptied:
        for worker in cluster.taskmanagers[cluster.emptied].workers.values():
            if not cluster.world.invariants.plans[worker.job_id].collected:
                return f"{cluster.emptied} is drained and not empty"
    for plan in cluster.scenario.plans:
        why = _unsettled(cluster, leader, plan)
        if why:
            return f"{plan.job_id} {why}"
    return _untrue(cluster, leader) or _unused(cluster, leader)


def _unsettled(cluster: Cluster, leader: JobManagerProcess, plan: JobPlan) -> str:
    state = job_state(leader.brain, plan.job_id)
    if not state:
        return "" if plan.cancelled or plan.seen_end else "is not known to the leader"
    if state == "FAILED":
        _check_failure(cluster, leader, plan)
        return ""
    if state == "CANCELED":
        if not plan.cancelled and not plan.collected:
            raise Violation(f"{plan.job_id} is CANCELED and nobody asked for it", plan.job_id)
        return ""
    if plan.cancelled and plan.seen_end != "FINISHED":
        return "" if state == "FINISHED" else f"is {state}, it was cancelled"
    if plan.bounded:
        return "" if state == "FINISHED" else f"is {state}"
    if state != "RUNNING":
        return f"is {state}"
    if plan.checkpoints is not None:
        completed_ms = cluster.world.invariants.checkpoints.completed_ms(plan.job_id)
        if completed_ms < cluster.scenario.heal_ms:
            return "has completed no checkpoint since the faults are over"
    return ""


def _status(leader: JobManagerProcess, job_id: str) -> JobStatus:
    for message in leader.ask(GetJob(leader.epoch, 1, job_id)):
        if isinstance(message, JobStatus):
            return message
    raise Violation(f"the leader does not answer a question about {job_id}", job_id)


def _check_failure(cluster: Cluster, leader: JobManagerProcess, plan: JobPlan) -> None:
    """Whether its restart strategy explains that this job FAILED."""
    status = _status(leader, plan.job_id)
    failure = status.failure
    if failure is None:
        raise Violation(f"{plan.job_id} is FAILED without a cause", plan.job_id)
    if failure.kind == "engine":
        raise Violation(f"{plan.job_id} failed by a fault of the engine: {failure.summary}", plan.job_id)
    if failure.kind == "slots" and (plan.shape.impossible or cluster.scenario.impatient):
        return
    if plan.collected and any("were collected already" in each for each in (failure.hint, failure.summary)):
        return  # what its client took cannot be taken back, so it could not restart
    strategy = plan.strategy
    # The history has an entry for each failure that counted, the last one included.
    if not 0 <= strategy.restarts_max < len(status.exceptions):
        raise Violation(
            f"{plan.job_id} is FAILED after {len(status.exceptions)} failures with the strategy "
            f"{dict(strategy.settings)}: {failure.kind}: {failure.summary}",
            plan.job_id,
        )


def _untrue(cluster: Cluster, leader: JobManagerProcess) -> str:
    """Whether what the leader says of its running jobs is what the workers run, wired to each other."""
    said: dict[str, str] = {}
    for plan in cluster.scenario.plans:
        if job_state(leader.brain, plan.job_id) == "RUNNING":
            status = _status(leader, plan.job_id)
            wanted = sum(vertex.parallelism for vertex in plan.shape.graph.vertices)
            # A job whose rows were taken can neither move nor scale.
            if status.summary.tasks_total != wanted and not plan.collected:
                return f"{plan.job_id} runs {status.summary.tasks_total} tasks, there are slots for {wanted}"
            for vertex in status.vertices:
                for task in vertex.subtasks:
                    if task.state != "RUNNING":
                        return f"{plan.job_id}: {vertex.vertex_id}/{task.subtask_index} is {task.state}"
                    number = task.attempt_number
                    attempt = f"{plan.job_id}/{vertex.vertex_id}/{task.subtask_index}/{number}"
                    said[attempt] = task.allocation_id
    lives = [task for lives in cluster.world.invariants.live.values() for task in lives]
    true = {task.deployment.attempt_id: task.worker.allocation_id for task in lives}
    for attempt in (*said, *true):
        if said.get(attempt) != true.get(attempt):
            here, there = said.get(attempt, "nowhere"), true.get(attempt, "nowhere")
            return f"{attempt} runs in {here} as the leader says, and in {there}"
    if len(true) != len(lives):
        return "an attempt runs twice"
    for live in lives:
        for partition in live.deployment.partitions:
            for target in partition.targets:
                if true.get(target.attempt_id) != target.allocation_id:
                    return (
                        f"{live.deployment.attempt_id} sends to {target.attempt_id}, which does not run there"
                    )
    return ""


def _unused(cluster: Cluster, leader: JobManagerProcess) -> str:
    """Whether the living workers are those of the slots that are somebody's."""
    owned = [
        slot.allocation_id
        for taskmanager in _cluster_status(leader).taskmanagers
        for slot in taskmanager.slots
        if slot.state != "free"
    ]
    living = [
        worker.allocation_id
        for taskmanager in cluster.taskmanagers.values()
        for worker in taskmanager.workers.values()
        if worker.living
    ]
    if sorted(owned) != sorted(living):
        return f"the leader gave away {owned}, and there are workers of {living}"
    return ""


def at_rest(cluster: Cluster) -> str:
    """What still lives after everything was cancelled; empty when nothing does."""
    leader = cluster.leader
    if leader is None:
        return "there is no leader"
    for taskmanager in cluster.taskmanagers.values():
        for worker in taskmanager.workers.values():
            return f"the worker of {worker.allocation_id} of {worker.job_id} lives"
        if taskmanager.files:
            return f"{taskmanager.name} keeps files of {', '.join(taskmanager.files)}"
    for plan in cluster.scenario.plans:
        state = job_state(leader.brain, plan.job_id)
        if state and state not in ENDED:
            return f"{plan.job_id} is {state}"
    status = _cluster_status(leader)
    if len(status.taskmanagers) != len(cluster.taskmanagers):
        return f"{len(status.taskmanagers)} of {len(cluster.taskmanagers)} TaskManagers are registered"
    for shown in status.taskmanagers:
        for slot in shown.slots:
            if slot.job_id or slot.state != "free":
                return f"slot {slot.slot_index} of {shown.taskmanager_id} is {slot.state}"
    return ""


def _cluster_status(leader: JobManagerProcess) -> ClusterStatus:
    for message in leader.ask(GetCluster(leader.epoch, 1)):
        if isinstance(message, ClusterStatus):
            return message
    raise Violation("the leader does not answer a question about the cluster")
