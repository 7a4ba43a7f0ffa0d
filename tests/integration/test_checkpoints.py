"""Checkpoints in the worker processes of an embedded cluster: what fails in the middle counts once."""

from __future__ import annotations

import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import main
from tests.chaos.exactly_once_jobs import kinds
from tests.chaos.plan import exactly_once_orders
from tests.chaos.processes import wait_until
from tests.chaos.variants import variants
from zmflow import (
    CheckpointedFunction,
    CheckpointListener,
    Duration,
    FunctionInitializationContext,
    FunctionSnapshotContext,
    KeyedProcessFunction,
    ListStateDescriptor,
    MapFunction,
    ReducingStateDescriptor,
    RuntimeContext,
    SequenceSource,
    StreamExecutionEnvironment,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.errors import JobFailedError

pytestmark = pytest.mark.integration

PAUSE_S = 0.0005
"""Between two records: a job of some thousand records has some checkpoints."""


@pytest.fixture
def env(tmp_path: Path) -> Iterator[StreamExecutionEnvironment]:
    """An environment of parallelism 2 with checkpoints every 50 ms in a directory."""
    texts = {
        "parallelism.default": "2",
        "execution.target": "embedded",
        "execution.checkpointing.interval": "50 ms",
        "execution.checkpointing.dir": str(tmp_path / "checkpoints"),
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "3",
        "restart-strategy.fixed-delay.delay": "10 ms",
    }
    with environment_context(Settings().with_values(texts, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


def once(marker: Path, misfortune: Callable[[], None]) -> Callable[[int], int]:
    """A slow map that meets with a misfortune at one record, the first time."""

    def step(number: int) -> int:
        time.sleep(PAUSE_S)
        if number == 1500 and not marker.exists():
            marker.touch()
            misfortune()
        return number

    return step


def raise_error() -> None:
    raise ValueError("in the middle")


def kill_worker() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class CountOfKey(KeyedProcessFunction):
    """How many records of the key there were, for each of them."""

    def open(self, runtime_context: RuntimeContext) -> None:
        descriptor = ReducingStateDescriptor("count", lambda left, right: left + right)
        self.count = runtime_context.get_reducing_state(descriptor)

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int]]:
        self.count.add(1)
        yield ctx.get_current_key(), self.count.get()


EXPECTED = sorted((key, count) for key in range(5) for count in range(1, 601))


@pytest.mark.parametrize("misfortune", [raise_error, kill_worker])
@pytest.mark.parametrize("kind", ["sum", "process"])
def test_collected_rows_count_once(
    env: StreamExecutionEnvironment, tmp_path: Path, kind: str, misfortune: Callable[[], None]
) -> None:
    """A running count of each key, over a restart from the last checkpoint: each number is seen once."""
    numbers = env.from_source(SequenceSource(0, 2999)).map(once(tmp_path / "happened", misfortune))
    if kind == "sum":
        pairs = numbers.map(lambda number: (number % 5, 1))
        counts = pairs.key_by(lambda pair: pair[0]).sum(1)
    else:
        counts = numbers.key_by(lambda number: number % 5).process(CountOfKey())
    with counts.execute_and_collect() as rows:
        found = sorted(rows)
    assert found == EXPECTED
    assert (tmp_path / "happened").exists()


class Remembering(MapFunction[int, int], CheckpointedFunction, CheckpointListener):
    """Keeps what it has seen in operator state; tells a file what it found when it was restored."""

    def __init__(self, told: Path) -> None:
        self.told = told

    def initialize_state(self, context: FunctionInitializationContext) -> None:
        store = context.get_operator_state_store()
        self.kept = store.get_list_state(ListStateDescriptor("seen"))
        self.everybodys = store.get_union_list_state(ListStateDescriptor("subtasks"))
        self.seen = list(self.kept.get())
        if context.is_restored():
            with self.told.open("a", encoding="ascii") as file:
                file.write(json.dumps([len(self.seen), sorted(self.everybodys.get())]) + "\n")

    def open(self, runtime_context: RuntimeContext) -> None:
        self.subtask = runtime_context.get_index_of_this_subtask()

    def map(self, value: int) -> int:
        self.seen.append(value)
        return value

    def snapshot_state(self, context: FunctionSnapshotContext) -> None:
        self.kept.update(self.seen)
        self.everybodys.update([self.subtask])

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        self.told.with_suffix(".complete").touch()

    def close(self) -> None:
        with self.told.with_suffix(f".{self.subtask}").open("w", encoding="ascii") as file:
            json.dump(self.seen, file)


def test_operator_state_is_restored(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """Split state goes to where it was, union state to everybody; in the end nothing is missing or double."""
    told = tmp_path / "told"
    numbers = env.from_source(SequenceSource(0, 2999)).map(once(tmp_path / "happened", raise_error))
    numbers.rebalance().map(Remembering(told)).add_sink(lambda _: None)
    env.execute()
    restored = [json.loads(line) for line in told.read_text(encoding="ascii").splitlines()]
    assert len(restored) == 2
    assert {tuple(subtasks) for _, subtasks in restored} == {(0, 1)}
    assert sum(count for count, _ in restored) > 0
    parts = [json.loads(told.with_suffix(f".{subtask}").read_text(encoding="ascii")) for subtask in (0, 1)]
    assert sorted(parts[0] + parts[1]) == list(range(3000))
    assert told.with_suffix(".complete").exists()


class Unpicklable(KeyedProcessFunction):
    """Has a state that no checkpoint can hold."""

    def open(self, runtime_context: RuntimeContext) -> None:
        descriptor = ReducingStateDescriptor("callback", lambda left, _right: left)
        self.state = runtime_context.get_reducing_state(descriptor)

    def process_element(self, value: int, ctx: Any) -> Iterator[int]:
        time.sleep(PAUSE_S)
        self.state.add(lambda: value)
        yield value


def test_state_that_cannot_be_pickled_is_named(env: StreamExecutionEnvironment) -> None:
    """The job fails when no more checkpoints may fail, with the name of the state and its key."""
    # Or each of four attempts would first align behind slow records.
    env.get_checkpoint_config().set_aligned_checkpoint_timeout(Duration.of_millis(0))
    stream = env.from_source(SequenceSource(0, 100_000)).key_by(lambda number: number % 2)
    with pytest.raises(JobFailedError) as failed, stream.process(Unpicklable()).execute_and_collect() as rows:
        list(rows)
    assert "'callback'" in str(failed.value)
    assert "for the key" in str(failed.value)


def test_checkpoints_of_a_finished_job_are_gone(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """By default nothing of a job is left in the directory when it has finished."""
    stream = env.from_source(SequenceSource(0, 999)).map(once(tmp_path / "never", raise_error))
    with stream.key_by(lambda number: number % 5).process(CountOfKey()).execute_and_collect() as rows:
        assert len(list(rows)) == 1000
    # The embedded cluster lives on and deletes beside what the client waits for; glob would fail over that.
    root = tmp_path / "checkpoints"
    assert wait_until(lambda: not any(below for at, below, _ in os.walk(root) if Path(at) != root), 20.0)


def test_kills_lose_and_double_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Four kill -9 in and between checkpoints of jobs with windows and running sums, on the heap and on
    RocksDB, aligned and unaligned; no file of a checkpoint is left."""
    main(["exactly-once", "--no-postgres", "--kills", "4", "--seed", "18", "--json"])
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["wrong"] == [], said.err
    assert report["left_behind"] == [], said.err
    assert report["files_left"] == [], said.err
    assert report["kills"] == 4, said.err
    assert {"heap, unaligned", "rocksdb, aligned"} <= report["variants"].keys(), said.err
    assert sum(counts["checkpoints_in_flight"] for counts in report["variants"].values()) > 0, said.err
    assert sum(counts["kills_in_checkpoint"] for counts in report["variants"].values()) > 0, said.err
    assert report["jobs_finished"] == report["jobs"] >= 2, said.err


def test_without_a_server_the_run_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that write to PostgreSQL are not left out unless somebody says so."""
    monkeypatch.setattr("tests.chaos.__main__.is_installed", lambda: False)
    with pytest.raises(SystemExit) as ended:
        main(["exactly-once", "--kills", "4"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert "the Debian package postgresql" in said and "--no-postgres" in said


def test_the_same_seed_draws_the_same_jobs(tmp_path: Path) -> None:
    """Another one others. Every variant comes up, on either lane, before any comes up again."""

    def plan(seed: int, lane: int = 0) -> list[tuple[object, ...]]:
        orders = exactly_once_orders(seed, lane, tmp_path, kinds(None), variants())
        return [
            (order.name, order.work_ms, order.variant, order.settings)
            for order in itertools.islice(orders, len(variants()))
        ]

    assert plan(7) == plan(7)
    assert plan(7) != plan(8)
    for lane in (0, 1):
        assert sorted(variant for _, _, variant, _ in plan(7, lane)) == sorted(map(str, variants()))
