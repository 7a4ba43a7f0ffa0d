"""Savepoints that clients ask for: where they go, when they are answered, which one a restart begins from."""

from __future__ import annotations

from zmflow.graph.job_graph import encode_job_graph
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, OperatorRecord, VertexRecord
from zmflow.protocol.checkpoints import CheckpointKind, StateFile
from zmflow.protocol.messages import (
    CancelJob,
    Refused,
    SavepointBegun,
    SavepointDone,
    SubmitJob,
    TaskFailure,
    TriggerSavepoint,
)
from zmflow.testing.control_plane import Client, ControlPlane

from .checkpointed import EVERY_SECOND, behaves, checkpoints, deployed, notified, source, source_and_sink
from .job_graphs import edge, graph, vertex
from .test_checkpoints import finish
from .test_job_life import run, status
from .test_restarts import fail

STATE = StateFile("", 4, b"abcd")
LOCATION = "/s/savepoint-j1-800000000000"
"""With ``chance`` 0.5."""


def asking(cluster: ControlPlane, kind: CheckpointKind = "savepoint", directory: str = "/s") -> Client:
    """A client that has asked for a savepoint."""
    client = cluster.add_client(f"asks-{len(cluster.clients)}")
    cluster.say(client, TriggerSavepoint(1, 9, "j1", directory, kind))
    cluster.settle()
    return client


def running(**how: object) -> ControlPlane:
    """A cluster whose job runs and has one complete checkpoint."""
    cluster = ControlPlane([2], behaviour=behaves(**{"state": STATE, **how}))
    run(cluster, source_and_sink())
    cluster.advance(600)
    return cluster


def test_a_savepoint_is_stored_in_a_directory_of_its_own_and_answered():
    """The job runs on; nothing is committed for it, and it is not what a restart begins from."""
    cluster = running()
    client = asking(cluster)
    assert client.last(SavepointBegun).location == LOCATION
    assert client.last(SavepointDone) == SavepointDone(1, 9, "j1", 2, LOCATION)
    assert cluster.stored[LOCATION].kind == "savepoint"
    assert notified(cluster) == [(1, True)]
    fail(cluster, "t")
    cluster.advance(100)
    restore = deployed(cluster, "t").restore
    assert restore is not None and restore.checkpoint_id == 1
    cluster.advance(5_000)
    assert LOCATION in cluster.stored, "nobody deletes it"


def test_without_a_directory_it_is_refused():
    """The refusal names the setting, which is used where it is set."""
    assert "savepoint-dir" in asking(running(), directory="").last(Refused).hint
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(settings={"execution.checkpointing.savepoint-dir": "/t"}))
    cluster.advance(600)
    assert asking(cluster, directory="").last(SavepointDone).location.startswith("/t/savepoint-j1-")


def test_a_savepoint_that_fails_says_why():
    """What was asked for is answered also when tasks restart meanwhile."""
    cluster = running()
    cluster.storage_error = "the disk is full"
    assert "the disk is full" in asking(cluster).last(SavepointDone).failure
    cluster.storage_hangs = True
    client = asking(cluster)
    fail(cluster, "t")
    cluster.settle()
    done = client.last(SavepointDone)
    assert (done.failure, done.complete) == ("Tasks restart.", False)


def test_a_job_that_is_not_running_takes_none():
    """The refusal says so."""
    cluster = ControlPlane([0], behaviour=behaves())
    run(cluster, source_and_sink())
    assert "it is CREATED" in asking(cluster).last(Refused).message


def test_a_stop_is_answered_when_the_job_has_ended():
    """Tasks are told that the savepoint is complete, and end; there are no checkpoints meanwhile."""
    cluster = running()
    client = asking(cluster, "stop")
    assert client.all(SavepointDone) == []
    assert notified(cluster) == [(1, True), (2, True)]
    assert "is being stopped" in asking(cluster).last(Refused).message
    cluster.advance(5_000)
    assert len(checkpoints(cluster)) == 2
    finish(cluster, "s")
    finish(cluster, "t")
    assert status(cluster).summary.state == "FINISHED"
    assert client.last(SavepointDone) == SavepointDone(1, 9, "j1", 2, LOCATION)
    assert LOCATION in cluster.stored


def test_a_job_that_fails_while_it_stops_goes_on_from_the_savepoint():
    """What was committed with it must not come again."""
    cluster = running()
    client = asking(cluster, "stop")
    fail(cluster, "t")
    cluster.settle()
    done = client.last(SavepointDone)
    assert done.complete and "did not stop" in done.failure
    cluster.advance(100)
    restore = deployed(cluster, "t").restore
    assert restore is not None and restore.checkpoint_id == 2 and restore.location == LOCATION
    cluster.advance(2_000)
    assert [record.checkpoint_id for record in checkpoints(cluster)] == [1, 2, 3, 4], "it takes them again"
    assert LOCATION in cluster.stored


def test_a_stop_that_fails_leaves_the_job_running():
    """With its checkpoints."""
    cluster = running()
    cluster.storage_error = "the disk is full"
    assert asking(cluster, "drain").last(SavepointDone).failure
    cluster.storage_error = ""
    cluster.advance(1_000)
    assert checkpoints(cluster)[-1].state == "COMPLETED"
    assert status(cluster).summary.state == "RUNNING"


