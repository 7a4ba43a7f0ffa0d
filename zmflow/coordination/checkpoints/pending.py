"""One checkpoint from its trigger to its end: whom it waits for, and what it has of them."""

from __future__ import annotations

from zmflow.coordination.checkpoints.in_flight_assignment import inputs_of
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.slots import Subtask
from zmflow.coordination.states import CHECKPOINT, CheckpointEvent
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.protocol.checkpoint_metadata import (
    CheckpointMetadata,
    InputRecord,
    OperatorRecord,
    VertexRecord,
)
from zmflow.protocol.checkpoint_statistics import CheckpointRecord, SubtaskSnapshot
from zmflow.protocol.checkpoints import (
    CheckpointAcknowledged,
    CheckpointBarrier,
    CheckpointKind,
    CheckpointState,
    StateFile,
)

__all__ = ["PendingCheckpoint"]


class PendingCheckpoint:
    """What is known of one checkpoint. It changes only as the table allows.

    Args:
        location: where its files go; empty: nowhere.
        coordinators: number of the split enumerator of each source that has to be snapshotted.
        request: whose wish it is; None: it was time.
    """

    __slots__ = (
        "_ended_record",
        "_metadata",
        "checkpoint_id",
        "coordinator_states",
        "coordinators",
        "counted",
        "discarded",
        "ended_ms",
        "failure",
        "files",
        "finished",
        "in_flight",
        "kind",
        "location",
        "request",
        "snapshots",
        "state",
        "tasks",
        "tasks_total",
        "triggered_ms",
        "triggered_wall_ms",
        "unaligned",
    )

    def __init__(
        self,
        checkpoint_id: int,
        kind: CheckpointKind,
        location: str,
        now_ms: int,
        wall_ms: int,
        coordinators: dict[str, int],
        request: object | None = None,
    ) -> None:
        self.checkpoint_id = checkpoint_id
        self.kind = kind
        self.location = location
        self.request = request
        self.triggered_ms, self.triggered_wall_ms = now_ms, wall_ms
        self.state: CheckpointState = "COORDINATORS"
        self.coordinators = coordinators
        """Enumerators whose snapshot is not there yet."""
        self.coordinator_states: dict[str, bytes] = {}
        self.tasks: dict[str, Subtask] = {}
        """Attempts that have not acknowledged yet."""
        self.tasks_total = 0
        self.files: dict[Subtask, StateFile | None] = {}
        self.in_flight: dict[Subtask, StateFile] = {}
        """What was on its way to a task, where barriers overtook it."""
        self.unaligned = False
        """Whether the tasks were told that it waits no longer."""
        self.finished: dict[str, list[int]] = {}
        """Subtasks, by vertex, that had finished when the tasks were told."""
        self.snapshots: list[SubtaskSnapshot] = []
        self.ended_ms: int | None = None
        self.failure = ""
        self.counted = False
        self.discarded = False
        self._metadata: CheckpointMetadata | None = None
        self._ended_record: CheckpointRecord | None = None

    @property
    def subsumable(self) -> bool:
        """Whether a newer one that is complete makes it superfluous: not what somebody asked for."""
        return self.kind == "checkpoint"

    @property
    def stops(self) -> bool:
        """Whether the job ends with it."""
        return self.kind in ("stop", "drain")

    @property
    def barrier(self) -> CheckpointBarrier:
        """What flows between the records."""
        return CheckpointBarrier(self.checkpoint_id, self.triggered_wall_ms, self.kind, self.location)

    def unaligned_ms(self, after_ms: int | None) -> int | None:
        """When its barriers are to overtake records, if that is so long after its trigger; None: never, or
        they do already. Barriers of savepoints overtake nothing."""
        if after_ms is None or self.kind != "checkpoint" or self.state != "TASKS" or self.unaligned:
            return None
        return self.triggered_ms + after_ms

    def advance(self, event: CheckpointEvent) -> bool:
        """Apply an event. False when it leads nowhere."""
        after = CHECKPOINT.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    def begin_tasks(self, layout: JobLayout) -> None:
        """Note whom it waits for from now on: every task that has not finished."""
        for execution in layout.executions.executions():
            vertex, index = execution.subtask
            if execution.state == "FINISHED":
                self.finished.setdefault(vertex, []).append(index)
            else:
                self.tasks[execution.attempt_id] = execution.subtask
        self.tasks_total = len(self.tasks)

    def acknowledge(self, message: CheckpointAcknowledged, vertex_name: str, now_ms: int) -> bool:
        """A task has written its snapshot. False for one that is not waited for."""
        subtask = self.tasks.get(message.attempt_id) if self.state == "TASKS" else None
        if subtask is None:
            return False
        del self.tasks[message.attempt_id]
        self.files[subtask] = message.state
        if message.in_flight is not None:
            self.in_flight[subtask] = message.in_flight
        after_ms = now_ms - self.triggered_ms
        self.snapshots.append(SubtaskSnapshot(subtask[0], vertex_name, subtask[1], after_ms, message.metrics))
        return True

    def end(self, now_ms: int, failure: str = "", *, counted: bool = False) -> None:
        """It is complete or given up: what remains is what is shown of it."""
        self.ended_ms, self.failure, self.counted = now_ms, failure, counted
        self.coordinator_states, self.files, self.in_flight, self._metadata = {}, {}, {}, None

    def half_unions(self) -> list[str]:
        """Vertices of which part has finished while another part holds state that every subtask gets all of:
        what the finished part knew is missing in it."""
        vertices = []
        for vertex, finished in self.finished.items():
            files = [file for (other, _), file in self.files.items() if other == vertex]
            if finished and any(file is not None and file.has_union for file in files):
                vertices.append(vertex)
        return vertices

    def acknowledged_by_all(self, job_id: str, layout: JobLayout) -> None:
        """All parts are there: put them together."""
        self.advance("acknowledged")
        graph = layout.graph
        vertices = [
            VertexRecord(
                vertex.vertex_id,
                vertex.name,
                vertex.parallelism,
                vertex.max_parallelism,
                [OperatorRecord(op.operator_id, op.uid, op.name) for op in vertex.chain],
                [self.files.get((vertex.vertex_id, index)) for index in range(vertex.parallelism)],
                self.finished.get(vertex.vertex_id, []),
                self.coordinator_states.get(vertex.vertex_id),
                *self._on_its_way(graph, vertex),
            )
            for vertex in graph.vertices
        ]
        self._metadata = CheckpointMetadata(
            job_id, graph.name, self.checkpoint_id, self.kind, self.triggered_wall_ms, vertices
        )

    def _on_its_way(
        self, graph: JobGraph, vertex: JobVertex
    ) -> tuple[list[StateFile | None], list[InputRecord]]:
        files = [self.in_flight.get((vertex.vertex_id, index)) for index in range(vertex.parallelism)]
        return (files, inputs_of(graph, vertex.vertex_id)) if any(files) else ([], [])

    @property
    def metadata(self) -> CheckpointMetadata:
        """What it consists of, from when all have acknowledged until it ends."""
        assert self._metadata is not None, self.state
        return self._metadata

    def forget_details(self) -> None:
        """Keep no more of it than its record without subtasks needs."""
        self._ended_record = self.record(self.ended_ms or self.triggered_ms, detailed=False)
        self.snapshots = []

    def record(self, now_ms: int, *, detailed: bool) -> CheckpointRecord:
        """What clients see of it."""
        if self._ended_record is not None:
            return self._ended_record
        metrics = [snapshot.metrics for snapshot in self.snapshots]
        end_ms = now_ms if self.ended_ms is None else self.ended_ms
        return CheckpointRecord(
            self.checkpoint_id,
            self.kind,
            self.state,
            self.triggered_wall_ms,
            end_ms - self.triggered_ms,
            sum(metric.state_bytes for metric in metrics),
            sum(metric.written_bytes for metric in metrics),
            max((metric.alignment_us for metric in metrics), default=0),
            max((metric.sync_us for metric in metrics), default=0),
            max((metric.async_us for metric in metrics), default=0),
            self.tasks_total,
            len(metrics),
            self.location,
            self.failure,
            self.counted,
            list(self.snapshots) if detailed else [],
            self.discarded,
            any(metric.unaligned for metric in metrics),
            sum(metric.in_flight_bytes for metric in metrics),
        )
