"""``ZeroMqSource``: messages that others send with ZeroMQ. At most once.

ZeroMQ keeps no messages: what was received since the last checkpoint is lost when the job fails, and so is
what a publisher sends while nobody is connected. Where that matters, put a log between the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Literal, TypeVar

import zmq

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import (
    BATCH_RECORDS_DEFAULT,
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.connectors.fixed_splits import FixedSplitEnumerator
from zmflow.errors import ConnectorError

__all__ = ["ZeroMqSource"]

T = TypeVar("T")

RECEIVE_MESSAGES_MAX = 1000
"""ZeroMQ's own default: so many messages of each peer wait in memory. Then PULL makes the sender wait, and
SUB loses messages."""

PAUSE_MIN_S = 0.001
PAUSE_MAX_S = 0.016
"""A socket without messages is looked at after 1 ms, and then after twice as long each time up to this:
60 looks of a few microseconds in a second."""


class ZeroMqSource(Source[T, int], Generic[T]):
    """The messages of a PULL or SUB socket, at most once; it does not end.

    A PULL source that connects does so from each subtask, and the sender shares messages out among them. An
    address can be bound once, and a publisher sends everything to everyone: those are read by subtask 0.

    Args:
        endpoint: ``tcp://host:port`` or ``ipc://path``.
        deserializer: from the bytes of a message to a record; bytes as they are by default. With
            ``multipart`` it is given the list of the message's parts.
        socket_type: ``PULL`` or ``SUB``.
        bind: bind the address instead of connecting to it.
        subscriptions: of SUB, prefixes of the messages wanted; all by default.
        multipart: messages have several parts. Without, one that has is an error.
        receive_messages_max: how many messages of each peer may wait in memory.
        configure: is given the socket before it is bound or connected, for options such as keys.

    >>> source = ZeroMqSource("tcp://127.0.0.1:5555", bytes.decode)
    >>> source.name, source.bounded
    ('ZeroMQ Source (at most once)', False)
    """

    name = "ZeroMQ Source (at most once)"
    bounded = False

    def __init__(
        self,
        endpoint: str,
        deserializer: Callable[[Any], T] | None = None,
        *,
        socket_type: Literal["PULL", "SUB"] = "PULL",
        bind: bool = False,
        subscriptions: Sequence[bytes] = (b"",),
        multipart: bool = False,
        receive_messages_max: int = RECEIVE_MESSAGES_MAX,
        configure: Callable[[zmq.Socket[bytes]], None] | None = None,
    ) -> None:
        if socket_type not in ("PULL", "SUB"):
            raise ConnectorError(
                f"A ZeroMQ source cannot receive with a {socket_type!r} socket.", hint="Allowed: PULL, SUB."
            )
        if receive_messages_max < 1:
            raise ConnectorError(
                f"A ZeroMQ source cannot keep {receive_messages_max} messages.",
                hint="Give 1 or more: none would mean any number.",
            )
        self.endpoint = endpoint
        self.socket_type = socket_type
        self.bind = bind
        self.deserializer = deserializer
        self.subscriptions = [subscriptions] if isinstance(subscriptions, bytes) else list(subscriptions)
        self.multipart = multipart
        self.receive_messages_max = receive_messages_max
        self.configure = configure

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        everywhere = self.socket_type == "PULL" and not self.bind
        return FixedSplitEnumerator(context, range(context.parallelism if everywhere else 1), int)

    def restore_enumerator(
        self, context: SplitEnumeratorContext[int], state: Sequence[int]
    ) -> SplitEnumerator[int]:
        return FixedSplitEnumerator(context, state, int)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, int]:  # noqa: ARG002 - of the interface
        return _SocketReader(self)

    def open_socket(self, context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
        """The socket, bound or connected."""
        socket = context.socket(zmq.PULL if self.socket_type == "PULL" else zmq.SUB)
        try:
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.RCVHWM, self.receive_messages_max)
            if self.socket_type == "SUB":
                for prefix in self.subscriptions:
                    socket.setsockopt(zmq.SUBSCRIBE, prefix)
            if self.configure is not None:
                self.configure(socket)
            if self.bind:
                socket.bind(self.endpoint)
            else:
                socket.connect(self.endpoint)
        except zmq.ZMQError as error:
            socket.close()
            raise ConnectorError(
                f"The ZeroMQ source cannot {'bind' if self.bind else 'connect to'} its address: {error}.",
                detail=self.endpoint,
                hint="Addresses look like tcp://host:port or ipc://path.",
            ) from None
        return socket


class _SocketReader(SourceReader[T, int]):
    """Takes what has arrived, and never waits for more."""

    def __init__(self, source: ZeroMqSource[T]) -> None:
        self._source = source
        self._splits: list[int] = []
        self._complete = False
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._socket: zmq.Socket[bytes] | None = None
        self._pause_s = PAUSE_MIN_S

    def add_splits(self, splits: Sequence[int]) -> None:
        self._splits.extend(splits)
        if self._socket is None:
            self._context = zmq.Context()
            self._socket = self._source.open_socket(self._context)

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        socket = self._socket
        if socket is None:
            return EndOfInput.END if self._complete else None
        messages: list[Any] = []
        try:
            while len(messages) < BATCH_RECORDS_DEFAULT:
                messages.append(self._receive(socket))
        except zmq.Again:
            pass
        if not messages:
            self._pause_s = min(PAUSE_MAX_S, self._pause_s * 2)
            return None
        self._pause_s = PAUSE_MIN_S / 2
        deserializer = self._source.deserializer
        return messages if deserializer is None else list(map(deserializer, messages))

    def poll_again_after_s(self) -> float | None:
        return None if self._socket is None else self._pause_s

    def snapshot_state(self, checkpoint_id: int) -> list[int]:  # noqa: ARG002 - of the interface
        return list(self._splits)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._context is not None:
            self._context.term()

    def _receive(self, socket: zmq.Socket[bytes]) -> bytes | list[bytes]:
        if self._source.multipart:
            return socket.recv_multipart(zmq.NOBLOCK)
        message = socket.recv(zmq.NOBLOCK)
        if socket.getsockopt(zmq.RCVMORE):
            raise ConnectorError(
                "The ZeroMQ source received a message of several parts.",
                detail=self._source.endpoint,
                hint="Give multipart=True; the deserializer is then given the list of the parts.",
            )
        return message
