"""The cluster's TaskManagers and slots: who is alive, which slots are free, who holds the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from zmflow.coordination.placement import Candidate, place
from zmflow.coordination.turn import Turn
from zmflow.ids import AllocationId, Epoch, allocation_id
from zmflow.protocol.messages import (
    AllocateSlot,
    FreeSlot,
    Message,
    RegisterTaskManager,
    SlotStatus,
    TaskManagerStatus,
)

__all__ = ["Grant", "RegisteredTaskManager", "ResourceManager", "Slot"]


@dataclass(slots=True)
class Slot:
    """One slot of a TaskManager. ``releasing``: its worker was told to end and has not ended yet."""

    index: int
    state: Literal["free", "allocated", "releasing"] = "free"
    job_id: str = ""
    allocation_id: str = ""
    worker_pid: int = 0

    def clear(self) -> None:
        """Nobody's again."""
        self.state, self.job_id, self.allocation_id, self.worker_pid = "free", "", "", 0


@dataclass(slots=True)
class RegisteredTaskManager:
    """A TaskManager this leader knows."""

    taskmanager_id: str
    host: str
    pid: int
    peer: bytes
    slots: list[Slot]
    last_heard_ms: int
    free: int = field(default=0)

    def __post_init__(self) -> None:
        self.free = len(self.slots)


@dataclass(frozen=True, slots=True)
class Grant:
    """A slot given to a job, with the allocation id of its tenure."""

    taskmanager_id: str
    host: str
    slot_index: int
    allocation_id: AllocationId


