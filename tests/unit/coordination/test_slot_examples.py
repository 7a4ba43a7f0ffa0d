"""The worked examples of slots: how many a job needs, and where its subtasks go."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.placement import Candidate, place
from zmflow.coordination.slot_sharing import share_slots
from zmflow.graph.sharing import slots_required
from zmflow.protocol.messages import ClusterStatus, DeployTasks, GetCluster, JobStatus, WatchJob
from zmflow.testing.control_plane import ControlPlane

from .job_graphs import edge, graph, pipeline, runs_on, submit, vertex


def _placement(cluster: ControlPlane) -> list[tuple[str, int]]:
    """(TaskManager, subtasks in one of its slots), slot by slot."""
    client = cluster.add_client("looker")
    cluster.say(client, WatchJob(1, 1, "j1"))
    cluster.settle()
    slots: dict[tuple[str, int], int] = {}
    for one in client.last(JobStatus).vertices:
        for subtask in one.subtasks:
            key = (subtask.taskmanager_id, subtask.slot_index)
            slots[key] = slots.get(key, 0) + 1
    return sorted((tm, count) for (tm, _), count in slots.items())


def _run(taskmanagers: list[int], job, **settings: str) -> ControlPlane:
    cluster = ControlPlane(taskmanagers, behaviour=runs_on, settings=settings)
    cluster.say(cluster.add_client(), submit("j1", job))
    cluster.settle()
    return cluster


def test_two_chains_at_parallelism_two_need_two_slots_when_they_share():
    """4 tasks in 2 slots, one slot on each of two TaskManagers."""
    assert slots_required(pipeline(2).vertices) == 2
    assert _placement(_run([2, 2], pipeline(2))) == [("tm-1", 2), ("tm-2", 2)]


def test_two_chains_in_separate_groups_need_four_slots():
    """4 tasks in 4 slots, two on each TaskManager."""
    assert slots_required(pipeline(2, separate=True).vertices) == 4
    expected = [("tm-1", 1), ("tm-1", 1), ("tm-2", 1), ("tm-2", 1)]
    assert _placement(_run([2, 2], pipeline(2, separate=True))) == expected


def test_five_unchained_operators_at_parallelism_two_still_need_two_slots():
    """10 tasks in 2 slots, five in each."""
    names = ["source", "filter", "map", "sum", "sink"]
    edges = [edge(a, b, pointwise=True) for a, b in pairwise(names)]
    job = graph([vertex(name, 2) for name in names], edges)
    assert slots_required(job.vertices) == 2
    assert _placement(_run([2, 2], job)) == [("tm-1", 5), ("tm-2", 5)]


def test_five_taskmanagers_with_one_slot_each():
    """Two shared slots go to two of them, four separate ones to four."""
    assert _placement(_run([1] * 5, pipeline(2))) == [("tm-1", 2), ("tm-2", 2)]
    expected = [(f"tm-{number}", 1) for number in (1, 2, 3, 4)]
    assert _placement(_run([1] * 5, pipeline(2, separate=True))) == expected


def test_packing_fills_one_taskmanager_first():
    """Mode none puts both slots on the first TaskManager."""
    cluster = _run([2, 2], pipeline(2), **{"taskmanager.load-balance.mode": "none"})
    assert _placement(cluster) == [("tm-1", 2), ("tm-1", 2)]


def test_the_second_job_goes_where_the_first_is_not():
    """Among TaskManagers without slots of this job the least used is taken."""
    cluster = _run([2, 2], pipeline(1))
    client = cluster.add_client("second")
    cluster.say(client, submit("j2", pipeline(1)))
    cluster.say(client, GetCluster(1, 3))
    cluster.settle()
    held = {
        tm.taskmanager_id: [slot.job_id for slot in tm.slots if slot.job_id]
        for tm in client.last(ClusterStatus).taskmanagers
    }
    assert held == {"tm-1": ["j1"], "tm-2": ["j2"]}


def test_unequal_vertices_fill_the_first_slots_of_their_group():
    """Subtask i of every vertex goes into slot i; the widest vertex decides how many there are."""
    slots = share_slots(graph([vertex("a", 1), vertex("b", 3), vertex("c", 2, "other")]))
    assert [(slot.group, slot.index, slot.subtasks) for slot in slots] == [
        ("default", 0, (("a", 0), ("b", 0))),
        ("default", 1, (("b", 1),)),
        ("default", 2, (("b", 2),)),
        ("other", 0, (("c", 0),)),
        ("other", 1, (("c", 1),)),
    ]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 9)), max_size=8),
    st.integers(1, 20),
    st.sampled_from(["slots", "tasks", "none"]),
    st.dictionaries(st.sampled_from([f"t{i}" for i in range(9)]), st.integers(1, 4), max_size=3),
)
def test_placement_uses_the_room_there_is(rooms, count: int, mode: str, preferred: dict[str, int]):
    """As many as are needed or as fit, never more on a TaskManager than fit, the preferred first."""
    candidates = [Candidate(f"t{i}", *numbers) for i, numbers in enumerate(rooms)]
    chosen = place(candidates, count, mode, preferred)
    room = {candidate.taskmanager_id: candidate.room for candidate in candidates}
    assert len(chosen) == min(count, sum(room.values()))
    for name, most in room.items():
        assert chosen.count(name) <= most
    wishes = sum(min(n, room.get(name, 0)) for name, n in preferred.items())
    head = chosen[: min(wishes, count)]
    assert all(name in preferred for name in head)


@given(st.lists(st.integers(0, 6), max_size=8), st.integers(1, 20))
def test_spreading_is_even(rooms: list[int], count: int):
    """No TaskManager with room left gets two slots less than another."""
    chosen = place([Candidate(f"t{i}", n, 0, 0) for i, n in enumerate(rooms)], count, "slots")
    taken = [chosen.count(f"t{i}") for i in range(len(rooms))]
    if chosen:
        assert max(taken) - min(t for t, n in zip(taken, rooms, strict=True) if t < n or t == max(taken)) <= 1


@pytest.mark.parametrize("pointwise", [False, True])
def test_producers_and_consumers_number_their_channels_alike(pointwise: bool):
    """Over all deployments, each gate's channels are fed once each: none is missing, none doubled."""
    job = graph(
        [vertex("a", 2), vertex("b", 3), vertex("c", 3), vertex("d", 2)],
        [
            edge("a", "c", pointwise=pointwise),
            edge("b", "c", pointwise=True),
            edge("b", "d", index=1),
            edge("c", "d", pointwise=pointwise),
        ],
    )
    cluster = _run([2, 2], job)
    tasks = [
        task
        for worker in cluster.workers
        for message in worker.received
        if isinstance(message, DeployTasks)
        for task in message.tasks
    ]
    homes = {
        task.attempt_id: worker.allocation_id for worker in cluster.workers for task in worker.live.values()
    }
    fed: dict[str, list[tuple[int, int]]] = {}
    for task in tasks:
        for partition in task.partitions:
            assert partition.max_parallelism == 128
            for target in partition.targets:
                fed.setdefault(target.attempt_id, []).append((target.gate_index, target.channel_index))
                assert target.allocation_id == homes[target.attempt_id]
                assert target.endpoint.ipc == f"ipc://{target.allocation_id}"
    assert len(tasks) == 10
    for task in tasks:
        expected = [(g, c) for g, channels in enumerate(task.gate_channels) for c in range(channels)]
        assert sorted(fed.get(task.attempt_id, [])) == expected, task.vertex_id
        assert task.operators == b"code of " + task.vertex_id.encode()
