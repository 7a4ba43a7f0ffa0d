"""Which free slots a job gets: spread over the TaskManagers, or one TaskManager filled before the next."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Candidate", "place"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A TaskManager seen by placement: its free slots and how many are in use."""

    taskmanager_id: str
    free: tuple[int, ...]
    used: int


def place(candidates: Sequence[Candidate], count: int, mode: str) -> list[tuple[str, int]]:
    """``count`` slots as (TaskManager id, slot index), in the order in which the job fills them.

    Mode ``slots`` takes each next slot from the TaskManager with the fewest slots of this job, then
    the fewest in use, then the first registered; ``none`` empties one TaskManager before the next.
    Empty when there are not enough.

    >>> two = [Candidate("a", (0, 1), 0), Candidate("b", (0, 1), 0)]
    >>> place(two, 2, "slots")
    [('a', 0), ('b', 0)]
    >>> place(two, 2, "none")
    [('a', 0), ('a', 1)]
    """
    if sum(len(candidate.free) for candidate in candidates) < count:
        return []
    if mode == "none":
        # The fullest first, so that packing also holds over several jobs.
        packed = sorted(enumerate(candidates), key=lambda item: (-item[1].used, item[0]))
        return [(tm.taskmanager_id, slot) for _, tm in packed for slot in tm.free][:count]
    heap = [(0, tm.used, order) for order, tm in enumerate(candidates) if tm.free]
    heapq.heapify(heap)
    chosen: list[tuple[str, int]] = []
    while len(chosen) < count:
        of_this_job, used, order = heapq.heappop(heap)
        tm = candidates[order]
        chosen.append((tm.taskmanager_id, tm.free[of_this_job]))
        if of_this_job + 1 < len(tm.free):
            heapq.heappush(heap, (of_this_job + 1, used + 1, order))
    return chosen
