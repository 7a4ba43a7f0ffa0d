"""Workers, TaskManagers, clients and connections that go, hang, repeat themselves or come late."""

from __future__ import annotations

import msgspec

from zmflow.coordination.effects import FromJobManager, WorkerExited
from zmflow.ids import Epoch
from zmflow.protocol.messages import (
    AllocateSlot,
    CancelJob,
    CancelTasks,
    CollectAck,
    CollectedRows,
    DataEndpoint,
    DeployTasks,
    FreeSlot,
    GetLogs,
    Heartbeat,
    HeartbeatAck,
    Hello,
    JobStatus,
    ListJobs,
    LogChunk,
    OfferSlot,
    OperatorEvent,
    Refused,
    RegisterTaskManager,
    SlotLost,
    SubmitJob,
    TaskStateChanged,
    WatchJob,
    Welcome,
)
from zmflow.protocol.versions import Versions
from zmflow.testing.control_plane import RESOURCES, VERSIONS, Behaviour, ControlPlane

from .job_graphs import RUNS_ON, graph, pipeline, runs_on, submit, vertex
from .test_job_life import free_slots, run, status


def test_a_killed_worker_fails_its_job_and_the_next_job_gets_a_fresh_one():
    """The failure names host, TaskManager and how the worker went; the slot is offered again."""
    cluster = ControlPlane([2], behaviour=runs_on)
    client = run(cluster, pipeline(2))
    cluster.kill_worker(cluster.workers[0])
    cluster.settle()
    failure = client.last(JobStatus).failure
    assert client.last(JobStatus).summary.state == "FAILED"
    assert failure is not None
    assert failure.kind == "worker"
    assert failure.summary == (
        "The worker of slot 0 of TaskManager tm-1 on host-tm-1 was lost: killed by signal 9 (SIGKILL)"
    )
    assert free_slots(cluster) == 2
    cluster.behaviour = lambda _start: Behaviour()
    assert run(cluster, pipeline(2), "j2", "b").last(JobStatus).summary.state == "FINISHED"


def test_a_worker_that_does_not_start_in_time_fails_the_job():
    """It is killed after taskmanager.worker.start-timeout, and the sentence says so."""
    cluster = ControlPlane(
        [1],
        behaviour=lambda _s: Behaviour(becomes_ready=False),
        settings={"taskmanager.worker.start-timeout": "3 s"},
    )
    client = run(cluster, pipeline(1))
    assert client.last(JobStatus).reason == "starting workers: 0 of 1 slots are ready"
    cluster.advance(3_000)
    failure = client.last(JobStatus).failure
    assert failure is not None
    assert "the worker did not start within 3 s" in failure.summary
    assert free_slots(cluster) == 1


def test_a_silent_taskmanager_fails_its_jobs_within_timeout_and_grace():
    """The failure names host, TaskManager and the silence; tasks elsewhere are cancelled."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    client = run(cluster, pipeline(2))
    cluster.taskmanagers["tm-2"].cut = True
    cluster.advance(6_000)
    end = client.last(JobStatus)
    assert end.summary.state == "FAILED"
    assert end.failure is not None
    assert end.failure.kind == "taskmanager"
    assert end.failure.summary == "TaskManager tm-2 on host-tm-2 was silent for 5.0 s and is gone."
    assert end.failure.host == "host-tm-2"
    assert free_slots(cluster) == 1


def test_a_taskmanager_that_was_cut_off_ends_its_workers_and_comes_back():
    """It hears nothing for the timeout, kills what runs, says Hello again and offers its slots."""
    cluster = ControlPlane([2], behaviour=runs_on)
    run(cluster, pipeline(2))
    tm = cluster.taskmanagers["tm-1"]
    tm.cut = True
    cluster.advance(6_000)
    assert not tm.workers
    tm.cut = False
    cluster.advance(6_000)
    assert free_slots(cluster) == 2
    cluster.behaviour = lambda _start: Behaviour()
    assert run(cluster, pipeline(2), "j2", "b").last(JobStatus).summary.state == "FINISHED"


def test_heartbeats_keep_an_idle_taskmanager_registered():
    """A minute without jobs changes nothing, on either side."""
    cluster = ControlPlane([2])
    cluster.advance(60_000)
    assert free_slots(cluster) == 2
    assert len(cluster.dispatcher.story("tm-1")) == 1


def test_a_lost_connection_is_dialled_again_with_everything_let_go():
    """JobManagerLost kills the workers; the registration that follows ends what the leader believed."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = run(cluster, pipeline(1))
    cluster.disconnect("tm-1", noticed=False)
    cluster.settle()
    assert not cluster.workers
    failure = client.last(JobStatus).failure
    assert failure is not None
    assert failure.summary == "TaskManager tm-1 on host-tm-1 began anew."
    assert free_slots(cluster) == 1


