"""From the StreamGraph to the JobGraph: chains become vertices, the edges between chains exchanges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from zmflow.graph.alignment import GroupOf, aligned_nodes
from zmflow.graph.chaining import chain_parents
from zmflow.graph.job_graph import (
    ChainNode,
    ChainOutput,
    ChainSpec,
    JobEdge,
    JobGraph,
    JobOperator,
    JobVertex,
    SharingGroup,
)
from zmflow.graph.managed_memory import vertex_weights
from zmflow.graph.stream_graph import StreamEdge, StreamGraph, StreamNode
from zmflow.protocol.job_files import JobFile

__all__ = ["JobProperties", "generate_job_graph"]


@dataclass(frozen=True, slots=True)
class JobProperties:
    """What a JobGraph carries beside its vertices and edges."""

    name: str
    settings: Mapping[str, str]
    files: Sequence[JobFile] = ()
    runtime_mode: Literal["STREAMING", "BATCH"] = "STREAMING"


def generate_job_graph(
    graph: StreamGraph,
    properties: JobProperties,
    serialize: Callable[[ChainSpec, str], bytes],
    alignment_group: GroupOf = lambda _: "",
) -> JobGraph:
    """The JobGraph of a StreamGraph.

    Args:
        graph: a checked StreamGraph.
        properties: the job's name, settings, files and mode.
        serialize: the opaque bytes of a chain, given the chain and its vertex's name.
        alignment_group: the group of sources that an operator's specification names; "" for none.
    """
    parents = chain_parents(graph)
    # A chained operator has one input, so every chain is a tree below its head; an operator's number
    # is larger than its inputs', so heads in the order of their numbers are in topological order.
    members: dict[int, list[int]] = {}
    head_of: dict[int, int] = {}
    for number in graph.nodes:
        head = head_of[parents[number]] if number in parents else number
        head_of[number] = head
        members.setdefault(head, []).append(number)
    vertex_ids = {head: f"v{index}" for index, head in enumerate(members, start=1)}
    exchanges = [edge for edge in graph.edges if edge.target not in parents]
    edge_ids = {id(edge): f"e{index}" for index, edge in enumerate(exchanges, start=1)}
    leaving: dict[int, list[tuple[str, StreamEdge]]] = {head: [] for head in members}
    for edge in exchanges:
        leaving[head_of[edge.source]].append((edge_ids[id(edge)], edge))

    aligned = aligned_nodes(graph, head_of, alignment_group)
    groups: dict[str, dict[str, None]] = {}  # the vertices of each, in their order
    for number, group in aligned.items():
        groups.setdefault(group, {})[vertex_ids[head_of[number]]] = None

    vertices = []
    for head, numbers in members.items():
        spec = _chain_spec(graph, numbers, parents, leaving[head])
        for place, number in enumerate(numbers):
            if number in aligned:
                spec.aligned[place] = list(groups[aligned[number]])
        name = _chain_name(graph, head, numbers, parents)
        chain = [graph.nodes[number] for number in numbers]
        vertices.append(_job_vertex(vertex_ids[head], name, chain, serialize(spec, name)))
    return JobGraph(
        name=properties.name,
        vertices=vertices,
        edges=[
            _job_edge(edge, edge_ids[id(edge)], vertex_ids[head_of[edge.source]], vertex_ids[edge.target])
            for edge in exchanges
        ],
        settings=dict(properties.settings),
        py_files=[],
        runtime_mode=properties.runtime_mode,
        sharing_groups=[SharingGroup(name, profile) for name, profile in graph.sharing_resources.items()],
        files=list(properties.files),
    )


def _job_vertex(vertex_id: str, name: str, chain: Sequence[StreamNode], operators: bytes) -> JobVertex:
    head = chain[0]
    return JobVertex(
        vertex_id=vertex_id,
        name=name,
        parallelism=head.parallelism,
        max_parallelism=head.max_parallelism,
        sharing_group=head.sharing_group,
        chain=[_job_operator(node) for node in chain],
        operators=operators,
        # A chain has members of one co-location group at most; it need not be its head that names it.
        co_location_group=max(node.co_location_group for node in chain),
        managed_memory_weights=vertex_weights(node.managed_memory_weights for node in chain),
        max_parallelism_set=head.max_parallelism_set,
        parallelism_set=any(node.parallelism_set for node in chain),
    )


def _job_edge(edge: StreamEdge, edge_id: str, source: str, target: str) -> JobEdge:
    name, pointwise = edge.partitioner.name, edge.partitioner.pointwise
    return JobEdge(edge_id, source, target, edge.input_index, name, pointwise)


def _job_operator(node: StreamNode) -> JobOperator:
    return JobOperator(node.operator_id, node.uid, node.name, node.kind, node.description)


def _chain_spec(
    graph: StreamGraph,
    numbers: Sequence[int],
    parents: Mapping[int, int],
    leaving: Sequence[tuple[str, StreamEdge]],
) -> ChainSpec:
    position = {number: index for index, number in enumerate(numbers)}
    nodes = [
        ChainNode(
            operator_id=graph.nodes[number].operator_id,
            name=graph.nodes[number].name,
            operator=graph.nodes[number].operator,
            input=position[parents[number]] if index else -1,
            on_error=graph.nodes[number].on_error,
            output_type=graph.nodes[number].output_type,
        )
        for index, number in enumerate(numbers)
    ]
    outputs = [
        ChainOutput(
            edge_id=edge_id,
            node=position[edge.source],
            partitioner=edge.partitioner,
            buffer_timeout_ms=graph.nodes[edge.source].buffer_timeout_ms,
            tag=edge.tag,
            output_type=edge.output_type,
        )
        for edge_id, edge in leaving
    ]
    return ChainSpec(nodes, outputs)


def _chain_name(graph: StreamGraph, head: int, numbers: Sequence[int], parents: Mapping[int, int]) -> str:
    """``Source: X -> Map -> Sink: Y``; branches as ``Source: X -> (A, B -> C)``."""
    children: dict[int, list[int]] = {number: [] for number in numbers}
    for number in numbers:
        if number != head:
            children[parents[number]].append(number)
    names: dict[int, str] = {}
    # Children have larger numbers: from the last to the first, every name below is there already.
    for number in reversed(numbers):
        below = [names[child] for child in children[number]]
        own = graph.nodes[number].name
        if not below:
            names[number] = own
        elif len(below) == 1:
            names[number] = f"{own} -> {below[0]}"
        else:
            names[number] = f"{own} -> ({', '.join(below)})"
    return names[head]
