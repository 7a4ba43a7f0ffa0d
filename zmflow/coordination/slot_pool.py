"""A job's own slots: which it was granted, which are ready, which it lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from zmflow.coordination.resource_manager import Grant
from zmflow.coordination.slot_sharing import SharedSlot
from zmflow.protocol.messages import DataEndpoint

__all__ = ["JobSlot", "SlotPool"]


@dataclass(slots=True)
class JobSlot:
    """A granted slot and the subtasks that live in it. ``endpoint`` is known once its worker is ready."""

    grant: Grant
    shared: SharedSlot
    endpoint: DataEndpoint | None = None
    lost: bool = False


class SlotPool:
    """The slots of one job, by allocation id and by the subtask they hold."""

    def __init__(self) -> None:
        self._by_allocation: dict[str, JobSlot] = {}
        self._by_subtask: dict[tuple[str, int], JobSlot] = {}
        self._ready = 0

    def add(self, grant: Grant, shared: SharedSlot) -> None:
        """Keep a granted slot for these subtasks."""
        slot = JobSlot(grant, shared)
        self._by_allocation[grant.allocation_id] = slot
        for subtask in shared.subtasks:
            self._by_subtask[subtask] = slot

    def get(self, allocation: str) -> JobSlot | None:
        """The slot of an allocation of this job."""
        return self._by_allocation.get(allocation)

    def of_subtask(self, vertex_id: str, subtask_index: int) -> JobSlot | None:
        """The slot a subtask lives in."""
        return self._by_subtask.get((vertex_id, subtask_index))

    def make_ready(self, slot: JobSlot, endpoint: DataEndpoint) -> bool:
        """Note where the worker of a slot listens. False when that was known."""
        if slot.endpoint is not None:
            return False
        slot.endpoint = endpoint
        self._ready += 1
        return True

    @property
    def ready(self) -> int:
        """Slots whose worker is ready."""
        return self._ready

    @property
    def all_ready(self) -> bool:
        """Whether there are slots and the worker of each is ready."""
        return bool(self._by_allocation) and self._ready == len(self._by_allocation)

    def __len__(self) -> int:
        return len(self._by_allocation)

    def __iter__(self) -> Iterator[JobSlot]:
        return iter(self._by_allocation.values())
