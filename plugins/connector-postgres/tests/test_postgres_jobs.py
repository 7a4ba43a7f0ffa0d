"""Jobs that read and write tables, on real processes, with checkpoints every 100 ms and failures."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pytest
from postgres_server import DEADLINE_S, PostgresServer
from zmflow_connector_postgres import PostgresSink, PostgresSource

from zmflow import (
    CommitRequest,
    Committer,
    Configuration,
    MapFunction,
    RuntimeExecutionMode,
    SinkWriter,
    StreamExecutionEnvironment,
)
from zmflow.api.environment import environment_context
from zmflow.api.execution import JobClient
from zmflow.api.sinks import WriterContext
from zmflow.config import Settings

pytestmark = pytest.mark.timeout(180)

NUMBERS = 6_000
KEYS = 7
TABLES = itertools.count()


@pytest.fixture(autouse=True)
def embedded() -> Iterator[None]:
    """Jobs run on a cluster of their own."""
    with environment_context(Settings().with_values({"execution.target": "embedded"}, "test")):
        yield


@pytest.fixture
def env(tmp_path: Path) -> StreamExecutionEnvironment:
    """Parallelism 2, a checkpoint every 100 ms, and some restarts."""
    return environment(tmp_path)


def environment(tmp_path: Path, parallelism: int = 2, savepoint: str = "") -> StreamExecutionEnvironment:
    """Another one, to begin from a savepoint."""
    options = {
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.delay": "0 ms",
        "restart-strategy.fixed-delay.attempts": "5",
        "execution.checkpointing.dir": str(tmp_path / "checkpoints"),
        "execution.checkpointing.savepoint-dir": str(tmp_path / "savepoints"),
        "execution.state-recovery.path": savepoint,
    }
    env = StreamExecutionEnvironment.get_execution_environment(Configuration.from_dict(options))
    env.set_parallelism(parallelism)
    env.enable_checkpointing(100)
    return env


@pytest.fixture
def source(server: PostgresServer) -> PostgresSource[tuple[Any, ...]]:
    """The numbers, in six partitions."""
    table = f"numbers_{next(TABLES)}"
    server.query(f"CREATE TABLE {table} AS SELECT n FROM generate_series(1, {NUMBERS}) n ORDER BY n %% 100")
    server.query(f"CREATE INDEX ON {table} (n)")
    return PostgresSource(server.conninfo, table, partition_column="n", partitions=6, fetch_rows=100)


@pytest.fixture
def target(server: PostgresServer) -> str:
    """A table for numbers, which takes every number as often as it comes."""
    table = f"target_{next(TABLES)}"
    server.query(f"CREATE TABLE {table} (n int)")
    return table


def exactly_once(server: PostgresServer, target: str) -> PostgresSink[Any]:
    """A sink of that table."""
    return PostgresSink(
        server.conninfo, target, mode="exactly_once", transaction_prefix=target, batch_rows=500
    )


def assert_all_once(server: PostgresServer, target: str) -> None:
    """Every number is there, once, and no transaction is left."""
    found = [n for (n,) in server.query(f"SELECT n FROM {target} ORDER BY n")]
    assert found == list(range(1, NUMBERS + 1))
    assert [name for name in server.prepared() if name.startswith(f"zmflow/{target}/")] == []


def fail() -> None:
    """As a function does."""
    raise ValueError("the one failure of this test")


def die() -> None:
    """As a worker does that the kernel ends."""
    os.kill(os.getpid(), signal.SIGKILL)


def is_first(mark: Path) -> bool:
    """Whether nobody has asked before."""
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Unsteady(MapFunction[tuple[Any, ...], int]):
    """Passes numbers on, at leisure until a checkpoint is complete, and then fails, once."""

    def __init__(self, directory: Path, failure: Callable[[], None]) -> None:
        self.directory = directory
        self.failure = failure
        self.count = 0

    def map(self, value: tuple[Any, ...]) -> int:
        self.count += 1
        if self.count % 50 == 0 and not (self.directory / "failed").exists():
            time.sleep(0.02)  # the load: the numbers take some seconds, a checkpoint a tenth of one
            if self.checkpoint_is_complete() and is_first(self.directory / "failed"):
                self.failure()
        return int(value[0])

    def checkpoint_is_complete(self) -> bool:
        """The second is written after the first is complete."""
        written = self.directory.glob("checkpoints/*/chk-*/_metadata")
        return any(int(path.parent.name.removeprefix("chk-")) > 1 for path in written)


@pytest.mark.parametrize("failure", [fail, die])
def test_inserts_are_exactly_once(
    env: StreamExecutionEnvironment,
    server: PostgresServer,
    source: PostgresSource[tuple[Any, ...]],
    target: str,
    tmp_path: Path,
    failure: Callable[[], None],
) -> None:
    """From one table into another, over an exchange, when a function fails or a worker dies."""
    numbers = env.from_source(source).map(Unsteady(tmp_path, failure)).rebalance()
    numbers.map(lambda n: (n,)).sink_to(exactly_once(server, target))
    env.execute("inserts")
    assert (tmp_path / "failed").exists()
    assert_all_once(server, target)


@pytest.mark.parametrize("failure", [fail, die])
def test_upserts_end_with_what_a_run_without_failure_has(
    env: StreamExecutionEnvironment,
    server: PostgresServer,
    source: PostgresSource[tuple[Any, ...]],
    tmp_path: Path,
    failure: Callable[[], None],
) -> None:
    """The sums of the numbers by key."""
    table = f"sums_{next(TABLES)}"
    server.query(f"CREATE TABLE {table} (key int PRIMARY KEY, total bigint)")
    numbers = env.from_source(source).map(Unsteady(tmp_path, failure))
    sums = numbers.map(lambda n: (n % KEYS, n)).key_by(lambda row: row[0]).sum(1)
    sums.sink_to(PostgresSink(server.conninfo, table, batch_rows=50))
    env.execute("sums")
    assert (tmp_path / "failed").exists()
    expected = {key: sum(n for n in range(1, NUMBERS + 1) if n % KEYS == key) for key in range(KEYS)}
    assert dict(server.query(f"SELECT key, total FROM {table}")) == expected


class DeadlyCommitter(Committer[Any]):
    """Dies once, before it commits or after it."""

    def __init__(self, committer: Committer[Any], mark: Path, moment: str) -> None:
        self.committer = committer
        self.mark = mark
        self.moment = moment

    def commit(self, requests: Sequence[CommitRequest[Any]]) -> None:
        if self.moment == "before" and is_first(self.mark):
            die()
        self.committer.commit(requests)
        if self.moment == "after" and is_first(self.mark):
            die()

    def close(self) -> None:
        self.committer.close()


class DeadlyWriter(SinkWriter[Any]):
    """Dies once, when a transaction is prepared and no checkpoint knows of it."""

    def __init__(self, writer: SinkWriter[Any], mark: Path) -> None:
        self.writer = writer
        self.mark = mark
        self.write = writer.write
        self.write_batch = writer.write_batch
        self.flush = writer.flush
        self.snapshot_state = writer.snapshot_state
        self.close = writer.close

    def write(self, value: Any) -> None:
        """The writer's."""

    def prepare_commit(self) -> Sequence[Any]:
        prepared = self.writer.prepare_commit()
        if prepared and is_first(self.mark):
            die()
        return prepared