def test_a_taskmanager_that_is_stopped_takes_leave():
    """Its slots are gone and its jobs fail at once, with the reason."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    client = run(cluster, pipeline(2))
    cluster.stop("tm-1")
    failure = client.last(JobStatus).failure
    assert failure is not None
    assert failure.summary == "TaskManager tm-1 on host-tm-1 left: it was stopped."
    assert free_slots(cluster) == 1


def test_a_new_leader_is_followed_and_what_ran_for_the_old_one_is_killed():
    """A Welcome with a higher epoch ends the workers and registers; the old leader is not obeyed."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    tm = cluster.taskmanagers["tm-1"]
    cluster.dispatcher = cluster.new_dispatcher(Epoch(2))
    cluster.advance(2_000)
    assert not tm.workers
    assert cluster.dispatcher.story("tm-1")[-1].sentence == "registered with 1 slots"
    before = tm.started
    cluster.to_taskmanager("tm-1", AllocateSlot(1, "a1-99", 0, "old", RESOURCES))
    assert tm.started == before
    assert tm.logs[-1].sentence == "Dropped AllocateSlot of an older leader."


def test_messages_of_another_term_are_dropped_and_logged():
    """Nothing happens but a log line and, for a client's request, a refusal."""
    cluster = ControlPlane([1])
    client = cluster.add_client()
    cluster.say(client, submit("j1", pipeline(1), epoch=0))
    cluster.say(client, submit("j2", pipeline(1), epoch=9))
    cluster.settle()
    assert "Dropped SubmitJob of an older leader's term." in [log.sentence for log in cluster.logs]
    assert "Dropped SubmitJob of a newer leader's term." in [log.sentence for log in cluster.logs]
    assert client.last(Refused).error == "ClusterError"
    assert len(client.all(Refused)) == 1
    cluster.say(client, ListJobs(1, 3))
    cluster.settle()
    assert client.received[-1].jobs == []  # type: ignore[union-attr]


def test_stale_attempts_and_tenures_are_ignored_and_told():
    """Reports about what is over change nothing and stand in the story."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    good = cluster.workers[0].allocation_id
    for message in [
        TaskStateChanged(1, good, "j1/v1/0/7", "FAILED"),
        TaskStateChanged(1, "a1-77", "j1/v1/0/0", "FAILED"),
        OfferSlot(1, "a1-77", 0, "j1", 1, DataEndpoint("h", "ipc://x", "")),
        OfferSlot(1, good, 0, "j1", 1, DataEndpoint("h", "ipc://x", "")),
        SlotLost(1, "a1-77", 0, "no reason"),
        TaskStateChanged(1, good, "j1/v1/0/0", "INITIALIZING"),
        TaskStateChanged(1, good, "j1/v1/0/0", "CREATED"),
    ]:
        cluster.to_dispatcher(b"tm-1", message)
        cluster.check()
    assert status(cluster).summary.state == "RUNNING"
    assert any("tenure is over" in entry.sentence for entry in cluster.dispatcher.story("a1-77"))
    assert any("stale" in entry.sentence for entry in cluster.dispatcher.story("j1"))


def test_repeated_messages_change_nothing():
    """Every message of a whole job delivered twice to a TaskManager starts and deploys once."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    worker = cluster.workers[0]
    (deploy,) = [message for message in worker.received if isinstance(message, DeployTasks)]
    for message in [
        AllocateSlot(1, worker.allocation_id, 0, "j1", RESOURCES),
        deploy,
        Welcome(1, VERSIONS, "jm"),
    ]:
        cluster.to_taskmanager("tm-1", message)
        cluster.settle()
    assert cluster.taskmanagers["tm-1"].started == 1
    assert len(worker.received) == 1
    register = RegisterTaskManager(1, "tm-1", "host-tm-1", 1, 1, RESOURCES)
    cluster.to_dispatcher(b"tm-1", register)
    cluster.settle()
    assert status(cluster).summary.state == "RUNNING"
    cancel = CancelTasks(1, worker.allocation_id, list(worker.live), 5_000)
    cluster.to_taskmanager("tm-1", cancel)
    cluster.to_taskmanager("tm-1", cancel)
    cluster.settle()
    assert len([message for message in worker.received if isinstance(message, CancelTasks)]) == 1


