"""From transformations to the StreamGraph: defaults, partitioners, ids, refusals."""

from __future__ import annotations

import pytest
from dataflows import Dataflow
from hypothesis import given
from hypothesis import strategies as st

from zmflow.errors import JobGraphError
from zmflow.graph.partitioners import (
    BroadcastPartitioner,
    ForwardPartitioner,
    HashPartitioner,
    RebalancePartitioner,
    ShufflePartitioner,
)
from zmflow.graph.stream_graph import GraphDefaults, StreamGraph, build_stream_graph, default_max_parallelism
from zmflow.graph.transformations import Partitioned, Transformation, Union, operators_before


def ids(graph: StreamGraph) -> dict[str, str]:
    """Operator ids by name."""
    return {node.name: node.operator_id for node in graph.nodes.values()}


def test_default_partitioner_follows_parallelism() -> None:
    """FORWARD between equals, REBALANCE otherwise."""
    flow = Dataflow()
    source = flow.source()
    flow.sink(source)
    flow.sink(source, parallelism=3)
    assert [edge.partitioner.name for edge in flow.graph().edges] == ["FORWARD", "REBALANCE"]


def test_the_last_partitioner_counts() -> None:
    """Of several partitioners in a row the one written last decides."""
    flow = Dataflow()
    node = Partitioned(Partitioned(flow.source(), ShufflePartitioner()), BroadcastPartitioner())
    flow.sink(node)
    assert [edge.partitioner.name for edge in flow.graph().edges] == ["BROADCAST"]


def test_a_partitioner_reaches_through_a_union() -> None:
    """Partitioning a union partitions each input that is not partitioned behind it."""
    flow = Dataflow()
    one, two = flow.source("A"), flow.source("B")
    flow.sink(Partitioned(Union((one, Partitioned(two, ShufflePartitioner()))), RebalancePartitioner()))
    flow.sink(Union((one, Partitioned(two, ShufflePartitioner()))))
    assert [edge.partitioner.name for edge in flow.graph().edges] == [
        "REBALANCE",
        "REBALANCE",
        "FORWARD",
        "SHUFFLE",
    ]


def test_deep_nesting_is_no_problem() -> None:
    """A stream that was partitioned in a long loop is resolved without recursion."""
    flow = Dataflow()
    node: Partitioned | Transformation = flow.source()
    for _ in range(5000):
        node = Partitioned(node, RebalancePartitioner())
    flow.sink(node)
    assert len(flow.graph().edges) == 1


def test_only_what_leads_to_the_roots_is_built() -> None:
    """Operators of other jobs of the environment stay out."""
    flow = Dataflow()
    flow.sink(flow.source("A"))
    second = flow.sink(flow.source("B"))
    assert [item.name for item in operators_before([second])] == ["B", "K"]


def test_groups_are_inherited() -> None:
    """An operator is in its inputs' group where they agree, in the default group otherwise."""
    flow = Dataflow()
    one, two = flow.source("A", sharing_group="g"), flow.source("B")
    flow.map(one, "M1")
    flow.sink(Union((one, two)), "K1")
    groups = {node.name: node.sharing_group for node in flow.graph().nodes.values()}
    assert groups == {"Source: A": "g", "Source: B": "default", "M1": "g", "Sink: K1": "default"}


@given(st.integers(1, 32768))
def test_default_max_parallelism_is_flinks(parallelism: int) -> None:
    """The smallest power of two that is at least 1.5 times the parallelism, between 128 and 32768."""
    wanted = min(max(parallelism + parallelism // 2, 128), 32768)
    found = default_max_parallelism(parallelism)
    assert found & (found - 1) == 0
    assert found >= wanted
    assert found // 2 < wanted


def test_ids_are_stable() -> None:
    """Names, parallelism and later branches do not change the id of an operator; its inputs do."""

    def build(
        *, parallelism: int = 2, name: str = "M", branch: bool = False, hashed: bool = False
    ) -> StreamGraph:
        flow = Dataflow(parallelism)
        source = flow.source()
        node = Partitioned(source, HashPartitioner(hash)) if hashed else source
        flow.sink(flow.map(node, name), parallelism=1)
        if branch:
            flow.sink(flow.map(source, "other"), "other")
        return flow.graph()

    plain = ids(build())
    assert ids(build(parallelism=4))["M"] == plain["M"]
    assert ids(build(name="renamed"))["renamed"] == plain["M"]
    assert ids(build(branch=True))["M"] == plain["M"]
    assert ids(build(hashed=True))["M"] != plain["M"]


def test_ids_are_distinct() -> None:
    """Operators that look the same have different ids."""
    flow = Dataflow()
    source = flow.source()
    for _ in range(5):
        flow.sink(flow.map(source))
    assert len({node.operator_id for node in flow.graph().nodes.values()}) == 11


def test_a_uid_is_the_id() -> None:
    """An operator with a uid keeps its id wherever it moves."""
    first, second = Dataflow(), Dataflow()
    first.sink(first.source(uid="x"))
    second.sink(second.map(second.source(), "M", uid="x"))
    assert ids(first.graph())["Source: S"] == ids(second.graph())["M"]


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda flow: None, "no operators"),
        (lambda flow: flow.map(flow.source()), "'M' goes nowhere|no sink"),
        (lambda flow: flow.sink(flow.source(uid="u"), uid="u"), "uid 'u'.*\n.*'Source: S', 'Sink: K'"),
        (lambda flow: flow.sink(flow.source(), parallelism=0), "'Sink: K' has parallelism 0"),
        (lambda flow: flow.sink(flow.source(), parallelism=-1), "'Sink: K' has parallelism -1"),
        (lambda flow: flow.sink(flow.source(), parallelism=40000), "parallelism 40000"),
        (
            lambda flow: flow.sink(flow.source(), parallelism=4, max_parallelism=3),
            "parallelism 4 and max parallelism 3",
        ),
        (
            lambda flow: flow.sink(Partitioned(flow.source(), ForwardPartitioner()), parallelism=4),
            "forward.*'Source: S' and 'Sink: K'",
        ),
    ],
)
def test_refusals(build: object, words: str) -> None:
    """What cannot run is refused with the operator's name."""
    flow = Dataflow()
    build(flow)  # type: ignore[operator]
    with pytest.raises(JobGraphError, match=words) as caught:
        flow.graph()
    assert caught.value.hint


def test_operators_are_prepared() -> None:
    """The caller may change each operator's specification on the way."""
    flow = Dataflow()
    flow.sink(flow.source())
    graph = build_stream_graph(flow.nodes, GraphDefaults(), lambda operator: f"<{operator}>")
    assert [node.operator for node in graph.nodes.values()] == ["<S>", "<K>"]


def test_non_parallel_operators_have_one_key_group() -> None:
    """An operator that is not parallel cannot become so: its max parallelism is 1."""
    flow = Dataflow()
    flow.sink(flow.source(parallelism=1, non_parallel=True))
    assert [node.max_parallelism for node in flow.graph(max_parallelism=64).nodes.values()] == [1, 64]