# -- jobs that begin from one ---------------------------------------------------------------------


def stored(cluster: ControlPlane, *, union: bool = False) -> None:
    """A savepoint with the number 7 of a job of two vertices is in ``/old``."""
    state = StateFile("f", 4, has_union=union)
    cluster.stored["/old"] = CheckpointMetadata(
        "j0",
        "old",
        7,
        "savepoint",
        0,
        [
            VertexRecord("s", "s", 1, 128, [OperatorRecord("op-s", "", "s")], [state], [], b"enumerator"),
            VertexRecord("t", "t", 1, 128, [OperatorRecord("op-t", "", "t")], [state]),
        ],
    )


def begun(**settings: str) -> ControlPlane:
    """A cluster with a job that is to begin from ``/old``."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    stored(cluster)
    more = {f"execution.state-recovery.{key.replace('_', '-')}": text for key, text in settings.items()}
    more.setdefault("execution.state-recovery.path", "/old")
    run(cluster, source_and_sink(2, more))
    return cluster


def test_a_job_begins_from_the_savepoint_that_its_settings_name():
    """At another parallelism; its own checkpoints have greater numbers, and the savepoint stays."""
    cluster = begun()
    first = deployed(cluster, "s").restore
    assert first is not None
    assert (first.checkpoint_id, first.location, first.coordinator) == (7, "/old", b"enumerator")
    assert [restore.parallelism for restore in first.operators] == [1]
    assert status(cluster).checkpoints.restored_id == 7
    fail(cluster, "t")
    cluster.advance(200)
    assert deployed(cluster, "t").restore.checkpoint_id == 7
    cluster.advance(3_000)
    assert checkpoints(cluster)[-1].checkpoint_id > 8
    assert "/old" in cluster.stored


def test_a_claimed_savepoint_is_deleted_when_a_newer_checkpoint_is_complete():
    """As if it were the job's own."""
    cluster = begun(claim_mode="CLAIM")
    assert "/old" in cluster.stored
    cluster.advance(1_000)
    assert checkpoints(cluster)[-1].checkpoint_id == 8
    assert "/old" not in cluster.stored


def test_a_job_that_cannot_begin_from_it_fails_without_running_anything():
    """The storage says what is missing."""
    cluster = begun(path="/nothing")
    failed = status(cluster)
    assert failed.summary.state == "FAILED"
    assert failed.failure is not None and "there is none" in failed.failure.summary
    assert cluster.workers == []


def test_a_job_without_an_operator_for_state_fails_unless_it_may_be_dropped():
    """Then the rest is restored."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    stored(cluster)
    other = {**EVERY_SECOND, "execution.state-recovery.path": "/old"}
    run(cluster, graph([source("s"), vertex("u")], [edge("s", "u")], other))
    failed = status(cluster)
    assert failed.summary.state == "FAILED"
    assert failed.failure is not None and "t (op-t): It has state" in failed.failure.summary
    assert "--allow-non-restored-state" in failed.failure.hint
    allowed = {**other, "execution.state-recovery.ignore-unclaimed-state": "true"}
    run(cluster, graph([source("s"), vertex("u")], [edge("s", "u")], allowed), "j2")
    assert status(cluster, "j2").summary.state == "RUNNING"


def test_a_job_can_be_cancelled_while_it_reads():
    """What is read later is nobody's."""
    cluster = ControlPlane([2], behaviour=behaves())
    client = cluster.add_client("canceller")
    settings = {**EVERY_SECOND, "execution.state-recovery.path": "/old"}
    job = encode_job_graph(graph([vertex("t")], [], settings))
    cluster.to_dispatcher(client.peer, SubmitJob(1, 1, "j1", job))
    cluster.to_dispatcher(client.peer, CancelJob(1, 2, "j1"))
    cluster.settle()
    assert status(cluster).summary.state == "CANCELED"


def test_where_a_checkpoint_is_damaged_the_one_before_it_is_restored():
    """By all tasks, with enumerators that begin anew; without one before it the job fails."""
    cluster = ControlPlane([2], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(settings={"execution.checkpointing.num-retained": "2"}))
    cluster.advance(1_600)
    number = deployed(cluster, "s").coordinator_number
    fail(cluster, "t")
    cluster.advance(100)
    assert deployed(cluster, "t").restore.checkpoint_id == 2
    damaged = TaskFailure("restore", "The state file is damaged.")
    fail(cluster, "t", damaged)
    cluster.advance(100)
    restores = [deployed(cluster, name).restore for name in "st"]
    assert [restore.checkpoint_id for restore in restores] == [1, 1]
    assert restores[0].coordinator == b"s at 1"
    assert deployed(cluster, "s").coordinator_number == number + 2
    assert any("goes back to 1" in log.sentence for log in cluster.logs)
    fail(cluster, "t", damaged)
    cluster.advance(100)
    failed = status(cluster)
    assert failed.summary.state == "FAILED"
    assert "no older checkpoint is kept" in failed.failure.hint
