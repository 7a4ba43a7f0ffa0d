"""Plans for people and tools: what a job consists of, and how many tasks and slots it takes."""

from __future__ import annotations

import msgspec

from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.graph.sharing import co_location_groups, resources_by_group, slots_by_group
from zmflow.graph.stream_graph import StreamGraph
from zmflow.protocol.resources import EQUAL_SHARE, ResourceProfile, profile_text

__all__ = [
    "CoLocationPlan",
    "ExchangePlan",
    "GroupPlan",
    "OperatorPlan",
    "PlanDescription",
    "ResourcesPlan",
    "VertexPlan",
    "describe",
    "execution_plan",
]


class OperatorPlan(msgspec.Struct, frozen=True):
    """One operator of a chain."""

    operator_id: str
    uid: str
    name: str
    kind: str
    description: str = ""  # where the program said more than the name


class VertexPlan(msgspec.Struct, frozen=True):
    """One chain: the operators that run as one task in each subtask."""

    vertex_id: str
    name: str
    parallelism: int
    max_parallelism: int
    sharing_group: str
    chain: list[OperatorPlan]
    co_location_group: str  # "" for none
    managed_memory_weights: dict[str, int]


class ExchangePlan(msgspec.Struct, frozen=True):
    """Records on their way between two chains. ``channels`` counts the pairs of subtasks connected."""

    edge_id: str
    source: str
    target: str
    partitioner: str
    pointwise: bool
    channels: int


class ResourcesPlan(msgspec.Struct, frozen=True):
    """What a slot is asked to have. None leaves it at an equal share; ``text`` says all of it."""

    text: str
    cpu_millis: int | None
    memory_bytes: int | None
    managed_memory_bytes: int | None
    external: dict[str, int]

    @property
    def particular(self) -> bool:
        """Whether anything is asked for."""
        amounts = (self.cpu_millis, self.memory_bytes, self.managed_memory_bytes)
        return bool(self.external) or any(amount is not None for amount in amounts)


class GroupPlan(msgspec.Struct, frozen=True):
    """One slot sharing group, the slots it needs and what each of them has."""

    name: str
    slots: int
    vertices: list[str]
    resources: ResourcesPlan


class CoLocationPlan(msgspec.Struct, frozen=True):
    """Vertices whose subtasks of one index are in one slot."""

    name: str
    vertices: list[str]


class PlanDescription(msgspec.Struct, frozen=True):
    """A JobGraph in numbers and names.

    ``operators`` counts what the program wrote, ``subtasks`` each as often as it is parallel;
    ``vertices`` counts chains, ``tasks`` each as often as it is parallel: the threads that run.
    """

    job_name: str
    runtime_mode: str
    operators: int
    vertices: int
    subtasks: int
    tasks: int
    slots_required: int
    chains: list[VertexPlan]
    exchanges: list[ExchangePlan]
    sharing_groups: list[GroupPlan]
    co_location_groups: list[CoLocationPlan]


def describe(graph: JobGraph) -> PlanDescription:
    """What ``zmflow explain`` shows of a JobGraph."""
    parallelism = {vertex.vertex_id: vertex.parallelism for vertex in graph.vertices}
    groups = _sharing_groups(graph)
    return PlanDescription(
        job_name=graph.name,
        runtime_mode=graph.runtime_mode,
        operators=sum(len(vertex.chain) for vertex in graph.vertices),
        vertices=len(graph.vertices),
        subtasks=sum(len(vertex.chain) * vertex.parallelism for vertex in graph.vertices),
        tasks=sum(parallelism.values()),
        slots_required=sum(group.slots for group in groups),
        chains=[_chain(vertex) for vertex in graph.vertices],
        exchanges=[
            ExchangePlan(
                edge_id=edge.edge_id,
                source=edge.source,
                target=edge.target,
                partitioner=edge.partitioner,
                pointwise=edge.pointwise,
                channels=_channels(edge.pointwise, parallelism[edge.source], parallelism[edge.target]),
            )
            for edge in graph.edges
        ],
        sharing_groups=groups,
        co_location_groups=[
            CoLocationPlan(name, vertices) for name, vertices in co_location_groups(graph).items()
        ],
    )


def _chain(vertex: JobVertex) -> VertexPlan:
    return VertexPlan(
        vertex_id=vertex.vertex_id,
        name=vertex.name,
        parallelism=vertex.parallelism,
        max_parallelism=vertex.max_parallelism,
        sharing_group=vertex.sharing_group,
        chain=[
            OperatorPlan(
                operator.operator_id, operator.uid, operator.name, operator.kind, operator.description
            )
            for operator in vertex.chain
        ],
        co_location_group=vertex.co_location_group,
        managed_memory_weights=vertex.managed_memory_weights,
    )


def _sharing_groups(graph: JobGraph) -> list[GroupPlan]:
    profiles = resources_by_group(graph)
    vertices: dict[str, list[str]] = {}
    for vertex in graph.vertices:
        vertices.setdefault(vertex.sharing_group, []).append(vertex.vertex_id)
    return [
        GroupPlan(name, slots, vertices[name], _resources(profiles[name]))
        for name, slots in slots_by_group(graph.vertices).items()
    ]


def _resources(profile: ResourceProfile) -> ResourcesPlan:
    def asked(amount: int) -> int | None:
        return None if amount == EQUAL_SHARE else amount

    return ResourcesPlan(
        text=profile_text(profile),
        cpu_millis=asked(profile.cpu_millis),
        memory_bytes=asked(profile.memory_bytes),
        managed_memory_bytes=asked(profile.managed_memory_bytes),
        external=profile.external_amounts,
    )


def _channels(pointwise: bool, producers: int, consumers: int) -> int:
    return max(producers, consumers) if pointwise else producers * consumers


_PACT = {"source": "Data Source", "operator": "Operator", "sink": "Data Sink"}


def execution_plan(graph: StreamGraph) -> str:
    """The JSON that Flink's plan visualizer reads: operators before chaining, and their predecessors."""
    nodes: list[dict[str, object]] = []
    for node in graph.nodes.values():
        described: dict[str, object] = {
            "id": node.number,
            "type": node.name,
            "pact": _PACT[node.kind],
            "contents": node.description or node.name,
            "parallelism": node.parallelism,
        }
        predecessors = [
            {"id": edge.source, "ship_strategy": edge.partitioner.name, "side": "second"}
            for edge in graph.inputs_of(node.number)
        ]
        if predecessors:
            described["predecessors"] = predecessors
        nodes.append(described)
    return msgspec.json.format(msgspec.json.encode({"nodes": nodes}), indent=2).decode()
