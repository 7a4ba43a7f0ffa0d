"""Control connections: messages in, messages out, and the news that a peer has gone.

The server side is a ROUTER, the client side a DEALER. Bytes become messages here and nowhere else:
what cannot be decoded is logged and dropped, and so is a message of an older epoch (design D8), before
any brain sees it. Both ends notice a dead peer through the socket monitor (closed connections) and
ZeroMQ's heartbeats (machines that vanished). And both number what they send (``protocol.session``): when a
message is missing, the connection is lost as if it had closed.
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
from zmflow.protocol.messages import Hello, Message, Refused, decode_message, encode_message
from zmflow.protocol.session import HANG_UP, NUMBERED_SIZE_MAX_BYTES, Session, add_number, split_number
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

PEERS_MAX = 16_384
"""Connections a server keeps sessions for. Each takes a descriptor, of which a process seldom has more;
in-process connections take none and end unnoticed, so the one that was silent for longest makes room."""

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
    socket.maxmsgsize = NUMBERED_SIZE_MAX_BYTES
    socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_INTERVAL_MS)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEAT_TIMEOUT_MS)
    socket.setsockopt(zmq.HEARTBEAT_TTL, HEARTBEAT_TIMEOUT_MS)


def _sentences(error: ProtocolError) -> str:
    return " ".join(filter(None, (error.message, error.detail, error.hint)))


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
        numbered: whether both ends number their messages. A TaskManager and its workers do not: between
            them is a local socket, which breaks only when one of them ends.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        log: LogLine,
        keys: CurveKeys | None = None,
        epoch: int = 0,
        numbered: bool = True,
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
        self._lost: deque[bytes] = deque()  # departed without a closed connection; to be reported
        self._numbered = numbered
        self._sessions: dict[bytes, Session] = {}  # the peer that was silent for longest is first
        self._hung_up: dict[bytes, bool] = {}  # not heard until they close; whether they could be told

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
        closed: list[bytes] = []
        yield from self._arrivals(closed)
        closed += self._closed_connections()
        if closed:  # what they said last may have come after the first look, but before they went
            yield from self._arrivals(closed)
        yield from self._departures(closed)

    def _arrivals(self, closed: list[bytes]) -> Iterator[Arrival]:
        for _ in range(RECEIVE_BATCH_MAX):
            try:
                frames = self.socket.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                return
            peer, body = frames[0].bytes, frames[-1]
            # Old connections are forgotten before this message's is learned: descriptors are reused.
            closed += self._closed_connections()
            with contextlib.suppress(zmq.ZMQError):  # inproc connections have no descriptor
                fd = int(body.get(zmq.SRCFD))
                if fd in self._closed_fds:
                    closed.append(peer)  # these were its last words
                else:
                    self._peers_by_fd[fd] = peer
            data = self._admitted(peer, body.buffer) if self._numbered else bytes(body.buffer)
            message = self._decode(data) if data is not None else None
            if message is not None:
                yield Arrival(peer, message)

    def _departures(self, closed: list[bytes]) -> Iterator[Departure]:
        departed = dict.fromkeys(self._lost)
        self._lost.clear()
        for peer in dict.fromkeys(closed):
            if self._hung_up.pop(peer, None) is None:  # else its departure was reported then
                departed[peer] = None
        for peer in departed:
            self._sessions.pop(peer, None)
            yield Departure(peer)

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

    def _admitted(self, peer: bytes, data: memoryview) -> bytes | None:
        """The message in what a peer sent, if it is the next one of its conversation."""
        if peer in self._hung_up:
            self._hung_up[peer] = self._hung_up[peer] or self._say_hang_up(peer)
            return None
        try:
            sequence, message = split_number(data)
        except ProtocolError as error:
            self._log(f"Dropped {len(data)} bytes from connection {peer.hex()}: {_sentences(error)}")
            return None
        session = self._session(peer)
        verdict = session.admit(sequence)
        if verdict == "gap":
            self._hang_up(peer, f"Message {session.heard + 1} is missing; {sequence} came in its place.")
        elif verdict == "repeated":
            self._log(f"Dropped a repetition of message {sequence} of connection {peer.hex()}.")
        return message if verdict == "next" else None

    def _session(self, peer: bytes) -> Session:
        session = self._sessions.pop(peer, None)
        if session is None:
            if len(self._sessions) >= PEERS_MAX:
                self._hang_up(next(iter(self._sessions)), f"There are more than {PEERS_MAX} others.")
            session = Session()
        self._sessions[peer] = session  # now the last one to make room
        return session

    def _hang_up(self, peer: bytes, reason: str) -> None:
        """Give a connection up: report its departure, hear it no more, tell its other end to dial anew."""
        self._log(f"Hung up on connection {peer.hex()}, which must be dialled anew: {reason}")
        self._sessions.pop(peer, None)
        self._lost.append(peer)
        if len(self._hung_up) >= PEERS_MAX:
            del self._hung_up[next(iter(self._hung_up))]  # what it says next is a gap again
        self._hung_up[peer] = self._say_hang_up(peer)

    def _say_hang_up(self, peer: bytes) -> bool:
        try:
            self.socket.send_multipart([peer, HANG_UP], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno not in (errno.EHOSTUNREACH, errno.EAGAIN):
                raise
            return False
        return True

    def _decode(self, data: bytes) -> Message | None:
        try:
            message = decode_message(data)
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
        if peer in self._hung_up:
            return False
        data = encode_message(message)
        if self._numbered:
            data = add_number(self._session(peer).stamp(), data)
        try:
            self.socket.send_multipart([peer, data], zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno == errno.EAGAIN and self._numbered:
                self._hang_up(peer, f"{SEND_QUEUE_MAX} messages wait for it already.")
            elif error.errno in (errno.EHOSTUNREACH, errno.EAGAIN):
                self._lost.append(peer)
            else:
                raise
            return False
        return True

    def has_departures(self) -> bool:
        """Whether ``receive`` has something to say although no socket is readable."""
        return bool(self._lost)

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
    so a new one must begin with a new handshake. A message that is missing is a disconnection, too. Before
    the first message from the other side there is no conversation that could be broken: what is lost then
    is said again, over a connection on which both ends count from 1.
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
        self._session = Session()
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
        """Send, never waiting. False when ``SEND_QUEUE_MAX`` messages wait: the connection is lost."""
        try:
            self.socket.send(add_number(self._session.stamp(), encode_message(message)), zmq.NOBLOCK)
        except zmq.Again:
            self._lose(f"{SEND_QUEUE_MAX} messages wait already.")
            return False
        return True

    def receive(self) -> Iterator[Message]:
        """What is there now, at most ``RECEIVE_BATCH_MAX`` messages; never waits."""
        for _ in range(RECEIVE_BATCH_MAX):
            try:
                frame = self.socket.recv(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            data = self._admitted(frame.buffer)
            if data is None:
                continue
            try:
                message = decode_message(data)
            except ProtocolError as error:
                self._log(f"Dropped {len(data)} bytes that are not a control message: {error.detail}")
                continue
            if self._fence.admits(message):
                yield message
            else:
                self._log(f"Dropped a {type(message).__name__} of the older epoch {message.epoch}.")

    def _admitted(self, data: memoryview) -> bytes | None:
        """The message in what arrived, if it is the next one of the conversation."""
        session = self._session
        if session.lost:
            return None
        try:
            sequence, message = split_number(data)
        except ProtocolError as error:
            self._log(f"Dropped {len(data)} bytes from {self.endpoint}: {_sentences(error)}")
            return None
        verdict = session.admit(sequence)
        if verdict == "gap":
            self._lose(f"Message {session.heard + 1} is missing, or the other side hung up.")
        elif verdict == "repeated":
            self._log(f"Dropped a repetition of message {sequence}.")
        return message if verdict == "next" else None

    def _lose(self, reason: str) -> None:
        if self._session.heard:
            self._log(f"Gave up the connection to {self.endpoint}: {reason}")
            self._session.lost = self.disconnected = True
            return
        self._log(f"Dialling {self.endpoint} anew: {reason}")
        self.socket.disconnect(self.endpoint)
        self.socket.connect(self.endpoint)
        self._session = Session()

    def poll_connection(self) -> bool:
        """Read the monitor; whether the connection still stands (or never stood yet)."""
        for event, _ in _monitor_events(self.monitor):
            if event == zmq.EVENT_DISCONNECTED:
                self.disconnected = True
                if not self._session.heard:
                    self._session = Session()  # ZeroMQ dials again, and the other side counts from 1
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
