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

from tests.integration.counted_lines import expected_lines, written_lines
from zmflow import (
    KeyedBroadcastProcessFunction,
    KeyedProcessFunction,
    MapStateDescriptor,
    StreamExecutionEnvironment,
    Time,
    TumblingEventTimeWindows,
    ValueStateDescriptor,
    WatermarkStrategy,
)
from zmflow.api.environment import environment_context
from zmflow.api.execution import JobClient
from zmflow.config import Settings
from zmflow.connectors import Encoder, FileSink, RollingPolicy
from zmflow.errors import JobCanceledError
from zmflow.protocol.checkpoint_statistics import CheckpointRecord
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration

KEYS = 20
RECORDS = 3000
WORK_S = 0.002
"""For each record: what is in the channels takes seconds, and aligning waits for all of it."""

KILLED_AT = RECORDS * 2 // 3

RETAINED = {
    "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
    "execution.checkpointing.num-retained": "100",
}
TIMED_RECORDS = 2_000
WINDOW_MS = 100
DEADLINE_S = 60


class Numbered(KeyedProcessFunction[int, int, tuple[int, int, int]]):
    """Slowly: the key, how many records it had, and the record. Its worker is killed at one record, once."""

    def __init__(self, marker: Path, work_s: float, killed_at: int = KILLED_AT) -> None:
        self.marker = marker
        self.work_s = work_s
        self.killed_at = killed_at

    def open(self, runtime_context: Any) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int, int]]:
        time.sleep(self.work_s)
        if value == self.killed_at and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield value % KEYS, count, value


class NumberedUnderRules(KeyedBroadcastProcessFunction[int, int, int, tuple[int, int, int]]):
    """The same beside a broadcast."""

    def __init__(self, marker: Path, killed_at: int) -> None:
        self.numbered = Numbered(marker, WORK_S, killed_at)

    def open(self, runtime_context: Any) -> None:
        self.numbered.open(runtime_context)

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int, int]]:
        return self.numbered.process_element(value, ctx)

    def process_broadcast_element(self, value: int, ctx: Any) -> None:
        """Rules are of no account."""


def expected(records: int = RECORDS) -> list[tuple[int, int, int]]:
    return sorted((value % KEYS, value // KEYS + 1, value) for value in range(records))


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

    def environment(self, **more: str) -> StreamExecutionEnvironment:
        texts = {name: text for name, text in {**self.texts, **more}.items() if text}
        with environment_context(Settings().with_values(texts, "test"), self.executor):
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


class CountAndRemind(KeyedProcessFunction[int, int, str]):
    """Slowly counts by key; a timer says when the event time is there."""

    def open(self, runtime_context: Any) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(self, value: int, ctx: Any) -> Iterator[str]:
        time.sleep(0.001)
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        ctx.timer_service().register_event_time_timer(value + 500)
        yield f"count {value % KEYS} {count}"

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[str]:
        yield f"timer {ctx.get_current_key()} {timestamp}"


def begin(cluster: Cluster, out: Path, parallelism: int, path: str) -> JobClient:
    """Start a job of three stages with timers and windows, from a checkpoint or anew."""
    env = cluster.environment(
        **{"execution.state-recovery.path": path, "parallelism.default": str(parallelism)}
    )
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(lambda n, _: n)
    numbers = env.from_sequence(1, TIMED_RECORDS).set_parallelism(1)
    timed = numbers.assign_timestamps_and_watermarks(strategy).set_parallelism(1)
    keyed = timed.rebalance().map(abs).key_by(lambda n: n % KEYS)
    counted = keyed.process(CountAndRemind()).uid("counts")
    windows = (
        keyed.window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW_MS)))
        .reduce(lambda a, b: a + slowly(b))
        .uid("windows")
        .map(lambda total: f"window {total}")
    )
    sink = (
        FileSink.for_row_format(str(out), Encoder.simple_string_encoder())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    counted.union(windows).sink_to(sink).uid("sink")
    return env.execute_async("rescaled")


def slowly(value: int) -> int:
    time.sleep(0.001)
    return value


def wait_for_overtaking(cluster: Cluster) -> str:
    """Where a checkpoint of the newest job is that has records on their way."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        for record in cluster.checkpoints():
            if record.in_flight_bytes:
                return record.location
        assert time.monotonic() < deadline, "no barrier has overtaken anything"
        time.sleep(0.01)


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


def test_a_restarted_job_sends_again_what_tasks_that_had_finished_sent(tmp_path: Path) -> None:
    """The source has ended long before its records are processed: in checkpoints after that they are all on
    their way."""
    with Cluster(tmp_path / "checkpoints", "0 ms") as cluster:
        stream = cluster.environment().from_sequence(0, 199).set_parallelism(1)
        slow = stream.key_by(lambda value: value % KEYS).process(Numbered(tmp_path / "killed", 0.02, 150))
        assert sorted(slow.execute_and_collect()) == expected(200)
        done = cluster.checkpoints()
    assert (tmp_path / "killed").exists()
    assert any(record.in_flight_bytes > 0 and record.tasks == 2 for record in done)


def test_where_an_exchange_leads_to_one_task_barriers_wait(tmp_path: Path) -> None:
    """A broadcast beside keyed records: the task aligns, however little time it has, and loses nothing."""
    with Cluster(tmp_path / "checkpoints", "0 ms") as cluster:
        env = cluster.environment()
        rules = env.from_collection([1]).broadcast(MapStateDescriptor("rules"))
        stream = env.from_sequence(0, 999).set_parallelism(1)
        killed = tmp_path / "killed"
        slow = (
            stream.key_by(lambda value: value % KEYS).connect(rules).process(NumberedUnderRules(killed, 500))
        )
        assert sorted(slow.execute_and_collect()) == expected(1000)
        done = cluster.checkpoints()
    assert killed.exists()
    assert done
    assert not any(record.in_flight_bytes for record in done)


def test_what_was_on_its_way_goes_to_as_many_tasks_as_there_are(tmp_path: Path) -> None:
    """2, then 4, then 3 tasks, each time from a checkpoint with records on their way: keyed state, timers and
    windows are those of a job that was never stopped, every line once."""
    path = ""
    with Cluster(tmp_path / "checkpoints", "0 ms", slots=4, **RETAINED) as cluster:
        for parallelism in (2, 4):
            job = begin(cluster, tmp_path / "out", parallelism, path)
            path = wait_for_overtaking(cluster)
            job.cancel()
            with pytest.raises(JobCanceledError):
                job.get_job_execution_result()
            job.close()
        job = begin(cluster, tmp_path / "out", 3, path)
        job.get_job_execution_result()
        job.close()
    assert written_lines(tmp_path / "out") == expected_lines(TIMED_RECORDS, KEYS, WINDOW_MS)
