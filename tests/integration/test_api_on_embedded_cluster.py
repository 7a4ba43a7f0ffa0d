"""The API's promises, kept by worker processes of an embedded cluster."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from zmflow import (
    KeySelector,
    MapFunction,
    Row,
    RuntimeContext,
    RuntimeExecutionMode,
    StreamExecutionEnvironment,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.errors import JobFailedError

pytestmark = pytest.mark.integration


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """An environment of parallelism 2 that runs its jobs on embedded clusters."""
    texts = {"parallelism.default": "2", "execution.target": "embedded"}
    with environment_context(Settings().with_values(texts, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


class Remainder(KeySelector[int, int]):
    """Needs open() wherever it is used."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.modulus = 3

    def get_key(self, value: int) -> int:
        return value % self.modulus


class Locked(MapFunction[int, tuple[int, int]]):
    """Makes what cannot be pickled in open()."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.lock = threading.Lock()
        self.subtask = runtime_context.get_index_of_this_subtask()

    def map(self, value: int) -> tuple[int, int]:
        with self.lock:
            return self.subtask, value


def test_keyed_sums_of_numbers(env: StreamExecutionEnvironment) -> None:
    """Every update in STREAMING, the last of each key in BATCH; the selector is opened on both sides."""
    sums = env.from_sequence(1, 10).key_by(Remainder()).sum()
    updates = list(sums.execute_and_collect())
    assert len(updates) == 10  # in which order the two source subtasks deliver is open
    assert {15, 18, 22} <= set(updates)
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    assert sorted(sums.execute_and_collect()) == [15, 18, 22]


def test_rows_of_a_collection_keep_their_order(env: StreamExecutionEnvironment) -> None:
    """Named rows are aggregated by name; a collection comes back in order."""
    rows = env.from_collection([Row(k="a", n=1), Row(k="b", n=2), Row(k="a", n=5)])
    assert list(rows.execute_and_collect()) == [Row(k="a", n=1), Row(k="b", n=2), Row(k="a", n=5)]
    summed = rows.key_by(lambda row: row.k).sum("n").execute_and_collect()
    assert sorted(row.n for row in summed) == [1, 2, 6]  # one source subtask: each key in order


@pytest.mark.parametrize("length", [0, 1, 5000])
def test_collections_of_any_length(env: StreamExecutionEnvironment, length: int) -> None:
    """Also an empty collection is a job that finishes."""
    assert list(env.from_collection(range(length)).execute_and_collect()) == list(range(length))


def test_unions_and_partitioners_lose_nothing(env: StreamExecutionEnvironment) -> None:
    """Each record arrives as often as the graph says."""
    numbers = env.from_sequence(1, 100)
    once = list(range(1, 101))
    for stream, times in [
        (numbers.union(numbers), 2),
        (numbers.key_by(Remainder()).union(numbers), 2),
        (numbers.broadcast().map(lambda x: x), 2),
        (numbers.global_().map(lambda x: x), 1),
        (numbers.shuffle().map(lambda x: x), 1),
        (numbers.rescale().map(lambda x: x).set_parallelism(3), 1),
        (numbers.partition_custom(lambda key, count: key % count, Remainder()).map(lambda x: x), 1),
    ]:
        assert sorted(stream.execute_and_collect()) == sorted(once * times)


def test_limits_end_endless_work(env: StreamExecutionEnvironment) -> None:
    """With a limit the rest of the job is cancelled."""
    rows = env.from_sequence(1, 10**12).flat_map(lambda x: (x, x)).execute_and_collect(limit=5)
    assert len(rows) == 5


def test_function_classes_live_on_the_worker(env: StreamExecutionEnvironment) -> None:
    """open() makes what the function needs, once for each subtask."""
    rows = list(env.from_sequence(1, 5000).map(Locked()).execute_and_collect())
    assert sorted(value for _, value in rows) == list(range(1, 5001))
    assert {subtask for subtask, _ in rows} <= {0, 1}


def test_operators_without_a_sink_run_along(env: StreamExecutionEnvironment) -> None:
    """As in Flink, a branch that ends in no sink is run when another one has a sink."""
    numbers = env.from_sequence(1, 5)
    numbers.map(lambda x: x)
    assert sorted(numbers.execute_and_collect()) == [1, 2, 3, 4, 5]


def test_a_failure_shows_the_users_traceback(env: StreamExecutionEnvironment) -> None:
    """The error of a failed job begins with the line that failed."""
    with pytest.raises(JobFailedError, match="ZeroDivisionError") as caught:
        list(env.from_sequence(1, 9).map(lambda x: 1 // (x - 5)).name("Divide").execute_and_collect())
    assert "1 // (x - 5)" in (caught.value.detail or "")
    assert "'Divide'" in str(caught.value)
