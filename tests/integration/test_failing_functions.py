"""User code that fails in any way and anywhere: the job fails, says where, and nothing hangs."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import pytest

from zmflow import (
    DataStream,
    EndOfInput,
    MapFunction,
    RuntimeContext,
    Sink,
    SinkWriter,
    Source,
    SourceReader,
    SplitEnumerator,
    StreamExecutionEnvironment,
    WriterContext,
)
from zmflow.api.environment import environment_context
from zmflow.api.sources import SplitEnumeratorContext
from zmflow.config import Settings
from zmflow.errors import JobFailedError

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

Numbers = DataStream[int]


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """An environment of parallelism 2 that runs its jobs on embedded clusters."""
    texts = {"parallelism.default": "2", "execution.target": "embedded"}
    with environment_context(Settings().with_values(texts, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


class Unpicklable(Exception):
    """Holds what no process can send to another."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.lock = threading.Lock()


class Silent(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def fail(error: BaseException) -> NoReturn:
    """Raise where only an expression fits."""
    raise error


def midway(number: int) -> Iterator[int]:
    """Gives something before it fails."""
    yield number
    if number == 50:
        raise ValueError("midway")


class FailsIn(MapFunction[int, int]):
    """Fails in one of its hooks."""

    def __init__(self, hook: str) -> None:
        self.hook = hook

    def open(self, runtime_context: RuntimeContext) -> None:
        self._reach("open")

    def map(self, value: int) -> int:
        return value

    def close(self) -> None:
        self._reach("close")

    def _reach(self, hook: str) -> None:
        if hook == self.hook:
            raise ValueError(f"in {hook}")


class FailingWriter(SinkWriter[int]):
    """Fails in one of its methods."""

    def __init__(self, method: str) -> None:
        self.method = method

    def write(self, value: int) -> None:
        self._reach("write")

    def flush(self, end_of_input: bool) -> None:
        self._reach("flush")

    def close(self, completed: bool) -> None:
        self._reach("close")

    def _reach(self, method: str) -> None:
        if method == self.method:
            raise ValueError(f"in {method}")


class FailingSink(Sink[int]):
    """Fails where it is told."""

    def __init__(self, method: str) -> None:
        self.method = method

    def create_writer(self, context: WriterContext) -> SinkWriter[int]:
        if self.method == "create_writer":
            raise ValueError("in create_writer")
        return FailingWriter(self.method)


class FailingEnumerator(SplitEnumerator[int]):
    """Has no splits."""

    def __init__(self, context: SplitEnumeratorContext[int], method: str) -> None:
        self.context = context
        self.method = method

    def start(self) -> None:
        if self.method == "enumerator start":
            raise ValueError("in enumerator start")

    def handle_split_request(self, subtask: int) -> None:
        if self.method == "handle_split_request":
            raise ValueError("in handle_split_request")
        self.context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[int], subtask: int) -> None:
        raise AssertionError("there are none")


