"""Which subtasks share a slot.

A slot holds at most one subtask of each vertex of one sharing group, so a group needs as many slots as
its widest vertex has subtasks; subtask i of every vertex goes into the i-th slot of its group.
"""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.graph.job_graph import JobGraph

__all__ = ["SharedSlot", "share_slots", "slots_required"]


@dataclass(frozen=True, slots=True)
class SharedSlot:
    """One slot a job needs, and the subtasks (vertex id, index) that will live in it."""

    group: str
    index: int
    subtasks: tuple[tuple[str, int], ...]


def share_slots(graph: JobGraph) -> list[SharedSlot]:
    """The slots a job needs: group by group in the order of the graph, then by subtask index."""
    groups: dict[str, dict[int, list[tuple[str, int]]]] = {}
    for vertex in graph.vertices:
        members = groups.setdefault(vertex.sharing_group, {})
        for index in range(vertex.parallelism):
            members.setdefault(index, []).append((vertex.vertex_id, index))
    return [
        SharedSlot(group, index, tuple(members[index]))
        for group, members in groups.items()
        for index in sorted(members)
    ]


def slots_required(graph: JobGraph) -> int:
    """How many slots a job needs: the sum over its sharing groups of their widest vertex."""
    widest: dict[str, int] = {}
    for vertex in graph.vertices:
        widest[vertex.sharing_group] = max(widest.get(vertex.sharing_group, 0), vertex.parallelism)
    return sum(widest.values())
