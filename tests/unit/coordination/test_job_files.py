"""Files of a job reach each TaskManager once, before its tasks, and go with the job."""

from __future__ import annotations

import msgspec

from zmflow.protocol.job_files import DropJobFiles, StoreJobFile, new_job_file
from zmflow.protocol.messages import CancelJob, DeployTasks, DrainTaskManager, JobStatus
from zmflow.testing.control_plane import ControlPlane

from .job_graphs import pipeline, runs_on
from .test_job_life import run, status

RESTARTS = {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "0 ms"}
BOTH = [("j1", "m.py"), ("j1", "words")]


def test_files_are_sent_once_to_each_taskmanager():
    """However many slots it has; and only names travel with the tasks."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, pipeline(4))
    for tm in cluster.taskmanagers.values():
        assert tm.stored == BOTH
    (deployment, *_) = [
        m for worker in cluster.workers for m in worker.received if isinstance(m, DeployTasks)
    ]
    for task in deployment.tasks:
        assert [(file.name, file.content) for file in task.files] == [("m.py", b""), ("words", b"")]
        assert task.py_files == []


def test_a_restart_in_the_same_place_sends_nothing_again():
    """Not even when the only worker of the job on a TaskManager was lost."""
    cluster = ControlPlane([1, 1], behaviour=runs_on, settings=RESTARTS)
    client = run(cluster, pipeline(2))
    cluster.kill_worker(cluster.workers[0])
    cluster.advance(1)
    assert client.last(JobStatus).summary.state == "RUNNING"
    assert client.last(JobStatus).summary.restarts == 1
    assert [tm.stored for tm in cluster.taskmanagers.values()] == [BOTH, BOTH]


def test_a_taskmanager_that_registers_again_is_sent_them_again():
    """It has let go of them, whether or not the JobManager noticed that it was away."""
    for noticed in (True, False):
        cluster = ControlPlane([2], behaviour=runs_on, settings=RESTARTS)
        run(cluster, pipeline(2))
        tm = cluster.taskmanagers["tm-1"]
        cluster.disconnect("tm-1", noticed=noticed)
        assert tm.files == {}
        cluster.advance(1)
        assert status(cluster).summary.state == "RUNNING"
        assert tm.stored == BOTH * 2
        assert list(tm.files) == ["j1"]


def test_files_go_with_the_job():
    """When it has finished, and when it was cancelled; those of other jobs stay."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, pipeline(2), "j1")
    run(cluster, pipeline(2), "j2", "other")
    client = cluster.add_client("asker")
    cluster.say(client, CancelJob(1, 2, "j1"))
    cluster.settle()
    assert {job for tm in cluster.taskmanagers.values() for job in tm.files} == {"j2"}
    for worker in cluster.workers:
        for attempt in list(worker.live):
            cluster.from_worker(worker, worker.report(attempt, "FINISHED"))
    cluster.settle()
    assert status(cluster, "j2").summary.state == "FINISHED"
    assert [tm.files for tm in cluster.taskmanagers.values()] == [{}, {}]


def test_files_go_when_the_last_slot_is_given_back():
    """A job that moves away leaves nothing on a TaskManager, and is sent its files when it returns."""
    cluster = ControlPlane([2, 2], behaviour=runs_on, settings={"taskmanager.load-balance.mode": "none"})
    run(cluster, pipeline(2))
    client = cluster.add_client("asker")
    for leaves, enters in (("tm-1", "tm-2"), ("tm-2", "tm-1")):
        assert cluster.taskmanagers[leaves].files.keys() == {"j1"}
        cluster.say(client, DrainTaskManager(1, 3, leaves, drain=True))
        cluster.say(client, DrainTaskManager(1, 4, enters, drain=False))
        cluster.advance(1)
        assert cluster.taskmanagers[leaves].files == {}
        assert cluster.taskmanagers[enters].files.keys() == {"j1"}
    assert cluster.taskmanagers["tm-1"].stored == BOTH * 2


def test_a_file_with_two_names_is_sent_once():
    """What counts is what is in it."""
    files = [new_job_file(name, "file", b"x", file_name="x.txt") for name in ("one", "two")]
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, msgspec.structs.replace(pipeline(1), files=files))
    assert len(cluster.taskmanagers["tm-1"].stored) == 1


def test_files_of_a_job_that_never_ran_there_go_with_the_connection():
    """A TaskManager that begins anew keeps nothing, whatever it was sent."""
    cluster = ControlPlane([1])
    tm = cluster.taskmanagers["tm-1"]
    cluster.to_taskmanager("tm-1", StoreJobFile(1, "j9", new_job_file("a", "file", b"x")))
    assert list(tm.files) == ["j9"]
    cluster.to_taskmanager("tm-1", DropJobFiles(1, "j8"))
    cluster.disconnect("tm-1", noticed=True)
    assert tm.files == {}


def test_copies_of_state_go_like_files():
    """A job that keeps some has its TaskManagers told when it has ended, also where it has no files."""
    without = msgspec.structs.replace(pipeline(1), files=[])
    kept = {"execution.checkpointing.local-backup.enabled": "true"}
    for settings, told in (({}, []), (kept, ["j1"])):
        cluster = ControlPlane([1], behaviour=runs_on)
        client = run(cluster, msgspec.structs.replace(without, settings=settings))
        cluster.say(client, CancelJob(1, 2, "j1"))
        cluster.settle()
        assert cluster.taskmanagers["tm-1"].dropped == told
