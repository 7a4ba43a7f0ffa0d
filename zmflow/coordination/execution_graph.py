"""The JobGraph unrolled by parallelism: every Execution, its state and its counters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zmflow.coordination.machine import Outcome
from zmflow.coordination.slot_sharing import SlotSharingManager
from zmflow.coordination.slots import Subtask
from zmflow.coordination.states import TASK, TaskEvent
from zmflow.coordination.vertex_metrics import merged_metrics
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import AttemptId, JobId, VertexId, attempt_id
from zmflow.protocol.messages import SubtaskStatus, TaskCounters, TaskState, VertexStatus
from zmflow.protocol.metric_samples import VertexMetric

__all__ = ["Execution", "ExecutionGraph"]


class Execution:
    """One attempt of one subtask."""

    __slots__ = (
        "accumulators",
        "attempt_id",
        "attempt_number",
        "counters",
        "since_wall_ms",
        "state",
        "subtask",
        "vertex_name",
    )

    def __init__(self, attempt: AttemptId, subtask: Subtask, vertex_name: str, attempt_number: int) -> None:
        self.attempt_id = attempt
        self.subtask = subtask
        self.vertex_name = vertex_name
        self.attempt_number = attempt_number
        self.state: TaskState = "CREATED"
        self.since_wall_ms = 0
        self.counters: TaskCounters | None = None
        self.accumulators = b""  # pickled; for the client only (D6)

    @property
    def live(self) -> bool:
        """Whether it has not reached a terminal state."""
        return self.state not in TASK.terminal

    @property
    def deployed(self) -> bool:
        """Whether a worker may be running it."""
        return self.state in ("DEPLOYING", "INITIALIZING", "RUNNING", "CANCELING")


class ExecutionGraph:
    """The current execution of each subtask. States change only through ``advance``, which follows the table.

    Args:
        first_attempts: number of the first attempt of each vertex; 0 where none is given.
    """

    def __init__(
        self, job_id: JobId, graph: JobGraph, first_attempts: Mapping[str, int] | None = None
    ) -> None:
        self._job_id = job_id
        self.vertices: dict[str, list[Execution]] = {
            vertex.vertex_id: [
                self._execution(vertex.vertex_id, index, vertex.name, number)
                for index in range(vertex.parallelism)
            ]
            for vertex in graph.vertices
            for number in [(first_attempts or {}).get(vertex.vertex_id, 0)]
        }
        self._by_attempt: dict[str, Execution] = {
            execution.attempt_id: execution for execution in self.executions()
        }
        self._count: dict[TaskState, int] = dict.fromkeys(TASK.states, 0)
        self._count["CREATED"] = len(self._by_attempt)

    def _execution(self, vertex_id: str, index: int, name: str, number: int) -> Execution:
        attempt = attempt_id(self._job_id, VertexId(vertex_id), index, number)
        return Execution(attempt, (vertex_id, index), name, number)

    def executions(self) -> list[Execution]:
        """Every execution, vertex by vertex in topological order."""
        return [execution for subtasks in self.vertices.values() for execution in subtasks]

    def get(self, attempt: str) -> Execution | None:
        """The execution of this attempt; None for an attempt that is stale or another job's."""
        return self._by_attempt.get(attempt)

    def at(self, subtask: Subtask) -> Execution:
        """The current execution of a subtask."""
        return self.vertices[subtask[0]][subtask[1]]

    @property
    def total(self) -> int:
        """Number of subtasks."""
        return len(self._by_attempt)

    @property
    def live(self) -> int:
        """Executions that have not reached a terminal state."""
        return self.total - sum(self._count[state] for state in TASK.terminal)

    def count(self, state: TaskState) -> int:
        """Executions in this state."""
        return self._count[state]

    def advance(self, execution: Execution, event: TaskEvent, wall_ms: int = 0) -> Outcome:
        """Apply an event."""
        after = TASK.after(execution.state, event)
        if after is None:
            return TASK.outcome(execution.state, event)
        self._count[execution.state] -= 1
        self._count[after] += 1
        execution.state = after
        execution.since_wall_ms = wall_ms
        return "changed"

    def renew(self, subtasks: Iterable[Subtask]) -> list[Execution]:
        """A next attempt of each of these subtasks, whose present one has ended."""
        fresh = []
        for vertex_id, index in subtasks:
            old = self.vertices[vertex_id][index]
            assert not old.live, f"{old.attempt_id} is {old.state} and cannot be followed by another"
            new = self._execution(vertex_id, index, old.vertex_name, old.attempt_number + 1)
            self.vertices[vertex_id][index] = new
            del self._by_attempt[old.attempt_id]
            self._by_attempt[new.attempt_id] = new
            self._count[old.state] -= 1
            self._count["CREATED"] += 1
            fresh.append(new)
        return fresh

    def next_attempts(self) -> dict[str, int]:
        """For each vertex a number that no attempt of it was deployed with."""
        return {
            vertex_id: max(e.attempt_number + (e.state not in ("CREATED", "SCHEDULED")) for e in subtasks)
            for vertex_id, subtasks in self.vertices.items()
        }

    def statuses(
        self, graph: JobGraph, sharing: SlotSharingManager, *, metrics: bool = False
    ) -> list[VertexStatus]:
        """What clients see of every vertex and subtask, and of their functions' metrics."""
        return [
            VertexStatus(
                vertex.vertex_id,
                vertex.name,
                [operator.name for operator in vertex.chain],
                vertex.parallelism,
                vertex.sharing_group,
                [_subtask_status(execution, sharing) for execution in self.vertices[vertex.vertex_id]],
                vertex.co_location_group,
                self._metrics(vertex.vertex_id) if metrics else [],
            )
            for vertex in graph.vertices
        ]

    def _metrics(self, vertex_id: str) -> list[VertexMetric]:
        return merged_metrics(
            (execution.subtask[1], execution.counters.metrics)
            for execution in self.vertices[vertex_id]
            if execution.counters is not None
        )

    def take_accumulators(self, packed: Mapping[str, bytes]) -> None:
        """What running tasks have accumulated, by attempt; stale attempts are passed over."""
        for attempt, accumulators in packed.items():
            execution = self._by_attempt.get(attempt)
            if execution is not None and execution.live:
                execution.accumulators = accumulators

    def accumulators(self) -> list[bytes]:
        """What the tasks that have any accumulated, pickled."""
        executions = (execution for subtasks in self.vertices.values() for execution in subtasks)
        return [execution.accumulators for execution in executions if execution.accumulators]

    def check(self) -> None:
        """The counts are those of the executions, and each attempt is one subtask's."""
        counts: dict[TaskState, int] = dict.fromkeys(TASK.states, 0)
        total = 0
        for subtasks in self.vertices.values():
            for execution in subtasks:
                counts[execution.state] += 1
                total += 1
        assert counts == self._count, f"{counts}, counted {self._count}"
        assert len(self._by_attempt) == total, "two executions share an attempt id"


def _subtask_status(execution: Execution, sharing: SlotSharingManager) -> SubtaskStatus:
    shared = sharing.of_subtask(execution.subtask)
    slot = shared.physical
    # A task that has ended is shown where it was, when its slot is given back already.
    place = slot or (None if execution.live else shared.previous)
    counters = execution.counters
    return SubtaskStatus(
        execution.subtask[1],
        execution.state,
        execution.attempt_number,
        place.host if place else "",
        place.taskmanager_id if place else "",
        place.slot_index if place else -1,
        slot.allocation_id if slot else "",
        counters.records_in if counters else 0,
        counters.records_out if counters else 0,
        counters.bytes_in if counters else 0,
        counters.bytes_out if counters else 0,
        counters.busy_ms if counters else 0,
        counters.backpressured_ms if counters else 0,
        execution.since_wall_ms,
    )
