"""Running jobs that are told to go on at another parallelism."""

from __future__ import annotations

import msgspec
import pytest

from zmflow.coordination.rescaling import rescaled
from zmflow.errors import ClusterError
from zmflow.graph.job_graph import JobGraph
from zmflow.protocol.checkpoints import StateFile
from zmflow.protocol.messages import Refused, RescaleDone, RescaleJob, TriggerSavepoint
from zmflow.testing.control_plane import Client, ControlPlane

from .checkpointed import EVERY_SECOND, behaves, deployed, source, source_and_sink
from .job_graphs import edge, graph, vertex
from .test_job_life import run, status
from .test_restarts import fail

STATE = StateFile("", 4, b"abcd")


def rescale(cluster: ControlPlane, parallelism: int) -> Client:
    """A client that has asked for a parallelism."""
    client = cluster.add_client(f"asks-{len(cluster.clients)}")
    cluster.say(client, RescaleJob(1, 9, "j1", parallelism))
    cluster.settle()
    return client


@pytest.mark.parametrize("scheduler", ["default", "adaptive"])
@pytest.mark.parametrize("periodic", ["1 s", "-1"])
def test_a_job_goes_on_from_a_checkpoint_at_another_parallelism(scheduler: str, periodic: str):
    """Up and down, whichever scheduler, and also a job that takes no checkpoints by itself."""
    settings = {"jobmanager.scheduler": scheduler, "execution.checkpointing.interval": periodic}
    cluster = ControlPlane([4], behaviour=behaves(state=STATE), settings={"jobmanager.scheduler": scheduler})
    run(cluster, source_and_sink(2, settings))
    for parallelism in (4, 1):
        client = rescale(cluster, parallelism)
        cluster.advance(200)
        assert client.last(RescaleDone) == RescaleDone(1, 9, "j1", parallelism)
        assert [v.parallelism for v in status(cluster).vertices] == [parallelism] * 2
        restore = deployed(cluster, "s").restore
        assert restore is not None and restore.coordinator is not None
        assert restore.operators[0].parallelism == {4: 2, 1: 4}[parallelism]
    assert status(cluster).summary.restarts == 0
    fail(cluster, "t")
    cluster.advance(500)
    assert [v.parallelism for v in status(cluster).vertices] == [1, 1]


def test_what_cannot_be_is_refused():
    """Key groups, slots, and jobs that do not run or are being stopped."""
    cluster = ControlPlane([3], behaviour=behaves(state=STATE))
    run(cluster, source_and_sink(2))
    assert "max parallelism 128" in rescale(cluster, 129).last(Refused).detail
    assert "already" in rescale(cluster, 2).last(Refused).message
    assert "would need 4 slots" in rescale(cluster, 4).last(Refused).message
    stopper = cluster.add_client("stopper")
    cluster.say(stopper, TriggerSavepoint(1, 1, "j1", "/s", "stop"))
    cluster.settle()
    assert "being stopped" in rescale(cluster, 3).last(Refused).message
    assert status(cluster).summary.state == "RUNNING"


def test_without_a_checkpoint_the_job_stays_as_it_is():
    """The answer says why there is none."""
    cluster = ControlPlane([4], behaviour=behaves(declines="it does not fit"))
    hourly = {**EVERY_SECOND, "execution.checkpointing.interval": "1 h"}
    run(cluster, graph([source("s"), vertex("t")], [edge("s", "t")], hourly))
    assert "it does not fit" in rescale(cluster, 2).last(RescaleDone).failure
    assert status(cluster).summary.tasks_total == 2


def fixed(job: JobGraph, name: str) -> JobGraph:
    """The program runs a vertex in one subtask."""
    vertices = [
        msgspec.structs.replace(v, parallelism_set=v.vertex_id == name, parallelism=1) for v in job.vertices
    ]
    return msgspec.structs.replace(job, vertices=vertices)


def test_what_the_program_runs_in_one_subtask_stays_so():
    """With what it feeds in order."""
    job = graph([vertex("a"), vertex("b"), vertex("c")], [edge("a", "b", pointwise=True), edge("b", "c")])
    forward = [
        msgspec.structs.replace(e, partitioner="FORWARD" if e.pointwise else "HASH") for e in job.edges
    ]
    job = fixed(msgspec.structs.replace(job, edges=forward), "a")
    assert [v.parallelism for v in rescaled(job, 3).vertices] == [1, 1, 3]
    with pytest.raises(ClusterError, match="already"):
        rescaled(fixed(graph([vertex("a")], []), "a"), 3)