def test_an_ended_tenure_is_not_begun_again():
    """A late copy of AllocateSlot starts no worker, a late FreeSlot is answered."""
    cluster = ControlPlane([1])
    run(cluster, pipeline(1))
    started = cluster.taskmanagers["tm-1"].started
    cluster.to_taskmanager("tm-1", AllocateSlot(1, "a1-1", 0, "j1", RESOURCES))
    cluster.to_taskmanager("tm-1", FreeSlot(1, "a1-1", 0))
    cluster.settle()
    assert cluster.taskmanagers["tm-1"].started == started
    assert free_slots(cluster) == 1


def test_a_worker_that_stays_after_its_job_is_killed():
    """The slot is free after a short grace period."""
    cluster = ControlPlane([1], behaviour=lambda _s: Behaviour(leaves=False))
    run(cluster, pipeline(1))
    assert free_slots(cluster) == 0
    cluster.advance(2_000)
    assert free_slots(cluster) == 1


def test_a_taskmanager_that_never_reports_the_end_of_tasks_does_not_hold_a_job():
    """The job ends some seconds after the grace period, whatever the TaskManager does."""
    cluster = ControlPlane([1], behaviour=lambda _s: RUNS_ON, settings={"task.cancellation.timeout": "1 s"})
    client = run(cluster, pipeline(1))
    worker = cluster.workers[0]
    del cluster.taskmanagers["tm-1"].workers[worker.allocation_id]  # a process nobody can see or kill
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.advance(5_999)
    assert status(cluster).summary.state == "CANCELLING"
    cluster.advance(1)
    assert status(cluster).summary.state == "CANCELED"


def test_other_versions_are_refused_with_both_named():
    """Another Python minor version or protocol version gets a Refused with request id 0."""
    cluster = ControlPlane([1])
    client = cluster.add_client()
    cluster.say(client, Hello(Epoch(0), Versions(1, "3.13", "0.1.0"), "client", "shell"))
    cluster.settle()
    refused = client.last(Refused)
    assert (refused.request_id, refused.error) == (0, "IncompatiblePeerError")
    assert "client shell runs Python 3.13" in refused.message
    assert "JobManager jm runs Python 3.11" in refused.message


def test_a_refused_taskmanager_gives_up_with_the_reason():
    """Its shell is told to end the process with the JobManager's words."""
    cluster = ControlPlane([1])
    refused = Refused(1, 0, "IncompatiblePeerError", "other Python", "d", "h")
    cluster.to_taskmanager("tm-1", refused)
    assert cluster.taskmanagers["tm-1"].given_up[0].refused == refused


def test_requests_without_hello_are_refused():
    """A connection the JobManager does not know gets an answer, not silence."""
    cluster = ControlPlane([1])
    client = cluster.add_client()
    cluster.dispatcher = cluster.new_dispatcher(cluster.epoch)
    cluster.say(client, ListJobs(1, 3))
    cluster.settle()
    assert client.last(Refused).request_id == 3


def test_roles_may_not_speak_for_each_other():
    """A client's TaskStateChanged and a TaskManager's SubmitJob are ignored."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = run(cluster, pipeline(1))
    allocation = cluster.workers[0].allocation_id
    cluster.say(client, TaskStateChanged(1, allocation, "j1/v1/0/0", "FAILED"))
    cluster.to_dispatcher(b"tm-1", SubmitJob(1, 1, "x", b""))
    cluster.settle()
    assert status(cluster).summary.state == "RUNNING"
    assert sum("ignored." in log.sentence for log in cluster.logs) == 2


# -- collecting ------------------------------------------------------------------------------------


def _rows(sequence: int) -> CollectedRows:
    return CollectedRows(0, "j1", "v2", "c", 0, sequence, b"rows", False)


def test_rows_reach_the_client_and_its_acks_the_worker():
    """Rows that come before the client watches are held for it; acknowledgements go back."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = cluster.add_client()
    cluster.say(client, submit("j1", pipeline(1)))
    cluster.settle()
    worker = cluster.workers[0]
    cluster.from_worker(worker, _rows(0))
    cluster.settle()
    cluster.say(client, WatchJob(1, 2, "j1", collect=True))
    cluster.settle()
    cluster.from_worker(worker, _rows(1))
    cluster.settle()
    assert [rows.sequence for rows in client.all(CollectedRows)] == [0, 1]
    assert {rows.epoch for rows in client.all(CollectedRows)} == {1}
    cluster.say(client, CollectAck(1, "j1", "v2", "c", 0, 1))
    cluster.settle()
    assert worker.received[-1] == CollectAck(1, "j1", "v2", "c", 0, 1)
    second = cluster.add_client("second")
    cluster.say(second, WatchJob(1, 2, "j1", collect=True))
    cluster.settle()
    assert "already go to another client" in second.last(Refused).message


