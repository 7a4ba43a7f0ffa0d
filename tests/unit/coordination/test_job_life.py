"""A job from its submission to its end, on the brains alone."""

from __future__ import annotations

import pytest

from zmflow.coordination.job_table import ENDED_JOBS_MAX
from zmflow.graph.job_graph import JobGraph
from zmflow.protocol.messages import (
    CancelJob,
    CancelTasks,
    ClusterStatus,
    GetCluster,
    GetJob,
    JobAccepted,
    JobList,
    JobStatus,
    ListJobs,
    Refused,
    SubmitJob,
    TaskCounters,
    TaskFailure,
    TaskMetrics,
    WatchJob,
)
from zmflow.testing.control_plane import Behaviour, Client, ControlPlane

from .job_graphs import RUNS_ON, edge, graph, pipeline, runs_on, submit, vertex


def run(cluster: ControlPlane, job: JobGraph, job_id: str = "j1", name: str = "client") -> Client:
    """Submit and watch."""
    client = cluster.add_client(name)
    cluster.say(client, submit(job_id, job))
    cluster.say(client, WatchJob(1, 8, job_id))
    cluster.settle()
    return client


def status(cluster: ControlPlane, job_id: str = "j1") -> JobStatus:
    """The job now, as a new client sees it."""
    client = cluster.add_client("asker")
    cluster.say(client, GetJob(1, 1, job_id))
    cluster.settle()
    return client.last(JobStatus)


def free_slots(cluster: ControlPlane) -> int:
    """Slots the JobManager would give away now."""
    client = cluster.add_client("asker")
    cluster.say(client, GetCluster(1, 1))
    cluster.settle()
    return sum(not slot.allocation_id for tm in client.last(ClusterStatus).taskmanagers for slot in tm.slots)


def test_a_job_of_one_vertex_runs_to_its_end():
    """It is accepted, goes CREATED → RUNNING → FINISHED, and its slot is free again."""
    cluster = ControlPlane([2])
    client = run(cluster, graph([vertex("v1")]))
    assert client.last(JobAccepted) == JobAccepted(1, 7, "j1")
    states = [update.summary.state for update in client.all(JobStatus)]
    assert list(dict.fromkeys(states)) == ["CREATED", "RUNNING", "FINISHED"]
    assert client.all(JobStatus)[0].request_id == 8
    assert {update.request_id for update in client.all(JobStatus)[1:]} == {0}
    assert client.last(JobStatus).summary.tasks_finished == 1
    assert not cluster.workers
    assert free_slots(cluster) == 2


def test_a_waiting_job_says_what_it_needs_and_fails_with_that_sentence():
    """The reason names needs and supply; after slot.request.timeout it is the failure."""
    cluster = ControlPlane([2], settings={"slot.request.timeout": "10 s"})
    client = run(cluster, pipeline(4))
    waiting = client.last(JobStatus)
    assert waiting.summary.state == "CREATED"
    assert waiting.reason == "waiting for slots: needs 4, 2 are free of 2 registered (1 TaskManager)"
    cluster.advance(9_999)
    assert status(cluster).summary.state == "CREATED"
    cluster.advance(1)
    failed = client.last(JobStatus)
    assert failed.summary.state == "FAILED"
    assert failed.failure is not None
    assert failed.failure.kind == "slots"
    assert failed.failure.summary == (
        "The job needs 4 slots and did not get them within 10 s: 2 are free of 2 registered (1 TaskManager)."
    )
    assert "taskmanager.numberOfTaskSlots" in failed.failure.hint


def test_a_waiting_job_starts_when_a_taskmanager_brings_its_slots():
    """A TaskManager that registers later is used at once."""
    cluster = ControlPlane([2])
    client = run(cluster, pipeline(4))
    cluster.add_taskmanager(2)
    cluster.settle()
    assert client.last(JobStatus).summary.state == "FINISHED"


def test_jobs_are_served_in_the_order_they_came():
    """A later job that would fit waits behind an earlier one that does not fit yet."""
    cluster = ControlPlane([2], behaviour=runs_on)
    run(cluster, pipeline(1), "first")
    run(cluster, pipeline(2), "second", "b")
    run(cluster, pipeline(1), "third", "c")
    states = {job: status(cluster, job).summary.state for job in ("first", "second", "third")}
    assert states == {"first": "RUNNING", "second": "CREATED", "third": "CREATED"}
    asker = cluster.add_client("asker")
    cluster.say(asker, CancelJob(1, 2, "first"))
    cluster.settle()
    states = {job: status(cluster, job).summary.state for job in ("first", "second", "third")}
    assert states == {"first": "CANCELED", "second": "RUNNING", "third": "CREATED"}


