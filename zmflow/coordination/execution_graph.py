"""The JobGraph unrolled by parallelism: every Execution, its state and its counters."""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.coordination.slot_pool import SlotPool
from zmflow.coordination.states import TASK_IGNORED, TASK_STATES, TASK_TERMINAL, TASK_TRANSITIONS, TaskEvent
from zmflow.graph.job_graph import JobGraph
from zmflow.ids import AttemptId, JobId, VertexId, attempt_id
from zmflow.protocol.messages import SubtaskStatus, TaskCounters, TaskState, VertexStatus

__all__ = ["Execution", "ExecutionGraph"]


@dataclass(slots=True)
class Execution:
    """One attempt of one subtask."""

    attempt_id: AttemptId
    vertex_id: str
    vertex_name: str
    subtask_index: int
    attempt_number: int
    state: TaskState = "CREATED"
    counters: TaskCounters | None = None

    @property
    def live(self) -> bool:
        """Whether it has not reached a terminal state."""
        return self.state not in TASK_TERMINAL


class ExecutionGraph:
    """All executions of a job. States change only through ``advance``, which follows the table."""

    def __init__(self, job_id: JobId, graph: JobGraph) -> None:
        self.vertices: dict[str, list[Execution]] = {
            vertex.vertex_id: [
                Execution(
                    attempt_id(job_id, VertexId(vertex.vertex_id), index, 0),
                    vertex.vertex_id,
                    vertex.name,
                    index,
                    0,
                )
                for index in range(vertex.parallelism)
            ]
            for vertex in graph.vertices
        }
        self._by_attempt: dict[str, Execution] = {
            execution.attempt_id: execution for execution in self.executions()
        }
        self._count: dict[TaskState, int] = dict.fromkeys(TASK_STATES, 0)
        self._count["CREATED"] = len(self._by_attempt)

    def executions(self) -> list[Execution]:
        """Every execution, vertex by vertex in topological order."""
        return [execution for subtasks in self.vertices.values() for execution in subtasks]

    def get(self, attempt: str) -> Execution | None:
        """The execution of this attempt; None for an attempt that is stale or another job's."""
        return self._by_attempt.get(attempt)

    def at(self, subtask: tuple[str, int]) -> Execution:
        """The current execution of a subtask (vertex id, index)."""
        return self.vertices[subtask[0]][subtask[1]]

    @property
    def total(self) -> int:
        """Number of subtasks."""
        return len(self._by_attempt)

    @property
    def live(self) -> int:
        """Executions that have not reached a terminal state."""
        return self.total - sum(self._count[state] for state in TASK_TERMINAL)

    def count(self, state: TaskState) -> int:
        """Executions in this state."""
        return self._count[state]

    def advance(self, execution: Execution, event: TaskEvent) -> str:
        """Apply an event. Returns ``changed``, ``ignored`` (late or repeated) or ``rejected``."""
        after = TASK_TRANSITIONS.get((execution.state, event))
        if after is None:
            return "ignored" if (execution.state, event) in TASK_IGNORED else "rejected"
        self._count[execution.state] -= 1
        self._count[after] += 1
        execution.state = after
        return "changed"

    def statuses(self, graph: JobGraph, pool: SlotPool) -> list[VertexStatus]:
        """What clients see of every vertex and subtask."""
        return [
            VertexStatus(
                vertex.vertex_id,
                vertex.name,
                [operator.name for operator in vertex.chain],
                vertex.parallelism,
                vertex.sharing_group,
                [_subtask_status(execution, pool) for execution in self.vertices[vertex.vertex_id]],
            )
            for vertex in graph.vertices
        ]

    def check(self) -> None:
        """The counts are those of the executions, and each attempt is one subtask's."""
        executions = self.executions()
        for state in TASK_STATES:
            assert self._count[state] == sum(execution.state == state for execution in executions), state
        assert len(self._by_attempt) == len(executions), "two executions share an attempt id"


def _subtask_status(execution: Execution, pool: SlotPool) -> SubtaskStatus:
    slot = pool.of_subtask(execution.vertex_id, execution.subtask_index)
    counters = execution.counters
    return SubtaskStatus(
        execution.subtask_index,
        execution.state,
        execution.attempt_number,
        slot.grant.host if slot else "",
        slot.grant.taskmanager_id if slot else "",
        slot.grant.slot_index if slot else -1,
        slot.grant.allocation_id if slot else "",
        counters.records_in if counters else 0,
        counters.records_out if counters else 0,
        counters.bytes_in if counters else 0,
        counters.bytes_out if counters else 0,
        counters.busy_ms if counters else 0,
        counters.backpressured_ms if counters else 0,
    )
