"""Control connections: messages in, messages out, and the news that a peer has gone.

The server side is a ROUTER, the client side a DEALER. Bytes become messages here and nowhere else:
what cannot be decoded is logged and dropped, and so is a message of an older epoch (design D8), before
any brain sees it. Both ends notice a dead peer through the socket monitor (closed connections) and
ZeroMQ's heartbeats (machines that vanished).
"""

from __future__ import annotations

import contextlib
import errno
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeAlias

import zmq

from zmflow import errors
from zmflow.errors import AddressInUseError, ClusterError, ConfigurationError, ProtocolError, ZmflowError
from zmflow.protocol.messages import (
    MESSAGE_SIZE_MAX_BYTES,
    Hello,
    Message,
    Refused,
    decode_message,
    encode_message,
)
from zmflow.runtime.security import CurveKeys, require_keys_or_loopback, secure_client, secure_server

__all__ = ["Arrival", "ControlClient", "ControlServer", "Departure", "EpochFence", "refusal"]

HEARTBEAT_INTERVAL_MS = 1000
HEARTBEAT_TIMEOUT_MS = 5000
"""Transport heartbeats find a machine that vanished without closing its connections; they are
answered by ZeroMQ's own threads, so they say nothing about a program that hangs."""

SEND_QUEUE_MAX = 10_000
"""Messages waiting for one peer. A peer that is this far behind is treated as gone, which bounds
memory; a TaskManager of 100 slots gets some 1000 messages when the largest job starts."""

RECEIVE_BATCH_MAX = 1000
"""Messages taken in one turn, so that timers and other sockets get theirs in between."""

LINGER_MS = 500
"""How long closing waits for last messages to leave."""

RECONNECT_INTERVAL_MS = 50
RECONNECT_INTERVAL_MAX_MS = 1000

_MONITOR_EVENT = struct.Struct("=HI")


class Arrival:
    """A message from a connection."""

    __slots__ = ("message", "peer")

    def __init__(self, peer: bytes, message: Message) -> None:
        self.peer = peer
        self.message = message


class Departure:
    """A connection that closed."""

    __slots__ = ("peer",)

    def __init__(self, peer: bytes) -> None:
        self.peer = peer


LogLine: TypeAlias = Callable[[str], None]


def refusal(refused: Refused) -> ZmflowError:
    """The error a ``Refused`` stands for.

    >>> refusal(Refused(1, 7, "JobGraphError", "No.", "", "Try another."))
    JobGraphError('No.')
    """
    kind = getattr(errors, refused.error, None)
    if not (isinstance(kind, type) and issubclass(kind, ZmflowError)):
        kind = ClusterError
    return kind(refused.message, detail=refused.detail or None, hint=refused.hint or None)


class EpochFence:
    """The newest epoch a client has heard of; says which messages are too old to be heard.

    >>> from zmflow.protocol.messages import HeartbeatAck
    >>> fence = EpochFence(3)
    >>> fence.admits(HeartbeatAck(2, "tm")), fence.admits(HeartbeatAck(4, "tm")), fence.epoch
    (False, True, 4)
    """

    def __init__(self, epoch: int = 0) -> None:
        self.epoch = epoch

    def admits(self, message: Message) -> bool:
        """Whether to hear this message; learns newer epochs."""
        if message.epoch < self.epoch:
            return False
        self.epoch = message.epoch
        return True


def _bound(socket: zmq.Socket[bytes]) -> None:
    socket.linger = LINGER_MS
    socket.sndhwm = SEND_QUEUE_MAX
    socket.maxmsgsize = MESSAGE_SIZE_MAX_BYTES
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)


def _monitor_events(monitor: zmq.Socket[bytes]) -> Iterator[tuple[int, int]]:
    while True:
        try:
            frames = monitor.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return
        event, value = _MONITOR_EVENT.unpack(frames[0][: _MONITOR_EVENT.size])
        yield event, value


