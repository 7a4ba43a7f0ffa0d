"""A TaskManager as the leader knows it: whether it lives, its resources, and the slots cut from them."""

from __future__ import annotations

from zmflow.coordination.states import SLOT, TASKMANAGER, SlotEvent, TaskManagerEvent, TaskManagerLife
from zmflow.ids import AllocationId
from zmflow.protocol.messages import RegisterTaskManager, ResourceProfile
from zmflow.protocol.resources import fits, left_over, slot_resources
from zmflow.protocol.statuses import SlotState

__all__ = ["RegisteredTaskManager", "Slot"]

_NOTHING = ResourceProfile(0, 0, 0)


class Slot:
    """One slot of a TaskManager; its tenure by one job has an allocation id."""

    __slots__ = (
        "allocation_id",
        "group",
        "index",
        "job_id",
        "profile",
        "resources",
        "since_wall_ms",
        "state",
        "tasks",
        "worker_pid",
    )

    def __init__(self, index: int) -> None:
        self.index = index
        self.state: SlotState = "free"
        self.clear()

    def advance(self, event: SlotEvent) -> bool:
        """Follow the table; False for an event that changes nothing."""
        after = SLOT.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    def clear(self) -> None:
        """Nobody's again."""
        self.job_id = ""
        self.allocation_id = ""
        self.worker_pid = 0
        self.profile = ResourceProfile()
        self.resources = _NOTHING
        self.since_wall_ms = 0
        self.group = ""  # the slot sharing group whose tasks it holds
        self.tasks: list[str] = []


class RegisteredTaskManager:
    """One registration of one TaskManager.

    Default slots are equal shares of the resources, so there are ``slots_total`` of them. A profile that asks
    for amounts gets just those, and so there may be more slots than that, or fewer.
    """

    __slots__ = (
        "_default_used",
        "_share",
        "draining",
        "free_resources",
        "host",
        "last_heard_ms",
        "life",
        "order",
        "peer",
        "pid",
        "resources",
        "slots",
        "slots_total",
        "taskmanager_id",
        "tasks",
    )

    def __init__(self, peer: bytes, message: RegisterTaskManager, order: int, now_ms: int) -> None:
        self.peer = peer
        self.taskmanager_id = message.taskmanager_id
        self.host = message.host
        self.pid = message.pid
        self.order = order  # of registration, so that placement is stable
        self.life: TaskManagerLife = "alive"
        self.draining = False
        self.last_heard_ms = now_ms
        self.resources = message.resources
        self.free_resources = message.resources
        self.slots_total = message.slots
        self.slots = [Slot(index) for index in range(message.slots)]
        self.tasks = 0  # in all its slots; what mode "tasks" evens out
        self._default_used = 0
        self._share = slot_resources(ResourceProfile(), message.resources, message.slots)

    @property
    def accepts_slots(self) -> bool:
        """Whether new slots may be cut here."""
        return self.life == "alive" and not self.draining

    @property
    def slots_used(self) -> int:
        """Slots that are somebody's."""
        return sum(slot.state != "free" for slot in self.slots)

    def advance(self, event: TaskManagerEvent) -> bool:
        """Follow the table; False for an event that changes nothing."""
        after = TASKMANAGER.after(self.life, event)
        if after is None:
            return False
        self.life = after
        return True

    def cut(self, profile: ResourceProfile) -> ResourceProfile:
        """What a slot of this profile takes here."""
        return (
            self._share if profile.is_default else slot_resources(profile, self.resources, self.slots_total)
        )

    def could_fit(self, profile: ResourceProfile) -> bool:
        """Whether a slot of this profile could be cut here if nothing else were."""
        return fits(self.cut(profile), self.resources)

    def room(self, profile: ResourceProfile) -> int:
        """How many more slots of this profile can be cut now."""
        need, free = self.cut(profile), self.free_resources
        limits = [self.slots_total - self._default_used] if profile.is_default else []
        for amount, there in (
            (need.cpu_millis, free.cpu_millis),
            (need.memory_bytes, free.memory_bytes),
            (need.managed_memory_bytes, free.managed_memory_bytes),
        ):
            if amount > 0:
                limits.append(there // amount)
        if need.external:
            there_of = free.external_amounts
            limits += [there_of.get(name, 0) // amount for name, amount in need.external]
        return max(0, min(limits, default=self.slots_total))

    def allocate(self, profile: ResourceProfile, job_id: str, allocation: AllocationId) -> Slot:
        """Cut a slot for a job. There must be room."""
        slot = next((slot for slot in self.slots if slot.state == "free"), None)
        if slot is None:
            slot = Slot(len(self.slots))
            self.slots.append(slot)
        slot.advance("allocate")
        slot.job_id, slot.allocation_id, slot.profile = job_id, allocation, profile
        slot.resources = self.cut(profile)
        self.free_resources = left_over(self.free_resources, slot.resources)
        self._default_used += profile.is_default
        return slot

    def hold_tasks(self, slot: Slot, group: str, tasks: list[str]) -> None:
        """Note which tasks the job has put into a slot."""
        self.tasks += len(tasks) - len(slot.tasks)
        slot.group, slot.tasks = group, tasks

    def free(self, slot: Slot) -> None:
        """A slot's worker is gone: its resources can be cut anew."""
        slot.advance("freed")
        self.free_resources = left_over(self.free_resources, slot.resources, +1)
        self._default_used -= slot.profile.is_default
        self.tasks -= len(slot.tasks)
        slot.clear()
        while len(self.slots) > self.slots_total and self.slots[-1].state == "free":
            self.slots.pop()

    def check(self) -> None:
        """Free resources are what the slots leave; the counts are those of the slots."""
        used = [slot for slot in self.slots if slot.state != "free"]
        free = self.resources
        for slot in used:
            assert slot.job_id and slot.allocation_id, slot.index
            free = left_over(free, slot.resources)
        assert free == self.free_resources, self.taskmanager_id
        assert min(free.cpu_millis, free.memory_bytes, free.managed_memory_bytes) >= 0, free
        assert all(amount >= 0 for _, amount in free.external), free
        assert self._default_used == sum(slot.profile.is_default for slot in used)
        assert self.tasks == sum(len(slot.tasks) for slot in used)
        assert all(not slot.job_id for slot in self.slots if slot.state == "free")
