"""The ZeroMQ source with real sockets: who receives what, and what goes wrong."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq
from source_drive import runtime_context

from zmflow.api.sources import EndOfInput, SourceReader
from zmflow.connectors import ZeroMqSource
from zmflow.errors import ConnectorError

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def sockets() -> Iterator[Callable[[int], zmq.Socket[bytes]]]:
    """Makes sockets that send."""
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())

        def make(kind: int) -> zmq.Socket[bytes]:
            socket = stack.enter_context(context.socket(kind))
            socket.setsockopt(zmq.LINGER, 0)
            return socket

        yield make


@pytest.fixture
def address(tmp_path: Path) -> str:
    """Of this test alone."""
    return f"ipc://{tmp_path}/m"


class Context:
    """Splits by subtask, and who gets no more."""

    def __init__(self, parallelism: int) -> None:
        self.parallelism = parallelism
        self.splits: dict[int, list[int]] = {}
        self.ended: list[int] = []

    def assign_splits(self, splits: Any, subtask: int) -> None:
        self.splits[subtask] = list(splits)

    def signal_no_more_splits(self, subtask: int) -> None:
        self.ended.append(subtask)

    def call_periodically(self, interval_ms: int, function: Any) -> None:
        raise AssertionError


def reader_of(source: ZeroMqSource[Any]) -> SourceReader[Any, int]:
    """A reader with a socket."""
    reader = source.create_reader(runtime_context())
    reader.start()
    reader.add_splits([0])
    return reader


def take(reader: SourceReader[Any, int], count: int) -> list[Any]:
    """So many records, whenever they arrive."""
    records: list[Any] = []
    while len(records) < count:
        batch = reader.poll_next()
        assert not isinstance(batch, EndOfInput)
        records += batch or ()
    return records


@pytest.mark.parametrize(
    ("options", "readers"),
    [
        ({"socket_type": "PULL"}, [0, 1, 2]),
        ({"socket_type": "PULL", "bind": True}, [0]),
        ({"socket_type": "SUB"}, [0]),
        ({"socket_type": "SUB", "bind": True}, [0]),
    ],
)
def test_who_has_a_socket(options: dict[str, Any], readers: list[int]) -> None:
    """All subtasks pull; what can be had or bound once is one subtask's, the others end."""
    context = Context(3)
    enumerator = ZeroMqSource("tcp://127.0.0.1:9", **options).create_enumerator(context)
    for subtask in range(3):
        enumerator.handle_split_request(subtask)
    assert list(context.splits) == readers
    assert context.ended == [subtask for subtask in range(3) if subtask not in readers]


@pytest.mark.parametrize("bind", [False, True])
def test_pull(sockets: Callable[[int], zmq.Socket[bytes]], address: str, bind: bool) -> None:
    """In order from one sender, through the deserializer."""
    sender = sockets(zmq.PUSH)
    if not bind:
        sender.bind(address)
    reader = reader_of(ZeroMqSource(address, int, bind=bind))
    if bind:
        sender.connect(address)
    for number in range(3000):
        sender.send(b"%d" % number)
        if number % 500 == 499:
            assert take(reader, 500) == list(range(number - 499, number + 1))
    assert reader.snapshot_state(1) == [0]
    reader.close()


def test_subscriptions(sockets: Callable[[int], zmq.Socket[bytes]], address: str) -> None:
    """Messages that begin with a prefix."""
    publisher = sockets(zmq.XPUB)  # hears of its subscribers, so that the test need not guess
    publisher.bind(address)
    reader = reader_of(ZeroMqSource(address, socket_type="SUB", subscriptions=[b"a", b"c"]))
    assert {publisher.recv(), publisher.recv()} == {b"\x01a", b"\x01c"}
    for message in (b"a1", b"b2", b"c3"):
        publisher.send(message)
    assert take(reader, 2) == [b"a1", b"c3"]
    reader.close()


@pytest.mark.parametrize("multipart", [False, True])
def test_parts(sockets: Callable[[int], zmq.Socket[bytes]], address: str, multipart: bool) -> None:
    """A message of several parts is a list, or an error where it is not expected."""
    sender = sockets(zmq.PUSH)
    sender.bind(address)
    reader = reader_of(ZeroMqSource(address, tuple, multipart=multipart))
    sender.send_multipart([b"topic", b"text"])
    if multipart:
        assert take(reader, 1) == [(b"topic", b"text")]
    else:
        with pytest.raises(ConnectorError, match="several parts"):
            take(reader, 1)
    reader.close()


def test_a_quiet_socket_is_looked_at_less_often(address: str) -> None:
    """Up to a bound that nobody notices; polling never waits by itself."""
    reader = reader_of(ZeroMqSource(address))
    pauses = []
    for _ in range(8):
        assert reader.poll_next() is None
        pauses.append(reader.poll_again_after_s())
    assert pauses[0] == pytest.approx(0.002)
    assert all(later >= earlier for earlier, later in itertools.pairwise(pauses))  # type: ignore[operator]
    assert pauses[-1] == pytest.approx(0.016)
    reader.close()


def test_a_reader_without_a_socket_ends() -> None:
    """It waits to be told."""
    reader = ZeroMqSource("ipc://x").create_reader(runtime_context())
    assert (reader.poll_next(), reader.poll_again_after_s(), reader.snapshot_state(1)) == (None, None, [])
    reader.notify_no_more_splits()
    assert reader.poll_next() is EndOfInput.END
    reader.close()


def test_the_socket_can_be_configured(address: str) -> None:
    """Before it is connected; the number of waiting messages is bounded in any case."""
    seen: list[int] = []

    def configure(socket: zmq.Socket[bytes]) -> None:
        seen.append(socket.getsockopt(zmq.RCVHWM))

    reader_of(ZeroMqSource(address, receive_messages_max=7, configure=configure)).close()
    assert seen == [7]


def test_misuse_is_refused(address: str) -> None:
    """With what to give instead."""
    with pytest.raises(ConnectorError, match="'PUSH' socket"):
        ZeroMqSource(address, socket_type="PUSH")  # type: ignore[arg-type]
    with pytest.raises(ConnectorError, match="0 messages"):
        ZeroMqSource(address, receive_messages_max=0)
    for endpoint, bind in (("tcp://nowhere", False), ("tcp://8.8.8.8:1", True)):
        reader = ZeroMqSource(endpoint, bind=bind).create_reader(runtime_context())
        with pytest.raises(ConnectorError, match="its address") as refused:
            reader.add_splits([0])
        assert refused.value.detail == endpoint
        reader.close()
