"""Slot sharing groups with resources, and co-location: what is carried on and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from dataflows import Dataflow, job_graph

from zmflow.errors import JobGraphError, ProtocolError
from zmflow.graph.job_graph import SharingGroup, decode_job_graph, encode_job_graph
from zmflow.graph.sharing import impossible_amount, resources_by_group
from zmflow.graph.transformations import ChainingStrategy
from zmflow.protocol.resources import ResourceProfile

CORES = ResourceProfile(1500)
GPU = ResourceProfile(external=(("gpu", 1),))
PLAIN = ResourceProfile()


def test_groups_with_resources_reach_the_job_graph() -> None:
    """Those in use and asking for something, and only they, whoever inherits them."""
    flow = Dataflow()
    parsed = flow.map(flow.source(), sharing_group="parsers", sharing_resources=CORES)
    flow.sink(parsed)
    flow.sink(flow.map(parsed, sharing_group="models"), sharing_group="plain")
    graph = job_graph(flow.graph(sharing_resources={"models": GPU, "unused": CORES}))
    assert graph.sharing_groups == [SharingGroup("models", GPU), SharingGroup("parsers", CORES)]
    assert resources_by_group(graph) == {"default": PLAIN, "parsers": CORES, "models": GPU, "plain": PLAIN}
    assert decode_job_graph(encode_job_graph(graph)) == graph


def test_one_specification_may_be_given_often() -> None:
    """Registered and at two operators: the same is the same."""
    flow = Dataflow()
    source = flow.source(sharing_group="g", sharing_resources=CORES)
    flow.sink(source, sharing_group="g", sharing_resources=CORES)
    assert flow.graph(sharing_resources={"g": CORES}).sharing_resources == {"g": CORES}


@pytest.mark.parametrize(
    ("registered", "words"),
    [
        ({}, "1.5 cores at 'Source: S'; 1 gpu at 'Sink: K'"),
        ({"g": PLAIN}, "an equal share as registered; 1.5 cores at 'Source: S'"),
    ],
)
def test_two_specifications_of_one_group_are_refused(
    registered: dict[str, ResourceProfile], words: str
) -> None:
    """Both are said, with where they come from."""
    flow = Dataflow()
    source = flow.source(sharing_group="g", sharing_resources=CORES)
    flow.sink(source, sharing_group="g", sharing_resources=GPU)
    with pytest.raises(JobGraphError, match="group 'g' has two different specifications") as caught:
        flow.graph(sharing_resources=registered)
    assert words in (caught.value.detail or "")
    assert caught.value.hint


def test_a_vertex_carries_its_co_location_group() -> None:
    """Whether the head of its chain names it or a later operator."""
    flow = Dataflow()
    source = flow.source()
    flow.sink(flow.map(source, co_location_group="c"), co_location_group="c", chaining=ChainingStrategy.HEAD)
    graph = job_graph(flow.graph())
    assert [vertex.co_location_group for vertex in graph.vertices] == ["c", "c"]


@pytest.mark.parametrize(
    ("properties", "message", "detail"),
    [
        (
            {"sharing_group": "g"},
            "'c' has members in two slot sharing groups: 'Source: S' and 'Sink: K'",
            "'Source: S' is in the slot sharing group 'default', 'Sink: K' in 'g'",
        ),
        (
            {"parallelism": 3},
            "'c' has members of unequal parallelism: 'Source: S' and 'Sink: K'",
            "'Source: S' has parallelism 2, 'Sink: K' has 3",
        ),
    ],
)
def test_co_location_that_no_slot_can_keep_is_refused(
    properties: dict[str, object], message: str, detail: str
) -> None:
    """Both operators are named, with what differs and what to do."""
    flow = Dataflow()
    flow.sink(flow.map(flow.source(co_location_group="c"), "M"), co_location_group="c", **properties)
    with pytest.raises(JobGraphError, match=message) as caught:
        flow.graph()
    assert detail in (caught.value.detail or "")
    assert "co-location group" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("profile", "words"),
    [
        (PLAIN, ""),
        (ResourceProfile(1, 1, 0, (("fpga", 1), ("gpu", 2))), ""),
        (ResourceProfile(-2), "CPU is -2"),
        (ResourceProfile(10**9), "CPU is 1000000000"),
        (ResourceProfile(memory_bytes=0), "Memory is 0 bytes"),
        (ResourceProfile(memory_bytes=2**51), "Memory is"),
        (ResourceProfile(managed_memory_bytes=-5), "Managed memory is -5"),
        (ResourceProfile(memory_bytes=5, managed_memory_bytes=6), "more than the 5 bytes"),
        (ResourceProfile(external=(("gpu", 0),)), "'gpu' is 0"),
        (ResourceProfile(external=(("gpu", 10**9),)), "'gpu' is 1000000000"),
        (ResourceProfile(external=(("a b", 1),)), "is called 'a b'"),
        (ResourceProfile(external=(("gpu", 1), ("gpu", 1))), "each once"),
        (ResourceProfile(external=(("gpu", 1), ("fpga", 1))), "order of their names"),
        (ResourceProfile(external=tuple((f"r{i:02}", 1) for i in range(65))), "65 external resources"),
    ],
)
def test_amounts_that_no_slot_can_have(profile: ResourceProfile, words: str) -> None:
    """They are named with what is allowed; everything else is left to the TaskManagers."""
    assert words in impossible_amount(profile)
    assert bool(words) == bool(impossible_amount(profile))


@pytest.mark.parametrize(
    ("names", "words"),
    [(["nobody"], "without vertices"), (["default", "default"], "specifies a slot sharing group twice")],
)
def test_job_graphs_with_wrong_groups_are_refused(names: list[str], words: str) -> None:
    """A specification belongs to a group that is there, and each group has one."""
    flow = Dataflow()
    flow.sink(flow.source())
    graph = job_graph(flow.graph())
    graph.sharing_groups.extend(SharingGroup(name, CORES) for name in names)
    with pytest.raises(ProtocolError, match=words):
        decode_job_graph(encode_job_graph(graph))


@pytest.mark.parametrize("build", [Dataflow.source, Dataflow.sink], ids=["source", "sink"])
def test_a_lone_member_is_no_mistake(build: Callable[..., object]) -> None:
    """A group of one says nothing and does no harm."""
    flow = Dataflow()
    source = flow.source(co_location_group="c" if build is Dataflow.source else "")
    flow.sink(source, co_location_group="c" if build is Dataflow.sink else "")
    assert job_graph(flow.graph()).vertices[0].co_location_group == "c"
