"""Chains, vertices, exchanges and slots, by example and against brute force."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from dataflows import Dataflow, job_graph
from hypothesis import given
from hypothesis import strategies as st

from zmflow.graph.chaining import is_chainable
from zmflow.graph.job_graph import ChainSpec, decode_job_graph, encode_job_graph
from zmflow.graph.partitioners import HashPartitioner, RebalancePartitioner
from zmflow.graph.plan import describe
from zmflow.graph.transformations import ChainingStrategy, Node, Partitioned, Union


def five_operators(**sink_side: Any) -> Dataflow:
    """source, filter, map, keyed sum, sink at parallelism 2."""
    flow = Dataflow(parallelism=2)
    mapped = flow.map(flow.map(flow.source("Numbers"), "Filter"), "Map")
    summed = flow.map(Partitioned(mapped, HashPartitioner(hash)), "Sum", **sink_side)
    flow.sink(summed, "Print")
    return flow


def totals(flow: Dataflow, **defaults: Any) -> tuple[int, int, int, int, int]:
    """Operators, vertices, subtasks, tasks, slots."""
    plan = describe(job_graph(flow.graph(**defaults)))
    return plan.operators, plan.vertices, plan.subtasks, plan.tasks, plan.slots_required


def test_worked_example_shares_slots() -> None:
    """10 subtasks in 2 chains and 4 tasks need 2 slots when the chains share them."""
    assert totals(five_operators()) == (5, 2, 10, 4, 2)


def test_worked_example_with_separate_groups() -> None:
    """The same chains in two sharing groups need 4 slots."""
    assert totals(five_operators(sharing_group="sums")) == (5, 2, 10, 4, 4)


def test_worked_example_without_chaining() -> None:
    """Without chaining there are 5 vertices and 10 tasks, and still 2 slots."""
    assert totals(five_operators(), chaining=False) == (5, 5, 10, 10, 2)


def test_names_show_the_chain() -> None:
    """A vertex is called by its operators; branches stand in parentheses."""
    flow = Dataflow()
    source = flow.source("X")
    flow.sink(flow.map(source, "A"), "Y")
    flow.map(source, "B")
    (vertex,) = job_graph(flow.graph()).vertices
    assert vertex.name == "Source: X -> (A -> Sink: Y, B)"


def test_chain_specs_are_trees_with_outputs() -> None:
    """A chain names each node's input, and which node feeds which exchange how."""
    flow = Dataflow()
    source = flow.source("X", buffer_timeout_ms=7)
    flow.sink(Partitioned(source, RebalancePartitioner()), "Y")
    flow.sink(flow.map(source, "A"), "Z")
    graph = job_graph(flow.graph())
    spec: ChainSpec = pickle.loads(graph.vertices[0].operators)
    assert [(node.name, node.operator, node.input) for node in spec.nodes] == [
        ("Source: X", "X", -1),
        ("A", "A", 0),
        ("Sink: Z", "Z", 1),
    ]
    (output,) = spec.outputs
    assert (output.edge_id, output.node, output.partitioner.name, output.buffer_timeout_ms) == (
        "e1",
        0,
        "REBALANCE",
        7,
    )


def test_a_stream_united_with_itself_has_two_edges() -> None:
    """Two edges between the same vertices stay two; both feed one gate."""
    flow = Dataflow()
    source = flow.source()
    flow.sink(Union((source, source)))
    edges = job_graph(flow.graph()).edges
    assert [(edge.edge_id, edge.source, edge.target, edge.input_index) for edge in edges] == [
        ("e1", "v1", "v2", 0),
        ("e2", "v1", "v2", 0),
    ]


@st.composite
def dataflows(draw: st.DrawFn) -> Dataflow:
    """Random dataflows of up to a dozen operators that every rule can apply to."""
    flow = Dataflow()
    groups = st.sampled_from([None, None, None, "a", "b"])
    strategies = st.sampled_from(
        [ChainingStrategy.ALWAYS] * 4 + [ChainingStrategy.HEAD, ChainingStrategy.NEVER]
    )
    count = draw(st.integers(1, 10))
    for index in range(count):
        properties = {
            "parallelism": draw(st.sampled_from([1, 2, 2, 2, 3])),
            "sharing_group": draw(groups),
            "chaining": draw(strategies),
        }
        if index == 0 or draw(st.integers(0, 5)) == 0:
            flow.source(f"o{index}", **properties)
            continue
        inputs: list[Node] = []
        for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
            node: Node = draw(st.sampled_from(flow.nodes))
            inputs.append(Partitioned(node, HashPartitioner(hash)) if draw(st.integers(0, 4)) == 0 else node)
        flow.map(inputs[0] if len(inputs) == 1 else Union(tuple(inputs)), f"o{index}", **properties)
    flow.sink(flow.nodes[-1])
    return flow


@given(dataflows(), st.booleans())
def test_chains_are_the_components_of_chainable_edges(flow: Dataflow, chaining: bool) -> None:
    """Vertices are what is connected by chainable edges; all other edges, and only they, are exchanges."""
    graph = flow.graph(chaining=chaining)
    component = {number: {number} for number in graph.nodes}
    for edge in graph.edges:
        if is_chainable(edge, graph):
            merged = component[edge.source] | component[edge.target]
            for number in merged:
                component[number] = merged
    expected = sorted({tuple(sorted(each)) for each in component.values()})
    built = job_graph(graph)
    by_id = {node.operator_id: number for number, node in graph.nodes.items()}
    found = [tuple(by_id[operator.operator_id] for operator in vertex.chain) for vertex in built.vertices]
    assert sorted(tuple(sorted(each)) for each in found) == expected
    home = {
        number: vertex.vertex_id
        for vertex, each in zip(built.vertices, found, strict=True)
        for number in each
    }
    assert sorted((edge.source, edge.target, edge.partitioner) for edge in built.edges) == sorted(
        (home[edge.source], home[edge.target], edge.partitioner.name)
        for edge in graph.edges
        if not is_chainable(edge, graph)
    )
    assert decode_job_graph(encode_job_graph(built)) == built  # topological order is checked here


@given(dataflows())
def test_slots_suffice_and_none_is_spare(flow: Dataflow) -> None:
    """Filling slots greedily, one subtask of each vertex at most and no two groups, takes slots_required."""
    built = job_graph(flow.graph())
    slots: list[tuple[str, set[str]]] = []
    for vertex in built.vertices:
        for _ in range(vertex.parallelism):
            place = next(
                (
                    names
                    for group, names in slots
                    if group == vertex.sharing_group and vertex.vertex_id not in names
                ),
                None,
            )
            if place is None:
                place = set()
                slots.append((vertex.sharing_group, place))
            place.add(vertex.vertex_id)
    assert describe(built).slots_required == len(slots)


@given(dataflows())
def test_every_output_of_a_chain_is_an_exchange(flow: Dataflow) -> None:
    """The outputs in the opaque chains and the edges of the JobGraph are the same set."""
    built = job_graph(flow.graph())
    in_chains = sorted(
        (output.edge_id, vertex.vertex_id)
        for vertex in built.vertices
        for output in pickle.loads(vertex.operators).outputs
    )
    assert in_chains == sorted((edge.edge_id, edge.source) for edge in built.edges)


@pytest.mark.parametrize("length", [1500])
def test_long_chains_are_no_problem(length: int) -> None:
    """A chain of many operators is built without recursion."""
    flow = Dataflow()
    node = flow.source()
    for _ in range(length):
        node = flow.map(node)
    flow.sink(node)
    (vertex,) = job_graph(flow.graph()).vertices
    assert len(vertex.chain) == length + 2
