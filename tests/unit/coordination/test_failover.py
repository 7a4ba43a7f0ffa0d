"""Pipelined regions: what restarts with what, against a search that follows every single channel."""

from __future__ import annotations

import time
from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.failover import Regions
from zmflow.coordination.slots import Subtask
from zmflow.graph.job_graph import JobGraph, JobOperator, JobVertex
from zmflow.graph.partitioners import consumers_of

from .job_graphs import edge, graph, vertex


def source(name: str, parallelism: int = 1) -> JobVertex:
    """A vertex whose chain begins with a source."""
    reader = JobOperator(f"op-{name}", "", name, "source")
    return msgspec.structs.replace(vertex(name, parallelism), chain=[reader])


def every_subtask(job: JobGraph) -> list[Subtask]:
    """All subtasks in the order of the graph."""
    return [(v.vertex_id, index) for v in job.vertices for index in range(v.parallelism)]


def reached(job: JobGraph, starts: Iterable[Subtask]) -> list[Subtask]:
    """Everything connected to these: each channel is a step, in both directions, until nothing is new."""
    parallelism = {v.vertex_id: v.parallelism for v in job.vertices}
    channels = [
        ((e.source, producer), (e.target, consumer))
        for e in job.edges
        for producer in range(parallelism[e.source])
        for consumer in consumers_of(e.pointwise, producer, parallelism[e.source], parallelism[e.target])
    ]
    found = set(starts)
    while True:
        more = {end for channel in channels for end in channel if found & set(channel)} - found
        if not more:
            return [subtask for subtask in every_subtask(job) if subtask in found]
        found |= more


@st.composite
def jobs(draw: st.DrawFn) -> JobGraph:
    """Up to six vertices of parallelism up to five, with random edges, pointwise more often than not."""
    vertices: list[JobVertex] = []
    edges = []
    for number in range(draw(st.integers(1, 6))):
        name, parallelism = f"v{number}", draw(st.integers(1, 5))
        inputs = draw(st.lists(st.sampled_from(vertices), max_size=2)) if vertices else []
        edges += [
            edge(upstream.vertex_id, name, index=index, pointwise=draw(st.integers(0, 3)) > 0)
            for index, upstream in enumerate(inputs)
        ]
        is_source = not inputs and draw(st.integers(0, 3)) > 0
        vertices.append(source(name, parallelism) if is_source else vertex(name, parallelism))
    return graph(vertices, edges)


@given(jobs())
def test_regions_are_what_is_connected(job: JobGraph) -> None:
    """Each subtask's region holds exactly what can be reached from it over channels, in graph order."""
    regions = Regions(job)
    subtasks = every_subtask(job)
    for subtask in subtasks:
        assert regions.members(regions.region_of(subtask)) == reached(job, [subtask])
    numbers = [regions.region_of(subtask) for subtask in subtasks]
    assert list(dict.fromkeys(numbers)) == list(range(len(regions)))
    assert sorted(s for n in range(len(regions)) for s in regions.members(n)) == sorted(subtasks)


@given(jobs(), st.data())
def test_restarted_is_what_is_connected_to_the_failed(job: JobGraph, data: st.DataObject) -> None:
    """Failed subtasks and all readers of sources without their enumerator, with all they are connected to."""
    failed = data.draw(st.lists(st.sampled_from(every_subtask(job)), max_size=3))
    lost = data.draw(st.lists(st.sampled_from(job.vertices), max_size=2))
    readers = [
        (v.vertex_id, index) for v in lost if v.chain[0].kind == "source" for index in range(v.parallelism)
    ]
    restarted = Regions(job).restarted_by(failed, [v.vertex_id for v in lost])
    assert restarted == reached(job, [*failed, *readers])


def test_forward_edges_make_a_region_of_each_pipeline() -> None:
    """Subtask i restarts with subtask i only."""
    regions = Regions(graph([source("a", 3), vertex("b", 3)], [edge("a", "b", pointwise=True)]))
    assert len(regions) == 3
    assert regions.members(1) == [("a", 1), ("b", 1)]
    assert regions.restarted_by([("b", 2)], []) == [("a", 2), ("b", 2)]
    assert regions.restarted_by([("b", 2), ("a", 0)], []) == [("a", 0), ("a", 2), ("b", 0), ("b", 2)]
    assert regions.restarted_by([], []) == []


def test_all_to_all_makes_one_region() -> None:
    """One exchange by key joins everything before it with everything behind it."""
    regions = Regions(
        graph(
            [source("a", 2), vertex("b", 2), vertex("c", 3)], [edge("a", "b", pointwise=True), edge("b", "c")]
        )
    )
    assert len(regions) == 1
    assert len(regions.restarted_by([("c", 2)], [])) == 7


def test_rescaling_joins_runs_of_subtasks() -> None:
    """Five producers feed two consumers in runs of two and three, as they are wired."""
    regions = Regions(graph([source("a", 5), vertex("b", 2)], [edge("a", "b", pointwise=True)]))
    assert regions.members(0) == [("a", 0), ("a", 1), ("b", 0)]
    assert regions.members(1) == [("a", 2), ("a", 3), ("a", 4), ("b", 1)]


def test_lost_enumerator_restarts_every_reader() -> None:
    """The worker of a source's subtask 0 took the enumerator with it: no reader's splits are known."""
    job = graph(
        [source("a", 3), source("other", 3), vertex("b", 3)],
        [edge("a", "b", pointwise=True)],
    )
    regions = Regions(job)
    assert regions.restarted_by([("a", 0), ("b", 0)], ["a"]) == [
        *[("a", 0), ("a", 1), ("a", 2)],
        *[("b", 0), ("b", 1), ("b", 2)],
    ]
    assert regions.restarted_by([("b", 0)], ["b"]) == [("a", 0), ("b", 0)]


@pytest.mark.parametrize("subtask", [("a", 2), ("a", -1), ("b", 0)])
def test_subtasks_that_are_none_are_a_mistake(subtask: Subtask) -> None:
    """Asking for what the job does not have fails at once."""
    with pytest.raises((AssertionError, KeyError)):
        Regions(graph([source("a", 2)])).region_of(subtask)


def test_ten_thousand_subtasks_are_quick() -> None:
    """All-to-all edges cost as much as their ends have subtasks, not as many channels as they have."""
    job = graph(
        [source("a", 4000), vertex("b", 4000), vertex("c", 2000)],
        [edge("a", "b"), edge("b", "c"), edge("a", "c", index=1)],
    )
    began = time.process_time()
    regions = Regions(job)
    restarted = regions.restarted_by([("b", 7)], ["a"])
    took_ms = (time.process_time() - began) * 1000
    assert (len(regions), len(restarted)) == (1, 10_000)
    # 28 million channels take seconds; this takes some 10 ms. The bound leaves room for a loaded machine.
    assert took_ms < 200
