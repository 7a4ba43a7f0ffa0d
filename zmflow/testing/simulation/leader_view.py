"""What a leader believes, read from its brain without asking it: for rules that are checked at every step."""

from __future__ import annotations

from zmflow.coordination.dispatcher import Dispatcher

__all__ = ["accepts_slots", "job_state", "knows_taskmanager"]


def knows_taskmanager(leader: Dispatcher, taskmanager_id: str) -> bool:
    """Whether this TaskManager is registered with the leader."""
    return leader._resources.get(taskmanager_id) is not None


def accepts_slots(leader: Dispatcher, taskmanager_id: str) -> bool:
    """Whether this TaskManager may be asked for slots: it is neither drained nor late."""
    taskmanager = leader._resources.get(taskmanager_id)
    return taskmanager is not None and taskmanager.accepts_slots


def job_state(leader: Dispatcher, job_id: str) -> str:
    """The state of a job; empty when the leader does not know it."""
    job = leader._jobs.get(job_id)
    return "" if job is None else job.state
