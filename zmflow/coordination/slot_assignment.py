"""Which of the slots a job has got each of its shared slots is given."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from zmflow.coordination.slots import PhysicalSlot, SharedSlot, Subtask
from zmflow.protocol.messages import ResourceProfile

__all__ = ["INPUT_HOSTS_MAX", "assign_slots"]

INPUT_HOSTS_MAX = 8
"""A subtask whose inputs are on more hosts than this is near to none of them: Flink's limit, too."""


def assign_slots(
    shared: Sequence[SharedSlot],
    free: Sequence[PhysicalSlot],
    hosts_of_inputs: Callable[[Subtask], Sequence[str]],
    *,
    even: bool = False,
    tasks_on: Callable[[str], int] = lambda _taskmanager: 0,
) -> list[tuple[SharedSlot, PhysicalSlot]] | None:
    """A slot for each shared slot; None when some profile has too few.

    A shared slot goes back where it was, if it can; else to the same TaskManager; else to a host where inputs
    of its tasks are; else it takes the first that is left. With ``even``, the shared slots with most tasks
    choose first, and what is left on the TaskManager with the fewest tasks.

    Args:
        hosts_of_inputs: hosts of the producers of a subtask, as far as they are known by now.
        tasks_on: how many tasks a TaskManager has already.
    """
    stock = _Stock(free, tasks_on)
    chosen: dict[int, PhysicalSlot] = {}
    # Who was somewhere chooses before who was nowhere, or the place would be gone.
    for each in shared:
        if each.previous is not None:
            place = each.previous
            slot = stock.take(each, ("slot", place.taskmanager_id, place.slot_index))
            if slot is not None:
                chosen[id(each)] = slot
    order = sorted(shared, key=lambda each: -len(each.subtasks)) if even else shared
    for each in order:
        if id(each) in chosen:
            continue
        slot = None
        if each.previous is not None:
            slot = stock.take(each, ("taskmanager", each.previous.taskmanager_id, -1))
        if slot is None:
            slot = _near_inputs(each, stock, hosts_of_inputs)
        if slot is None:
            slot = stock.take_least_loaded(each) if even else stock.take_any(each)
        if slot is None:
            return None
        chosen[id(each)] = slot
    return [(each, chosen[id(each)]) for each in shared]


def _near_inputs(
    shared: SharedSlot, stock: _Stock, hosts_of_inputs: Callable[[Subtask], Sequence[str]]
) -> PhysicalSlot | None:
    weight: dict[str, int] = {}
    for subtask in shared.subtasks:
        for host in hosts_of_inputs(subtask):
            weight[host] = weight.get(host, 0) + 1
    if not 0 < len(weight) <= INPUT_HOSTS_MAX:
        return None
    for host in sorted(weight, key=lambda host: -weight[host]):
        slot = stock.take(shared, ("host", host, -1))
        if slot is not None:
            return slot
    return None


class _Stock:
    """Free slots by what they may be looked for; one that is taken is passed over where it still stands."""

    def __init__(self, free: Sequence[PhysicalSlot], tasks_on: Callable[[str], int]) -> None:
        self._shelves: dict[tuple[object, ...], list[PhysicalSlot]] = {}
        self._taken: set[int] = set()
        self._tasks_on = tasks_on
        self._tasks: dict[str, int] = {}  # put there by this assignment
        self._taskmanagers = dict.fromkeys(slot.taskmanager_id for slot in free)
        self._by_load: dict[ResourceProfile, list[tuple[int, int, str]]] = {}
        for slot in reversed(free):
            for key in (
                ("slot", slot.taskmanager_id, slot.slot_index),
                ("taskmanager", slot.taskmanager_id, -1),
                ("host", slot.host, -1),
                ("any", "", -1),
            ):
                self._shelves.setdefault((slot.profile, *key), []).append(slot)

    def take(self, shared: SharedSlot, key: tuple[str, str, int]) -> PhysicalSlot | None:
        """The first slot that is left on a shelf."""
        shelf = self._shelves.get((shared.profile, *key), [])
        while shelf:
            slot = shelf.pop()
            if id(slot) not in self._taken:
                self._note(shared, slot)
                return slot
        return None

    def take_any(self, shared: SharedSlot) -> PhysicalSlot | None:
        """The first slot that is left."""
        return self.take(shared, ("any", "", -1))

    def take_least_loaded(self, shared: SharedSlot) -> PhysicalSlot | None:
        """The first slot on the TaskManager with the fewest tasks."""
        heap = self._by_load.get(shared.profile)
        if heap is None:
            heap = [(self._load(name), order, name) for order, name in enumerate(self._taskmanagers)]
            heapq.heapify(heap)
            self._by_load[shared.profile] = heap
        while heap:
            load, order, name = heap[0]
            if load != self._load(name):
                heapq.heapreplace(heap, (self._load(name), order, name))
                continue
            slot = self.take(shared, ("taskmanager", name, -1))
            if slot is not None:
                return slot
            heapq.heappop(heap)  # it has no slot of this profile left, and will not get one
        return None

    def _load(self, taskmanager_id: str) -> int:
        return self._tasks.get(taskmanager_id, 0) + self._tasks_on(taskmanager_id)

    def _note(self, shared: SharedSlot, slot: PhysicalSlot) -> None:
        self._taken.add(id(slot))
        self._tasks[slot.taskmanager_id] = self._tasks.get(slot.taskmanager_id, 0) + len(shared.subtasks)
