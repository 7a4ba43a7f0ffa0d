"""The TaskManagers and slots of the cluster as clients are shown them."""

from __future__ import annotations

from collections.abc import Callable

from zmflow.coordination.registered_taskmanager import RegisteredTaskManager, Slot
from zmflow.protocol.messages import SlotStatus, TaskManagerStatus

__all__ = ["taskmanager_status"]


def taskmanager_status(
    tm: RegisteredTaskManager, now_ms: int, job_name: Callable[[str], str], note: str
) -> TaskManagerStatus:
    """One TaskManager with all its slots.

    Args:
        job_name: the name of a job id; empty for one that is not known.
        note: what a TaskManager that is being drained waits for.
    """
    return TaskManagerStatus(
        tm.taskmanager_id,
        tm.host,
        tm.pid,
        [_slot_status(slot, job_name) for slot in tm.slots],
        now_ms - tm.last_heard_ms,
        "late" if tm.life == "late" else "alive",
        tm.draining,
        note,
        tm.resources,
        tm.free_resources,
    )


def _slot_status(slot: Slot, job_name: Callable[[str], str]) -> SlotStatus:
    return SlotStatus(
        slot.index,
        slot.job_id,
        slot.allocation_id,
        slot.worker_pid,
        slot.state,
        job_name(slot.job_id) if slot.job_id else "",
        slot.group,
        slot.tasks,
        slot.resources,
        slot.since_wall_ms,
    )
