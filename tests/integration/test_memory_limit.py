"""A job that leaks on a TaskManager whose slots may not use more than so much memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zmflow import StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.api.execution import JobClient
from zmflow.config import Settings
from zmflow.errors import JobFailedError
from zmflow.protocol.messages import SlotStatus
from zmflow.runtime import local_cluster
from zmflow.runtime.client import ClusterClient

pytestmark = pytest.mark.integration

DEADLINE_S = 60
MIB = 2**20


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Settings]:
    """One TaskManager with two slots of at most 256 MiB; gives the settings of its clients."""
    texts = {"jobmanager.rpc.port": "0", "taskmanager.memory.slot-limit": "256 m"}
    settings = Settings().with_values({**texts, "taskmanager.numberOfTaskSlots": "2"}, "test")
    running = local_cluster.start(settings, 1, tmp_path / "cluster")
    address = {"jobmanager.rpc.address": running.host, "jobmanager.rpc.port": str(running.port)}
    try:
        yield settings.with_values({**address, "execution.target": "remote"}, "test")
    finally:
        local_cluster.stop(tmp_path / "cluster", settings)


def start(cluster: Settings, name: str, *, leaks: bool) -> JobClient:
    """Submit an endless job of one task."""
    kept = []

    def keep(number: int) -> int:
        if leaks:
            kept.append(bytearray(b"x" * MIB))
        time.sleep(0.001)
        return number

    with environment_context(cluster):
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(1)
        env.from_sequence(1, 10**12).map(keep).add_sink(lambda _number: None)
        return env.execute_async(name)


def slot_of(client: ClusterClient, name: str) -> SlotStatus:
    """The slot of a job whose task runs, when it does."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        jobs = {job.name: job for job in client.list_jobs()}
        if name in jobs and jobs[name].tasks_running == 1:
            [taskmanager] = client.cluster_status().taskmanagers
            return next(slot for slot in taskmanager.slots if slot.job_id == jobs[name].job_id)
    raise AssertionError(f"{name} does not run")


def test_a_leaking_job_dies_alone(cluster: Settings) -> None:
    """It fails with a sentence that says what it used, what it may use and which setting says so; the other
    job of the TaskManager goes on in the same process."""
    modest = start(cluster, "modest", leaks=False)
    with contextlib.closing(ClusterClient(cluster)) as client:
        before = slot_of(client, "modest")
        leaking = start(cluster, "leaking", leaks=True)
        with pytest.raises(JobFailedError) as caught:
            leaking.get_job_execution_result()
        said = str(caught.value)
        assert "MiB of memory" in said
        assert "256 MiB" in said
        assert "taskmanager.memory.slot-limit" in said
        after = slot_of(client, "modest")
        assert (after.worker_pid, after.allocation_id) == (before.worker_pid, before.allocation_id)
        [taskmanager] = client.cluster_status().taskmanagers
        assert len(taskmanager.slots) == 2
    modest.cancel()
    for handle in (modest, leaking):
        handle.close()
