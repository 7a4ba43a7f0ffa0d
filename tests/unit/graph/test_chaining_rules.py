"""Each chaining rule, broken alone."""

from __future__ import annotations

from typing import Any

import pytest
from dataflows import Dataflow, job_graph
from hypothesis import given
from hypothesis import strategies as st

from zmflow.graph.chaining import CHAINING_RULES, broken_rules, chain_parents, is_chainable
from zmflow.graph.partitioners import (
    BroadcastPartitioner,
    ForwardPartitioner,
    GlobalPartitioner,
    HashPartitioner,
    RebalancePartitioner,
    RescalePartitioner,
    ShufflePartitioner,
)
from zmflow.graph.transformations import ChainingStrategy, Partitioned, SideOutput, Union


def broken(flow: Dataflow, **defaults: Any) -> list[int]:
    """Numbers of the rules broken by the edge into the operator added last."""
    graph = flow.graph(**defaults)
    return [rule.number for rule in broken_rules(graph.edges[-1], graph)]


def test_equal_neighbours_are_chained() -> None:
    """A forward edge between operators that agree in everything breaks no rule."""
    flow = Dataflow()
    flow.sink(flow.source())
    assert broken(flow) == []
    graph = flow.graph()
    assert is_chainable(graph.edges[0], graph)


def test_chaining_can_be_switched_off() -> None:
    """Rule 1: without chaining nothing is chained."""
    flow = Dataflow()
    flow.sink(flow.source())
    assert broken(flow, chaining=False) == [1]


def test_a_union_is_never_chained() -> None:
    """Rules 2 and 11: an operator with two input edges, also from one operator, heads a chain."""
    flow = Dataflow()
    source = flow.source()
    flow.sink(Union((source, source)))
    assert broken(flow) == [2, 11]


def test_groups_are_not_mixed() -> None:
    """Rule 3: operators of two slot sharing groups run in two tasks."""
    flow = Dataflow()
    flow.sink(flow.source(), sharing_group="other")
    assert broken(flow) == [3]


@pytest.mark.parametrize(
    ("upstream", "downstream", "expected"),
    [
        (ChainingStrategy.ALWAYS, ChainingStrategy.ALWAYS, []),
        (ChainingStrategy.HEAD, ChainingStrategy.ALWAYS, []),
        (ChainingStrategy.NEVER, ChainingStrategy.ALWAYS, [5]),
        (ChainingStrategy.ALWAYS, ChainingStrategy.HEAD, [6]),
        (ChainingStrategy.ALWAYS, ChainingStrategy.NEVER, [6]),
        (ChainingStrategy.NEVER, ChainingStrategy.NEVER, [5, 6]),
    ],
)
def test_strategies(upstream: ChainingStrategy, downstream: ChainingStrategy, expected: list[int]) -> None:
    """Rules 5 and 6: HEAD breaks the chain before an operator, NEVER before and behind it."""
    flow = Dataflow()
    flow.sink(flow.source(chaining=upstream), chaining=downstream)
    assert broken(flow) == expected


@pytest.mark.parametrize(
    "partitioner",
    [
        RebalancePartitioner(),
        RescalePartitioner(),
        ShufflePartitioner(),
        BroadcastPartitioner(),
        GlobalPartitioner(),
        HashPartitioner(hash),
    ],
    ids=lambda partitioner: partitioner.name,
)
def test_only_forwarded_records_stay_in_a_task(partitioner: Any) -> None:
    """Rule 7: every partitioner but FORWARD ends the chain, also at parallelism 1."""
    flow = Dataflow(parallelism=1)
    flow.sink(Partitioned(flow.source(), partitioner))
    assert broken(flow) == [7]


def test_an_explicit_forward_is_chained() -> None:
    """forward() does not end the chain."""
    flow = Dataflow()
    flow.sink(Partitioned(flow.source(), ForwardPartitioner()))
    assert broken(flow) == []


def test_unequal_parallelism_ends_the_chain() -> None:
    """Rules 7 and 8: where parallelism differs, records are rebalanced to another task."""
    flow = Dataflow()
    flow.sink(flow.source(), parallelism=3)
    assert broken(flow) == [7, 8]


def test_max_parallelism_may_differ() -> None:
    """Rule 9: operators of unequal max parallelism are chained, as Flink does by default."""
    flow = Dataflow()
    flow.sink(flow.source(max_parallelism=256), max_parallelism=512)
    assert broken(flow) == []


def test_side_outputs_end_the_chain() -> None:
    """Rule 12: what an operator gives a tag goes to tasks of its own."""
    flow = Dataflow()
    flow.sink(SideOutput(flow.source(), "late"))
    assert broken(flow) == [12]


def test_the_table_is_flinks() -> None:
    """The rules carry Flink's numbers; 4 and 10 are about things that do not exist here, 12 is ours."""
    assert [rule.number for rule in CHAINING_RULES] == [1, 2, 3, 5, 6, 7, 8, 9, 11, 12]
    assert all(rule.sentence for rule in CHAINING_RULES)


def test_members_of_one_co_location_group_are_chained() -> None:
    """A chain runs as one task, so what it holds is co-located anyway; the vertex carries the group."""
    flow = Dataflow()
    flow.sink(flow.map(flow.source(), co_location_group="c"), co_location_group="c")
    (vertex,) = job_graph(flow.graph()).vertices
    assert (len(vertex.chain), vertex.co_location_group) == (3, "c")


def test_a_chain_is_in_one_co_location_group() -> None:
    """Who would bring a second group into a chain heads a new one, also where others stand between."""
    flow = Dataflow()
    first = flow.source("A", co_location_group="one")
    flow.sink(flow.map(flow.map(first, "B"), "C", co_location_group="two"), "D")
    vertices = job_graph(flow.graph()).vertices
    assert [(vertex.name, vertex.co_location_group) for vertex in vertices] == [
        ("Source: A -> B", "one"),
        ("C -> Sink: D", "two"),
    ]


def test_branches_of_a_chain_are_in_one_co_location_group() -> None:
    """Of two branches in two groups the one written first stays in the chain."""
    flow = Dataflow()
    source = flow.source("A")
    flow.sink(source, "B", co_location_group="one")
    flow.sink(source, "C", co_location_group="two")
    assert chain_parents(flow.graph()) == {2: 1}


@given(st.data())
def test_only_co_location_separates_what_is_chainable(data: st.DataObject) -> None:
    """No chain has two groups, and no operator was kept out of a chain whose group it could be in."""
    flow = Dataflow()
    keys = st.sampled_from(["", "", "one", "two"])
    flow.source(co_location_group=data.draw(keys))
    for _ in range(data.draw(st.integers(1, 10))):
        flow.map(data.draw(st.sampled_from(flow.nodes)), co_location_group=data.draw(keys))
    flow.sink(flow.nodes[-1])
    graph = flow.graph()
    parents = chain_parents(graph)
    chain_of: dict[int, list[int]] = {}
    for number in graph.nodes:
        chain_of[number] = chain_of[parents[number]] if number in parents else []
        chain_of[number].append(number)

    def groups(numbers: list[int]) -> set[str]:
        return {graph.nodes[number].co_location_group for number in numbers} - {""}

    assert all(len(groups(chain)) <= 1 for chain in chain_of.values())
    for edge in graph.edges:
        if is_chainable(edge, graph) and edge.target not in parents:
            earlier = [number for number in chain_of[edge.source] if number < edge.target]
            assert len(groups([*earlier, edge.target])) == 2
