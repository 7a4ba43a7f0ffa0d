"""A job as clients are shown it."""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.coordination.checkpoints.coordinator import CheckpointCoordinator
from zmflow.coordination.job_restarts import JobRestarts
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.ids import Epoch, JobId
from zmflow.protocol.messages import JobState, JobStatus, JobSummary, TaskFailure

__all__ = ["JobTimes", "JobView", "drain_note", "job_status", "job_summary"]


@dataclass(slots=True)
class JobTimes:
    """When things happened to a job; wall clock for people, monotonic for durations."""

    submitted_wall_ms: int
    finished_wall_ms: int = 0
    deployed_ms: int | None = None
    ended_ms: int | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """What a job is shown from."""

    job_id: JobId
    state: JobState
    failure: TaskFailure | None
    times: JobTimes
    scheduler: Scheduler
    restarts: JobRestarts
    resources: ResourceManager
    checkpoints: CheckpointCoordinator
    loading: str = ""  # the snapshot that is being read before it begins


def job_summary(job: JobView) -> JobSummary:
    """The job in one line."""
    executions = job.scheduler.layout.executions
    return JobSummary(
        job.job_id,
        job.scheduler.graph.name,
        job.state,
        job.times.submitted_wall_ms,
        job.times.finished_wall_ms,
        executions.total,
        executions.count("RUNNING"),
        executions.count("FINISHED"),
        job.restarts.number,
    )


def job_status(job: JobView, epoch: Epoch, request_id: int, now_ms: int) -> JobStatus:
    """The job in full, in answer to a request (0: to nobody's).

    Metrics are merged for who asks, and when the job has ended; not five times a second for every watcher.
    """
    times, layout = job.times, job.scheduler.layout
    end_ms = times.ended_ms if times.ended_ms is not None else now_ms
    return JobStatus(
        epoch,
        request_id,
        job_summary(job),
        _reason(job, now_ms),
        layout.executions.statuses(
            layout.graph, layout.sharing, metrics=bool(request_id) or times.ended_ms is not None
        ),
        job.failure,
        0 if times.deployed_ms is None else end_ms - times.deployed_ms,
        job.restarts.history.entries(),
        job.restarts.notes(job.checkpoints.note() if layout.sources else ""),
        # Not pushed with every progress: they are as large as their tasks like.
        layout.executions.accumulators() if request_id or job.state == "FINISHED" else [],
        job.checkpoints.summary(),
    )


def drain_note(job: JobView, taskmanager_id: str, *, given: bool) -> str:
    """Why tasks are still on a TaskManager that is being emptied; empty when none are.

    Args:
        given: whether rows of the job were collected, so that its tasks cannot restart.
    """
    held = job.scheduler.pool.on(taskmanager_id)
    if not held:
        return ""
    name = f"job {job.scheduler.graph.name!r} ({job.job_id[:8]})"
    if given:
        return f"{name} cannot move: rows of it were collected already; it is waited for"
    if job.state != "RUNNING":
        return f"{name} is {job.state}"
    plural = "" if len(held) == 1 else "s"
    return f"{name} needs {len(held)} slot{plural} elsewhere, {job.resources.supply()}"


def _reason(job: JobView, now_ms: int) -> str:
    scheduler, executions = job.scheduler, job.scheduler.layout.executions
    if job.restarts.pending is not None:
        return job.restarts.reason(now_ms, executions)
    if job.loading and job.state == "CREATED":
        return f"reading {job.loading}"
    if job.state in ("CREATED", "RESTARTING"):
        ready, held_slots = len(scheduler.pool), job.resources.held(job.job_id)
        if ready < held_slots and held_slots >= scheduler.slots_required:
            return f"starting workers: {ready} of {held_slots} slots are ready"
        held = f", has {ready}" if ready else ""
        return f"waiting for slots: needs {scheduler.need_text()}{held}, {job.resources.supply()}"
    if job.state == "RUNNING":
        running, finished = executions.count("RUNNING"), executions.count("FINISHED")
        return f"{running} of {executions.total} tasks run, {finished} have finished"
    if job.failure is not None:
        return job.failure.summary
    if job.state == "CANCELLING":
        return f"cancelling: {executions.live} tasks have not stopped yet"
    return "the job was cancelled" if job.state == "CANCELED" else "all tasks have finished"
