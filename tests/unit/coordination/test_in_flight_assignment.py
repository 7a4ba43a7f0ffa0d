"""Records that were on their way: each is sent again once, by whoever sends over the same edge now."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.checkpoints.in_flight_assignment import (
    can_overtake,
    homeless_records,
    in_flight_of,
    inputs_of,
)
from zmflow.coordination.checkpoints.recovery_plan import plan_recovery
from zmflow.graph.job_graph import JobEdge, JobGraph, JobVertex
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, OperatorRecord, VertexRecord
from zmflow.protocol.checkpoints import StateFile

from .job_graphs import edge, graph, vertex


def hashed(source: str, target: str, index: int = 0, number: int = 0) -> JobEdge:
    """An edge whose records go by key; ``number`` tells those apart that are alike."""
    made = edge(source, target, index=index)
    return msgspec.structs.replace(made, partitioner="HASH", edge_id=f"{made.edge_id}-{number}")


def job(parallelism: int, upstream: int) -> JobGraph:
    """Two sources and a union of three of their edges, with another input beside it."""
    return graph(
        [vertex("a", upstream), vertex("b", upstream + 1), vertex("t", parallelism)],
        [hashed("a", "t"), hashed("b", "t"), hashed("a", "t", 0, 1), hashed("b", "t", 1)],
    )


def snapshot(taken: JobGraph, name: str = "t") -> CheckpointMetadata:
    """A checkpoint in which something was on its way to each task of a vertex."""
    vertices = [
        VertexRecord(
            made.vertex_id,
            made.name,
            made.parallelism,
            made.max_parallelism,
            [OperatorRecord(o.operator_id, o.uid, o.name) for o in made.chain],
            [None] * made.parallelism,
            in_flight=_files(made) if made.vertex_id == name else [],
            inputs=inputs_of(taken, made.vertex_id) if made.vertex_id == name else [],
        )
        for made in taken.vertices
    ]
    return CheckpointMetadata("j", "job", 5, "checkpoint", 0, vertices)


def _files(made: JobVertex) -> list[StateFile | None]:
    return [StateFile(f"{index}.overtaken", 9) for index in range(made.parallelism)]


def test_gates_and_channels_are_those_of_the_wiring() -> None:
    """Edges of a gate follow one another, each gate begins anew."""
    assert [(i.source, i.gate, i.first_channel, i.parallelism) for i in inputs_of(job(3, 2), "t")] == [
        ("op-a", 0, 0, 2),
        ("op-b", 0, 2, 3),
        ("op-a", 0, 5, 2),
        ("op-b", 1, 0, 3),
    ]


@given(*[st.integers(1, 7)] * 4)
def test_each_channel_of_each_file_is_sent_again_once(
    before: int, upstream_before: int, after: int, upstream_after: int
) -> None:
    """Whatever the parallelism of both sides was and is; alike edges are told apart by their order."""
    metadata = snapshot(job(before, upstream_before))
    now = job(after, upstream_after)
    sent: Counter[tuple[str, int, int]] = Counter()
    edges: dict[tuple[int, int], set[str]] = {}
    for sender in now.vertices[:2]:
        for index in range(sender.parallelism):
            for restore in in_flight_of(now, sender, index, metadata):
                for part in restore.parts:
                    sent.update((part.file.path, part.gate, channel) for channel in part.channels)
                    for channel in part.channels:
                        edges.setdefault((part.gate, channel), set()).add(restore.edge_id)
    channels = [(0, c) for c in range(3 * upstream_before + 1)] + [(1, c) for c in range(upstream_before + 1)]
    assert sent == Counter((f"{i}.overtaken", *place) for i in range(before) for place in channels)
    assert all(len(found) == 1 for found in edges.values())
    assert edges[0, 0] == {"a-t-0-0"}
    assert edges[0, 2 * upstream_before + 1] == {"a-t-0-1"}


def test_a_task_with_an_edge_that_leads_to_one_subtask_waits() -> None:
    """What belongs to one task and no other could not be sent again."""
    taken = job(2, 2)
    assert can_overtake(taken, "t")
    forward = msgspec.structs.replace(hashed("a", "t", 0, 2), partitioner="FORWARD")
    assert not can_overtake(msgspec.structs.replace(taken, edges=[*taken.edges, forward]), "t")


@pytest.mark.parametrize("change", ["an edge is missing", "an edge is broadcast", "the vertex is missing"])
def test_records_that_nobody_sends_again_are_named(change: str) -> None:
    """Such a job is refused, unless state may be dropped."""
    metadata = snapshot(job(2, 2))
    now = job(2, 2)
    if change == "an edge is missing":
        now = msgspec.structs.replace(now, edges=now.edges[:2])
    elif change == "an edge is broadcast":
        broadcast = msgspec.structs.replace(now.edges[0], partitioner="BROADCAST")
        now = msgspec.structs.replace(now, edges=[broadcast, *now.edges[1:]])
    else:
        now = msgspec.structs.replace(now, vertices=now.vertices[:2], edges=[])
    assert homeless_records(now, metadata) == {"op-t"}
    (refused,) = plan_recovery(now, metadata, {"op-t"}, drops=False).having("refused")
    assert (refused.operator_id, "on their way" in refused.reason) == ("op-t", True)
    plan = plan_recovery(now, metadata, {"op-t"}, drops=True)
    assert plan.having("refused") == []
    if change != "the vertex is missing":
        (restored,) = (one for one in plan.operators if one.operator_id == "op-t")
        assert (restored.verdict, "are dropped" in restored.reason) == ("restored", True)


def test_the_same_job_refuses_nothing() -> None:
    """At another parallelism either."""
    assert homeless_records(job(3, 1), snapshot(job(2, 2))) == set()
