"""Managed memory: who is given which part of a slot's."""

from __future__ import annotations

from fractions import Fraction

import pytest
from dataflows import Dataflow, job_graph
from hypothesis import given
from hypothesis import strategies as st

from zmflow.config import Settings
from zmflow.config.options import CONSUMER_WEIGHTS
from zmflow.coordination.slot_sharing import share_slots
from zmflow.graph.job_graph import JobGraph, JobVertex
from zmflow.graph.managed_memory import (
    WEIGHT_MAX,
    managed_memory_shares,
    share_bytes,
    using_state_backends,
)
from zmflow.graph.partitioners import HashPartitioner
from zmflow.graph.transformations import ChainingStrategy, Partitioned

DEFAULT_WEIGHTS = Settings()[CONSUMER_WEIGHTS]


def job(*vertices: tuple[str, int, dict[str, int]]) -> JobGraph:
    """Vertices v1, v2 ... of (sharing group, parallelism, weights)."""
    return JobGraph(
        "job",
        [
            JobVertex(f"v{i}", f"v{i}", parallelism, 32768, group, [], b"", "", weights)
            for i, (group, parallelism, weights) in enumerate(vertices, start=1)
        ],
        [],
        {},
        [],
        "STREAMING",
    )


def test_one_use_case_gets_everything() -> None:
    """Only use cases that occur in the group count; those who declare nothing get nothing."""
    graph = job(("a", 1, {"OPERATOR": 1}), ("a", 1, {"OPERATOR": 3}), ("a", 1, {}))
    assert managed_memory_shares(graph, DEFAULT_WEIGHTS) == {
        "v1": {"OPERATOR": 0.25},
        "v2": {"OPERATOR": 0.75},
        "v3": {},
    }


def test_use_cases_divide_by_consumer_weight_and_state_backends_share() -> None:
    """70 to 70 is a half each; all users of the state backend are given the one pool of their slot."""
    graph = job(
        ("a", 2, {"STATE_BACKEND": 1}),
        ("a", 2, {"OPERATOR": 1, "STATE_BACKEND": 1}),
        ("a", 2, {"OPERATOR": 1}),
        ("b", 2, {"STATE_BACKEND": 1}),
    )
    assert managed_memory_shares(graph, DEFAULT_WEIGHTS) == {
        "v1": {"STATE_BACKEND": 0.5},
        "v2": {"OPERATOR": 0.25, "STATE_BACKEND": 0.5},
        "v3": {"OPERATOR": 0.25},
        "v4": {"STATE_BACKEND": 1.0},
    }
    shares = managed_memory_shares(graph, {"OPERATOR": 30, "STATE_BACKEND": 10})
    assert (shares["v1"], shares["v3"]) == ({"STATE_BACKEND": 0.25}, {"OPERATOR": 0.375})


@pytest.mark.parametrize("weights", [{}, {"STATE_BACKEND": 70}, {"OPERATOR": 0}])
def test_a_use_case_without_consumer_weight_gets_nothing(weights: dict[str, int]) -> None:
    """As in Flink; nothing is divided by zero."""
    assert managed_memory_shares(job(("a", 1, {"OPERATOR": 5})), weights) == {"v1": {"OPERATOR": 0.0}}


def test_weights_of_operators_reach_their_vertex() -> None:
    """A chain has the sum of its operators' weights, and one claim to the state backend's pool."""
    flow = Dataflow()
    first = flow.map(flow.source(), managed_memory_weights={"OPERATOR": 2, "STATE_BACKEND": 1})
    second = flow.map(first, managed_memory_weights={"OPERATOR": 1, "STATE_BACKEND": 1})
    flow.sink(second, chaining=ChainingStrategy.HEAD)
    vertices = job_graph(flow.graph()).vertices
    assert [vertex.managed_memory_weights for vertex in vertices] == [{"OPERATOR": 3, "STATE_BACKEND": 1}, {}]


def test_operators_of_keyed_streams_use_the_state_backends_pool() -> None:
    """Flink declares it for them as well; those before and after do not."""
    flow = Dataflow()
    keyed = Partitioned(flow.map(flow.source()), HashPartitioner(hash))
    counted = flow.map(keyed, "counts", managed_memory_weights={"OPERATOR": 2})
    flow.sink(counted)
    nodes = using_state_backends(flow.graph()).nodes.values()
    declared = {node.name: node.managed_memory_weights for node in nodes if node.managed_memory_weights}
    assert declared == {"counts": {"OPERATOR": 2, "STATE_BACKEND": 1}}


weights_of_vertices = st.fixed_dictionaries(
    {},
    optional={"OPERATOR": st.integers(1, 9) | st.integers(1, WEIGHT_MAX), "STATE_BACKEND": st.just(1)},
)
graphs = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(1, 3), weights_of_vertices), min_size=1, max_size=8
).map(lambda vertices: job(*vertices))
consumers = st.fixed_dictionaries({}, optional={use: st.integers(0, 10**9 - 1) for use in DEFAULT_WEIGHTS})


@given(graphs, consumers, st.integers(0, 2**50))
def test_a_slot_never_gives_more_than_it_has(graph: JobGraph, weights: dict[str, int], size: int) -> None:
    """Operators and one state backend, as fractions and in bytes, in every slot."""
    shares = managed_memory_shares(graph, weights)
    for slot in share_slots(graph):
        held = [shares[vertex_id] for vertex_id, _ in slot.subtasks]
        operators = [each.get("OPERATOR", 0.0) for each in held]
        backend = max((each.get("STATE_BACKEND", 0.0) for each in held), default=0.0)
        assert sum(operators) + backend <= 1
        assert sum(share_bytes(each, size) for each in operators) + share_bytes(backend, size) <= size


@given(graphs, consumers)
def test_shares_are_the_exact_quotients_but_for_rounding(graph: JobGraph, weights: dict[str, int]) -> None:
    """Against fractions: the weight among present use cases, times the part of the group's weight."""
    shares = managed_memory_shares(graph, weights)
    for vertex in graph.vertices:
        group = [each for each in graph.vertices if each.sharing_group == vertex.sharing_group]
        present = {use for each in group for use in each.managed_memory_weights}
        total = sum(weights.get(use, 0) for use in present)
        assert set(shares[vertex.vertex_id]) == set(vertex.managed_memory_weights)
        for use, found in shares[vertex.vertex_id].items():
            exact = Fraction(weights.get(use, 0), total) if total else Fraction(0)
            if use == "OPERATOR":
                declared = sum(each.managed_memory_weights.get(use, 0) for each in group)
                exact *= Fraction(vertex.managed_memory_weights[use], declared)
            assert 0 <= exact - Fraction(found) < Fraction(1, 2**51)
