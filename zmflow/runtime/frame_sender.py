"""The sending half of the data plane: one DEALER per peer process, shared by all channels to it.

Lives in the network thread. A channel is *ready* when it has a frame and a credit; ready channels of a
connection take turns, and everything that may leave does so in one message. A connection lives as long as it
has channels, so whatever was restarted however often leaves nothing here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import msgspec
import zmq

from zmflow.errors import ProtocolError
from zmflow.protocol.frames import (
    FRAMES_PER_MESSAGE_MAX,
    MESSAGE_TARGET_BYTES,
    Frame,
    FrameKind,
    decode_frames,
    encode_frames,
)
from zmflow.protocol.versions import Versions
from zmflow.runtime.channels import Permits, RemoteChannel

__all__ = ["FrameSender"]

CLOSE_LINGER_MS = 30_000
"""How long the last bytes of a connection that is not needed any more may take to leave. Their receiver has
granted credit for them and its network thread reads all the time, so only a peer that is gone takes longer;
the JobManager notices that in a sixth of this."""


@dataclass(eq=False, slots=True)
class _Connection:
    address: str
    socket: zmq.Socket[bytes]
    announcements: deque[Frame] = field(default_factory=deque)  # HELLO, OPEN, CLOSE, which need no credit
    ready: deque[RemoteChannel] = field(default_factory=deque)
    channels: dict[int, RemoteChannel] = field(default_factory=dict)
    used: bool = False  # whether frames have left on it, so that somebody granted credit and waits for them


class FrameSender:
    """Connections by address.

    Args:
        dial: makes a connected DEALER for an address.
        hang_up: closes one; what it has been given has so many milliseconds to leave.
        versions: what this process says of itself on each connection.
    """

    def __init__(
        self,
        dial: Callable[[str], zmq.Socket[bytes]],
        hang_up: Callable[[zmq.Socket[bytes], int], None],
        versions: Versions,
    ) -> None:
        self._dial = dial
        self._hang_up = hang_up
        self._newest_channel = 0
        self._hello = msgspec.msgpack.encode(versions)
        self._connections: dict[str, _Connection] = {}
        self._by_socket: dict[zmq.Socket[bytes], _Connection] = {}
        self._left: list[Permits] = []  # of frames that have left, one entry per frame
        self._unsent: dict[int, _Connection] = {}  # by id: connections with something that may leave

    def open(self, channel: RemoteChannel, address: str) -> None:
        """Announce a channel to the process at this address."""
        connection = self._connections.get(address)
        if connection is None:
            connection = self._connections[address] = _Connection(address, self._dial(address))
            self._by_socket[connection.socket] = connection
            connection.announcements.append(Frame(FrameKind.HELLO, 0, self._hello))
        connection.channels[channel.number] = channel
        self._newest_channel = max(self._newest_channel, channel.number)
        connection.announcements.append(Frame(FrameKind.OPEN, channel.number, channel.open_payload))
        channel.connection = connection
        self._unsent[id(connection)] = connection

    def drop(self, channels: Iterable[RemoteChannel]) -> None:
        """The task behind these channels has ended: frames that have not left are dropped."""
        for channel in channels:
            connection = channel.connection
            if not isinstance(connection, _Connection):
                continue
            channel.connection = None
            channel.queue.clear()
            channel.pushed = 0
            if channel.ready:
                channel.ready = False
                connection.ready.remove(channel)
            del connection.channels[channel.number]
            connection.announcements.append(Frame(FrameKind.CLOSE, channel.number))
            self._unsent[id(connection)] = connection

    def queue(self, channel: RemoteChannel, frame: Frame) -> None:
        """A task has handed over a frame."""
        channel.queue.append(frame)
        if channel.balance.available > 0 and not channel.ready:
            self._make_ready(channel)

    def push(self, channel: RemoteChannel) -> None:
        """What is queued leaves without waiting for credit: the barrier of a checkpoint is behind it."""
        connection = channel.connection
        waiting = len(channel.queue) - max(0, channel.balance.available)
        if not isinstance(connection, _Connection) or waiting <= 0:
            return
        connection.announcements.append(Frame(FrameKind.OVERDRAFT, channel.number, records=waiting))
        channel.pushed = len(channel.queue)
        if not channel.ready:
            self._make_ready(channel)

    def receive(self, socket: zmq.Socket[bytes]) -> None:
        """Take the credits that wait on one of the dialled sockets.

        Raises:
            ProtocolError: the peer sent something else.
        """
        connection = self._by_socket.get(socket)
        if connection is None:
            return  # hung up since it became readable
        for data in _messages(socket):
            for frame in decode_frames(data):
                if frame.kind == FrameKind.CREDIT:
                    self._granted(connection, frame)
                elif frame.kind == FrameKind.HELLO:
                    self._refused(connection, bytes(frame.payload).decode("utf-8", "replace"))

    def flush(self) -> None:
        """Send everything that may leave."""
        while self._unsent:
            _, connection = self._unsent.popitem()
            while connection.announcements or connection.ready:
                connection.socket.send(self._next_message(connection))
            if not connection.channels:
                del self._connections[connection.address]
                del self._by_socket[connection.socket]
                self._hang_up(connection.socket, CLOSE_LINGER_MS if connection.used else 0)

    def give_permits(self) -> None:
        """Let the tasks whose frames have left go on."""
        for permits in self._left:
            permits.give()
        self._left.clear()

    def close(self) -> None:
        """Close every connection; frames that have not left are dropped."""
        for connection in self._connections.values():
            connection.socket.close(0)

    def _granted(self, connection: _Connection, frame: Frame) -> None:
        channel = connection.channels.get(frame.channel)
        if channel is None:
            if frame.channel <= self._newest_channel:
                return  # it was dropped while the credit was on its way
            raise ProtocolError("A peer granted credit to a channel that does not exist.")
        for _ in range(channel.balance.granted(frame.records)):
            self._left.append(channel.permits)
        if channel.queue and channel.balance.available > 0 and not channel.ready:
            self._make_ready(channel)

    def _refused(self, connection: _Connection, sentence: str) -> None:
        for channel in connection.channels.values():
            channel.on_lost(sentence)

    def _make_ready(self, channel: RemoteChannel) -> None:
        channel.ready = True
        connection = channel.connection
        assert isinstance(connection, _Connection)
        connection.ready.append(channel)
        self._unsent[id(connection)] = connection

    def _next_message(self, connection: _Connection) -> bytes:
        frames: list[Frame] = []
        size = 0
        while connection.announcements and len(frames) < FRAMES_PER_MESSAGE_MAX:
            frames.append(connection.announcements.popleft())
        ready = connection.ready
        connection.used = connection.used or bool(ready)
        while ready and size < MESSAGE_TARGET_BYTES and len(frames) < FRAMES_PER_MESSAGE_MAX:
            channel = ready.popleft()
            queue, balance = channel.queue, channel.balance
            kind, number, payload, _, records, layout, codec, raw_size = queue.popleft()
            frames.append(Frame(kind, number, payload, len(queue), records, layout, codec, raw_size))
            size += len(payload)
            if balance.spend():
                self._left.append(channel.permits)  # else when the credit has come that it owes
            if channel.pushed:
                channel.pushed -= 1
            if queue and (balance.available > 0 or channel.pushed):
                ready.append(channel)
            else:
                channel.ready = False
        return encode_frames(frames)


def _messages(socket: zmq.Socket[bytes]) -> Iterator[bytes]:
    while True:
        try:
            yield socket.recv(zmq.NOBLOCK)
        except zmq.Again:
            return
