"""Which subtasks share a slot, and which slot that is at the moment.

A slot holds at most one subtask of each vertex of one sharing group, so a group needs as many slots as
its widest vertex has subtasks. Subtask i of every vertex goes into the i-th slot of its group, which keeps
co-located subtasks together, whatever their co-location group. Where the tasks are to be evened out, vertices
narrower than their group begin at different slots instead; what is co-located begins together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from zmflow.coordination.requirements import count_profiles
from zmflow.coordination.slots import LogicalSlot, PhysicalSlot, Place, SharedSlot, Subtask
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.graph.sharing import slots_by_group
from zmflow.protocol.messages import ResourceProfile

__all__ = ["SlotSharingManager", "share_slots"]


def share_slots(graph: JobGraph, *, even: bool = False) -> list[SharedSlot]:
    """The slots a job needs: group by group in the order of the graph, then by index.

    With ``even``, the tasks are spread evenly over the slots of a group.
    """
    widths = slots_by_group(graph.vertices)
    profiles = {group.name: group.resources for group in graph.sharing_groups}
    members: dict[str, list[list[Subtask]]] = {name: [[] for _ in range(n)] for name, n in widths.items()}
    offsets = _offsets(graph, widths) if even else {}
    for vertex in graph.vertices:
        slots = members[vertex.sharing_group]
        offset = offsets.get(vertex.vertex_id, 0)
        for index in range(vertex.parallelism):
            slots[(offset + index) % len(slots)].append((vertex.vertex_id, index))
    return [
        SharedSlot(group, index, tuple(subtasks), profiles.get(group, ResourceProfile()))
        for group, slots in members.items()
        for index, subtasks in enumerate(slots)
    ]


def _offsets(graph: JobGraph, widths: dict[str, int]) -> dict[str, int]:
    """Where each vertex begins in the slots of its group. What is connected one to one stays together:
    its records need not leave the process."""
    unit_of: dict[str, str] = {}
    by_id: dict[str, JobVertex] = {vertex.vertex_id: vertex for vertex in graph.vertices}
    co_located: dict[str, str] = {}
    for vertex in graph.vertices:
        unit = vertex.vertex_id
        for edge in graph.edges:
            source = by_id[edge.source]
            if edge.target == vertex.vertex_id and edge.partitioner == "FORWARD":
                if source.sharing_group == vertex.sharing_group:
                    unit = unit_of[edge.source]
                break
        if vertex.co_location_group:
            unit = co_located.setdefault(vertex.co_location_group, unit)
        unit_of[vertex.vertex_id] = unit
    begins: dict[str, int] = {}
    following: dict[str, int] = {}
    for vertex in graph.vertices:
        unit, group = unit_of[vertex.vertex_id], vertex.sharing_group
        if unit not in begins:
            begins[unit] = following.get(group, 0)
            following[group] = (begins[unit] + vertex.parallelism) % widths[group]
    return {vertex_id: begins[unit] for vertex_id, unit in unit_of.items()}


class SlotSharingManager:
    """The shared slots of a job under one parallelism, and the physical slots they have."""

    def __init__(self, shared: Iterable[SharedSlot]) -> None:
        self._shared = list(shared)
        self._by_subtask = {subtask: each for each in self._shared for subtask in each.subtasks}
        self._needed = count_profiles(each.profile for each in self._shared)
        self.missing_count = len(self._shared)
        """How many shared slots need a physical slot and have none."""
        self.returned_count = 0
        """How many need none any more: their tasks have finished."""

    def __iter__(self) -> Iterator[SharedSlot]:
        return iter(self._shared)

    def __len__(self) -> int:
        return len(self._shared)

    def of_subtask(self, subtask: Subtask) -> SharedSlot:
        """The shared slot a subtask lives in."""
        return self._by_subtask[subtask]

    def logical_slot(self, subtask: Subtask) -> LogicalSlot | None:
        """A subtask's place, when its shared slot has one."""
        shared = self._by_subtask.get(subtask)
        if shared is None or shared.physical is None:
            return None
        return LogicalSlot(subtask, shared.physical)

    def holding(self, subtasks: Iterable[Subtask]) -> list[SharedSlot]:
        """The shared slots these subtasks live in, each once."""
        found: dict[int, SharedSlot] = {}
        for subtask in subtasks:
            shared = self._by_subtask[subtask]
            found[id(shared)] = shared
        return list(found.values())

    def missing(self) -> list[SharedSlot]:
        """Shared slots that need a physical slot and have none."""
        return [shared for shared in self._shared if shared.physical is None and not shared.returned]

    def needed(self) -> dict[ResourceProfile, int]:
        """Slots that are needed, by profile: those there are and those that are missing."""
        return dict(self._needed)

    def assign(self, shared: SharedSlot, physical: PhysicalSlot) -> None:
        """Put the subtasks of a shared slot into a physical one that is nobody's."""
        assert shared.physical is None and physical.shared is None, physical.allocation_id
        self.need(shared)
        shared.physical, physical.shared = physical, shared
        self.missing_count -= 1

    def vacate(self, shared: SharedSlot, *, returned: bool = False) -> None:
        """Take the physical slot from a shared one, which remembers where it was.

        ``returned``: its tasks have finished, so it needs no other.
        """
        physical = shared.physical
        assert physical is not None, f"{shared.group} {shared.index} has no slot"
        shared.previous = Place(physical.taskmanager_id, physical.slot_index, physical.host)
        shared.physical = physical.shared = None
        shared.returned = returned
        if returned:
            self.returned_count += 1
            self._needed[shared.profile] -= 1
        else:
            self.missing_count += 1

    def need(self, shared: SharedSlot) -> None:
        """The tasks of a shared slot run again: it needs a slot, if it has none."""
        if shared.returned:
            shared.returned = False
            self.returned_count -= 1
            self._needed[shared.profile] += 1
            self.missing_count += 1

    def check(self, graph: JobGraph) -> None:
        """One subtask of each vertex per slot, groups apart, co-located subtasks together."""
        groups = {vertex.vertex_id: vertex.sharing_group for vertex in graph.vertices}
        seen = 0
        assert self.missing_count == len(self.missing())
        assert self.returned_count == sum(shared.returned for shared in self._shared)
        needed = count_profiles(shared.profile for shared in self._shared if not shared.returned)
        assert needed == {profile: count for profile, count in self._needed.items() if count}
        for shared in self._shared:
            vertices = [vertex for vertex, _ in shared.subtasks]
            assert len(set(vertices)) == len(vertices), f"{shared.group} {shared.index}: {vertices}"
            assert all(groups[vertex] == shared.group for vertex in vertices), shared.group
            seen += len(vertices)
            if shared.physical is not None:
                assert shared.physical.shared is shared, shared.physical.allocation_id
        assert seen == sum(vertex.parallelism for vertex in graph.vertices)
        together: dict[tuple[str, int], SharedSlot] = {}
        for vertex in graph.vertices:
            for index in range(vertex.parallelism if vertex.co_location_group else 0):
                here = self._by_subtask[vertex.vertex_id, index]
                there = together.setdefault((vertex.co_location_group, index), here)
                assert here is there, f"{vertex.vertex_id}/{index} is not with its co-location group"
