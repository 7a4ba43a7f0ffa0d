"""A job under one parallelism: its executions, its pipelined regions, its shared slots, who feeds whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from zmflow.coordination.execution_graph import Execution, ExecutionGraph
from zmflow.coordination.failover import Regions
from zmflow.coordination.slot_assignment import INPUT_HOSTS_MAX
from zmflow.coordination.slot_sharing import SlotSharingManager, share_slots
from zmflow.coordination.slots import SharedSlot, Subtask
from zmflow.graph.job_graph import JobEdge, JobGraph
from zmflow.graph.partitioners import producers_of
from zmflow.ids import JobId

__all__ = ["JobLayout", "without_code"]


def without_code(graph: JobGraph) -> JobGraph:
    """What is kept of an ended job: enough to show it."""
    return msgspec.structs.replace(
        graph,
        vertices=[msgspec.structs.replace(vertex, operators=b"") for vertex in graph.vertices],
        files=[],
    )


class JobLayout:
    """What follows from a JobGraph once its parallelism is decided.

    Args:
        even: spread tasks evenly over the slots of a sharing group.
        first_attempts, first_coordinators: numbers to begin with, above all that were used before.
    """

    def __init__(
        self,
        job_id: JobId,
        graph: JobGraph,
        *,
        even: bool,
        first_attempts: Mapping[str, int] | None = None,
        first_coordinators: Mapping[str, int] | None = None,
    ) -> None:
        self.graph = graph
        self.executions = ExecutionGraph(job_id, graph, first_attempts)
        self.sharing = SlotSharingManager(share_slots(graph, even=even))
        self.regions = Regions(graph)
        self.sources = {v.vertex_id for v in graph.vertices if v.chain and v.chain[0].kind == "source"}
        self.coordinators = {
            vertex.vertex_id: (first_coordinators or {}).get(vertex.vertex_id, 0) for vertex in graph.vertices
        }
        """Number of the split enumerator of each source: it grows when the enumerator begins anew."""
        self.lost_coordinators: dict[str, None] = {}
        """Sources whose enumerator went with its worker and has not begun anew."""
        self._names = {vertex.vertex_id: vertex.name for vertex in graph.vertices}
        self._parallelism = {vertex.vertex_id: vertex.parallelism for vertex in graph.vertices}
        self._inputs: dict[str, list[JobEdge]] = {}
        for edge in graph.edges:
            self._inputs.setdefault(edge.target, []).append(edge)
        # Tasks that have not finished, by region and by source: at 0 nothing of it will run again.
        self._unfinished: dict[int, int] = {}
        self._unread: dict[str, int] = {vertex: self._parallelism[vertex] for vertex in self.sources}
        for execution in self.executions.executions():
            region = self.regions.region_of(execution.subtask)
            self._unfinished[region] = self._unfinished.get(region, 0) + 1

    def task_name(self, subtask: Subtask) -> str:
        """A subtask for people: ``Map (1/2)``."""
        return f"{self._names[subtask[0]]} ({subtask[1] + 1}/{self._parallelism[subtask[0]]})"

    def vertex_names(self, subtasks: Iterable[Subtask]) -> list[str]:
        """The names of the vertices of these subtasks, each once."""
        return list(dict.fromkeys(self._names[vertex] for vertex, _ in subtasks))

    def every_subtask(self) -> list[Subtask]:
        """All subtasks, vertex by vertex."""
        return [execution.subtask for execution in self.executions.executions()]

    # -- what has finished ------------------------------------------------------------------------

    def finished(self, subtask: Subtask) -> list[SharedSlot]:
        """A task has finished. Returns the shared slots that may have nothing left to do because of it."""
        region = self.regions.region_of(subtask)
        self._unfinished[region] -= 1
        candidates: list[Subtask] = []
        if not self._unfinished[region]:
            candidates += self.regions.members(region)
        vertex = subtask[0]
        if vertex in self._unread:
            self._unread[vertex] -= 1
            if not self._unread[vertex]:
                candidates.append((vertex, 0))
        return self.sharing.holding(candidates)

    def is_done(self, subtask: Subtask) -> bool:
        """Whether a subtask will not run again, and nothing needs the worker it ran in.

        Its region has finished, so nothing it sent is still on its way; and where it is the one that keeps
        the split enumerator of a source, every reader has finished.
        """
        if self._unfinished[self.regions.region_of(subtask)]:
            return False
        return subtask[1] != 0 or not self._unread.get(subtask[0])

    def is_idle(self, shared: SharedSlot) -> bool:
        """Whether all that lived in a shared slot is done."""
        return all(self.is_done(subtask) for subtask in shared.subtasks)

    def unread_sources(self) -> list[str]:
        """Sources of which some readers have not finished."""
        return [vertex for vertex in self._names if self._unread.get(vertex)]

    def heads(self) -> list[Execution]:
        """The tasks that run while none of their inputs does: where a checkpoint begins."""
        heads: list[Execution] = []
        vertices = self.executions.vertices
        done = {vertex: all(e.state == "FINISHED" for e in subtasks) for vertex, subtasks in vertices.items()}
        for vertex, subtasks in vertices.items():
            live = [edge for edge in self._inputs.get(vertex, ()) if not done[edge.source]]
            if any(not edge.pointwise for edge in live):
                continue
            heads += [
                execution
                for execution in subtasks
                if execution.state == "RUNNING" and not any(self._feeds(edge, execution) for edge in live)
            ]
        return heads

    def _feeds(self, edge: JobEdge, execution: Execution) -> bool:
        """Whether a task still runs that sends to this one over this pointwise edge."""
        producers = self._parallelism[edge.source]
        feeding = producers_of(True, execution.subtask[1], producers, self._parallelism[edge.target])
        return any(self.executions.at((edge.source, index)).state != "FINISHED" for index in feeding)

    # -- what is lost and what restarts -----------------------------------------------------------

    def lose(self, shared: SharedSlot) -> list[Subtask]:
        """The worker of a shared slot is gone. Returns the subtasks in it that have to run again.

        A task that had finished is among them while its region has not: what it sent may have been waiting
        in its worker.
        """
        for vertex, index in shared.subtasks:
            if index == 0 and vertex in self.sources:
                self.lost_coordinators[vertex] = None
        again = []
        for subtask in shared.subtasks:
            execution = self.executions.at(subtask)
            if execution.deployed or (execution.state == "FINISHED" and not self._region_done(subtask)):
                again.append(subtask)
        return again

    def _region_done(self, subtask: Subtask) -> bool:
        return not self._unfinished[self.regions.region_of(subtask)]

    def unserved_sources(self) -> list[str]:
        """Sources whose enumerator is lost while readers have not finished."""
        return [vertex for vertex in self.lost_coordinators if self._unread[vertex]]

    def restarted_by(self, failed: Iterable[Subtask]) -> list[Subtask]:
        """Every subtask that restarts when these fail, in the order of the graph."""
        lost = self.unserved_sources()
        while True:
            restarted = self.regions.restarted_by(failed, lost)
            touched = dict.fromkeys(vertex for vertex, _ in restarted)
            more = [vertex for vertex in self.lost_coordinators if vertex in touched and vertex not in lost]
            if not more:
                return restarted
            lost += more

    def renew(self, subtasks: Sequence[Subtask]) -> list[Execution]:
        """The next attempts of these subtasks. A source all of whose readers restart begins anew."""
        readers: dict[str, int] = {}
        for subtask in subtasks:
            vertex, _ = subtask
            if self.executions.at(subtask).state == "FINISHED":
                self._unfinished[self.regions.region_of(subtask)] += 1
                if vertex in self._unread:
                    self._unread[vertex] += 1
            if vertex in self.sources:
                readers[vertex] = readers.get(vertex, 0) + 1
        for vertex, count in readers.items():
            if count == self._parallelism[vertex]:
                self.coordinators[vertex] += 1
                self.lost_coordinators.pop(vertex, None)
        for shared in self.sharing.holding(subtasks):
            self.sharing.need(shared)
        return self.executions.renew(subtasks)

    # -- places -----------------------------------------------------------------------------------

    def place_of(self, subtask: Subtask) -> tuple[str, str]:
        """The TaskManager and the allocation a subtask is in."""
        logical = self.sharing.logical_slot(subtask)
        assert logical is not None, f"{subtask} is nowhere"
        return logical.physical.taskmanager_id, logical.physical.allocation_id

    def by_slot(self, attempts: Mapping[str, Subtask]) -> dict[tuple[str, str], list[str]]:
        """These attempts by the place they are in."""
        found: dict[tuple[str, str], list[str]] = {}
        for attempt, subtask in attempts.items():
            found.setdefault(self.place_of(subtask), []).append(attempt)
        return found

    # -- locality ---------------------------------------------------------------------------------

    def hosts_of_inputs(self, subtask: Subtask) -> list[str]:
        """Hosts of the producers of a subtask that have a slot; none where there are too many to be near."""
        hosts: list[str] = []
        vertex, index = subtask
        for edge in self._inputs.get(vertex, ()):
            producers = self._parallelism[edge.source]
            feeding = producers_of(edge.pointwise, index, producers, self._parallelism[vertex])
            if len(feeding) > INPUT_HOSTS_MAX:
                continue
            for producer in feeding:
                logical = self.sharing.logical_slot((edge.source, producer))
                if logical is not None:
                    hosts.append(logical.physical.host)
        return hosts

    def check(self) -> None:
        """Counts are those of the executions; slots are shared by the rules."""
        self.executions.check()
        self.sharing.check(self.graph)
        unfinished: dict[int, int] = {}
        unread = dict.fromkeys(self.sources, 0)
        for execution in self.executions.executions():
            finished = execution.state == "FINISHED"
            region = self.regions.region_of(execution.subtask)
            unfinished[region] = unfinished.get(region, 0) + (not finished)
            if execution.subtask[0] in unread:
                unread[execution.subtask[0]] += not finished
        assert unfinished == self._unfinished, f"{unfinished}, counted {self._unfinished}"
        assert unread == self._unread, f"{unread}, counted {self._unread}"
