"""Failures of a job in words: what failed, where, and what to do."""

from __future__ import annotations

import msgspec

from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager
from zmflow.coordination.resource_manager import Unfittable
from zmflow.coordination.slots import PhysicalSlot
from zmflow.protocol.messages import TaskFailure
from zmflow.protocol.resources import profile_text

__all__ = ["no_slots", "stopped_unasked", "task_cause", "unfittable_slots", "worker_lost"]


def task_cause(execution: Execution, slot: PhysicalSlot, failure: TaskFailure | None) -> TaskFailure:
    """Why a task failed, with its place."""
    if failure is None:
        failure = TaskFailure("engine", f"{execution.vertex_name} failed without giving a cause.")
    return msgspec.structs.replace(
        failure,
        host=failure.host or slot.host,
        vertex_name=failure.vertex_name or execution.vertex_name,
        subtask_index=execution.subtask[1] if failure.subtask_index < 0 else failure.subtask_index,
    )


def stopped_unasked(execution: Execution, slot: PhysicalSlot) -> TaskFailure:
    """A task says it was cancelled, and nobody cancelled it."""
    sentence = f"{execution.vertex_name} ({execution.subtask[1]}) stopped without being asked."
    return TaskFailure("engine", sentence, host=slot.host)


def worker_lost(tm: RegisteredTaskManager, slot_index: int, reason: str) -> TaskFailure:
    """The worker of a slot is gone, or could not start."""
    place = f"slot {slot_index} of TaskManager {tm.taskmanager_id} on {tm.host}"
    return TaskFailure("worker", f"The worker of {place} was lost: {reason}", host=tm.host)


def unfittable_slots(entry: Unfittable) -> TaskFailure:
    """No TaskManager could ever hold a slot that the job needs."""
    sentence = (
        f"The job needs slots of {profile_text(entry.profile)}, and no TaskManager can give one: the "
        f"largest on offer is {profile_text(entry.largest)}."
    )
    hint = "Ask for less in the SlotSharingGroup, or start a TaskManager with more."
    return TaskFailure("slots", sentence, hint=hint)


def no_slots(need: str, timeout_ms: int, supply: str) -> TaskFailure:
    """The job has waited for slots for too long."""
    return TaskFailure(
        "slots",
        f"The job needs {need} slots and did not get them within {timeout_ms / 1000:g} s: {supply}.",
        hint="Start more TaskManagers, raise taskmanager.numberOfTaskSlots, lower the parallelism, "
        "or wait longer with slot.request.timeout.",
    )
