"""The cluster's TaskManagers and slots: who lives, which slots are whose, and who gets the free ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from zmflow.config import Settings
from zmflow.config.options import HEARTBEAT_LATE, HEARTBEAT_TIMEOUT
from zmflow.coordination.placement import Candidate, place
from zmflow.coordination.registered_taskmanager import RegisteredTaskManager, Slot
from zmflow.coordination.requirements import NOTHING, Demand, Requirements
from zmflow.coordination.turn import Turn
from zmflow.ids import Epoch, allocation_id
from zmflow.protocol.messages import (
    AcceptSlot,
    AllocateSlot,
    FreeSlot,
    Message,
    RegisterTaskManager,
    ResourceProfile,
)
from zmflow.protocol.resources import most_of

__all__ = ["ResourceManager", "Unfittable"]


@dataclass(frozen=True, slots=True)
class Unfittable:
    """A job asks for slots that none of the TaskManagers there are could ever give."""

    job_id: str
    profile: ResourceProfile
    largest: ResourceProfile


class ResourceManager:
    """Owns the slots of the cluster. Only this object gives a slot away or takes it back.

    Jobs declare what they want to hold; ``match`` gives free slots to those who miss some: higher priorities
    first, then who came first. A job that must wait although the cluster could serve it holds up those
    behind it, or small jobs would starve a large one; a job larger than the cluster holds up nobody.
    """

    def __init__(self, epoch: Epoch, settings: Settings) -> None:
        self.epoch = epoch
        self._timeout_ms = settings[HEARTBEAT_TIMEOUT]
        self._late_ms = min(settings[HEARTBEAT_LATE], self._timeout_ms)
        self._taskmanagers: dict[str, RegisteredTaskManager] = {}  # in the order of registration
        self._by_peer: dict[bytes, RegisteredTaskManager] = {}
        # Each ordered by last_heard_ms, oldest first: a sign of life moves its TaskManager to the end of the
        # living, so the next deadline is that of a first entry, and a heartbeat costs O(1).
        self._living: dict[str, RegisteredTaskManager] = {}
        self._late: dict[str, RegisteredTaskManager] = {}
        self._slots: dict[str, tuple[RegisteredTaskManager, Slot]] = {}  # by allocation id
        self._demands: dict[str, Demand] = {}
        self._unmet: dict[str, Demand] = {}
        self._draining: dict[str, None] = {}  # hosts and ids that get no new slots, registered or not
        self._registrations = 0
        self._allocations = 0
        self._submissions = 0
        self._changed = False  # something that may let a demand be met

    # -- what is there ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[RegisteredTaskManager]:
        return iter(self._taskmanagers.values())

    def __len__(self) -> int:
        return len(self._taskmanagers)

    @property
    def total(self) -> int:
        """Default slots of all registered TaskManagers."""
        return sum(tm.slots_total for tm in self)

    @property
    def free(self) -> int:
        """Default slots that could be cut now."""
        return sum(tm.room(ResourceProfile()) for tm in self if tm.accepts_slots)

    def supply(self) -> str:
        """The supply of slots in words: ``2 are free of 4 registered (2 TaskManagers)``."""
        number, free = len(self._taskmanagers), self.free
        plural = "" if number == 1 else "s"
        verb = "is" if free == 1 else "are"
        return f"{free} {verb} free of {self.total} registered ({number} TaskManager{plural})"

    def get(self, taskmanager_id: str) -> RegisteredTaskManager | None:
        """The TaskManager of this id, when it is registered."""
        return self._taskmanagers.get(taskmanager_id)

    def at_peer(self, peer: bytes) -> RegisteredTaskManager | None:
        """The TaskManager that is registered over this connection."""
        return self._by_peer.get(peer)

    def holder(self, allocation: str) -> tuple[RegisteredTaskManager, Slot] | None:
        """Where the slot of this allocation is."""
        return self._slots.get(allocation)

    def send(self, turn: Turn, taskmanager_id: str, message: Message) -> None:
        """Send to a TaskManager; one that is gone gets nothing."""
        tm = self._taskmanagers.get(taskmanager_id)
        if tm is not None:
            turn.send(tm.peer, message)

    # -- TaskManagers come and go -----------------------------------------------------------------

    def register(self, turn: Turn, peer: bytes, message: RegisterTaskManager) -> RegisteredTaskManager:
        """Add a TaskManager with all its slots free. It must not be registered."""
        assert message.taskmanager_id not in self._taskmanagers
        self._registrations += 1
        tm = RegisteredTaskManager(peer, message, self._registrations, turn.now_ms)
        tm.draining = tm.host in self._draining or tm.taskmanager_id in self._draining
        self._taskmanagers[tm.taskmanager_id] = self._living[tm.taskmanager_id] = tm
        self._by_peer[peer] = tm
        self._changed = True
        return tm

    def remove(self, tm: RegisteredTaskManager) -> list[str]:
        """Forget a TaskManager and return the jobs that held its slots, each once, in slot order."""
        tm.advance("lost")
        del self._taskmanagers[tm.taskmanager_id]
        self._living.pop(tm.taskmanager_id, None)
        self._late.pop(tm.taskmanager_id, None)
        if self._by_peer.get(tm.peer) is tm:
            del self._by_peer[tm.peer]
        jobs: dict[str, None] = {}
        for slot in tm.slots:
            if slot.state != "free":
                del self._slots[slot.allocation_id]
            if slot.state in ("pending", "allocated"):
                jobs[slot.job_id] = None
                self._count(tm, slot, -1)
        self._changed = True
        return list(jobs)

    def heard(self, turn: Turn, tm: RegisteredTaskManager) -> None:
        """A sign of life."""
        tm.last_heard_ms = turn.now_ms
        name = tm.taskmanager_id
        if tm.advance("heard"):
            del self._late[name]
            turn.tell(name, "is heard again")
            turn.log("info", f"TaskManager {name} on {tm.host} is heard again.", taskmanager=name)
            self._changed = True
        else:
            del self._living[name]
        self._living[name] = tm

    def watch(self, turn: Turn) -> list[RegisteredTaskManager]:
        """Note who is late by now; return those that have been silent for the heartbeat timeout."""
        now_ms = turn.now_ms
        for name, tm in list(self._living.items()):
            if now_ms - tm.last_heard_ms < self._late_ms:
                break
            tm.advance("silent")
            del self._living[name]
            self._late[name] = tm
            silence_s = (now_ms - tm.last_heard_ms) / 1000
            turn.tell(name, f"is late: silent for {silence_s:.1f} s")
            sentence = f"TaskManager {name} on {tm.host} is late: it has been silent for {silence_s:.1f} s."
            turn.log("warning", sentence, taskmanager=name)
        return [tm for tm in self._late.values() if now_ms - tm.last_heard_ms >= self._timeout_ms]

    def deadline_ms(self) -> int | None:
        """When the next TaskManager becomes late or counts as gone."""
        living = next(iter(self._living.values()), None)
        late = next(iter(self._late.values()), None)
        instants = []
        if living is not None:
            instants.append(living.last_heard_ms + self._late_ms)
        if late is not None:
            instants.append(late.last_heard_ms + self._timeout_ms)
        return min(instants, default=None)

    def drain(self, names: Iterable[str], *, drain: bool) -> list[RegisteredTaskManager]:
        """Stop giving away slots on these hosts or TaskManagers, or begin again. Returns who changed.

        A host is remembered: a TaskManager that is started there meanwhile is drained as well.
        """
        for name in names:
            if drain:
                self._draining[name] = None
            else:
                self._draining.pop(name, None)
        changed = []
        for tm in self:
            draining = tm.host in self._draining or tm.taskmanager_id in self._draining
            if draining != tm.draining:
                tm.draining = draining
                changed.append(tm)
        self._changed = True
        return changed

    def is_drained(self, name: str) -> bool:
        """Whether this host or TaskManager id is remembered as one that gets no slots."""
        return name in self._draining

    # -- requirements -----------------------------------------------------------------------------

    def admit(self, job_id: str, priority: int, mode: str) -> None:
        """A job will declare what it needs."""
        self._submissions += 1
        self._demands[job_id] = Demand(job_id, self._submissions, priority, mode)

    def declare(self, turn: Turn, job_id: str, required: Requirements) -> None:
        """What a job wants to hold from now on. Pending slots beyond that are taken back."""
        demand = self._demands.get(job_id)
        if demand is None:
            return
        demand.required = required
        if any(count > required.wanted.get(profile, 0) for profile, count in demand.held.items()):
            self._take_back(turn, demand)
        if demand.missing():
            self._unmet[job_id] = demand
            self._changed = True
        else:
            self._unmet.pop(job_id, None)

    def dismiss(self, turn: Turn, job_id: str) -> None:
        """A job has ended: every slot it still holds is released."""
        self.declare(turn, job_id, NOTHING)
        for allocation, (_, slot) in list(self._slots.items()):
            if slot.job_id == job_id:
                self.release(turn, allocation)
        self._demands.pop(job_id, None)
        self._unmet.pop(job_id, None)

    def held(self, job_id: str) -> int:
        """Slots a job holds, those on their way included."""
        demand = self._demands.get(job_id)
        return sum(demand.held.values()) if demand is not None else 0

    def _take_back(self, turn: Turn, demand: Demand) -> None:
        for allocation, (_, slot) in list(self._slots.items()):
            if slot.job_id == demand.job_id and slot.state == "pending":
                profile = slot.profile
                if demand.held[profile] > demand.required.wanted.get(profile, 0):
                    self.release(turn, allocation)

    def _count(self, tm: RegisteredTaskManager, slot: Slot, change: int) -> None:
        demand = self._demands.get(slot.job_id)
        if demand is not None:
            demand.count(slot.profile, tm.taskmanager_id, change)
            if change < 0 and demand.missing():
                self._unmet[demand.job_id] = demand

    # -- matching ---------------------------------------------------------------------------------

    def match(self, turn: Turn) -> list[Unfittable]:
        """Give free slots to the jobs that miss some. Returns what can never be given."""
        if not self._changed:
            return []
        self._changed = False
        if not self._unmet:
            return []
        waiting = sorted(self._unmet.values(), key=lambda demand: (-demand.priority, demand.order))
        hopeless = [entry for demand in waiting if (entry := self._unfittable(demand)) is not None]
        refused = {entry.job_id for entry in hopeless}
        for demand in waiting:
            if demand.job_id in refused:
                continue
            needed = demand.missing_least()
            if needed and not self._grant(turn, demand, needed, whole=True) and self._could_serve(demand):
                break
        else:
            for demand in waiting:
                if demand.job_id not in refused and not demand.missing_least():
                    self._grant(turn, demand, demand.missing(), whole=False)
        for demand in waiting:
            if not demand.missing():
                self._unmet.pop(demand.job_id, None)
        return hopeless

    def _unfittable(self, demand: Demand) -> Unfittable | None:
        for profile in demand.missing_least():
            if profile.is_default or not self._taskmanagers:
                continue
            if not any(tm.could_fit(profile) for tm in self):
                return Unfittable(demand.job_id, profile, most_of(tm.resources for tm in self))
        return None

    def _could_serve(self, demand: Demand) -> bool:
        """Whether the TaskManagers there are could hold all the job needs, if nobody else were there."""
        for profile, count in demand.required.least.items():
            there = 0
            for tm in self:
                if not tm.draining and tm.could_fit(profile):
                    there += tm.slots_total if profile.is_default else count
            if there < count:
                return False
        return True

    def _grant(
        self, turn: Turn, demand: Demand, needed: Mapping[ResourceProfile, int], *, whole: bool
    ) -> bool:
        """Allocate these slots; with ``whole`` all of them or none. Whether all were allocated."""
        if whole and len(needed) == 1:
            # The common case is decided without cutting anything.
            ((profile, count),) = needed.items()
            if sum(tm.room(profile) for tm in self if tm.accepts_slots) < count:
                return False
        granted: list[str] = []
        complete = True
        # The most particular first: what asks for nothing in particular fits into what they leave.
        for profile in sorted(needed, key=lambda profile: profile.is_default):
            names = self._place(demand, profile, needed[profile])
            complete = complete and len(names) == needed[profile]
            if whole and not complete:
                break
            granted += [self._allocate(demand, profile, name) for name in names]
        if whole and not complete:
            for allocation in granted:
                self._undo(allocation)
            return False
        for allocation in granted:
            tm, slot = self._slots[allocation]
            slot.since_wall_ms = turn.wall_ms
            order = AllocateSlot(turn.epoch, allocation, slot.index, demand.job_id, slot.resources)
            turn.send(tm.peer, order)
            turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} goes to job {demand.job_id}")
        return complete

    def _place(self, demand: Demand, profile: ResourceProfile, count: int) -> list[str]:
        by_tasks = demand.mode == "tasks"
        candidates = [
            Candidate(
                tm.taskmanager_id,
                room,
                demand.slots_on.get(tm.taskmanager_id, 0),
                tm.tasks if by_tasks else tm.slots_used,
            )
            for tm in self
            if tm.accepts_slots and (room := tm.room(profile))
        ]
        return place(candidates, count, demand.mode, demand.required.preferred)

    def _allocate(self, demand: Demand, profile: ResourceProfile, taskmanager_id: str) -> str:
        tm = self._taskmanagers[taskmanager_id]
        self._allocations += 1
        allocation = allocation_id(self.epoch, self._allocations)
        slot = tm.allocate(profile, demand.job_id, allocation)
        self._slots[allocation] = (tm, slot)
        demand.count(profile, taskmanager_id, +1)
        return allocation

    def _undo(self, allocation: str) -> None:
        tm, slot = self._slots.pop(allocation)
        self._count(tm, slot, -1)
        tm.free(slot)

    # -- tenures ----------------------------------------------------------------------------------

    def accept(self, turn: Turn, allocation: str) -> None:
        """The job takes the slot it was offered; repeated, it is only said again."""
        tm, slot = self._slots[allocation]
        if slot.advance("accept"):
            turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} is the job's")
        if slot.state == "allocated":
            turn.send(tm.peer, AcceptSlot(turn.epoch, allocation))

    def hold_tasks(self, allocation: str, group: str, tasks: list[str]) -> None:
        """A job has put tasks into its slot, or taken them out."""
        held = self._slots.get(allocation)
        if held is not None:
            held[0].hold_tasks(held[1], group, tasks)

    def release(self, turn: Turn, allocation: str, *, tell_taskmanager: bool = True) -> None:
        """End a tenure. The slot is free again when its TaskManager says so."""
        held = self._slots.get(allocation)
        if held is None:
            return
        tm, slot = held
        if not slot.advance("release"):
            return
        self._count(tm, slot, -1)
        if tell_taskmanager:
            turn.send(tm.peer, FreeSlot(turn.epoch, allocation, slot.index))
        turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} is being released")

    def freed(self, turn: Turn, allocation: str) -> bool:
        """The worker of this tenure is gone, the slot is free. False for a tenure that is over."""
        held = self._slots.pop(allocation, None)
        if held is None:
            return False
        tm, slot = held
        if slot.state in ("pending", "allocated"):
            self._count(tm, slot, -1)
        turn.tell(allocation, f"slot {slot.index} of {tm.taskmanager_id} is free")
        tm.free(slot)
        self._changed = True
        return True

    def check(self) -> None:
        """A slot has at most one owner, and the counts are those of the slots."""
        owners: dict[str, dict[ResourceProfile, int]] = {}
        used = 0
        for tm in self:
            tm.check()
            for slot in tm.slots:
                if slot.state == "free":
                    continue
                used += 1
                assert self._slots[slot.allocation_id] == (tm, slot), slot.allocation_id
                if slot.state in ("pending", "allocated"):
                    counts = owners.setdefault(slot.job_id, {})
                    counts[slot.profile] = counts.get(slot.profile, 0) + 1
        assert used == len(self._slots), "an allocation without a slot"
        for job_id, demand in self._demands.items():
            held = {profile: count for profile, count in demand.held.items() if count}
            assert held == owners.get(job_id, {}), f"{job_id} holds {owners.get(job_id)}, counted {held}"
        assert set(owners) <= set(self._demands), "a slot of a job that has ended"
        for queue in (self._living, self._late):
            heard = [tm.last_heard_ms for tm in queue.values()]
            assert heard == sorted(heard), "TaskManagers are not ordered by their last sign of life"
        assert len(self._living) + len(self._late) == len(self._taskmanagers)