class ControlServer:
    """The side that binds: many peers, each known by the connection it came on.

    Args:
        log: called with a sentence for each message that is dropped.
        epoch: messages of an older one are dropped; 0 hears every epoch.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        log: LogLine,
        keys: CurveKeys | None = None,
        epoch: int = 0,
    ) -> None:
        self._log = log
        self._keys = keys
        self._epoch = epoch
        self.socket: zmq.Socket[bytes] = context.socket(zmq.ROUTER)
        _bound(self.socket)
        self.socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED
        )
        self._peers_by_fd: dict[int, bytes] = {}
        self._closed_fds: set[int] = set()
        self._unreachable: deque[bytes] = deque()

    def begin_term(self, epoch: int) -> None:
        """From now on drop what is of an older epoch; call it before the first ``receive``."""
        self._epoch = epoch

    def bind_tcp(self, host: str, port: int, *, setting: str) -> int:
        """Bind a TCP address and return its port; port 0 chooses a free one.

        Raises:
            AddressInUseError: the port is taken; names the setting that chose it.
            ConfigurationError: the address is not one of this machine, or needs keys.
        """
        require_keys_or_loopback(host, self._keys)
        secure_server(self.socket, self._keys)
        try:
            self.socket.bind(f"tcp://{host}:{port or '*'}")
        except zmq.ZMQError as error:
            if error.errno == errno.EADDRINUSE:
                raise AddressInUseError(
                    f"The port {port} on {host} is taken by another program.",
                    detail=f"tcp://{host}:{port}, from the setting {setting}.",
                    hint=f"Stop the other program (ss -ltnp 'sport = :{port}' names it) or choose another "
                    f"port: -D {setting}=PORT, 0 for any free one.",
                ) from None
            raise ConfigurationError(
                f"The address {host} cannot be bound.",
                detail=f"tcp://{host}:{port}: {error}.",
                hint="Use an IPv4 address of this machine.",
            ) from None
        endpoint = self.socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        return int(endpoint.rstrip(b"\0").rpartition(b":")[2])

    def bind(self, endpoint: str) -> None:
        """Bind an ``ipc://`` or ``inproc://`` endpoint."""
        self.socket.bind(endpoint)

    def receive(self) -> Iterator[Arrival | Departure]:
        """What is there now, departures last, some ``RECEIVE_BATCH_MAX`` messages; never waits."""
        gone: list[bytes] = []
        yield from self._arrivals(gone)
        gone += self._closed_connections()
        if gone:  # what they said last may have come after the first look, but before they went
            yield from self._arrivals(gone)
        while self._unreachable:
            gone.append(self._unreachable.popleft())
        for peer in dict.fromkeys(gone):
            yield Departure(peer)

    def _arrivals(self, gone: list[bytes]) -> Iterator[Arrival]:
        for _ in range(RECEIVE_BATCH_MAX):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer, body = frames[0].bytes, frames[-1]
            # Old connections are forgotten before this message's is learned: descriptors are reused.
            gone += self._closed_connections()
            with contextlib.suppress(zmq.ZMQError):  # inproc connections have no descriptor
                fd = int(body.get(zmq.SRCFD))
                if fd in self._closed_fds:
                    gone.append(peer)  # these were its last words
                else:
                    self._peers_by_fd[fd] = peer
            message = self._decode(body.buffer)
            if message is not None:
                yield Arrival(peer, message)

    def _closed_connections(self) -> list[bytes]:
        gone = []
        for event, fd in _monitor_events(self.monitor):
            if event == zmq.EVENT_ACCEPTED:
                self._closed_fds.discard(fd)
                continue
            self._closed_fds.add(fd)
            peer = self._peers_by_fd.pop(fd, None)
            if peer is not None:
                gone.append(peer)
        return gone

    def _decode(self, data: memoryview) -> Message | None:
        try:
            message = decode_message(bytes(data))
        except ProtocolError as error:
            self._log(f"Dropped {len(data)} bytes that are not a control message: {error.detail}")
            return None
        # Newer ones pass: what to make of them is the brain's to say, and they must not shut others out.
        if message.epoch < self._epoch and not isinstance(message, Hello):
            self._log(f"Dropped a {type(message).__name__} of epoch {message.epoch}; ours is {self._epoch}.")
            return None
        return message

    def send(self, peer: bytes, message: Message) -> bool:
        """Send, never waiting. False when the peer has gone; ``receive`` then reports its departure."""
        try:
            self.socket.send_multipart([peer, encode_message(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            self._unreachable.append(peer)
            return False
        return True

    def has_departures(self) -> bool:
        """Whether ``receive`` has something to say although no socket is readable."""
        return bool(self._unreachable)

    def close(self) -> None:
        """Close; last messages have ``LINGER_MS`` to leave. Closing twice does nothing."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close()


class ControlClient:
    """The side that connects: one peer, found again by ZeroMQ until the first connection stands.

    After a disconnection the object is of no more use: the other side knows connections, not senders,
    so a new one must begin with a new handshake.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        log: LogLine,
        keys: CurveKeys | None = None,
        identity: str = "",
    ) -> None:
        self.endpoint = endpoint
        self._log = log
        self.disconnected = False
        self.refusals = 0
        self._fence = EpochFence()
        self.socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        _bound(self.socket)
        if identity:
            self.socket.identity = identity.encode()
        self.socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_INTERVAL_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_INTERVAL_MAX_MS)
        if endpoint.startswith("tcp:"):
            secure_client(self.socket, keys)
        self.monitor: zmq.Socket[bytes] = self.socket.get_monitor_socket(
            zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
        )
        try:
            self.socket.connect(endpoint)
        except zmq.ZMQError as error:
            self.close(linger_ms=0)
            raise ConfigurationError(
                "The JobManager's address is not one.",
                detail=f"{endpoint}: {error}.",
                hint="Set jobmanager.rpc.address to a host name or an IPv4 address, without a port.",
            ) from None

    @property
    def epoch(self) -> int:
        """The newest epoch heard from the other side; 0 before the handshake."""
        return self._fence.epoch

    def send(self, message: Message) -> bool:
        """Send, never waiting. False when ``SEND_QUEUE_MAX`` messages wait already."""
        try:
            self.socket.send(encode_message(message), zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def receive(self) -> Iterator[Message]:
        """What is there now, at most ``RECEIVE_BATCH_MAX`` messages; never waits."""
        for _ in range(RECEIVE_BATCH_MAX):
            try:
                data = self.socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            try:
                message = decode_message(data)
            except ProtocolError as error:
                self._log(f"Dropped {len(data)} bytes that are not a control message: {error.detail}")
                continue
            if self._fence.admits(message):
                yield message
            else:
                self._log(f"Dropped a {type(message).__name__} of the older epoch {message.epoch}.")

    def poll_connection(self) -> bool:
        """Read the monitor; whether the connection still stands (or never stood yet)."""
        for event, _ in _monitor_events(self.monitor):
            if event == zmq.EVENT_DISCONNECTED:
                self.disconnected = True
            else:
                self.refusals += 1
        return not self.disconnected

    def close(self, linger_ms: int = LINGER_MS) -> None:
        """Close; last messages have this long to leave. Closing twice does nothing."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(linger_ms)