def test_a_job_whose_collecting_client_goes_away_is_cancelled():
    """Nobody would take its rows; a job that is only watched goes on."""
    cluster = ControlPlane([2], behaviour=runs_on)
    collecting, watching = cluster.add_client("collecting"), cluster.add_client("watching")
    for client, job in [(collecting, "j1"), (watching, "j2")]:
        cluster.say(client, submit(job, pipeline(1)))
        cluster.say(client, WatchJob(1, 2, job, collect=job == "j1"))
    cluster.settle()
    cluster.close(collecting)
    cluster.close(watching)
    cluster.settle()
    assert status(cluster, "j1").summary.state == "CANCELED"
    assert status(cluster, "j2").summary.state == "RUNNING"


def test_a_slot_given_away_ends_the_tenure_that_was_there():
    """The leader gives away only what is free: the worker of an older tenure is killed, not asked."""
    cluster = ControlPlane([1], behaviour=runs_on)
    run(cluster, pipeline(1))
    cluster.to_taskmanager("tm-1", AllocateSlot(1, "a1-50", 0, "j9", RESOURCES))
    assert list(cluster.taskmanagers["tm-1"].workers) == ["a1-50"]
    cluster.settle()
    assert not cluster.taskmanagers["tm-1"].workers, "the leader frees a worker it does not wait for"


# -- routing --------------------------------------------------------------------------------------


def test_split_events_go_to_subtask_zero_and_back():
    """-1 is the worker of subtask 0; an event to a job that is gone is dropped and told."""
    cluster = ControlPlane([1, 1], behaviour=runs_on)
    client = run(cluster, graph([vertex("v1", 2)]))
    first, second = cluster.worker("a1-1"), cluster.worker("a1-2")
    request = OperatorEvent(0, "j1", "v1", 0, 1, -1, b"more")
    cluster.from_worker(second, request)
    cluster.settle()
    assert first.received[-1] == msgspec.structs.replace(request, epoch=1)
    answer = OperatorEvent(0, "j1", "v1", 0, -1, 1, b"split")
    cluster.from_worker(first, answer)
    cluster.settle()
    assert second.received[-1] == msgspec.structs.replace(answer, epoch=1)
    cluster.kill_worker(first)
    cluster.from_worker(second, request)
    cluster.settle()
    assert client.last(JobStatus).summary.state == "FAILED"


def test_logs_are_asked_of_every_taskmanager_of_the_job():
    """Each answer says how many are still to come; one that dies answers empty."""
    cluster = ControlPlane([1, 1, 1], behaviour=runs_on)
    client = run(cluster, pipeline(2))
    cluster.say(client, GetLogs(1, 5, "j1", 1000))
    cluster.settle()
    chunks = client.all(LogChunk)
    assert [(chunk.source, chunk.text, chunk.pending) for chunk in chunks] == [
        ("tm-1", b"log of tm-1", 1),
        ("tm-2", b"log of tm-2", 0),
    ]
    client.received.clear()
    cluster.taskmanagers["tm-2"].cut = True
    cluster.say(client, GetLogs(1, 6, "j1", 1000))
    cluster.advance(6_000)
    assert [(c.source, c.text, c.pending) for c in client.all(LogChunk)] == [
        ("tm-1", b"log of tm-1", 1),
        ("tm-2", b"", 0),
    ]


def test_logs_of_a_job_that_never_had_a_slot_are_empty():
    """The client gets one empty answer and does not wait."""
    cluster = ControlPlane([1])
    client = run(cluster, pipeline(4))
    cluster.say(client, GetLogs(1, 5, "j1", 1000))
    cluster.settle()
    assert client.last(LogChunk) == LogChunk(1, 5, "j1", b"client".hex(), "", b"", 0)


def test_the_heartbeat_is_answered():
    """The TaskManager hears that its leader lives."""
    cluster = ControlPlane([1])
    cluster.to_dispatcher(b"tm-1", Heartbeat(1, "tm-1"))
    before = len(cluster.taskmanagers["tm-1"].logs)
    cluster.settle()
    assert len(cluster.taskmanagers["tm-1"].logs) == before
    effects = cluster.taskmanagers["tm-1"].brain.handle(FromJobManager(HeartbeatAck(1, "tm-1")), 0)
    assert effects == []


def test_the_end_of_an_unknown_worker_is_only_told():
    """A process that outlived its tenure changes nothing when it ends."""
    cluster = ControlPlane([1])
    brain = cluster.taskmanagers["tm-1"].brain
    assert brain.handle(WorkerExited("a1-55", "exit code 0"), 0) == []
    assert "not known" in brain.story("a1-55")[0].sentence
