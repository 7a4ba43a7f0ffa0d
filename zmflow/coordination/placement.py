"""On which TaskManagers a job's next slots are cut: spread over them, evened out by tasks, or packed."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "place"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A TaskManager seen by placement: how many slots fit in there, and what it carries already.

    ``of_job`` counts the slots this job holds there, ``load`` the slots (or, in mode ``tasks``, the tasks) of
    all jobs.
    """

    taskmanager_id: str
    room: int
    of_job: int
    load: int


def place(
    candidates: Sequence[Candidate], count: int, mode: str, preferred: Mapping[str, int] | None = None
) -> list[str]:
    """The TaskManager of each of ``count`` slots, in the order in which the job fills them.

    First come the ``preferred`` TaskManagers, with as many slots as the job would like there. Then mode
    ``slots`` takes each next slot from the TaskManager with the fewest slots of this job, then the least
    load, then the first registered; ``tasks`` looks at the load first; ``none`` fills one TaskManager
    before the next, the fullest first. Shorter than ``count`` when there is not enough room.

    >>> two = [Candidate("a", 2, 0, 0), Candidate("b", 2, 0, 0)]
    >>> place(two, 3, "slots"), place(two, 3, "none"), place(two, 3, "slots", {"b": 2})
    (['a', 'b', 'a'], ['a', 'a', 'b'], ['b', 'b', 'a'])
    """
    chosen: list[str] = []
    taken: dict[str, int] = {}
    if preferred:
        for candidate in candidates:
            wish = min(preferred.get(candidate.taskmanager_id, 0), candidate.room, count - len(chosen))
            if wish > 0:
                chosen += [candidate.taskmanager_id] * wish
                taken[candidate.taskmanager_id] = wish
    if mode == "none":
        packed = sorted(enumerate(candidates), key=lambda item: (-item[1].load, item[0]))
        for _, tm in packed:
            number = min(tm.room - taken.get(tm.taskmanager_id, 0), count - len(chosen))
            chosen += [tm.taskmanager_id] * number
        return chosen
    by_load = mode == "tasks"
    heap: list[tuple[int, int, int, int]] = []
    for order, tm in enumerate(candidates):
        there = taken.get(tm.taskmanager_id, 0)
        if tm.room > there:
            mine, load = tm.of_job + there, tm.load + there
            heap.append((load, mine, order, there) if by_load else (mine, load, order, there))
    heapq.heapify(heap)
    while len(chosen) < count and heap:
        first, second, order, there = heap[0]
        chosen.append(candidates[order].taskmanager_id)
        if there + 1 < candidates[order].room:
            heapq.heapreplace(heap, (first + 1, second + 1, order, there + 1))
        else:
            heapq.heappop(heap)
    return chosen