class DeadlySink(PostgresSink[Any]):
    """Whose worker dies."""

    mark: Path
    moment: str

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        writer = super().create_writer(context)
        return DeadlyWriter(writer, self.mark) if self.moment == "prepared" else writer

    def create_committer(self) -> Committer[Any] | None:
        committer = super().create_committer()
        assert committer is not None
        return DeadlyCommitter(committer, self.mark, self.moment)


@pytest.mark.parametrize("moment", ["prepared", "before", "after"])
def test_a_worker_that_dies_at_the_worst_moment_loses_nothing(
    env: StreamExecutionEnvironment,
    server: PostgresServer,
    source: PostgresSource[tuple[Any, ...]],
    target: str,
    tmp_path: Path,
    moment: str,
) -> None:
    """kill -9 between prepare and checkpoint, between checkpoint and commit, and right behind the commit."""
    sink = DeadlySink(server.conninfo, target, mode="exactly_once", transaction_prefix=target)
    sink.mark, sink.moment = tmp_path / "died", moment
    env.from_source(source).map(Unsteady(tmp_path, lambda: None)).map(lambda n: (n,)).sink_to(sink)
    env.execute("inserts")
    assert (tmp_path / "died").exists()
    assert_all_once(server, target)


class Gate(MapFunction[tuple[Any, ...], tuple[int]]):
    """Passes numbers on; until it is opened at leisure, for seconds of many checkpoints."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def map(self, value: tuple[Any, ...]) -> tuple[int]:
        number = int(value[0])
        if number % 10 == 0 and not self.file.exists():
            time.sleep(0.02)  # the load, of which a part is to be left when something happens
        return (number,)


def await_rows(server: PostgresServer, target: str, job: JobClient) -> None:
    """Wait until some are visible."""
    deadline = time.monotonic() + DEADLINE_S
    with psycopg.connect(server.conninfo, autocommit=True) as connection:
        while not connection.execute(f"SELECT FROM {target} LIMIT 1").fetchall():
            assert time.monotonic() < deadline, job.get_job_status()


def test_a_server_that_restarts_under_a_job(
    env: StreamExecutionEnvironment,
    restarted: PostgresServer,
    source: PostgresSource[tuple[Any, ...]],
    target: str,
    tmp_path: Path,
) -> None:
    """The job goes on from its last checkpoint when the server is back."""
    env.from_source(source).map(Gate(tmp_path / "gate")).sink_to(exactly_once(restarted, target))
    job = env.execute_async("inserts")
    try:
        await_rows(restarted, target, job)
        restarted.stop()
        restarted.start()
        (tmp_path / "gate").touch()
        job.get_job_execution_result()
    finally:
        job.close()
    assert_all_once(restarted, target)


def test_a_job_goes_on_from_its_savepoint_with_more_subtasks_and_fewer(
    server: PostgresServer, source: PostgresSource[tuple[Any, ...]], target: str, tmp_path: Path
) -> None:
    """Partitions that are read in part, and transactions, are dealt out anew."""
    savepoint = ""
    seen = 0
    for parallelism in (2, 3, 1):
        gate = tmp_path / f"gate-{parallelism}"
        env = environment(tmp_path, parallelism, savepoint)
        rows = env.from_source(source).uid("numbers").map(Gate(gate)).uid("gate")
        rows.sink_to(exactly_once(server, target)).uid("rows")
        job = env.execute_async("inserts")
        try:
            if parallelism == 1:
                gate.touch()
                job.get_job_execution_result()
                continue
            await_rows(server, f"(SELECT FROM {target} OFFSET {seen}) t", job)
            savepoint = job.stop_with_savepoint(False)
        finally:
            job.close()
        ((count,),) = server.query(f"SELECT count(*) FROM {target}")
        assert isinstance(count, int)
        assert seen < count
        seen = count
    assert_all_once(server, target)


def test_without_checkpoints_the_end_of_the_input_commits(
    env: StreamExecutionEnvironment,
    server: PostgresServer,
    source: PostgresSource[tuple[Any, ...]],
    target: str,
) -> None:
    """In BATCH mode."""
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    env.from_source(source).sink_to(exactly_once(server, target))
    env.execute("inserts")
    assert_all_once(server, target)


def test_a_record_that_does_not_fit_fails_the_job_and_says_why(
    env: StreamExecutionEnvironment, server: PostgresServer, target: str
) -> None:
    """The client prints record and column, and no password."""
    env.from_collection([(1,), ("two",)]).sink_to(exactly_once(server, target))
    with pytest.raises(Exception, match=r"column n[\s\S]*\('two',\)") as caught:
        env.execute("inserts")
    assert "secret" not in str(caught.value)
    assert server.query(f"SELECT n FROM {target}") == []
