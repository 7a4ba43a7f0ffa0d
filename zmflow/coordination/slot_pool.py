"""A job's own slots: those it accepted, which of them are in use, and which lie idle."""

from __future__ import annotations

from collections.abc import Iterator

from zmflow.coordination.slots import PhysicalSlot
from zmflow.protocol.messages import ResourceProfile

__all__ = ["SlotPool"]


class SlotPool:
    """The slots of one job by allocation id.

    Args:
        idle_timeout_ms: how long a slot without use is kept.
    """

    def __init__(self, idle_timeout_ms: int) -> None:
        self._idle_timeout_ms = idle_timeout_ms
        self._slots: dict[str, PhysicalSlot] = {}
        self._idle: dict[str, int] = {}  # since when, in the order in which they became idle

    def __len__(self) -> int:
        return len(self._slots)

    def __iter__(self) -> Iterator[PhysicalSlot]:
        return iter(self._slots.values())

    def get(self, allocation: str) -> PhysicalSlot | None:
        """The slot of an allocation of this job."""
        return self._slots.get(allocation)

    def add(self, slot: PhysicalSlot, now_ms: int) -> None:
        """Keep an accepted slot; it is idle until something is put into it."""
        self._slots[slot.allocation_id] = slot
        self._idle[slot.allocation_id] = now_ms

    def remove(self, slot: PhysicalSlot) -> None:
        """The slot is lost or given back. Nothing may live in it."""
        assert slot.shared is None, slot.allocation_id
        del self._slots[slot.allocation_id]
        self._idle.pop(slot.allocation_id, None)

    def use(self, slot: PhysicalSlot) -> None:
        """Tasks are put into a slot."""
        self._idle.pop(slot.allocation_id, None)

    def leave(self, slot: PhysicalSlot, now_ms: int) -> None:
        """No task will use a slot before long."""
        self._idle.setdefault(slot.allocation_id, now_ms)

    @property
    def free_count(self) -> int:
        """At least as many slots as ``free`` returns; cheap enough to be asked for each offer."""
        return len(self._idle)

    def free(self) -> list[PhysicalSlot]:
        """Slots nothing lives in, oldest first; those of a draining TaskManager are left out."""
        return [slot for slot in self._slots.values() if slot.shared is None and not slot.draining]

    def on(self, taskmanager_id: str) -> list[PhysicalSlot]:
        """The slots on a TaskManager."""
        return [slot for slot in self._slots.values() if slot.taskmanager_id == taskmanager_id]

    def overdue(self, now_ms: int, kept: frozenset[ResourceProfile] = frozenset()) -> list[PhysicalSlot]:
        """Slots that have been idle for the timeout, apart from those of the profiles that are kept."""
        found = []
        for allocation, since_ms in self._idle.items():
            if now_ms - since_ms < self._idle_timeout_ms:
                break
            if self._slots[allocation].profile not in kept:
                found.append(self._slots[allocation])
        return found

    def deadline_ms(self, kept: frozenset[ResourceProfile] = frozenset()) -> int | None:
        """When the next idle slot is to be given back."""
        for allocation, since_ms in self._idle.items():
            if self._slots[allocation].profile not in kept:
                return since_ms + self._idle_timeout_ms
        return None

    def check(self) -> None:
        """Idle slots are slots of the pool, oldest first."""
        assert set(self._idle) <= set(self._slots), "an idle slot that is not there"
        instants = list(self._idle.values())
        assert instants == sorted(instants), "idle slots are not in order"
        for slot in self._slots.values():
            assert slot.shared is None or slot.shared.physical is slot, slot.allocation_id
            assert slot.shared is not None or slot.allocation_id in self._idle, slot.allocation_id
