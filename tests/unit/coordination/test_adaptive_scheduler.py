"""The adaptive scheduler starts with the slots there are and scales when they come or go."""

from __future__ import annotations

from zmflow.coordination.adaptive_scheduler import scaled
from zmflow.protocol.messages import CollectedRows, JobStatus, WatchJob
from zmflow.testing.control_plane import Behaviour, ControlPlane

from .job_graphs import edge, graph, pipeline, runs_on, submit, vertex
from .test_drain import drain, used
from .test_job_life import free_slots, run, status
from .test_restarts import OFTEN, fail

ADAPTIVE = {**OFTEN, "jobmanager.scheduler": "adaptive"}


def parallelism(cluster: ControlPlane) -> list[int]:
    """Of each vertex now."""
    return [vertex_status.parallelism for vertex_status in status(cluster).vertices]


def job(number: int = 4, **settings: str):
    """A pipeline that would like this parallelism."""
    return pipeline(number, settings={**ADAPTIVE, **{k.replace("_", "."): v for k, v in settings.items()}})


def test_with_all_slots_it_starts_at_once():
    """Nothing is waited for when there is nothing more to come."""
    cluster = ControlPlane([4], behaviour=runs_on)
    run(cluster, job())
    assert parallelism(cluster) == [4, 4]
    assert status(cluster).summary.state == "RUNNING"


def test_with_fewer_it_starts_smaller_after_the_stabilisation():
    """Ten seconds after there are enough for the minimum."""
    cluster = ControlPlane([3], behaviour=runs_on)
    run(cluster, job())
    cluster.advance(9_999)
    waiting = status(cluster)
    assert waiting.summary.state == "CREATED"
    assert waiting.reason.startswith("waiting for slots: needs 1 to 4, has 3")
    cluster.advance(1)
    assert parallelism(cluster) == [3, 3]
    assert status(cluster).summary.tasks_total == 6


def test_below_the_minimum_it_waits_and_fails_after_the_timeout():
    """The minimum is a setting; the sentence names what it needs."""
    cluster = ControlPlane([1], behaviour=runs_on)
    settings = {
        "jobmanager.adaptive-scheduler.min-parallelism": "2",
        "jobmanager.adaptive-scheduler.submission.resource-wait-timeout": "30 s",
        "restart-strategy.type": "none",
    }
    client = run(cluster, pipeline(4, settings={**ADAPTIVE, **settings}))
    cluster.advance(29_999)
    assert status(cluster).summary.state == "CREATED"
    cluster.advance(1)
    failure = client.last(JobStatus).failure
    assert failure is not None
    assert failure.summary.startswith("The job needs 2 to 4 slots and did not get them within 30 s")


def test_it_scales_up_when_slots_come():
    """All tasks restart at the higher parallelism once the cool-down is over; that is no failure."""
    cluster = ControlPlane([2], behaviour=runs_on)
    run(cluster, job())
    cluster.advance(10_000)
    assert parallelism(cluster) == [2, 2]
    cluster.add_taskmanager(2)
    cluster.advance(29_000)
    assert parallelism(cluster) == [2, 2]
    cluster.advance(1_000)
    assert parallelism(cluster) == [4, 4]
    scaled_up = status(cluster)
    assert (scaled_up.summary.state, scaled_up.summary.restarts) == ("RUNNING", 0)
    assert {s.attempt_number for v in scaled_up.vertices for s in v.subtasks} == {1}


def test_less_than_all_is_waited_for_longer():
    """A gain that is not all it could use is taken after the stabilisation time of executing jobs."""
    cluster = ControlPlane([2], behaviour=runs_on)
    run(cluster, job())
    cluster.advance(10_000)
    cluster.add_taskmanager(1)
    cluster.advance(59_000)
    assert parallelism(cluster) == [2, 2]
    cluster.advance(1_500)
    assert parallelism(cluster) == [3, 3]


def test_it_goes_on_with_less_when_slots_go():
    """A lost TaskManager costs a restart, and the job is smaller after it."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, job())
    cluster.stop("tm-2")
    cluster.advance(1_000 + 10_000)
    assert parallelism(cluster) == [2, 2]
    assert status(cluster).summary.restarts == 1


def test_a_worker_that_is_replaced_in_time_costs_no_parallelism():
    """The slot is asked for during the delay, so all slots are there when it is over."""
    cluster = ControlPlane([4], behaviour=runs_on)
    run(cluster, job())
    cluster.kill_worker(cluster.workers[0])
    cluster.advance(1_000)
    assert parallelism(cluster) == [4, 4]
    assert status(cluster).summary.state == "RUNNING"


def test_a_failure_restarts_all_tasks():
    """Also those of other regions: their parallelism may change."""
    cluster = ControlPlane([4], behaviour=runs_on)
    run(cluster, graph([vertex("a"), vertex("b")], settings=ADAPTIVE))
    fail(cluster, "a")
    cluster.advance(1_000)
    assert [v.subtasks[0].attempt_number for v in status(cluster).vertices] == [1, 1]


def test_jobs_take_what_they_need_before_others_take_what_they_would_like():
    """The second job gets its minimum although the first could use every slot."""
    cluster = ControlPlane([2], behaviour=runs_on)
    run(cluster, job(4), "j1")
    run(cluster, job(4), "j2", "other")
    cluster.advance(11_000)
    assert status(cluster, "j1").summary.state == "RUNNING"
    cluster.add_taskmanager(2)
    cluster.advance(60_000)
    assert status(cluster, "j2").summary.state == "RUNNING"


def test_a_draining_taskmanager_is_left_at_lower_parallelism_if_need_be():
    """Nothing comes in its place for the stabilisation time, so the job goes on with less."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    run(cluster, job())
    drain(cluster, "tm-2")
    assert parallelism(cluster) == [4, 4]
    cluster.advance(10_000)
    assert parallelism(cluster) == [2, 2]
    assert used(cluster) == {"tm-1": 2, "tm-2": 0}


def test_a_bounded_job_ends_and_frees_its_slots():
    """Scaled down or not, it finishes."""
    cluster = ControlPlane([3], behaviour=lambda _s: Behaviour())
    client = run(cluster, job())
    cluster.advance(10_000)
    assert client.last(JobStatus).summary.state == "FINISHED"
    assert free_slots(cluster) == 3


def test_scaling_bounds_every_vertex_and_keeps_its_key_groups():
    """Vertices that are narrower stay as they are."""
    big = graph([vertex("a", 1), vertex("b", 5), vertex("c", 3)], [edge("a", "b"), edge("b", "c")])
    small = scaled(big, 2)
    assert [v.parallelism for v in small.vertices] == [1, 2, 2]
    assert [v.max_parallelism for v in small.vertices] == [128, 128, 128]


def test_a_job_whose_rows_were_collected_neither_moves_nor_scales():
    """It cannot restart, so neither more slots nor a drain make it try, again and again."""
    cluster = ControlPlane([2, 2], behaviour=runs_on)
    client = cluster.add_client()
    cluster.say(client, submit("j1", job(6)))
    cluster.say(client, WatchJob(1, 2, "j1", collect=True))
    cluster.advance(10_000)
    cluster.from_worker(cluster.workers[0], CollectedRows(0, "j1", "v1", "c", 0, 0, b"rows", False))
    cluster.settle()
    drain(cluster, "tm-2")
    cluster.add_taskmanager(4)
    cluster.advance(200_000)
    assert parallelism(cluster) == [4, 4]
    assert {s.attempt_number for v in status(cluster).vertices for s in v.subtasks} == {0}
