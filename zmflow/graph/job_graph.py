"""JobGraph, JobVertex, JobEdge: what a client submits. Plain data plus opaque bytes.

The JobManager reads everything here except ``JobVertex.operators``, the cloudpickled ``ChainSpec``
of the vertex, which only a slot worker opens (design D6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import msgspec

from zmflow.errors import ProtocolError
from zmflow.graph.partitioners import Partitioner
from zmflow.graph.transformations import ErrorPolicy
from zmflow.protocol.job_files import JobFile
from zmflow.protocol.resources import ResourceProfile

__all__ = [
    "PARALLELISM_MAX",
    "ChainNode",
    "ChainOutput",
    "ChainSpec",
    "JobEdge",
    "JobGraph",
    "JobOperator",
    "JobVertex",
    "SharingGroup",
    "decode_job_graph",
    "encode_job_graph",
]

PARALLELISM_MAX = 32768
"""Flink's upper bound of max parallelism (2^15): key groups are numbered with 15 bits."""


class JobOperator(msgspec.Struct, frozen=True, array_like=True):
    """One operator of a chain, for people and for state: never its code."""

    operator_id: str
    uid: str  # "" when the user gave none
    name: str
    kind: Literal["source", "operator", "sink"]
    description: str = ""  # "" where the name says it all


class JobVertex(msgspec.Struct, frozen=True, array_like=True):
    """One chain of operators that runs as one task per subtask."""

    vertex_id: str
    name: str
    parallelism: int
    max_parallelism: int
    sharing_group: str
    chain: list[JobOperator]
    operators: bytes
    co_location_group: str = ""  # subtask i of every member shares a slot
    managed_memory_weights: dict[str, int] = {}  # by use case, what its operators declare
    max_parallelism_set: bool = False  # the program names it; else it follows from the parallelism
    parallelism_set: bool = False  # the program names it for one of the operators


class SharingGroup(msgspec.Struct, frozen=True, array_like=True):
    """What a slot sharing group asks of each of its slots."""

    name: str
    resources: ResourceProfile


class JobEdge(msgspec.Struct, frozen=True, array_like=True):
    """An exchange between two vertices. ``input_index`` is the gate it feeds on the consumer."""

    edge_id: str
    source: str
    target: str
    input_index: int
    partitioner: str
    pointwise: bool


class JobGraph(msgspec.Struct, frozen=True, array_like=True):
    """A whole job. Vertices are in topological order."""

    name: str
    vertices: list[JobVertex]
    edges: list[JobEdge]
    settings: dict[str, str]
    py_files: list[tuple[str, bytes]]  # nothing: superseded by files
    runtime_mode: Literal["STREAMING", "BATCH"]
    sharing_groups: list[SharingGroup] = []  # only those that ask for something in particular
    files: list[JobFile] = []  # each once, with what is in it


@dataclass(frozen=True, slots=True)
class ChainNode:
    """One operator of a ``ChainSpec``; ``operator`` is a specification from ``zmflow.api.operators``."""

    operator_id: str
    name: str
    operator: object
    input: int  # index of the node before it in the chain; -1 for the head
    on_error: ErrorPolicy = "fail"
    output_type: object = None  # of ``zmflow.api.types``: what its records are made to fit


@dataclass(frozen=True, slots=True)
class ChainOutput:
    """One outgoing JobEdge of a chain: which node feeds it, and how records are spread."""

    edge_id: str
    node: int
    partitioner: Partitioner
    buffer_timeout_ms: int  # -1: only full frames leave
    tag: str = ""  # of the side output that leaves here
    output_type: object = None  # of the side output, as ``ChainNode.output_type`` is


@dataclass(frozen=True, slots=True)
class ChainSpec:
    """The operators of a vertex, a tree in topological order: node 0 is the head.

    ``classes`` holds, by module and name, the classes of modules that workers cannot import (the script
    itself above all), so that records of these classes can be pickled by reference on their way.
    ``aligned`` holds, for each node whose watermark strategy makes the source at the head wait for others,
    the vertices of the sources in its group.
    """

    nodes: list[ChainNode]
    outputs: list[ChainOutput] = field(default_factory=list)
    classes: dict[str, dict[str, type]] = field(default_factory=dict)
    aligned: dict[int, list[str]] = field(default_factory=dict)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(JobGraph)


def encode_job_graph(graph: JobGraph) -> bytes:
    """The bytes a client submits."""
    return _encoder.encode(graph)


def decode_job_graph(data: bytes) -> JobGraph:
    """The JobGraph in these bytes, with its references checked.

    Raises:
        ProtocolError: not a JobGraph, or one that contradicts itself.
    """
    try:
        graph = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProtocolError("Submitted bytes are not a JobGraph.", detail=str(error)) from None
    _check_vertices(graph)
    position = {vertex.vertex_id: i for i, vertex in enumerate(graph.vertices)}
    for edge in graph.edges:
        if edge.source not in position or edge.target not in position:
            raise ProtocolError("A JobGraph has an edge without an end.", detail=edge.edge_id)
        if position[edge.source] >= position[edge.target] or edge.input_index < 0:
            raise ProtocolError("A JobGraph is not in topological order.", detail=edge.edge_id)
    _check_sharing_groups(graph)
    return graph


def _check_vertices(graph: JobGraph) -> None:
    seen: set[str] = set()
    for vertex in graph.vertices:
        if vertex.vertex_id in seen:
            raise ProtocolError("A JobGraph names a vertex twice.", detail=vertex.vertex_id)
        if not 1 <= vertex.parallelism <= vertex.max_parallelism <= PARALLELISM_MAX:
            raise ProtocolError(
                "A JobGraph has an impossible parallelism.",
                detail=f"{vertex.name}: parallelism {vertex.parallelism}, "
                f"max parallelism {vertex.max_parallelism}.",
            )
        seen.add(vertex.vertex_id)
    if not seen:
        raise ProtocolError("A JobGraph has no vertices.", detail=graph.name)


def _check_sharing_groups(graph: JobGraph) -> None:
    in_use = {vertex.sharing_group for vertex in graph.vertices}
    seen: set[str] = set()
    for group in graph.sharing_groups:
        if group.name not in in_use:
            raise ProtocolError("A JobGraph has a slot sharing group without vertices.", detail=group.name)
        if group.name in seen:
            raise ProtocolError("A JobGraph specifies a slot sharing group twice.", detail=group.name)
        seen.add(group.name)
