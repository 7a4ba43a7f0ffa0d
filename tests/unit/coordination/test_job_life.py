"""A job from its submission to its end, on the brains alone."""

from __future__ import annotations

from zmflow.protocol.messages import JobAccepted, JobStatus, WatchJob
from zmflow.testing.control_plane import ControlPlane

from .job_graphs import graph, submit, vertex


def test_a_job_of_one_vertex_runs_to_its_end():
    """It is accepted, goes CREATED → RUNNING → FINISHED, and its slot is free again."""
    cluster = ControlPlane([2])
    client = cluster.add_client()
    cluster.say(client, submit("j1", graph([vertex("v1")])))
    cluster.say(client, WatchJob(1, 8, "j1"))
    cluster.settle()
    assert client.last(JobAccepted).job_id == "j1"
    states = [status.summary.state for status in client.all(JobStatus)]
    assert list(dict.fromkeys(states)) == ["CREATED", "RUNNING", "FINISHED"]
    assert client.all(JobStatus)[0].request_id == 8
    assert client.last(JobStatus).summary.tasks_finished == 1
    assert not cluster.workers
