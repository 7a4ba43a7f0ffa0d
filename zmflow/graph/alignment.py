"""Which sources wait for each other: the groups that watermark strategies name, as vertices.

A strategy can make a source pause only from its own task. So it is aligned where it is chained to a source,
wherever it stands in that chain, and not behind an exchange.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from zmflow.graph.chaining import chain_parents
from zmflow.graph.stream_graph import StreamGraph, StreamNode

__all__ = ["GroupOf", "aligned_nodes", "unaligned_nodes"]

GroupOf = Callable[[object], str]
"""The alignment group that an operator's specification names; "" for none."""


def aligned_nodes(graph: StreamGraph, head_of: Mapping[int, int], group_of: GroupOf) -> dict[int, str]:
    """The group of each operator that is aligned.

    Args:
        graph: a checked StreamGraph.
        head_of: the first operator of the chain of each.
        group_of: reads a specification, which is opaque here.
    """
    return {
        number: group
        for number, node in graph.nodes.items()
        if (group := group_of(node.operator)) and graph.nodes[head_of[number]].kind == "source"
    }


def unaligned_nodes(graph: StreamGraph, group_of: GroupOf) -> list[StreamNode]:
    """The operators that name a group and are not in the task of a source."""
    parents = chain_parents(graph)
    head_of: dict[int, int] = {}
    for number in graph.nodes:
        head_of[number] = head_of[parents[number]] if number in parents else number
    aligned = aligned_nodes(graph, head_of, group_of)
    return [node for number, node in graph.nodes.items() if number not in aligned and group_of(node.operator)]
