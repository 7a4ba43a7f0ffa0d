"""Sources on real processes: jobs that go on from checkpoints, files that appear, records at a rate."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from zmflow import Configuration, MapFunction, RuntimeContext, Source, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.api.time import Duration
from zmflow.config import Settings
from zmflow.connectors import (
    CsvFileSource,
    DataGeneratorSource,
    PositionedSource,
    RateLimiterStrategy,
    TextFileSource,
    ZeroMqSource,
)

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEYS = 7
NUMBERS = 20_000


@pytest.fixture
def env(tmp_path: Path) -> Iterator[StreamExecutionEnvironment]:
    """Parallelism 2, a checkpoint every 100 ms, and three restarts."""
    texts = {"parallelism.default": "2", "execution.target": "embedded"}
    options = {
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.delay": "0 ms",
        "restart-strategy.fixed-delay.attempts": "3",
        "execution.checkpointing.dir": str(tmp_path / "checkpoints"),
    }
    with environment_context(Settings().with_values(texts, "test")):
        env = StreamExecutionEnvironment.get_execution_environment(Configuration.from_dict(options))
        env.enable_checkpointing(100)
        yield env


def fail() -> None:
    """As a function does."""
    raise ValueError("the one failure of this test")


def die() -> None:
    """As a worker does that the kernel ends."""
    os.kill(os.getpid(), signal.SIGKILL)


class FailsOnce(MapFunction[Any, Any]):
    """Passes numbers on, at leisure until a checkpoint is complete, and then fails once.

    What it saw is written down, a file per attempt of a subtask, so that a file says what was read again.
    """

    def __init__(self, directory: Path, failure: Callable[[], None]) -> None:
        self.directory = directory
        self.failure = failure

    def open(self, runtime_context: RuntimeContext) -> None:
        subtask, attempt = runtime_context.get_index_of_this_subtask(), runtime_context.get_attempt_number()
        self.seen = (self.directory / f"seen-{subtask}-{attempt}").open("w")
        self.failed = self.directory / "failed"
        self.count = 0

    def map(self, value: Any) -> Any:
        self.seen.write(f"{value}\n")
        self.count += 1
        if self.count % 50 == 0 and not self.failed.exists():
            time.sleep(0.02)  # the load: NUMBERS take some seconds, a checkpoint a tenth of one
            if self.checkpoint_is_complete():
                self.seen.flush()
                try:
                    self.failed.touch(exist_ok=False)
                except FileExistsError:
                    return value  # the other subtask was faster
                self.failure()
        return value

    def checkpoint_is_complete(self) -> bool:
        """The second is written after the first is complete."""
        written = self.directory.glob("checkpoints/*/chk-*/_metadata")
        return any(int(path.parent.name.removeprefix("chk-")) > 1 for path in written)

    def close(self) -> None:
        self.seen.close()


def run_and_check(
    env: StreamExecutionEnvironment,
    source: Source[Any, Any],
    number: Callable[[Any], int],
    directory: Path,
    failure: Callable[[], None],
) -> None:
    """Sum NUMBERS numbers by key, with a failure: the sums are exact, and not all is read again."""
    results = directory / "results"
    results.mkdir()

    def write(row: tuple[int, int]) -> None:
        with (results / str(os.getpid())).open("a") as file:
            file.write(f"{row[0]} {row[1]}\n")

    numbers = env.from_source(source).map(number).map(FailsOnce(directory, failure))
    numbers.map(lambda n: (n % KEYS, n)).key_by(lambda row: row[0]).sum(1).add_sink(write)
    env.execute("sums")

    assert (directory / "failed").exists()
    sums: dict[int, int] = {}
    for path in results.iterdir():
        for line in path.read_text().splitlines():
            key, total = map(int, line.split())
            sums[key] = max(total, sums.get(key, 0))
    assert sums == {key: sum(range(key, NUMBERS, KEYS)) for key in range(KEYS)}
    read_after = sum(
        len(path.read_text().splitlines())
        for path in directory.glob("seen-*")
        if not path.name.endswith("-0")
    )
    assert 0 < read_after < NUMBERS


def csv_files(directory: Path) -> CsvFileSource[tuple[str, ...]]:
    """The numbers in four files, which are read in pieces by both subtasks."""
    (directory / "input").mkdir()
    for file in range(4):
        rows = "".join(f"{number},x\n" for number in range(file, NUMBERS, 4))
        (directory / "input" / f"{file}.csv").write_text("number,text\n" + rows)
    return CsvFileSource(directory / "input", tuple, split_size_bytes=10_000)


def count_up(position: int) -> Iterator[tuple[int, int]]:
    """A resumable generator of the numbers."""
    for number in range(position, NUMBERS):
        yield number + 1, number


@pytest.mark.parametrize("failure", [fail, die])
def test_files(env: StreamExecutionEnvironment, tmp_path: Path, failure: Callable[[], None]) -> None:
    """Pieces of files are gone on with at the row that comes next."""
    run_and_check(env, csv_files(tmp_path), lambda row: int(row[0]), tmp_path, failure)


@pytest.mark.parametrize("failure", [fail, die])
def test_generated_records(
    env: StreamExecutionEnvironment, tmp_path: Path, failure: Callable[[], None]
) -> None:
    """Lanes of indices are gone on with at the index that comes next."""
    run_and_check(env, DataGeneratorSource(int, NUMBERS), int, tmp_path, failure)


def test_a_generator_with_positions(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """It is called with the position of the checkpoint; the other subtask has nothing to read."""
    run_and_check(env, PositionedSource(count_up, start=0), int, tmp_path, fail)


def test_files_that_appear(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """The job begins in an empty directory, reads a file when it comes, and then the next."""
    files = tmp_path / "input"
    files.mkdir()
    source = TextFileSource(files, monitor_interval=Duration.of_millis(20))
    with env.from_source(source).execute_and_collect() as rows:
        for number in range(3):
            (tmp_path / "unfinished").write_text(f"{number}\n{number}, too\n")
            (tmp_path / "unfinished").rename(files / str(number))
            assert sorted([next(rows), next(rows)]) == [f"{number}", f"{number}, too"]


def test_records_come_at_their_rate(env: StreamExecutionEnvironment) -> None:
    """Whatever the parallelism; the second to last tells, for the machine may be slow but never fast."""
    source = DataGeneratorSource(lambda index: index, 300, RateLimiterStrategy.per_second(500))
    started = time.time()
    with env.from_source(source).map(lambda index: (index, time.time())).execute_and_collect() as rows:
        came = dict(rows)
    assert sorted(came) == list(range(300))
    instants = sorted(came.values())
    # 299 came before the last one, one every 2 ms; the lanes may be a little out of step in the end.
    assert instants[-1] - started >= 0.55
    assert instants[-1] - instants[0] >= 0.4


def test_messages(env: StreamExecutionEnvironment, tmp_path: Path) -> None:
    """Both subtasks pull from one sender, while checkpoints are taken."""
    address = f"ipc://{tmp_path}/messages"
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender:
        sender.setsockopt(zmq.LINGER, 0)
        sender.bind(address)
        source = ZeroMqSource(address, bytes.decode)
        with env.from_source(source).execute_and_collect() as rows:
            for number in range(1000):
                sender.send(b"%d" % number)
            assert sorted(int(next(rows)) for _ in range(1000)) == list(range(1000))
