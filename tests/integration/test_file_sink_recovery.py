"""File sinks under failures of real processes: in the end, what a run without them writes is visible."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import wait_until
from zmflow import (
    MapFunction,
    RuntimeContext,
    RuntimeExecutionMode,
    StreamExecutionEnvironment,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.connectors import (
    BucketAssigner,
    CsvFileSink,
    FileSink,
    JsonLinesFileSink,
    RollingPolicy,
    TextFileSink,
)
from zmflow.errors import JobCanceledError
from zmflow.state.checkpointed_function import CheckpointListener

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

COUNT = 30_000
CHECKPOINTS_BEFORE = 2
"""How many an attempt completes before it fails, so that something is committed and something open."""


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """A streaming job of two subtasks with ten checkpoints a second, which restarts at once."""
    texts = {
        "parallelism.default": "2",
        "execution.target": "embedded",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "5",
        "restart-strategy.fixed-delay.delay": "1 ms",
    }
    with environment_context(Settings().with_values(texts, "test")):
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_runtime_mode(RuntimeExecutionMode.STREAMING)
        env.enable_checkpointing(100)
        yield env


class Faulty(MapFunction[int, int], CheckpointListener):
    """Raises in the first attempt, ends its process in the second; slow until then.

    Args:
        faults: a directory, in which each fault leaves a file.
    """

    def __init__(self, faults: Path) -> None:
        self._faults = faults

    def open(self, runtime_context: RuntimeContext) -> None:
        self._attempt = runtime_context.attempt_number
        self._completed = 0

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        self._completed += 1

    def map(self, value: int) -> int:
        if self._attempt > 1:
            return value
        time.sleep(0.0005)  # so that checkpoints come between records
        if self._completed >= CHECKPOINTS_BEFORE:
            if self._attempt == 0:
                (self._faults / "raised").touch()
                raise RuntimeError("as the test wants")
            (self._faults / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return value


class ByHundreds(BucketAssigner[int]):
    """Ten buckets."""

    def bucket_id(self, value: int, processing_time_ms: int) -> str:
        return f"hundreds={value // 100 % 10}"


ON_CHECKPOINT = RollingPolicy.on_checkpoint_rolling_policy()

SINKS: dict[str, Callable[[Path], FileSink[Any]]] = {
    "open parts": TextFileSink,
    "parts of checkpoints": lambda path: TextFileSink[Any](path).with_rolling_policy(ON_CHECKPOINT),
    "small parts": lambda path: JsonLinesFileSink[Any](path).with_rolling_policy(RollingPolicy(5_000)),
    "buckets": lambda path: TextFileSink[Any](path).with_bucket_assigner(ByHundreds()),
    "csv": lambda path: CsvFileSink[Any](path, ["number"]),
}


@pytest.mark.parametrize("sink", SINKS.values(), ids=SINKS)
def test_every_record_is_visible_once_after_an_error_and_kill_9(
    env: StreamExecutionEnvironment, tmp_path: Path, sink: Callable[[Path], FileSink[Any]]
) -> None:
    """And nothing hidden is left."""
    out = tmp_path / "out"
    env.from_sequence(0, COUNT - 1).map(Faulty(tmp_path)).sink_to(sink(out))
    env.execute()
    assert {path.name for path in tmp_path.iterdir()} == {"raised", "killed", "out"}
    parts = [path for path in out.rglob("*") if path.is_file()]
    lines = [line for part in parts for line in part.read_text().splitlines()]
    assert sorted(int(line) for line in lines if line != "number") == list(range(COUNT))
    assert [part.name for part in parts if part.name.startswith(".")] == []


def test_parts_are_visible_while_the_job_runs(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """A part that is closed appears with the next checkpoint; records after it wait for theirs."""
    out = tmp_path / "out"
    policy = RollingPolicy.default_rolling_policy(rollover_interval=50)
    sink = TextFileSink[int](out).with_rolling_policy(policy).with_bucket_check_interval(20)
    env.from_sequence(0, 10**12).map(lambda n: time.sleep(0.0005) or n).sink_to(sink)  # type: ignore[func-returns-value]
    client = env.execute_async()
    try:
        assert wait_until(lambda: len(list(out.glob("part*"))) >= 4, timeout_s=60)
        client.cancel()
        with pytest.raises(JobCanceledError):
            client.get_job_execution_result()
    finally:
        client.close()
    numbers = [int(line) for path in out.glob("part*") for line in path.read_text().splitlines()]
    assert len(numbers) == len(set(numbers)) > 0


def test_in_batch_mode_the_end_commits_though_checkpoints_are_on(
    env: StreamExecutionEnvironment, tmp_path: Path
) -> None:
    """Nobody waits for a checkpoint that BATCH mode never takes; the names are those without checkpoints."""
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    env.from_sequence(0, 99).sink_to(TextFileSink[int](tmp_path / "out"))
    env.execute()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-0", "part-1"]
