"""What a seed decides before anything happens: the job, its checkpoints, and how much is to go wrong."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from random import Random
from typing import Literal

from zmflow.api.operators import SourceOperator
from zmflow.config import Settings
from zmflow.graph.job_graph import ChainNode, ChainSpec, JobEdge, JobGraph, JobOperator, JobVertex
from zmflow.testing.simulation.dataflow.program import Numbers

__all__ = ["Plan", "PlannedVertex", "draw_plan"]


@dataclass(frozen=True, slots=True)
class PlannedVertex:
    """A vertex: what its chain does, where its records come from and how they are spread."""

    name: str
    kinds: tuple[str, ...]  # source, count, sink
    inputs: tuple[str, ...] = ()
    partitioner: str = ""
    source: Numbers | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What a seed decides."""

    vertices: tuple[PlannedVertex, ...]
    max_parallelism: int
    keys: int
    exactly_once: bool
    settings: Settings
    faults: int  # how many are tried
    spread: int  # steps within which they are
    keeps: bool  # writers keep some rows over a checkpoint
    values: bool  # counts are kept as ``reduce`` keeps them; else in a state backend
    pressed: bool  # tasks with inputs lag behind those that feed them, and barriers overtake what waits

    def graph(self, chance: Random) -> JobGraph:
        """The job, at a parallelism of which each vertex has its own; forward pairs have the same."""
        wide: dict[str, int] = {}
        vertices, edges = [], []
        for vertex in self.vertices:
            forward = vertex.partitioner == "FORWARD"
            wide[vertex.name] = wide[vertex.inputs[0]] if forward else chance.randint(1, 3)
            if forward:  # all inputs are as wide as the first
                for name in vertex.inputs:
                    wide[name] = wide[vertex.name]
        for vertex in self.vertices:
            chain = [JobOperator(f"{vertex.name}-{kind}", "", kind, _KINDS[kind]) for kind in vertex.kinds]
            spec = ChainSpec(
                [
                    ChainNode(each.operator_id, each.name, self._operator(vertex, each), at - 1)
                    for at, each in enumerate(chain)
                ]
            )
            code = pickle.dumps(spec, protocol=5)
            most = self.max_parallelism
            vertices.append(
                JobVertex(vertex.name, vertex.name, wide[vertex.name], most, "default", chain, code)
            )
            edges += [
                JobEdge(f"{name}>{vertex.name}", name, vertex.name, 0, vertex.partitioner, forward)
                for name in vertex.inputs
                for forward in [vertex.partitioner == "FORWARD"]
            ]
        return JobGraph("dataflow", vertices, edges, {}, [], "STREAMING")

    @staticmethod
    def _operator(vertex: PlannedVertex, operator: JobOperator) -> object:
        return SourceOperator(vertex.source) if operator.kind == "source" and vertex.source else None

    @property
    def numbers(self) -> list[int]:
        """Every record of every source."""
        return [
            number
            for vertex in self.vertices
            if vertex.source is not None
            for _, first, end in vertex.source.splits
            for number in range(first, end)
        ]

    @property
    def sinks(self) -> dict[str, list[int]]:
        """By the name of its vertex, the records each sink is to see."""
        by_source: dict[str, list[int]] = {}
        for vertex in self.vertices:
            if vertex.source is not None:
                own = [n for _, first, end in vertex.source.splits for n in range(first, end)]
                by_source[vertex.name] = own
            else:
                by_source[vertex.name] = [n for name in vertex.inputs for n in by_source[name]]
        return {vertex.name: by_source[vertex.name] for vertex in self.vertices if "sink" in vertex.kinds}


_KINDS: dict[str, Literal["source", "operator", "sink"]] = {
    "source": "source",
    "count": "operator",
    "sink": "sink",
}

SHAPES: tuple[tuple[tuple[tuple[str, tuple[str, ...], tuple[str, ...], str], ...], int], ...] = (
    (
        (
            ("numbers", ("source",), (), ""),
            ("count", ("count",), ("numbers",), "HASH"),
            ("place", ("sink",), ("count",), "FORWARD"),
        ),
        4,
    ),
    (
        (
            ("numbers", ("source",), (), ""),
            ("more", ("source",), (), ""),
            ("count", ("count", "sink"), ("numbers", "more"), "HASH"),
        ),
        4,
    ),
    (
        (
            ("numbers", ("source",), (), ""),
            ("count", ("count",), ("numbers",), "HASH"),
            ("place", ("sink",), ("count",), "REBALANCE"),
        ),
        2,
    ),
    ((("numbers", ("source",), (), ""), ("place", ("sink",), ("numbers",), "FORWARD")), 3),
    ((("numbers", ("source", "sink"), (), ""),), 1),
    (
        (
            ("numbers", ("source", "sink"), (), ""),
            ("count", ("count", "sink"), ("numbers",), "HASH"),
        ),
        2,
    ),
)
"""Vertices with the kinds of their chain, their inputs and how these are spread; and how often each is."""


def draw_plan(chance: Random, alignment: Random) -> Plan:
    """Draw everything a seed decides beforehand.

    Args:
        alignment: how long barriers wait is drawn from numbers of their own, so that the rest of what a seed
            decides is as it was before they could overtake.
    """
    shape = chance.choices([shape for shape, _ in SHAPES], [weight for _, weight in SHAPES])[0]
    vertices, first = [], 0
    for name, kinds, inputs, partitioner in shape:
        source = None
        if "source" in kinds:
            splits = []
            for index in range(chance.randint(1, 7)):
                size = chance.randint(1, 12)
                splits.append((f"{name}-{index}", first, first + size))
                first += size
            source = Numbers(tuple(splits), chance.randint(1, 5))
        vertices.append(PlannedVertex(name, kinds, inputs, partitioner, source))
    exactly_once = chance.random() < 0.85
    interval = chance.choice((10, 20, 40, 80))
    tolerated, timeout = chance.choice(((0, 5000), (3, 5000), (1000, 5000), (1000, 400), (1000, 100)))
    settings = {
        "execution.checkpointing.interval": f"{interval} ms",
        "execution.checkpointing.timeout": f"{timeout} ms",
        "execution.checkpointing.max-concurrent-checkpoints": str(chance.choice((1, 1, 2, 3))),
        "execution.checkpointing.tolerable-failed-checkpoints": str(tolerated),
        "execution.checkpointing.unaligned.enabled": alignment.choice(("true", "true", "false")),
        "execution.checkpointing.aligned-checkpoint-timeout": f"{alignment.choice((0, 5, 20, 5000))} ms",
        "execution.checkpointing.mode": "EXACTLY_ONCE" if exactly_once else "AT_LEAST_ONCE",
        "execution.checkpointing.dir": chance.choice(("", "memory:///checkpoints")),
        "execution.checkpointing.num-retained": str(chance.choice((1, 1, 3))),
    }
    pressed = alignment.random() < 0.3
    if pressed:
        settings["execution.checkpointing.max-concurrent-checkpoints"] = "1"
        settings["execution.checkpointing.unaligned.enabled"] = "true"
        settings["execution.checkpointing.aligned-checkpoint-timeout"] = f"{alignment.choice((0, 0, 3))} ms"
    return Plan(
        tuple(vertices),
        chance.choice((3, 4, 8, 16)),
        chance.randint(1, 9),
        exactly_once,
        Settings().with_values(settings, "the plan"),
        chance.choice((0, 1, 2, 3, 5, 8)),
        chance.choice((100, 300, 600)),
        chance.random() < 0.4,
        chance.random() < 0.4,
        pressed,
    )
