"""Aggregates that are applied before their exchange as well, where only final values count."""

from __future__ import annotations

from dataclasses import replace

from zmflow.api.operators import KeyedAggregateOperator
from zmflow.graph.partitioners import HashPartitioner
from zmflow.graph.stream_graph import StreamEdge, StreamGraph

__all__ = ["combine_before_exchanges"]


def combine_before_exchanges(graph: StreamGraph) -> StreamGraph:
    """The graph, with aggregates that emit final values only applied before their exchange, too."""
    nodes, inputs = dict(graph.nodes), dict(graph.inputs)
    for number, node in graph.nodes.items():
        aggregate = node.operator
        if isinstance(aggregate, KeyedAggregateOperator) and aggregate.final_only:
            combined = [_combining_edge(edge, aggregate) for edge in inputs[number]]
            if None not in combined:
                inputs[number] = [edge for edge in combined if edge is not None]
                nodes[number] = replace(node, operator=replace(aggregate, precombined=True))
    return replace(graph, nodes=nodes, inputs=inputs)


def _combining_edge(edge: StreamEdge, aggregate: KeyedAggregateOperator) -> StreamEdge | None:
    if not isinstance(edge.partitioner, HashPartitioner):
        return None
    return replace(edge, partitioner=replace(edge.partitioner, combine=aggregate))
