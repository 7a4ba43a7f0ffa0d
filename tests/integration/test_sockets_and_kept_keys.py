"""Worker processes read from a socket, and keep keys where they are."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from zmflow import (
    DataStreamUtils,
    KeyedProcessFunction,
    RuntimeContext,
    RuntimeExecutionMode,
    StreamExecutionEnvironment,
    ValueStateDescriptor,
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


class CountOfKey(KeyedProcessFunction[int, int, tuple[int, int]]):
    """The key and how many records it had, with each record."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))

    def process_element(
        self, value: int, ctx: KeyedProcessFunction.Context[int]
    ) -> Iterator[tuple[int, int]]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield ctx.get_current_key(), count


def test_lines_of_a_socket_arrive_while_it_is_open(env: StreamExecutionEnvironment) -> None:
    """A line is not held back until the next one comes, and the job ends with the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arrived = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"first\n")
                assert arrived.wait(30)
                connection.sendall(b"second\nrest")

        server = threading.Thread(target=serve, daemon=True)
        server.start()
        lines = env.socket_text_stream("127.0.0.1", listener.getsockname()[1]).rebalance().map(str.upper)
        with lines.execute_and_collect() as rows:
            assert next(rows) == "FIRST"
            arrived.set()
            assert sorted(rows) == ["REST", "SECOND"]
        server.join(10)


@pytest.mark.parametrize("mode", [RuntimeExecutionMode.STREAMING, RuntimeExecutionMode.BATCH])
@pytest.mark.parametrize("chained", [True, False])
def test_kept_keys_have_their_state(
    env: StreamExecutionEnvironment, mode: RuntimeExecutionMode, chained: bool
) -> None:
    """As with an exchange, in both modes, chained to what precedes or not."""
    env.set_runtime_mode(mode)
    spread = env.from_sequence(0, 99).key_by(lambda value: value % 7).process(CountOfKey())
    values = spread.map(lambda pair: pair[0])
    keyed = DataStreamUtils.reinterpret_as_keyed_stream(values, lambda value: value % 7)
    counted = keyed.process(CountOfKey())
    if not chained:
        counted.start_new_chain()
    got = sorted(counted.execute_and_collect())
    assert got == sorted((value % 7, value // 7 + 1) for value in range(100))


def test_keys_that_are_elsewhere_fail_the_job(env: StreamExecutionEnvironment) -> None:
    """State is never kept where nobody would look for it."""
    numbers = env.from_sequence(0, 99)
    keyed = DataStreamUtils.reinterpret_as_keyed_stream(numbers, lambda value: value % 7)
    with pytest.raises(JobFailedError, match="Key group"):
        list(keyed.process(CountOfKey()).execute_and_collect())
