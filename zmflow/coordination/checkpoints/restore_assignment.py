"""Which state of a checkpoint goes to which subtask (design D10).

Operators are found by their ids, wherever they were chained. Keyed state goes by key groups: to as many
subtasks as there were, each its own file; to more or fewer, to each the files whose range meets its own.
Operator state of as many subtasks is each one's own again, of more or fewer it is shared out by the tasks.
"""

from __future__ import annotations

from collections.abc import Sequence

from zmflow.coordination.checkpoints.completed import CompletedCheckpoint
from zmflow.coordination.checkpoints.in_flight_assignment import in_flight_of
from zmflow.coordination.job_layout import JobLayout
from zmflow.coordination.slots import Subtask
from zmflow.graph.job_graph import JobVertex
from zmflow.protocol.checkpoint_metadata import VertexRecord, without_shared
from zmflow.protocol.checkpoints import InFlightRestore, OperatorRestore, StateFile, SubtaskRestore
from zmflow.state.keys import key_group_range, owner_of_group

__all__ = ["Restores", "restore_of"]


class Restores:
    """What the tasks of one job are restored from when they are deployed."""

    def __init__(self) -> None:
        self.newest_id = 0
        """The checkpoint that tasks were restored from last; 0: none yet."""
        self._enumerators: dict[str, int] = {}  # number of each source's, as it was deployed last

    def assign(
        self, layout: JobLayout, subtasks: Sequence[Subtask], checkpoint: CompletedCheckpoint | None
    ) -> dict[Subtask, SubtaskRestore]:
        """What these subtasks, which are being deployed, are restored from; nothing without a checkpoint."""
        anew = self._note_enumerators(layout, subtasks)
        if checkpoint is None:
            return {}
        self.newest_id = checkpoint.checkpoint_id
        vertices = {vertex.vertex_id: vertex for vertex in layout.graph.vertices}
        records = _records_by_operator(checkpoint)
        return {
            (vertex_id, index): restore_of(
                vertices[vertex_id],
                index,
                checkpoint,
                records,
                enumerator=(vertex_id, index) in anew,
                in_flight=in_flight_of(layout.graph, vertices[vertex_id], index, checkpoint.metadata),
            )
            for vertex_id, index in subtasks
        }

    def _note_enumerators(self, layout: JobLayout, subtasks: Sequence[Subtask]) -> dict[Subtask, None]:
        """The first subtasks of the sources whose split enumerator begins anew with them. One that lives on
        knows more than any checkpoint."""
        anew: dict[Subtask, None] = {}
        for vertex, index in subtasks:
            number = layout.coordinators[vertex]
            if index == 0 and vertex in layout.sources and self._enumerators.get(vertex) != number:
                self._enumerators[vertex] = number
                anew[vertex, index] = None
        return anew


def _records_by_operator(checkpoint: CompletedCheckpoint) -> dict[str, VertexRecord]:
    return {
        operator.operator_id: record
        for record in map(without_shared, checkpoint.metadata.vertices)
        for operator in record.operators
    }


def restore_of(
    vertex: JobVertex,
    index: int,
    checkpoint: CompletedCheckpoint,
    records: dict[str, VertexRecord],
    *,
    enumerator: bool,
    in_flight: Sequence[InFlightRestore] = (),
) -> SubtaskRestore:
    """What one subtask is restored from.

    Args:
        records: by operator id, the vertex of the checkpoint that had the operator.
        enumerator: whether the split enumerator of this source begins anew with this subtask.
        in_flight: what it sends again.
    """
    found = [(op.operator_id, records[op.operator_id]) for op in vertex.chain if op.operator_id in records]
    finished = bool(found) and all(record.all_finished for _, record in found)
    source = records.get(vertex.chain[0].operator_id) if enumerator else None
    return SubtaskRestore(
        checkpoint.checkpoint_id,
        checkpoint.location,
        [] if finished else [_operator(operator, record, vertex, index) for operator, record in found],
        finished,
        source.coordinator if source is not None and not finished else None,
        list(in_flight),
    )


def _operator(operator_id: str, record: VertexRecord, vertex: JobVertex, index: int) -> OperatorRestore:
    if record.max_parallelism != vertex.max_parallelism:
        # Nothing of it is kept by key: ``recovery_plan`` has seen to that.
        return OperatorRestore(operator_id, record.parallelism, [], [])
    own = record.subtasks[index] if record.parallelism == vertex.parallelism else None
    keyed: list[StateFile] = []
    if record.parallelism != vertex.parallelism:
        keyed = _meeting(record, vertex, index)
    elif own is not None:
        keyed = [own]
    if record.parallelism == vertex.parallelism and not _has_union(record):
        return OperatorRestore(operator_id, record.parallelism, keyed, [own], own=True)
    return OperatorRestore(operator_id, record.parallelism, keyed, list(record.subtasks))


def _has_union(record: VertexRecord) -> bool:
    return any(file is not None and file.has_union for file in record.subtasks)


def _meeting(record: VertexRecord, vertex: JobVertex, index: int) -> list[StateFile]:
    """The files with key groups of a subtask: those of the old owners of its first to its last group."""
    groups = key_group_range(index, vertex.max_parallelism, vertex.parallelism)
    first, last = (
        owner_of_group(g, record.max_parallelism, record.parallelism) for g in (groups[0], groups[-1])
    )
    return [file for file in record.subtasks[first : last + 1] if file is not None]
