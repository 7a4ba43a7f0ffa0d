"""When the coordinator says that a checkpoint is not to wait for barriers, and to whom."""

from __future__ import annotations

import pytest

from zmflow.config import Settings
from zmflow.coordination.checkpoints.settings import checkpoint_settings
from zmflow.protocol.checkpoints import CheckpointBarrier, SnapshotMetrics, StateFile, UnalignCheckpoint
from zmflow.protocol.messages import CheckpointAcknowledged, CoordinatorSnapshot, TriggerSavepoint
from zmflow.testing.control_plane import ControlPlane

from .checkpointed import EVERY_SECOND, behaves, checkpoints, deployed, said, source_and_sink
from .job_graphs import pipeline
from .test_checkpoints import attempt_of
from .test_job_life import run
from .test_restarts import fail, holder

AFTER = {"execution.checkpointing.aligned-checkpoint-timeout": "700 ms"}


def orders(cluster: ControlPlane) -> list[CheckpointBarrier]:
    """The checkpoints of which the living workers were told, each as often as it was said."""
    return [m.barrier for m in said(cluster, UnalignCheckpoint) if isinstance(m, UnalignCheckpoint)]


def test_a_checkpoint_that_aligns_for_long_waits_no_longer():
    """From its trigger, and once; the tasks say what they overtook, and it is shown."""
    cluster = ControlPlane([1], behaviour=behaves(snapshots=False))
    run(cluster, pipeline(settings={**EVERY_SECOND, **AFTER}))
    cluster.advance(500 + 699)
    assert orders(cluster) == []
    cluster.advance(1)
    (barrier,) = orders(cluster)
    assert (barrier.checkpoint_id, barrier.kind) == (1, "checkpoint")
    cluster.advance(100)
    assert len(orders(cluster)) == 1
    for name, overtaken in (("v1", None), ("v2", StateFile("", 3, b"abc"))):
        worker = holder(cluster, name)
        metrics = SnapshotMetrics(unaligned=overtaken is not None, in_flight_bytes=7 if overtaken else 0)
        attempt = attempt_of(worker, name)
        message = CheckpointAcknowledged(0, worker.allocation_id, attempt, 1, None, metrics, overtaken)
        cluster.from_worker(worker, message)
    cluster.settle()
    record = checkpoints(cluster)[-1]
    assert (record.state, record.unaligned, record.in_flight_bytes) == ("COMPLETED", True, 7)
    fail(cluster, "v2")
    cluster.advance(200)
    (restore,) = deployed(cluster, "v1").restore.in_flight
    assert [(part.file.inline, part.gate, part.channels) for part in restore.parts] == [(b"abc", 0, [0])]
    assert deployed(cluster, "v2").restore.in_flight == []


def test_nobody_is_hurried_before_the_tasks_are_asked():
    """While split enumerators are waited for there is nothing to overtake."""
    cluster = ControlPlane([1], behaviour=behaves(snapshots=False))
    at_once = {"execution.checkpointing.aligned-checkpoint-timeout": "0 ms"}
    run(cluster, source_and_sink(settings=at_once))
    cluster.advance(1_000)
    assert orders(cluster) == []
    cluster.from_worker(holder(cluster, "s"), CoordinatorSnapshot(0, "j1", "s", 1, 0, b""))
    cluster.settle()
    cluster.advance(1)
    assert [barrier.checkpoint_id for barrier in orders(cluster)] == [1]


@pytest.mark.parametrize(
    "settings",
    [
        {"execution.checkpointing.unaligned.enabled": "false"},
        {"execution.checkpointing.mode": "AT_LEAST_ONCE"},
        {"execution.checkpointing.max-concurrent-checkpoints": "2"},
    ],
)
def test_where_barriers_must_not_overtake_they_do_not(settings: dict[str, str]):
    """As in Flink: exactly once, one at a time, unless it is switched off."""
    cluster = ControlPlane([1], behaviour=behaves(snapshots=False))
    run(cluster, pipeline(settings={**EVERY_SECOND, **AFTER, **settings}))
    cluster.advance(3_400)
    assert checkpoints(cluster)[-1].state == "TASKS"
    assert orders(cluster) == []


def test_barriers_of_a_savepoint_overtake_nothing():
    """It is for other jobs, which may have other edges."""
    cluster = ControlPlane([1], behaviour=behaves(snapshots=False))
    run(cluster, pipeline(settings={**EVERY_SECOND, **AFTER, "execution.checkpointing.interval": "1 h"}))
    client = cluster.add_client("asker")
    cluster.say(client, TriggerSavepoint(1, 1, "j1", "/s", "savepoint"))
    cluster.settle()
    cluster.advance(2_900)
    assert checkpoints(cluster)[-1].kind == "savepoint"
    assert orders(cluster) == []


def test_the_default_is_to_align_for_five_seconds():
    """Where the settings say nothing else."""
    assert checkpoint_settings("j", source_and_sink(), Settings()).aligned_timeout_ms == 5_000
