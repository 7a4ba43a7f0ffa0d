"""Pipelined regions: which subtasks restart together.

A pipelined exchange keeps nothing: what a consumer has taken is gone, and what a failed one has not taken
is nobody's. So all subtasks that are connected by exchanges, directly or through others, are one *region*
and restart as one. All exchanges are pipelined. An exchange from all to all makes one region of both its
ends; a pointwise one connects only the pairs that exchange records.
"""

from __future__ import annotations

from collections.abc import Iterable

from zmflow.coordination.slots import Subtask
from zmflow.graph.job_graph import JobEdge, JobGraph
from zmflow.graph.partitioners import consumers_of

__all__ = ["Regions"]


class Regions:
    """The pipelined regions of a job, numbered from 0 in the order of their first subtasks.

    The order of subtasks is that of the graph: vertex by vertex, each by index.
    """

    def __init__(self, graph: JobGraph) -> None:
        self._subtasks: list[Subtask] = [
            (vertex.vertex_id, index) for vertex in graph.vertices for index in range(vertex.parallelism)
        ]
        self._parallelism = {vertex.vertex_id: vertex.parallelism for vertex in graph.vertices}
        self._first: dict[str, int] = {}  # position of each vertex's subtask 0
        position = 0
        for vertex_id, parallelism in self._parallelism.items():
            self._first[vertex_id] = position
            position += parallelism
        self._is_source = {
            vertex.vertex_id: bool(vertex.chain) and vertex.chain[0].kind == "source"
            for vertex in graph.vertices
        }
        self._region_at: list[int] = []  # by position
        self._positions: list[list[int]] = []  # by region, ascending
        self._number(self._connected(graph.edges))

    def _connected(self, edges: Iterable[JobEdge]) -> _DisjointSets:
        sets = _DisjointSets(len(self._subtasks))
        for edge in edges:
            producers, consumers = self._parallelism[edge.source], self._parallelism[edge.target]
            source, target = self._first[edge.source], self._first[edge.target]
            if not edge.pointwise:
                # Everybody with the first of the other side: p + q joins say the same as p * q.
                for producer in range(source, source + producers):
                    sets.join(producer, target)
                for consumer in range(target + 1, target + consumers):
                    sets.join(consumer, source)
                continue
            for producer in range(producers):
                for consumer in consumers_of(True, producer, producers, consumers):
                    sets.join(source + producer, target + consumer)
        return sets

    def _number(self, sets: _DisjointSets) -> None:
        numbers: dict[int, int] = {}
        for position in range(len(self._subtasks)):
            region = numbers.setdefault(sets.representative(position), len(numbers))
            if region == len(self._positions):
                self._positions.append([])
            self._positions[region].append(position)
            self._region_at.append(region)

    def __len__(self) -> int:
        return len(self._positions)

    def region_of(self, subtask: Subtask) -> int:
        """The number of the region a subtask belongs to."""
        vertex_id, index = subtask
        assert 0 <= index < self._parallelism[vertex_id], f"there is no subtask {subtask}"
        return self._region_at[self._first[vertex_id] + index]

    def members(self, region: int) -> list[Subtask]:
        """The subtasks of a region."""
        return [self._subtasks[position] for position in self._positions[region]]

    def restarted_by(self, failed: Iterable[Subtask], lost_coordinators: Iterable[str]) -> list[Subtask]:
        """Every subtask that restarts when these fail.

        Args:
            lost_coordinators: vertices whose subtask 0 has lost its worker. The split enumerator of a source
                lives there and knows which reader has which split; without it all readers begin anew, and
                their regions with them. Vertices that are no sources have no enumerator and change nothing.
        """
        touched = dict.fromkeys(self.region_of(subtask) for subtask in failed)
        for vertex_id in lost_coordinators:
            if self._is_source[vertex_id]:
                first = self._first[vertex_id]
                readers = self._region_at[first : first + self._parallelism[vertex_id]]
                touched.update(dict.fromkeys(readers))
        # Whole regions were added, so nothing that is not in one of them is connected to any.
        positions = [position for region in touched for position in self._positions[region]]
        positions.sort()  # runs that ascend already: next to nothing
        return [self._subtasks[position] for position in positions]


class _DisjointSets:
    """Union-find over positions: the smaller tree goes under the larger, paths are halved on the way."""

    def __init__(self, count: int) -> None:
        self._parents = list(range(count))
        self._sizes = [1] * count

    def representative(self, position: int) -> int:
        """One position of its set, the same for all of them."""
        parents = self._parents
        while (parent := parents[position]) != position:
            parents[position] = position = parents[parent]
        return position

    def join(self, one: int, other: int) -> None:
        """Make one set of two."""
        one, other = self.representative(one), self.representative(other)
        if one == other:
            return
        if self._sizes[one] < self._sizes[other]:
            one, other = other, one
        self._parents[other] = one
        self._sizes[one] += self._sizes[other]
