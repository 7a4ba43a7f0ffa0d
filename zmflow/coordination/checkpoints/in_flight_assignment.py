"""Who sends again what was on its way when an unaligned checkpoint was taken.

Records that were on their way to a task are in its file. They are sent again by the task that had sent them,
or by the one that has its number modulo the new parallelism, over the same edge: the partitioner finds out
where they belong now. What comes before that on a channel is nothing, so records of one sender stay in order.
"""

from __future__ import annotations

from collections.abc import Iterator

from zmflow.graph.job_graph import JobEdge, JobGraph, JobVertex
from zmflow.graph.partitioners import overtakes
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, InputRecord, VertexRecord
from zmflow.protocol.checkpoints import InFlightPart, InFlightRestore

__all__ = ["can_overtake", "homeless_records", "in_flight_of", "inputs_of"]


def can_overtake(graph: JobGraph, vertex_id: str) -> bool:
    """Whether barriers may overtake what is on its way to a vertex: on all of its edges, as in Flink, or on
    none. On its way on others it could not be sent again, because it belongs to one subtask and no other."""
    return all(overtakes(edge.partitioner) for edge in graph.edges if edge.target == vertex_id)


def inputs_of(graph: JobGraph, vertex_id: str) -> list[InputRecord]:
    """The edges to a vertex that ``can_overtake``: its gates and channels as ``deployment.Wiring`` numbers
    them."""
    vertices = {vertex.vertex_id: vertex for vertex in graph.vertices}
    taken: dict[int, int] = {}
    inputs = []
    for edge in graph.edges:
        if edge.target == vertex_id:
            source = vertices[edge.source]
            first = taken.get(edge.input_index, 0)
            taken[edge.input_index] = first + source.parallelism
            inputs.append(InputRecord(_head(source), edge.input_index, first, source.parallelism))
    return inputs


def in_flight_of(
    graph: JobGraph, vertex: JobVertex, index: int, metadata: CheckpointMetadata
) -> list[InFlightRestore]:
    """What one subtask sends again before anything else, edge by edge."""
    restores = []
    for edge, record, place in _matched(graph, metadata):
        if edge.source != vertex.vertex_id:
            continue
        channels = range(place.first_channel, place.first_channel + place.parallelism)
        own = list(channels[index :: vertex.parallelism])
        parts = [InFlightPart(file, place.gate, own) for file in record.in_flight if file is not None]
        if own and parts:
            restores.append(InFlightRestore(edge.edge_id, parts))
    return restores


def homeless_records(graph: JobGraph, metadata: CheckpointMetadata) -> set[str]:
    """The ids of the operators of a checkpoint to which records were on their way over edges that a job has
    not: there is nobody to send them again."""
    found = [(record.operators[0].operator_id, place) for _, record, place in _matched(graph, metadata)]
    return {
        record.operators[0].operator_id
        for record in metadata.vertices
        if any(record.in_flight)
        and any((record.operators[0].operator_id, place) not in found for place in record.inputs)
    }


def _matched(
    graph: JobGraph, metadata: CheckpointMetadata
) -> Iterator[tuple[JobEdge, VertexRecord, InputRecord]]:
    """Each edge of the job with what was on its way over it. An edge is found again by the operators it leads
    from and to, by its gate, and where there are several such by their order."""
    records = {
        record.operators[0].operator_id: record for record in metadata.vertices if any(record.in_flight)
    }
    vertices = {vertex.vertex_id: vertex for vertex in graph.vertices}
    passed: dict[tuple[str, str, int], int] = {}
    for edge in graph.edges:
        record = records.get(_head(vertices[edge.target]))
        if record is None or not overtakes(edge.partitioner):
            continue
        key = (edge.source, edge.target, edge.input_index)
        number = passed.get(key, 0)
        passed[key] = number + 1
        alike = [
            place
            for place in record.inputs
            if (place.source, place.gate) == (_head(vertices[edge.source]), edge.input_index)
        ]
        if number < len(alike):
            yield edge, record, alike[number]


def _head(vertex: JobVertex) -> str:
    return vertex.chain[0].operator_id
