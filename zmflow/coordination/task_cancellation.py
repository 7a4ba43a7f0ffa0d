"""The cancellation of tasks of one job: who is told, and until when their end is waited for."""

from __future__ import annotations

from collections.abc import Iterable

from zmflow.config import Settings
from zmflow.config.options import HEARTBEAT_TIMEOUT, TASK_CANCELLATION_TIMEOUT
from zmflow.coordination.execution_graph import Execution
from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import PhysicalSlot
from zmflow.coordination.turn import Turn
from zmflow.protocol.messages import CancelTasks

__all__ = ["TaskCancellation"]

CANCELLATION_MARGIN_MS = 5_000
"""How long after the grace period a TaskManager may take to report that its worker is gone: a kill and a
message, some milliseconds; seconds mean that the report was lost, and the job goes on without it."""


class TaskCancellation:
    """Cancels tasks, and gives up those that do not report their end.

    Args:
        settings: the cluster's under those of the job.
        scheduler: knows where the tasks are.
    """

    def __init__(self, settings: Settings, scheduler: Scheduler, resources: ResourceManager) -> None:
        self._scheduler = scheduler
        self._resources = resources
        self._grace_ms = max(0, settings[TASK_CANCELLATION_TIMEOUT])
        # A TaskManager that does not answer may be cut off and not gone: its tasks run until its lease ends.
        self._margin_ms = max(CANCELLATION_MARGIN_MS, settings[HEARTBEAT_TIMEOUT])
        self.deadline_ms: int | None = None
        """When those that were cancelled last must have ended; None: nobody is waited for."""

    def cancel(self, turn: Turn, executions: Iterable[Execution]) -> None:
        """Cancel these."""
        layout = self._scheduler.layout
        asked: dict[str, list[str]] = {}
        for execution in executions:
            before = execution.state
            layout.executions.advance(execution, "cancel", turn.wall_ms)
            if execution.state == "CANCELING" and before != "CANCELING":
                logical = layout.sharing.logical_slot(execution.subtask)
                assert logical is not None, f"{execution.attempt_id} runs nowhere"
                asked.setdefault(logical.physical.allocation_id, []).append(str(execution.attempt_id))
        for allocation, attempts in asked.items():
            slot = self._scheduler.pool.get(allocation)
            assert slot is not None, allocation
            message = CancelTasks(turn.epoch, allocation, attempts, self._grace_ms)
            self._resources.send(turn, slot.taskmanager_id, message)
        if asked:
            self.deadline_ms = turn.now_ms + self._grace_ms + self._margin_ms

    def is_overdue(self, now_ms: int) -> bool:
        """Whether they had time enough."""
        return self.deadline_ms is not None and now_ms >= self.deadline_ms

    def forget(self) -> None:
        """Nobody is waited for any more."""
        self.deadline_ms = None

    def give_up(self, turn: Turn) -> list[PhysicalSlot]:
        """Take those that have not reported for ended. Returns the slots they were in: what became of their
        workers is not known, so they are not trusted with anything more."""
        sentence = "Tasks did not report their end after cancellation; the job goes on without them."
        turn.log("warning", sentence, job=self._scheduler.job_id)
        self.deadline_ms = None
        layout = self._scheduler.layout
        stuck = [e for e in layout.executions.executions() if e.state == "CANCELING"]
        for execution in stuck:
            layout.executions.advance(execution, "canceled", turn.wall_ms)
        slots = {
            id(logical.physical): logical.physical
            for execution in stuck
            if (logical := layout.sharing.logical_slot(execution.subtask)) is not None
        }
        for slot in slots.values():
            self._resources.release(turn, slot.allocation_id)
        return list(slots.values())
