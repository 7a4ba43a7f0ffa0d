"""``CheckpointOrders``: what the coordinator of a job's checkpoints tells the workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from zmflow.coordination.resource_manager import ResourceManager
from zmflow.coordination.scheduler import Scheduler
from zmflow.coordination.slots import PhysicalSlot, Subtask
from zmflow.coordination.turn import Turn
from zmflow.ids import JobId
from zmflow.protocol.checkpoints import (
    CheckpointBarrier,
    NotifyCheckpoint,
    SnapshotCoordinator,
    TriggerCheckpoint,
    UnalignCheckpoint,
)

__all__ = ["CheckpointOrders"]


class CheckpointOrders:
    """Messages about the checkpoints of one job.

    Args:
        scheduler: whose layout and slots are asked anew each time: they change when the job scales.
        resources: knows the way to the TaskManagers.
    """

    def __init__(self, job_id: JobId, scheduler: Scheduler, resources: ResourceManager) -> None:
        self._job_id = job_id
        self._scheduler = scheduler
        self._resources = resources

    def snapshot_enumerators(self, turn: Turn, checkpoint_id: int, enumerators: Mapping[str, int]) -> None:
        """Ask the split enumerators of these sources, by vertex, for their state."""
        layout = self._scheduler.layout
        for source, number in enumerators.items():
            message = SnapshotCoordinator(turn.epoch, self._job_id, source, checkpoint_id, number)
            self._resources.send(turn, layout.place_of((source, 0))[0], message)

    def trigger(self, turn: Turn, barrier: CheckpointBarrier, tasks: dict[str, Subtask]) -> None:
        """Tell tasks, by attempt, that no barrier will come to them."""
        for (taskmanager, allocation), attempts in self._scheduler.layout.by_slot(tasks).items():
            message = TriggerCheckpoint(turn.epoch, allocation, attempts, barrier)
            self._resources.send(turn, taskmanager, message)

    def unalign(self, turn: Turn, barrier: CheckpointBarrier) -> None:
        """Tell all workers that a checkpoint waits no longer, also those whose part is there: their barriers
        are on their way."""
        for slot in self._used_slots():
            message = UnalignCheckpoint(turn.epoch, slot.allocation_id, barrier)
            self._resources.send(turn, slot.taskmanager_id, message)

    def notify(self, turn: Turn, checkpoint_id: int, *, completed: bool) -> None:
        """Tell all workers how a checkpoint has ended."""
        for slot in self._used_slots():
            message = NotifyCheckpoint(turn.epoch, slot.allocation_id, checkpoint_id, completed)
            self._resources.send(turn, slot.taskmanager_id, message)

    def _used_slots(self) -> Iterator[PhysicalSlot]:
        return (slot for slot in self._scheduler.pool if slot.shared is not None)
