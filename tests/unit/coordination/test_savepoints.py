"""Savepoints that clients ask for: where they go, when they are answered, which one a restart begins from."""

from __future__ import annotations

from zmflow.protocol.checkpoints import CheckpointKind, StateFile
from zmflow.protocol.messages import Refused, SavepointBegun, SavepointDone, TriggerSavepoint
from zmflow.testing.control_plane import Client, ControlPlane

from .checkpointed import behaves, checkpoints, deployed, notified, source_and_sink
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