def test_a_job_too_big_for_the_cluster_does_not_hold_up_the_others():
    """It waits for TaskManagers, not for its turn."""
    cluster = ControlPlane([2])
    run(cluster, pipeline(9), "big")
    assert run(cluster, pipeline(2), "small", "b").last(JobStatus).summary.state == "FINISHED"


@pytest.mark.parametrize("moment", ["waiting", "starting", "running"])
def test_cancel_at_any_moment(moment: str):
    """CANCELLING, then CANCELED, and every slot comes back."""
    starting = Behaviour(becomes_ready=False)
    cluster = ControlPlane([2], behaviour=lambda _s: starting if moment == "starting" else RUNS_ON)
    client = run(cluster, pipeline(4 if moment == "waiting" else 2))
    cluster.say(client, CancelJob(1, 9, "j1"))
    cluster.settle()
    states = [update.summary.state for update in client.all(JobStatus)]
    assert "CANCELLING" in states
    assert states[-1] == "CANCELED"
    assert any(update.request_id == 9 for update in client.all(JobStatus))
    assert free_slots(cluster) == 2
    assert not cluster.workers


def test_cancelling_a_job_that_has_ended_changes_nothing():
    """The answer is its status."""
    cluster = ControlPlane([1])
    client = run(cluster, pipeline(1))
    cluster.say(client, CancelJob(1, 9, "j1"))
    cluster.settle()
    assert client.last(JobStatus).request_id == 9
    assert client.last(JobStatus).summary.state == "FINISHED"


def test_a_function_that_never_returns_is_killed_after_the_grace_period():
    """The job ends CANCELED, not FAILED, and the slot is offered again."""
    stubborn = Behaviour(finishes=False, obeys_cancel=False)
    cluster = ControlPlane([1], behaviour=lambda _s: stubborn, settings={"task.cancellation.timeout": "2 s"})
    client = run(cluster, pipeline(1))
    cluster.say(client, CancelJob(1, 9, "j1"))
    cluster.advance(1_999)
    assert status(cluster).summary.state == "CANCELLING"
    assert "2 tasks have not stopped yet" in status(cluster).reason
    cluster.advance(1)
    assert client.last(JobStatus).summary.state == "CANCELED"
    assert client.last(JobStatus).failure is None
    assert free_slots(cluster) == 1
    assert not cluster.workers


def test_a_failing_function_fails_the_job_with_its_traceback():
    """The first failure is kept, the other tasks are cancelled, the failure names vertex and host."""
    failure = TaskFailure("user", "ValueError: bad", user_traceback="line 1", operator_name="map")
    cluster = ControlPlane(
        [2, 2],
        behaviour=lambda s: Behaviour(finishes=False, failure=failure if s.allocation_id == "a1-1" else None),
    )
    client = run(cluster, pipeline(2))
    end = client.last(JobStatus)
    assert end.summary.state == "FAILED"
    assert end.failure is not None
    assert (end.failure.kind, end.failure.user_traceback, end.failure.operator_name) == (
        "user",
        "line 1",
        "map",
    )
    assert (end.failure.host, end.failure.vertex_name, end.failure.subtask_index) == (
        "host-tm-1",
        "vertex v1",
        0,
    )
    assert end.reason == "ValueError: bad"
    states = sorted(subtask.state for one in end.vertices for subtask in one.subtasks)
    assert states == ["CANCELED", "CANCELED", "CANCELED", "FAILED"]
    assert free_slots(cluster) == 4


