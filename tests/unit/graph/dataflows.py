"""Builds transformations and graphs for the tests of this room, with operators that are plain text."""

from __future__ import annotations

import pickle
from typing import Any

from zmflow.graph.job_graph import JobGraph
from zmflow.graph.job_graph_generator import JobProperties, generate_job_graph
from zmflow.graph.stream_graph import GraphDefaults, StreamGraph, build_stream_graph
from zmflow.graph.transformations import Node, Transformation

__all__ = ["Dataflow", "job_graph"]


class Dataflow:
    """Numbers transformations as the API does, and remembers them."""

    def __init__(self, parallelism: int = 2) -> None:
        self.parallelism = parallelism
        self.nodes: list[Transformation] = []

    def add(self, kind: Any, name: str, *inputs: Node, **properties: Any) -> Transformation:
        """An operator; its specification is its name."""
        properties.setdefault("parallelism", self.parallelism)
        node = Transformation(len(self.nodes) + 1, kind, name, name, inputs, **properties)
        self.nodes.append(node)
        return node

    def source(self, name: str = "S", **properties: Any) -> Transformation:
        """An operator without inputs."""
        return self.add("source", name, **properties)

    def map(self, input: Node, name: str = "M", **properties: Any) -> Transformation:
        """An operator with one input."""
        return self.add("operator", name, input, **properties)

    def sink(self, input: Node, name: str = "K", **properties: Any) -> Transformation:
        """The end of a stream."""
        return self.add("sink", name, input, **properties)

    def graph(self, **defaults: Any) -> StreamGraph:
        """The StreamGraph of everything added."""
        return build_stream_graph(self.nodes, GraphDefaults(**defaults))


def job_graph(graph: StreamGraph) -> JobGraph:
    """The JobGraph, its chains pickled plainly."""
    return generate_job_graph(graph, JobProperties("job", {}), lambda spec, name: pickle.dumps(spec))