class FailingReader(SourceReader[int, int]):
    """Reads nothing."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.ended = False

    def add_splits(self, splits: Sequence[int]) -> None:
        raise AssertionError("there are none")

    def notify_no_more_splits(self) -> None:
        self.ended = True

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        if self.method == "poll_next":
            raise ValueError("in poll_next")
        return EndOfInput.END if self.ended else None

    def close(self) -> None:
        if self.method == "reader close":
            raise ValueError("in reader close")


class FailingSource(Source[int, int]):
    """Fails where it is told."""

    def __init__(self, method: str) -> None:
        self.method = method

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        if self.method == "create_enumerator":
            raise ValueError("in create_enumerator")
        return FailingEnumerator(context, self.method)

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, int]:
        if self.method == "create_reader":
            raise ValueError("in create_reader")
        return FailingReader(self.method)


def failure(env: StreamExecutionEnvironment) -> JobFailedError:
    """How the job failed."""
    with pytest.raises(JobFailedError) as caught:
        env.execute()
    return caught.value


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (lambda: sys.exit(3), "SystemExit: 3"),
        (lambda: fail(SystemExit(0)), "SystemExit: 0"),
        (lambda: fail(KeyboardInterrupt()), "KeyboardInterrupt"),
        (lambda: fail(GeneratorExit()), "GeneratorExit"),
        (lambda: fail(StopIteration("early")), "StopIteration: early"),
        (lambda: fail(Unpicklable()), "Unpicklable: holds a lock"),
        (lambda: fail(Silent()), "Silent: <exception str() failed>"),
        (lambda: fail(ValueError("x" * 10_000_000)), "ValueError: xxx"),
        (lambda: fail(ValueError("\udcff")), r"\udcff"),
    ],
    ids=[
        "sys.exit",
        "exit 0",
        "interrupt",
        "generator",
        "stop",
        "unpicklable",
        "silent",
        "huge",
        "surrogate",
    ],
)
def test_whatever_a_function_raises(
    env: StreamExecutionEnvironment, error: Callable[[], NoReturn], says: str
) -> None:
    """Every exception fails the job with its traceback and place; none ends a worker or counts as success."""
    env.from_sequence(1, 100).rebalance().map(lambda n: error()).name("Breaks").add_sink(lambda n: None)
    failed = failure(env)
    detail = failed.detail or ""
    assert detail.startswith("Traceback (most recent call last)")
    assert says in detail and "operator 'Breaks'" in detail and "subtask" in detail and "host" in detail
    assert len(detail) + len(str(failed)) < 200_000


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda s: s.flat_map(midway), "midway"),
        (lambda s: s.map(FailsIn("open")), "in open"),
        (lambda s: s.map(FailsIn("close")), "in close"),
        (lambda s: s.key_by(lambda n: 1 // 0).sum(), "ZeroDivisionError"),
        (lambda s: s.key_by(lambda n: n % 2).reduce(lambda a, b: 1 // 0), "ZeroDivisionError"),
        (
            lambda s: s.partition_custom(lambda k, n: 1 // 0, lambda n: n).map(lambda n: n),
            "ZeroDivisionError",
        ),
        (lambda s: s.partition_custom(lambda k, n: 99, lambda n: n).map(lambda n: n), "99"),
        (lambda s: s.map(lambda n: threading.Lock()).rebalance().map(lambda n: n), "lock"),
        (lambda s: s.map(lambda n: os._exit(5)), "exited with status 5"),
    ],
    ids=["generator", "open", "close", "key", "reduce", "partition", "no partition", "record", "exit"],
)
def test_wherever_an_operator_fails(
    env: StreamExecutionEnvironment, build: Callable[[Numbers], DataStream[Any]], says: str
) -> None:
    """Hooks, selectors, partitioners, records that cannot travel, and a process that simply ends."""
    build(env.from_sequence(1, 100)).add_sink(lambda n: None)
    failed = failure(env)
    assert says in f"{failed} {failed.detail}"


@pytest.mark.parametrize("method", ["create_writer", "write", "flush", "close"])
def test_wherever_a_sink_fails(env: StreamExecutionEnvironment, method: str) -> None:
    """Its last call included: a job whose output could not be completed has not finished."""
    env.from_sequence(1, 100).sink_to(FailingSink(method))
    assert f"ValueError: in {method}" in (failure(env).detail or "")


ENUMERATOR_METHODS = ["create_enumerator", "enumerator start", "handle_split_request"]
READER_METHODS = ["create_reader", "poll_next", "reader close"]


@pytest.mark.parametrize("method", ENUMERATOR_METHODS + READER_METHODS)
def test_wherever_a_source_fails(env: StreamExecutionEnvironment, method: str) -> None:
    """Enumerator and readers alike, and nobody waits for splits that will not come."""
    env.from_source(FailingSource(method)).add_sink(lambda n: None)
    assert f"ValueError: in {method}" in (failure(env).detail or "")