class ResourceManager:
    """Owns the slots of the cluster. Only this object marks a slot allocated or free."""

    def __init__(self, epoch: Epoch, heartbeat_timeout_ms: int) -> None:
        self.epoch = epoch
        self._timeout_ms = heartbeat_timeout_ms
        # Ordered by last_heard_ms, oldest first: a sign of life moves its TaskManager to the end,
        # so the next deadline is the first entry's and a heartbeat costs O(1).
        self._taskmanagers: dict[str, RegisteredTaskManager] = {}
        self._registration: dict[str, int] = {}  # order of registration, for stable placement
        self._by_peer: dict[bytes, str] = {}
        self._slots: dict[str, tuple[RegisteredTaskManager, Slot]] = {}  # by allocation id
        self._registrations = 0
        self._allocations = 0
        self._free = 0
        self._total = 0

    # -- what is there ----------------------------------------------------------------------------

    @property
    def free(self) -> int:
        """Slots that can be allocated now."""
        return self._free

    @property
    def total(self) -> int:
        """Slots of all registered TaskManagers."""
        return self._total

    def supply(self) -> str:
        """The supply of slots in words: ``2 are free of 4 registered (2 TaskManagers)``."""
        number = len(self._taskmanagers)
        plural = "" if number == 1 else "s"
        verb = "is" if self._free == 1 else "are"
        return f"{self._free} {verb} free of {self._total} registered ({number} TaskManager{plural})"

    def get(self, taskmanager_id: str) -> RegisteredTaskManager | None:
        """The TaskManager of this id, when it is registered."""
        return self._taskmanagers.get(taskmanager_id)

    def at_peer(self, peer: bytes) -> RegisteredTaskManager | None:
        """The TaskManager that is registered over this connection."""
        return self._taskmanagers.get(self._by_peer.get(peer, ""))

    def holder(self, allocation: str) -> tuple[RegisteredTaskManager, Slot] | None:
        """Where the slot of this allocation is."""
        return self._slots.get(allocation)

    def status(self, now_ms: int) -> list[TaskManagerStatus]:
        """All TaskManagers in the order of their registration."""
        return [
            TaskManagerStatus(
                tm.taskmanager_id,
                tm.host,
                tm.pid,
                [SlotStatus(s.index, s.job_id, s.allocation_id, s.worker_pid) for s in tm.slots],
                now_ms - tm.last_heard_ms,
            )
            for tm in self._in_order()
        ]

    def _in_order(self) -> list[RegisteredTaskManager]:
        return sorted(self._taskmanagers.values(), key=lambda tm: self._registration[tm.taskmanager_id])

    # -- TaskManagers come and go -----------------------------------------------------------------

    def register(self, turn: Turn, peer: bytes, message: RegisterTaskManager) -> None:
        """Add a TaskManager with all its slots free. It must not be registered."""
        assert message.taskmanager_id not in self._taskmanagers
        slots = [Slot(index) for index in range(message.slots)]
        self._taskmanagers[message.taskmanager_id] = RegisteredTaskManager(
            message.taskmanager_id, message.host, message.pid, peer, slots, turn.now_ms
        )
        self._registrations += 1
        self._registration[message.taskmanager_id] = self._registrations
        self._by_peer[peer] = message.taskmanager_id
        self._free += message.slots
        self._total += message.slots

    def remove(self, tm: RegisteredTaskManager) -> list[str]:
        """Forget a TaskManager and return the jobs that held its slots, each once, in slot order."""
        del self._taskmanagers[tm.taskmanager_id]
        del self._registration[tm.taskmanager_id]
        if self._by_peer.get(tm.peer) == tm.taskmanager_id:
            del self._by_peer[tm.peer]
        self._free -= tm.free
        self._total -= len(tm.slots)
        jobs: dict[str, None] = {}
        for slot in tm.slots:
            if slot.state != "free":
                del self._slots[slot.allocation_id]
            if slot.state == "allocated":
                jobs[slot.job_id] = None
        return list(jobs)

    def heard(self, tm: RegisteredTaskManager, now_ms: int) -> None:
        """A sign of life."""
        tm.last_heard_ms = now_ms
        del self._taskmanagers[tm.taskmanager_id]
        self._taskmanagers[tm.taskmanager_id] = tm

    def silent(self, now_ms: int) -> list[RegisteredTaskManager]:
        """The TaskManagers that have been silent for the heartbeat timeout."""
        gone: list[RegisteredTaskManager] = []
        for tm in self._taskmanagers.values():
            if now_ms - tm.last_heard_ms < self._timeout_ms:
                break
            gone.append(tm)
        return gone

    def deadline_ms(self) -> int | None:
        """When the TaskManager that has been silent longest counts as gone."""
        oldest = next(iter(self._taskmanagers.values()), None)
        return None if oldest is None else oldest.last_heard_ms + self._timeout_ms

    # -- slots ------------------------------------------------------------------------------------

    def send(self, turn: Turn, taskmanager_id: str, message: Message) -> None:
        """Send to a TaskManager; one that is gone gets nothing."""
        tm = self._taskmanagers.get(taskmanager_id)
        if tm is not None:
            turn.send(tm.peer, message)

    def allocate(self, turn: Turn, job_id: str, count: int, mode: str) -> list[Grant]:
        """All ``count`` slots for a job, and tell their TaskManagers; empty when not enough are free."""
        if count > self._free:
            return []
        candidates = [
            Candidate(
                tm.taskmanager_id,
                tuple(slot.index for slot in tm.slots if slot.state == "free"),
                len(tm.slots) - tm.free,
            )
            for tm in self._in_order()
        ]
        grants: list[Grant] = []
        for taskmanager_id, index in place(candidates, count, mode):
            tm = self._taskmanagers[taskmanager_id]
            slot = tm.slots[index]
            self._allocations += 1
            allocation = allocation_id(self.epoch, self._allocations)
            slot.state, slot.job_id, slot.allocation_id = "allocated", job_id, allocation
            self._slots[allocation] = (tm, slot)
            tm.free -= 1
            self._free -= 1
            turn.send(tm.peer, AllocateSlot(turn.epoch, allocation, index, job_id))
            turn.tell(allocation, f"slot {index} of {taskmanager_id} is allocated to job {job_id}")
            grants.append(Grant(taskmanager_id, tm.host, index, allocation))
        return grants

    def release(self, turn: Turn, allocation: str) -> None:
        """End a tenure. The slot is free again when its TaskManager says so."""
        held = self._slots.get(allocation)
        if held is None or held[1].state != "allocated":
            return
        tm, slot = held
        slot.state = "releasing"
        turn.send(tm.peer, FreeSlot(turn.epoch, allocation, slot.index))
        turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} is being released")

    def freed(self, turn: Turn, allocation: str) -> bool:
        """The worker of this tenure is gone, the slot is free. False for a tenure that is over."""
        held = self._slots.pop(allocation, None)
        if held is None:
            return False
        tm, slot = held
        slot.clear()
        tm.free += 1
        self._free += 1
        turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} is free")
        return True

    def check(self) -> None:
        """A slot has at most one owner, and the counts are those of the slots."""
        held = 0
        for tm in self._taskmanagers.values():
            assert tm.free == sum(slot.state == "free" for slot in tm.slots), tm.taskmanager_id
            for slot in tm.slots:
                if slot.state == "free":
                    assert not slot.job_id and not slot.allocation_id, slot
                else:
                    held += 1
                    assert self._slots[slot.allocation_id] == (tm, slot), slot
        assert held == len(self._slots), "an allocation without a slot"
        assert self._free == sum(tm.free for tm in self._taskmanagers.values())
        assert self._total == sum(len(tm.slots) for tm in self._taskmanagers.values())
        heard = [tm.last_heard_ms for tm in self._taskmanagers.values()]
        assert heard == sorted(heard), "TaskManagers are not ordered by their last sign of life"
