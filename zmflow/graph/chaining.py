"""When two operators run in one task: Flink's rules as a table, one named predicate each.

Flink has eleven rules. Two speak of things that do not exist here: operators that yield inside
a legacy source (10), and operators whose factory may be unknown (4). Rules 2, 6 and 7 have exceptions for
multi-input heads and adaptive batch, which do not exist either. Whoever adds such a thing adds its rule.
Rule 12 is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zmflow.graph.partitioners import ForwardPartitioner
from zmflow.graph.stream_graph import StreamEdge, StreamGraph
from zmflow.graph.transformations import ChainingStrategy

__all__ = ["CHAINING_RULES", "ChainingRule", "broken_rules", "chain_parents", "is_chainable"]


@dataclass(frozen=True, slots=True)
class ChainingRule:
    """One condition; an edge is chained when all hold. ``number`` is Flink's."""

    number: int
    sentence: str
    holds: Callable[[StreamEdge, StreamGraph], bool]


def _enabled(edge: StreamEdge, graph: StreamGraph) -> bool:  # noqa: ARG001
    return graph.chaining


def _only_input(edge: StreamEdge, graph: StreamGraph) -> bool:
    return len(graph.inputs_of(edge.target)) == 1


def _same_group(edge: StreamEdge, graph: StreamGraph) -> bool:
    return graph.nodes[edge.source].sharing_group == graph.nodes[edge.target].sharing_group


def _upstream_allows(edge: StreamEdge, graph: StreamGraph) -> bool:
    return graph.nodes[edge.source].chaining is not ChainingStrategy.NEVER


def _downstream_allows(edge: StreamEdge, graph: StreamGraph) -> bool:
    return graph.nodes[edge.target].chaining is ChainingStrategy.ALWAYS


def _forward(edge: StreamEdge, graph: StreamGraph) -> bool:  # noqa: ARG001
    return isinstance(edge.partitioner, ForwardPartitioner)


def _same_parallelism(edge: StreamEdge, graph: StreamGraph) -> bool:
    return graph.nodes[edge.source].parallelism == graph.nodes[edge.target].parallelism


def _any_max_parallelism(edge: StreamEdge, graph: StreamGraph) -> bool:  # noqa: ARG001
    # Flink compares max parallelism only when an option, on by default, is switched off. There is no
    # such option here: a keyed operator heads its chain, so no state sees another max parallelism.
    return True


def _main_output(edge: StreamEdge, graph: StreamGraph) -> bool:  # noqa: ARG001
    # Flink chains side outputs too. Here a chain is a tree of compiled loops, in which they have no place;
    # the hand-over by reference to a task of the same slot costs little.
    return not edge.tag


def _only_edge_of_its_input(edge: StreamEdge, graph: StreamGraph) -> bool:
    return sum(other.input_index == edge.input_index for other in graph.inputs_of(edge.target)) == 1


CHAINING_RULES: tuple[ChainingRule, ...] = (
    ChainingRule(1, "chaining is enabled for the job", _enabled),
    ChainingRule(2, "the downstream operator has one input", _only_input),
    ChainingRule(3, "both are in one slot sharing group", _same_group),
    ChainingRule(5, "the upstream operator may be followed in its chain", _upstream_allows),
    ChainingRule(6, "the downstream operator may be preceded in its chain", _downstream_allows),
    ChainingRule(7, "records are forwarded, not repartitioned", _forward),
    ChainingRule(8, "both have the same parallelism", _same_parallelism),
    ChainingRule(9, "max parallelism may differ", _any_max_parallelism),
    ChainingRule(11, "no other edge feeds the same input", _only_edge_of_its_input),
    ChainingRule(12, "the records are those of the main output", _main_output),
)


def broken_rules(edge: StreamEdge, graph: StreamGraph) -> list[ChainingRule]:
    """The rules that keep the two operators of an edge in separate tasks; empty when they share one."""
    return [rule for rule in CHAINING_RULES if not rule.holds(edge, graph)]


def is_chainable(edge: StreamEdge, graph: StreamGraph) -> bool:
    """Whether the two operators of an edge run in one task."""
    return all(rule.holds(edge, graph) for rule in CHAINING_RULES)


def chain_parents(graph: StreamGraph) -> dict[int, int]:
    """The operator before each operator that is chained; an operator that is missing heads a chain.

    A chain is in one co-location group at most, as it runs as one task. Flink's rules speak of an edge, this
    one of all operators in front: whoever would bring a second group into a chain heads a new one.
    """
    parents: dict[int, int] = {}
    head_of: dict[int, int] = {}
    group_of: dict[int, str] = {}  # by head
    for number, node in graph.nodes.items():
        edges = graph.inputs_of(number)
        if edges and is_chainable(edges[0], graph):
            head = head_of[edges[0].source]
            if not node.co_location_group or group_of[head] in ("", node.co_location_group):
                parents[number] = edges[0].source
                head_of[number] = head
                group_of[head] = group_of[head] or node.co_location_group
                continue
        head_of[number] = number
        group_of[number] = node.co_location_group
    return parents
