"""Checkpoints under real back-pressure: they do not wait for records, and lose or double none."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest
from cluster_executor import ClusterExecutor

from zmflow import KeyedProcessFunction, StreamExecutionEnvironment, ValueStateDescriptor
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.protocol.checkpoint_statistics import CheckpointRecord
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration

KEYS = 20
RECORDS = 3000
WORK_S = 0.002
"""For each record: what is in the channels takes seconds, and aligning waits for all of it."""

KILLED_AT = RECORDS * 2 // 3


class Numbered(KeyedProcessFunction[int, int, tuple[int, int, int]]):
    """Slowly: the key, how many records it had, and the record. Its worker is killed at one record, once."""

    def __init__(self, marker: Path, work_s: float) -> None:
        self.marker = marker
        self.work_s = work_s

    def open(self, runtime_context: Any) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int, int]]:
        time.sleep(self.work_s)
        if value == KILLED_AT and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield value % KEYS, count, value


def expected() -> list[tuple[int, int, int]]:
    return sorted((value % KEYS, value // KEYS + 1, value) for value in range(RECORDS))


class Cluster:
    """Two workers, and a job with checkpoints every 100 ms that may align for so long."""

    def __init__(self, checkpoints: Path, timeout: str, slots: int = 2, **more: str) -> None:
        self.texts = {
            "parallelism.default": "2",
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.aligned-checkpoint-timeout": timeout,
            "execution.checkpointing.dir": str(checkpoints),
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "3",
            "restart-strategy.fixed-delay.delay": "10 ms",
            **more,
        }
        self.cluster = MiniCluster(slots, 1)
        self.executor = ClusterExecutor(self.cluster)

    def __enter__(self) -> Self:
        self.cluster.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self.cluster.__exit__(*raised)

    def environment(self) -> StreamExecutionEnvironment:
        with environment_context(Settings().with_values(self.texts, "test"), self.executor):
            return StreamExecutionEnvironment.get_execution_environment()

    def checkpoints(self) -> list[CheckpointRecord]:
        """The newest complete checkpoints of the job."""
        job_id = self.executor.jobs[-1].get_job_id()
        client = self.cluster.client()
        try:
            records = client.checkpoints(job_id).records
        finally:
            client.close()
        return [record for record in records if record.state == "COMPLETED" and record.kind == "checkpoint"]


@pytest.mark.parametrize("timeout", ["0 ms", "150 ms"])
def test_what_barriers_have_overtaken_is_processed_after_a_kill(tmp_path: Path, timeout: str) -> None:
    """Checkpoints are quick although seconds of records wait, and each record counts once, in its order."""
    with Cluster(tmp_path / "checkpoints", timeout) as cluster:
        stream = cluster.environment().from_sequence(0, RECORDS - 1).set_parallelism(1)
        slow = stream.key_by(lambda value: value % KEYS).process(Numbered(tmp_path / "killed", WORK_S))
        assert sorted(slow.execute_and_collect()) == expected()
        done = cluster.checkpoints()
    assert (tmp_path / "killed").exists()
    assert any(record.in_flight_bytes > 0 for record in done)
    assert min(record.duration_ms for record in done) < 1000
