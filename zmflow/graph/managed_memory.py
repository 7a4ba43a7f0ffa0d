"""Managed memory: which part of its slot's each vertex is given, by use case. Flink's rules.

Two steps divide a slot's managed memory. The use cases that occur in the sharing group get parts of it by
their consumer weights, a setting. Then the use case is divided by its scope:

* OPERATOR has operator scope: each operator declares a weight and gets that part of the use case, out of
  the weights of all operators of the group.
* STATE_BACKEND has slot scope: all that use it share one pool in the slot, so each vertex is given the
  whole part, and it is taken from the slot once.

The weights are those of the whole group, also in a slot that holds fewer of its vertices because they are
less parallel: a task has the same memory wherever it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from zmflow.graph.partitioners import HashPartitioner

if TYPE_CHECKING:
    from zmflow.graph.job_graph import JobGraph, JobVertex
    from zmflow.graph.stream_graph import StreamGraph

__all__ = [
    "OPERATOR",
    "STATE_BACKEND",
    "USE_CASES",
    "WEIGHT_MAX",
    "managed_memory_shares",
    "share_bytes",
    "using_state_backends",
    "vertex_weights",
]

OPERATOR = "OPERATOR"  # operator scope
STATE_BACKEND = "STATE_BACKEND"  # slot scope
USE_CASES = (OPERATOR, STATE_BACKEND)
"""One use case of each scope so far. Flink's third, PYTHON, is for worker processes beside the JVM."""

WEIGHT_MAX = 2**31 - 1
"""Largest weight of an operator: weights are Java's ints in Flink."""

_UNIT = 2**52
"""Shares are whole multiples of 1/2^52, rounded down: such floats add up without error, so the shares of
a slot never come to more than 1."""


def using_state_backends(graph: StreamGraph) -> StreamGraph:
    """The graph with STATE_BACKEND declared for all operators of keyed streams: their backends use it."""
    nodes = dict(graph.nodes)
    for edge in graph.edges:
        if isinstance(edge.partitioner, HashPartitioner):
            node = nodes[edge.target]
            weights = {**node.managed_memory_weights, STATE_BACKEND: 1}
            nodes[edge.target] = replace(node, managed_memory_weights=weights)
    return replace(graph, nodes=nodes)


def vertex_weights(operators: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The weights of a chain from those of its operators: summed in operator scope, 1 in slot scope.

    >>> vertex_weights([{"OPERATOR": 2}, {"OPERATOR": 3, "STATE_BACKEND": 1}, {"STATE_BACKEND": 1}])
    {'OPERATOR': 5, 'STATE_BACKEND': 1}
    """
    total: Counter[str] = Counter()
    for weights in operators:
        total.update(weights)
    return {use_case: 1 if use_case == STATE_BACKEND else total[use_case] for use_case in sorted(total)}


def managed_memory_shares(graph: JobGraph, weights: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """The part of its slot's managed memory that each vertex is given, by vertex id and use case.

    A vertex that declares nothing is given nothing. In each slot the OPERATOR shares and one STATE_BACKEND
    share are at most 1 together.

    Args:
        graph: the job.
        weights: consumer weights by use case; a use case without one gets nothing.
    """
    groups: dict[str, list[JobVertex]] = {}
    for vertex in graph.vertices:
        groups.setdefault(vertex.sharing_group, []).append(vertex)
    shares: dict[str, dict[str, float]] = {}
    for vertices in groups.values():
        declared: Counter[str] = Counter()
        for vertex in vertices:
            declared.update(vertex.managed_memory_weights)
        total = sum(weights.get(use_case, 0) for use_case in declared)
        units = {use_case: _UNIT * weights.get(use_case, 0) // total if total else 0 for use_case in declared}
        for vertex in vertices:
            shares[vertex.vertex_id] = {
                use_case: _part(use_case, units[use_case], weight, declared[use_case]) / _UNIT
                for use_case, weight in vertex.managed_memory_weights.items()
            }
    return shares


def _part(use_case: str, units: int, weight: int, weight_of_group: int) -> int:
    return units if use_case == STATE_BACKEND else units * weight // weight_of_group


def share_bytes(share: float, size_bytes: int) -> int:
    """A share of a slot's managed memory in bytes, rounded down; without the rounding up of a float product.

    >>> share_bytes(0.5, 101), share_bytes(1.0, 2**60 + 1) == 2**60 + 1
    (50, True)
    """
    return int(share * _UNIT) * size_bytes // _UNIT
