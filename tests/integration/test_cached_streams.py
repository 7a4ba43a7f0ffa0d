"""``cache()`` on two TaskManagers: computed once, read by later jobs, and never when it is not whole."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_executor import ClusterExecutor

from zmflow import (
    CachedDataStream,
    Configuration,
    MapFunction,
    OutputTag,
    ProcessFunction,
    RuntimeContext,
    RuntimeExecutionMode,
    StreamExecutionEnvironment,
    WatermarkStrategy,
)
from zmflow.api import stream_cache
from zmflow.api.environment import environment_context
from zmflow.api.notices import forget_notices
from zmflow.config import Settings
from zmflow.errors import JobFailedError
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def executor() -> Iterator[ClusterExecutor]:
    """Two TaskManagers of two slots."""
    with MiniCluster(2, 2) as cluster:
        yield ClusterExecutor(cluster)


@pytest.fixture
def env(executor: ClusterExecutor) -> Iterator[StreamExecutionEnvironment]:
    """In BATCH mode, with parallelism 2, so that two jobs fit."""
    with environment_context(Settings().with_values({"parallelism.default": "2"}, "test"), executor):
        environment = StreamExecutionEnvironment.get_execution_environment()
    environment.set_runtime_mode(RuntimeExecutionMode.BATCH)
    yield environment
    environment.close()


class Calls:
    """A file in which a function makes a mark for each call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def counted(self, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The function, with its marks."""
        path = str(self.path)

        def call(value: Any) -> Any:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(descriptor, b".")
            os.close(descriptor)
            return function(value)

        return call

    @property
    def made(self) -> int:
        """How many there were since the last look."""
        count = len(self.path.read_bytes()) if self.path.exists() else 0
        self.path.unlink(missing_ok=True)
        return count


@pytest.fixture
def calls(tmp_path: Path) -> Calls:
    """Of the functions of this test."""
    return Calls(tmp_path / "calls")


SQUARES = sorted(n * n for n in range(1, 101))


def squares(env: StreamExecutionEnvironment, calls: Calls) -> CachedDataStream[int]:
    """A hundred squares, each of which is worth keeping."""
    return env.from_sequence(1, 100).map(calls.counted(lambda n: n * n)).cache()


def test_a_stream_is_computed_once(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """By a job that waits or one that collects; later jobs find all records, however they use them."""
    kept = squares(env, calls)
    kept.map(lambda n: n).add_sink(lambda _n: None)
    env.execute()
    assert calls.made == 100
    assert sorted(kept.execute_and_collect()) == SQUARES
    assert list(kept.map(lambda n: (0, n)).key_by(lambda p: p[0]).sum(1).execute_and_collect()) == [
        (0, sum(SQUARES))
    ]
    env.set_parallelism(3)
    assert sorted(kept.rebalance().filter(lambda n: n > 50).execute_and_collect()) == [
        n for n in SQUARES if n > 50
    ]
    assert calls.made == 0


def test_collecting_fills_too(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """The rows for the program and the rows that are kept come over one connection."""
    kept = squares(env, calls)
    assert sorted(kept.execute_and_collect()) == SQUARES
    assert sorted(kept.map(lambda n: -n).execute_and_collect()) == sorted(-n for n in SQUARES)
    assert calls.made == 100


def test_order_and_subtasks_stay(env: StreamExecutionEnvironment) -> None:
    """What one subtask produced is read by one subtask, in its order."""

    class Placed(MapFunction[Any, Any]):
        def open(self, runtime_context: RuntimeContext) -> None:
            self.subtask = runtime_context.get_index_of_this_subtask()

        def map(self, value: Any) -> Any:
            return self.subtask, value

    kept = env.from_collection(range(5000)).rebalance().map(Placed()).cache()
    assert len(list(kept.execute_and_collect())) == 5000
    read = list(kept.map(Placed()).execute_and_collect())
    assert all(now == then for now, (then, _) in read)
    for subtask in (0, 1):
        mine = [n for _, (then, n) in read if then == subtask]
        assert len(mine) == 2500
        assert mine == sorted(mine)


def test_several_caches_and_several_uses(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """Used twice in one job it is computed once; of two in a row only the last one is read."""
    first = squares(env, calls)
    second = first.map(calls.counted(lambda n: n + 1)).cache()
    assert sorted(first.union(first).execute_and_collect()) == sorted(SQUARES * 2)
    assert calls.made == 200  # the other one is computed as well, and so it is kept
    plus_one = [n + 1 for n in SQUARES]
    assert sorted(second.execute_and_collect()) == plus_one
    assert calls.made == 0
    first.invalidate()
    assert sorted(second.union(second.map(lambda n: n)).execute_and_collect()) == sorted(plus_one * 2)
    assert calls.made == 0
    both = first.map(lambda n: ("first", n)).union(second.map(lambda n: ("second", n)))
    assert len(list(both.execute_and_collect())) == 200
    assert calls.made == 100


def test_what_is_dropped_or_lost_is_computed_again(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """After invalidate(), after the file went away, and after close(); and kept once more."""

    def invalidated() -> None:
        kept.invalidate()

    def lost() -> None:
        assert kept._cache._kept is not None
        kept._cache._kept.path.unlink()

    kept = squares(env, calls)
    for drop in (lambda: None, invalidated, lost, env.close):
        drop()
        for _ in range(2):
            assert sorted(kept.execute_and_collect()) == SQUARES
        assert calls.made == 100


def test_a_job_that_fails_keeps_nothing(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """Not even when every record had come before it failed."""

    class FailsAtTheEnd(MapFunction[int, int]):
        def map(self, value: int) -> int:
            return value

        def close(self) -> None:
            raise ValueError("at the very end")

    kept = squares(env, calls)
    kept.map(FailsAtTheEnd()).add_sink(lambda _n: None)
    with pytest.raises(JobFailedError, match="at the very end"):
        env.execute()
    assert calls.made == 100
    assert sorted(kept.execute_and_collect()) == SQUARES
    assert calls.made == 100


def test_a_job_that_is_cancelled_keeps_nothing(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """Taking a few of its rows and no more is a cancellation."""
    numbers = env.from_sequence(1, 10**9).map(lambda n: n).cache()
    assert len(numbers.execute_and_collect(limit=3)) == 3
    assert numbers._cache._kept is None
    kept = squares(env, calls)
    assert sorted(kept.execute_and_collect()) == SQUARES


def test_a_restart_begins_the_rows_anew(
    env: StreamExecutionEnvironment, calls: Calls, tmp_path: Path
) -> None:
    """The job is not refused its restart for what has left already, and no record is kept twice."""
    flag = tmp_path / "failed"

    class FailsOnce(MapFunction[int, int]):
        def map(self, value: int) -> int:
            if value == 4990 and not flag.exists():
                flag.touch()
                raise ValueError("once")
            return value

    env.configure(
        Configuration.from_dict(
            {"restart-strategy.type": "fixed-delay", "restart-strategy.fixed-delay.delay": "1 ms"}
        )
    )
    kept = env.from_collection(range(5000)).map(calls.counted(FailsOnce().map)).set_parallelism(1).cache()
    kept.add_sink(lambda _n: None)
    env.execute()
    assert calls.made > 5000
    assert list(kept.execute_and_collect()) == list(range(5000))
    assert calls.made == 0


def test_nothing_is_read_before_its_job_has_finished(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """A job that is submitted meanwhile computes for itself; the first that finishes is what is kept."""
    kept = squares(env, calls)
    kept.add_sink(lambda _n: None)
    first = env.execute_async()
    kept.add_sink(lambda _n: None)
    second = env.execute_async()
    for job in (first, second):
        job.get_job_execution_result()
        job.close()
    assert calls.made == 200
    assert sorted(kept.execute_and_collect()) == SQUARES
    assert calls.made == 0


def test_a_job_nobody_waits_for_is_kept_when_it_ends(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """Closing its handle does not stop the rows."""
    kept = squares(env, calls)
    kept.add_sink(lambda _n: None)
    job = env.execute_async()
    job.close()
    job._receiver.join()  # type: ignore[attr-defined]
    assert calls.made == 100
    assert sorted(kept.execute_and_collect()) == SQUARES
    assert calls.made == 0


def test_timestamps_are_kept(env: StreamExecutionEnvironment) -> None:
    """A function behind the cache sees those it would have seen without; None where there were none."""

    class Stamped(ProcessFunction[Any, Any]):
        def process_element(self, value: Any, ctx: Any) -> Iterator[Any]:
            yield value, ctx.timestamp()

    numbers = env.from_sequence(1, 100)
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(lambda n, _now: n * 10)
    timed = numbers.assign_timestamps_and_watermarks(strategy).map(lambda n: n).cache()
    plain = numbers.map(lambda n: n).cache()
    for _ in range(2):
        assert sorted(timed.process(Stamped()).execute_and_collect()) == [(n, n * 10) for n in range(1, 101)]
        assert {stamp for _, stamp in plain.process(Stamped()).execute_and_collect()} == {None}


def test_side_outputs_can_be_kept(env: StreamExecutionEnvironment, calls: Calls) -> None:
    """Only their records are."""
    odd = OutputTag("odd")

    class Split(ProcessFunction[int, Any]):
        def process_element(self, value: int, ctx: Any) -> Iterator[Any]:
            yield (odd, value) if value % 2 else value

    kept = squares(env, calls).process(Split()).get_side_output(odd).cache()
    for _ in range(2):
        assert sorted(kept.execute_and_collect()) == [n for n in SQUARES if n % 2]
    assert calls.made == 100


def test_too_many_rows_are_not_kept_and_said_so(
    env: StreamExecutionEnvironment, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job is right all the same; the next one says why it computes again."""
    monkeypatch.setattr(stream_cache, "CACHE_SIZE_MAX_BYTES", 100)
    forget_notices()
    kept = squares(env, calls).name("Squares")
    assert sorted(kept.execute_and_collect()) == SQUARES
    with pytest.warns(UserWarning, match="The stream 'Squares' was not kept: its rows take more than"):
        assert sorted(kept.execute_and_collect()) == SQUARES
    assert calls.made == 200


CLASSES = """
from dataclasses import dataclass
import zmflow
from zmflow import RuntimeExecutionMode, StreamExecutionEnvironment

@dataclass(frozen=True)
class Point:
    x: int

env = StreamExecutionEnvironment.get_execution_environment()
env.set_parallelism(2)
env.set_runtime_mode(RuntimeExecutionMode.BATCH)
kept = env.from_sequence(1, 10).map(lambda n: Point(n)).cache()
kept.add_sink(lambda point: None)
env.execute()
print(sorted(kept.map(lambda point: point.x).execute_and_collect()))
print(sorted(kept.rebalance().execute_and_collect(), key=lambda point: point.x)[9] == Point(10))
kept.invalidate()
kept.add_sink(lambda point: None)
env.execute_async()  # and the program ends
"""


def test_records_of_the_programs_own_classes_are_kept() -> None:
    """Also for a job whose functions do not name them; and a program may end while rows come."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZMFLOW_")}
    with tempfile.TemporaryDirectory(prefix="zt") as directory:  # a short path: there will be sockets
        script = Path(directory, "job.py")
        script.write_text(CLASSES)
        done = subprocess.run(
            [sys.executable, script.name],
            cwd=directory,
            env={**clean, "TMPDIR": directory},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        left = [path.name for path in Path(directory).iterdir()]
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert done.stdout.splitlines() == [str(list(range(1, 11))), "True"]
    assert left == [script.name]
