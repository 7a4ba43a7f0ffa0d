"""Draining a TaskManager: no new slots there, its tasks move region by region, undrain takes it back."""

from __future__ import annotations

from zmflow.protocol.messages import (
    CancelJob,
    CollectedRows,
    DrainAccepted,
    DrainTaskManager,
    Refused,
    WatchJob,
)
from zmflow.testing.control_plane import ControlPlane

from .job_graphs import edge, graph, pipeline, runs_on, submit, vertex
from .test_job_life import run, status
from .test_restarts import OFTEN, attempts, fail
from .test_slot_protocol import taskmanagers


def drain(cluster: ControlPlane, name: str, *, undo: bool = False):
    """Drain what ``name`` names; gives the answer."""
    client = cluster.add_client("operator")
    cluster.say(client, DrainTaskManager(1, 1, name, drain=not undo))
    cluster.settle()
    return client.received[-1]


def used(cluster: ControlPlane) -> dict[str, int]:
    """Slots in use on each TaskManager."""
    return {tm.taskmanager_id: sum(bool(s.job_id) for s in tm.slots) for tm in taskmanagers(cluster)}


def test_tasks_move_to_spare_slots_without_costing_a_restart():
    """The job runs elsewhere, the TaskManager is empty, and no failure is counted."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, pipeline(2, settings={"taskmanager.load-balance.mode": "none"}))
    assert used(cluster) == {"tm-1": 2, "tm-2": 0}
    assert drain(cluster, "tm-1") == DrainAccepted(1, 1, ["tm-1"])
    cluster.settle()
    assert used(cluster) == {"tm-1": 0, "tm-2": 2}
    moved = status(cluster)
    assert (moved.summary.state, moved.summary.restarts, moved.exceptions) == ("RUNNING", 0, [])
    (tm, _) = taskmanagers(cluster)
    assert (tm.draining, tm.note) == (True, "")


def test_regions_move_one_by_one():
    """A region whose slots are elsewhere never stops; the others take turns."""
    cluster = ControlPlane([2, 2, 2], behaviour=runs_on)
    job = graph(
        [vertex("a", 1, "one"), vertex("b", 1, "two"), vertex("c", 1, "three")],
        settings={**OFTEN, "taskmanager.load-balance.mode": "none"},
    )
    run(cluster, job)
    assert used(cluster) == {"tm-1": 2, "tm-2": 1, "tm-3": 0}
    drain(cluster, "tm-1")
    assert used(cluster)["tm-1"] == 0
    assert attempts(cluster) == {"a": 1, "b": 1, "c": 0}


def test_without_room_elsewhere_tasks_stay_and_the_note_says_so():
    """Nothing is stopped before there is a slot for it; a TaskManager that comes lets it move."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    drain(cluster, "tm-1")
    (tm,) = taskmanagers(cluster)
    assert tm.note == ("job 'job' (j1) needs 1 slot elsewhere, 0 are free of 1 registered (1 TaskManager)")
    assert status(cluster).summary.state == "RUNNING"
    cluster.add_taskmanager(1)
    cluster.settle()
    assert used(cluster) == {"tm-1": 0, "tm-2": 1}


def test_a_draining_taskmanager_gets_no_new_slots_until_it_is_undrained():
    """A job waits rather than use it."""
    cluster = ControlPlane([1], behaviour=runs_on)
    drain(cluster, "host-tm-1")
    run(cluster, pipeline(1))
    assert status(cluster).summary.state == "CREATED"
    drain(cluster, "host-tm-1", undo=True)
    assert status(cluster).summary.state == "RUNNING"


def test_a_drained_host_stays_drained_when_its_taskmanager_restarts():
    """Whoever drains a machine to work on it does not want the next process there to get tasks."""
    cluster = ControlPlane([1], behaviour=runs_on)
    drain(cluster, "host-tm-1")
    cluster.disconnect("tm-1", noticed=True)
    cluster.settle()
    assert [tm.draining for tm in taskmanagers(cluster)] == [True]


def test_a_drained_host_can_be_undrained_while_nothing_runs_there():
    """Drain, stop, undrain, start: the TaskManager that comes takes slots."""
    cluster = ControlPlane([1], behaviour=runs_on)
    drain(cluster, "host-tm-1")
    cluster.stop("tm-1")
    assert drain(cluster, "host-tm-1", undo=True) == DrainAccepted(1, 1, [])
    cluster.add_taskmanager(1, host="host-tm-1")
    cluster.settle()
    assert [tm.draining for tm in taskmanagers(cluster)] == [False]


def test_undraining_before_anything_moved_leaves_the_job_alone():
    """Its tasks stay where they are, at their first attempt."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    drain(cluster, "tm-1")
    drain(cluster, "tm-1", undo=True)
    cluster.add_taskmanager(1)
    cluster.advance(5_000)
    assert used(cluster) == {"tm-1": 1, "tm-2": 0}
    assert status(cluster).vertices[0].subtasks[0].attempt_number == 0


def test_a_job_whose_rows_were_collected_is_waited_for():
    """It cannot restart, so the TaskManager is empty when it ends."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    client = cluster.add_client()
    cluster.say(client, submit("j1", graph([vertex("a")])))
    cluster.say(client, WatchJob(1, 2, "j1", collect=True))
    cluster.settle()
    cluster.from_worker(cluster.workers[0], CollectedRows(0, "j1", "a", "c", 0, 0, b"rows", False))
    cluster.settle()
    drain(cluster, "tm-1")
    assert "rows of it were collected already" in taskmanagers(cluster)[0].note
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert used(cluster)["tm-1"] == 0


def test_an_unknown_name_is_refused_with_the_known_ones():
    """The error lists TaskManagers and hosts."""
    cluster = ControlPlane([1])
    refused = drain(cluster, "nowhere")
    assert isinstance(refused, Refused)
    assert refused.detail == "Registered: tm-1 on host-tm-1."


def test_co_located_tasks_move_together():
    """They are in one slot before and after."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    job = graph(
        [vertex("a", 2, co_location="k"), vertex("b", 2, co_location="k")],
        [edge("a", "b")],
        {**OFTEN, "taskmanager.load-balance.mode": "none"},
    )
    run(cluster, job)
    drain(cluster, "tm-1")
    places = [
        [subtask.allocation_id for subtask in vertex_status.subtasks]
        for vertex_status in status(cluster).vertices
    ]
    assert places[0] == places[1]
    assert used(cluster) == {"tm-1": 0, "tm-2": 2}


def test_a_failure_does_not_move_what_did_not_fail():
    """A region that restarts in a shared slot of a draining TaskManager leaves its neighbours alone."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, graph([vertex("a"), vertex("b")], settings=OFTEN))
    drain(cluster, "tm-1")
    fail(cluster, "a")
    cluster.add_taskmanager(1)
    cluster.settle()
    assert attempts(cluster) == {"b": 0}
    cluster.advance(1_000)
    assert attempts(cluster) == {"a": 2, "b": 1}, "it restarts where it was; then both move together"
    assert used(cluster) == {"tm-1": 0, "tm-2": 1}
