"""Slots, sharing and co-location of random jobs, against a check that knows nothing of how they are found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import combinations, product

from dataflows import Dataflow, job_graph
from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.slot_sharing import share_slots
from zmflow.graph.job_graph import JobGraph, decode_job_graph, encode_job_graph
from zmflow.graph.partitioners import HashPartitioner
from zmflow.graph.plan import describe
from zmflow.graph.sharing import slots_required
from zmflow.graph.transformations import ChainingStrategy, Node, Partitioned, Union

Subtask = tuple[str, int]


@dataclass(frozen=True)
class _Kind:
    """What members of a co-location group must agree on."""

    parallelism: int
    sharing_group: str


@st.composite
def jobs(draw: st.DrawFn) -> JobGraph:
    """Jobs of up to a dozen operators in three sharing groups, with co-location where it is allowed."""
    flow = Dataflow()
    kinds: dict[str, _Kind] = {}
    for index in range(draw(st.integers(1, 10))):
        kind = _Kind(draw(st.integers(1, 4)), draw(st.sampled_from(["default", "a", "b"])))
        key = draw(st.sampled_from(["", "", "k", "l", "m"]))
        if key:
            kind = kinds.setdefault(key, kind)
        properties = {
            "parallelism": kind.parallelism,
            "sharing_group": kind.sharing_group,
            "co_location_group": key,
            "chaining": draw(st.sampled_from([ChainingStrategy.ALWAYS, ChainingStrategy.HEAD])),
        }
        if index == 0 or draw(st.integers(0, 4)) == 0:
            flow.source(f"o{index}", **properties)
            continue
        inputs: list[Node] = draw(st.lists(st.sampled_from(flow.nodes), min_size=1, max_size=2))
        node = inputs[0] if len(inputs) == 1 else Union(tuple(inputs))
        hashed = draw(st.booleans())
        flow.map(Partitioned(node, HashPartitioner(hash)) if hashed else node, f"o{index}", **properties)
    flow.sink(flow.nodes[-1])
    return job_graph(flow.graph())


def may_share(graph: JobGraph, one: Subtask, other: Subtask) -> bool:
    """The rule of sharing, for two subtasks."""
    groups = {vertex.vertex_id: vertex.sharing_group for vertex in graph.vertices}
    return one[0] != other[0] and groups[one[0]] == groups[other[0]]


def must_share(graph: JobGraph, one: Subtask, other: Subtask) -> bool:
    """The rule of co-location, for two subtasks."""
    keys = {vertex.vertex_id: vertex.co_location_group for vertex in graph.vertices}
    return one[1] == other[1] and keys[one[0]] != "" and keys[one[0]] == keys[other[0]]


def strangers(graph: JobGraph) -> list[Subtask]:
    """A largest set of subtasks of which no two may share, so that each needs a slot of its own.

    Subtasks that may not share are of one vertex or of two groups, so such a set is made of all subtasks
    of one vertex of each group. All choices are tried.
    """
    groups: dict[str, list[list[Subtask]]] = {}
    for vertex in graph.vertices:
        subtasks = [(vertex.vertex_id, index) for index in range(vertex.parallelism)]
        groups.setdefault(vertex.sharing_group, []).append(subtasks)
    return max(([each for part in parts for each in part] for parts in product(*groups.values())), key=len)


@given(jobs())
def test_as_many_slots_as_the_largest_set_that_cannot_share(graph: JobGraph) -> None:
    """Fewer cannot do, and no more are asked for; plan and sharing agree."""
    apart = strangers(graph)
    assert not any(may_share(graph, one, other) for one, other in combinations(apart, 2))
    assert slots_required(graph.vertices) == len(apart)
    assert describe(graph).slots_required == len(share_slots(graph)) == len(apart)


@given(jobs(), st.booleans())
def test_each_subtask_has_one_slot_where_it_may_be(graph: JobGraph, even: bool) -> None:
    """Every pair in a slot may share it, every pair that must share does, nobody is left out or doubled."""
    slots = share_slots(graph, even=even)
    place: dict[Subtask, int] = {}
    for number, slot in enumerate(slots):
        assert slot.subtasks, "a slot without subtasks"
        for subtask in slot.subtasks:
            assert subtask not in place
            place[subtask] = number
        for one, other in combinations(slot.subtasks, 2):
            assert may_share(graph, one, other)
    everyone = {(vertex.vertex_id, i) for vertex in graph.vertices for i in range(vertex.parallelism)}
    assert set(place) == everyone
    for one, other in combinations(sorted(everyone), 2):
        if must_share(graph, one, other):
            assert place[one] == place[other]


@given(jobs())
def test_slots_are_numbered_within_their_group(graph: JobGraph) -> None:
    """A slot is known by its group and index, which are those of its subtasks' group, without gaps."""
    groups = {vertex.vertex_id: vertex.sharing_group for vertex in graph.vertices}
    slots = share_slots(graph)
    for slot in slots:
        assert {groups[vertex_id] for vertex_id, _ in slot.subtasks} == {slot.group}
    counts = Counter(slot.group for slot in slots)
    assert {(slot.group, slot.index) for slot in slots} == {
        (group, index) for group, count in counts.items() for index in range(count)
    }


@given(jobs())
def test_what_the_program_said_survives_the_wire(graph: JobGraph) -> None:
    """Groups and co-location are the same after the job was submitted."""
    assert decode_job_graph(encode_job_graph(graph)) == graph