def test_progress_is_pushed_to_watchers_at_most_every_200_ms():
    """Metrics become one update per interval; the counters are in it."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = run(cluster, graph([vertex("v1")]))
    cluster.advance(1_000)
    client.received.clear()
    worker = cluster.workers[0]
    (attempt,) = worker.live
    for records in range(100):
        counters = TaskCounters(attempt, records, records, 0, 0, 5, 0)
        cluster.from_worker(worker, TaskMetrics(0, worker.allocation_id, [counters]))
        cluster.advance(10)
    updates = client.all(JobStatus)
    assert 5 <= len(updates) <= 6
    cluster.advance(200)
    assert client.last(JobStatus).vertices[0].subtasks[0].records_in == 99
    assert client.last(JobStatus).run_ms == 2_000


def test_unknown_jobs_are_refused_by_name_and_prefixes_are_understood():
    """Four digits of an id are enough when they are one job's."""
    cluster = ControlPlane([1])
    client = run(cluster, pipeline(1), "abcdef01")
    run(cluster, pipeline(1), "abcd9999", "b")
    for request, text, words in [(20, "nothere", "'nothere'"), (21, "abc", "'abc'"), (22, "abcd", "2 jobs")]:
        cluster.say(client, GetJob(1, request, text))
        cluster.settle()
        refused = client.last(Refused)
        assert (refused.request_id, refused.error) == (request, "ClusterError")
        assert words in refused.message
        assert "zmflow list" in refused.hint
    cluster.say(client, GetJob(1, 23, "abcde"))
    cluster.say(client, ListJobs(1, 24))
    cluster.settle()
    assert client.last(JobStatus).summary.job_id == "abcdef01"
    assert [job.job_id for job in client.last(JobList).jobs] == ["abcdef01", "abcd9999"]


def test_a_submission_that_makes_no_sense_is_refused():
    """Bytes that are no JobGraph and settings that do not exist come back as errors."""
    cluster = ControlPlane([1])
    client = cluster.add_client()
    cluster.say(client, SubmitJob(1, 5, "x", b"\xc1"))
    cluster.settle()
    assert (client.last(Refused).request_id, client.last(Refused).error) == (5, "ProtocolError")
    cluster.say(client, submit("y", pipeline(1, settings={"no.such.key": "1"}), request_id=6))
    cluster.settle()
    assert (client.last(Refused).request_id, client.last(Refused).error) == (6, "ConfigurationError")
    assert "no.such.key" in client.last(Refused).message


def test_a_repeated_submission_is_one_job():
    """A client that did not hear the answer may ask again."""
    cluster = ControlPlane([1])
    client = run(cluster, pipeline(1))
    cluster.say(client, submit("j1", pipeline(1), request_id=30))
    cluster.say(client, ListJobs(1, 31))
    cluster.settle()
    assert client.last(JobAccepted).request_id == 30
    assert len(client.last(JobList).jobs) == 1


def test_ended_jobs_are_kept_up_to_a_limit():
    """The newest stay, the oldest are forgotten."""
    cluster = ControlPlane([1])
    client = cluster.add_client()
    for number in range(ENDED_JOBS_MAX + 5):
        cluster.say(client, submit(f"job-{number:04}", graph([vertex("v1")])))
        cluster.settle()
    cluster.say(client, ListJobs(1, 1))
    cluster.settle()
    jobs = client.last(JobList).jobs
    assert len(jobs) == ENDED_JOBS_MAX
    assert jobs[-1].job_id == f"job-{ENDED_JOBS_MAX + 4:04}"


def test_a_job_of_a_thousand_subtasks_is_deployed_at_once():
    """Nothing in the way of a job grows with the square of its subtasks but its channels."""
    cluster = ControlPlane([100] * 5, behaviour=runs_on)
    job = graph([vertex("a", 500), vertex("b", 500)], [edge("a", "b", pointwise=True)])
    cluster.check = lambda: None  # type: ignore[method-assign]  # the invariants are O(cluster) per step
    client = run(cluster, job)
    assert status(cluster).summary.tasks_running == 1000
    cluster.say(client, CancelJob(1, 1, "j1"))
    cluster.settle()
    assert client.last(JobStatus).summary.state == "CANCELED"
    assert not [m for worker in cluster.workers for m in worker.received if isinstance(m, CancelTasks)]


def test_accumulators_of_running_tasks_are_told_to_who_asks():
    """The newest of each task; they are not in what is pushed, and a stale attempt's are ignored."""
    cluster = ControlPlane([1], behaviour=runs_on)
    client = run(cluster, graph([vertex("v1")]))
    cluster.advance(1_000)
    client.received.clear()
    worker = cluster.workers[0]
    (attempt,) = worker.live
    for packed in (b"one", b"two"):
        message = TaskMetrics(0, worker.allocation_id, [], {attempt: packed, "stale": b"three"})
        cluster.from_worker(worker, message)
    cluster.from_worker(
        worker, TaskMetrics(0, worker.allocation_id, [TaskCounters(attempt, 1, 1, 0, 0, 5, 0)])
    )
    cluster.advance(1_000)
    assert [status.accumulators for status in client.all(JobStatus)] == [[]]
    cluster.say(client, GetJob(1, 20, client.last(JobStatus).summary.job_id))
    cluster.settle()
    assert client.last(JobStatus).accumulators == [b"two"]
