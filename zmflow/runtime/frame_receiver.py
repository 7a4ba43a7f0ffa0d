"""The receiving half of the data plane: one ROUTER for all peers, the input gates behind it, their credits.

Lives in the network thread. A connection says hello (versions), opens channels, then sends frames against
credits. A channel that is opened before its task is deployed waits without credit. It is forgotten when the
sender closes it or goes away, so senders whose consumers were never deployed leave nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from zmflow.errors import IncompatiblePeerError, ProtocolError
from zmflow.protocol.credits import GateCredits
from zmflow.protocol.frames import Frame, FrameKind, decode_frames, encode_frames
from zmflow.protocol.versions import Versions, check_compatible
from zmflow.runtime.channels import InputChannel
from zmflow.runtime.peer_connections import PeerConnections

__all__ = ["ChannelAddress", "FrameReceiver"]

OPENS_WAITING_MAX = 65_536
"""Channels whose sender is there before their task: at most every channel of a worker. More than this is a
peer that does not speak our protocol."""

RECEIVE_BURST_MAX = 64
"""Messages taken from the ROUTER before the network thread looks at its other sockets and its outbox."""

TO_TASKS = frozenset(
    (
        FrameKind.DATA,
        FrameKind.END_OF_DATA,
        FrameKind.WATERMARK,
        FrameKind.STREAM_STATUS,
        FrameKind.BARRIER,
    )
)
"""Kinds of frames that cost a credit and are a task's to read."""

GateKey = tuple[str, int]


class ChannelAddress(msgspec.Struct, frozen=True, array_like=True):
    """The payload of an OPEN frame: which input channel this is."""

    attempt_id: str
    gate: int
    channel: int


@dataclass(eq=False, slots=True)
class _Gate:
    credits: GateCredits[int]
    channels: Sequence[InputChannel]


@dataclass(eq=False, slots=True)
class _Sender:
    """A connection to us."""

    identity: bytes
    greeted: bool = False
    channels: dict[int, tuple[_Gate, InputChannel]] = field(default_factory=dict)
    waiting: dict[int, GateKey] = field(default_factory=dict)  # channels whose gate is not there yet
    grants: list[Frame] = field(default_factory=list)


class FrameReceiver:
    """Gates by (attempt, gate), senders by connection.

    Args:
        router: a bound ROUTER.
        monitor: its monitor, for connections that were accepted and that have closed.
        versions: this process's; senders must be compatible.
        exclusive, floating: credits per channel and per gate.
    """

    def __init__(
        self,
        router: zmq.Socket[bytes],
        monitor: zmq.Socket[bytes],
        versions: Versions,
        exclusive: int,
        floating: int,
    ) -> None:
        self._router = router
        self._monitor = monitor
        self._peers = PeerConnections()
        self._versions = versions
        self._exclusive = exclusive
        self._floating = floating
        self._gates: dict[GateKey, _Gate] = {}
        self._senders: dict[bytes, _Sender] = {}
        self._waiting: dict[GateKey, list[tuple[_Sender, int, int]]] = {}
        self._waiting_count = 0
        self._granting: dict[bytes, _Sender] = {}
        self._arrived: list[tuple[InputChannel, Frame]] = []

    def add_gate(self, key: GateKey, channels: Sequence[InputChannel]) -> None:
        """A task is deployed: its gate may receive, and senders that waited for it get their credits."""
        self._gates[key] = _Gate(GateCredits(self._exclusive, self._floating), channels)
        for sender, number, index in self._waiting.pop(key, ()):
            self._waiting_count -= 1
            del sender.waiting[number]
            try:
                self._connect(key, sender, number, index)
            except ProtocolError as error:
                self._abandon(sender, error)

    def drop_gate(self, key: GateKey) -> None:
        """The task has ended: frames that still come for it are ignored."""
        gate = self._gates.pop(key, None)
        for sender in self._senders.values():
            for number in [n for n, (owner, _) in sender.channels.items() if owner is gate]:
                del sender.channels[number]

    def consumed(self, channels: Sequence[InputChannel]) -> None:
        """A task is done with a frame of each of these channels."""
        for channel in channels:
            gate = self._gates.get(channel.gate_key)
            if gate is not None:
                self._grant(gate, gate.credits.consumed(channel.index))

    def watch_connections(self) -> None:
        """Read the monitor, then call ``receive``. Only when there is something to read: a call into ZeroMQ
        for nothing costs as much as one that brings frames."""
        while True:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return
            if event["event"] == zmq.EVENT_ACCEPTED:
                self._peers.accepted(event["value"])
            else:
                self._peers.closed(event["value"])

    def receive(self) -> list[tuple[bytes, ProtocolError]]:
        """Take what waits on the ROUTER. Returns the connections that broke the protocol, with why."""
        offenders: list[tuple[bytes, ProtocolError]] = []
        for _ in range(RECEIVE_BURST_MAX):
            try:
                identity = self._router.recv(zmq.NOBLOCK)
            except zmq.Again:
                self._forget_departed()
                break
            body = self._router.recv(copy=False)  # a ROUTER gives at least one part after the identity
            extra = 0
            while self._router.rcvmore:
                self._router.recv()
                extra += 1
            sender = self._senders.get(identity) or self._meet(identity, body)
            try:
                self._take_message(sender, body.buffer, extra)
            except ProtocolError as error:
                self._abandon(sender, error)
                offenders.append((identity, error))
        return offenders

    def deliver(self) -> None:
        """Put the frames that have arrived into their tasks' mailboxes."""
        for channel, frame in self._arrived:
            channel.mailbox.put((channel, frame))
        self._arrived.clear()

    def flush(self) -> None:
        """Send the credits that were granted."""
        while self._granting:
            identity, sender = self._granting.popitem()
            message = encode_frames(sender.grants)
            sender.grants = []
            try:
                self._router.send(identity, zmq.SNDMORE)
                self._router.send(message)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                # The peer process is gone, and the monitor tells so in a moment. Its tasks have failed with
                # it, which the JobManager knows from its TaskManager and answers by cancelling ours.

    def _meet(self, identity: bytes, message: zmq.Frame) -> _Sender:
        """The first message of a peer."""
        self.watch_connections()
        self._peers.heard(int(message.get(zmq.SRCFD)), identity)
        sender = self._senders[identity] = _Sender(identity)
        return sender

    def _forget_departed(self) -> None:
        """Forget the peers that have gone. Everything they sent has been read."""
        for identity in self._peers.take_departed():
            self._granting.pop(identity, None)
            sender = self._senders.pop(identity, None)
            if sender is None:
                continue
            for _, channel in sender.channels.values():
                channel.identity = b""
            self._forget_waiting(sender)

    def _take_message(self, sender: _Sender, data: bytes | memoryview, extra_parts: int) -> None:
        if extra_parts:
            raise ProtocolError("A data-plane message has more than one part.")
        for frame in decode_frames(data):
            self._take(sender, frame)

    def _take(self, sender: _Sender, frame: Frame) -> None:
        kind = frame.kind
        if kind in TO_TASKS:
            entry = sender.channels.get(frame.channel)
            if entry is None:
                return  # a task that has ended already, or a sender that was refused
            gate, channel = entry
            grants = gate.credits.received(channel.index, frame.backlog)
            if grants:
                self._grant(gate, grants)
            self._arrived.append((channel, frame))
        elif kind == FrameKind.HELLO:
            self._greet(sender, frame)
        elif kind == FrameKind.OPEN:
            self._open(sender, frame)
        elif kind == FrameKind.CLOSE:
            self._close(sender, frame.channel)
        elif kind == FrameKind.OVERDRAFT:
            if (entry := sender.channels.get(frame.channel)) is not None:
                entry[0].credits.announced(entry[1].index, frame.records)
        else:
            raise ProtocolError("A sender granted credit to its receiver.")

    def _greet(self, sender: _Sender, frame: Frame) -> None:
        try:
            theirs = msgspec.msgpack.decode(frame.payload, type=Versions)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError("A peer's greeting cannot be read.", detail=str(error)) from None
        try:
            check_compatible(
                self._versions, theirs, our_name="the receiving worker", their_name="the sending worker"
            )
        except IncompatiblePeerError as error:
            self._refuse(sender, str(error))
            return
        sender.greeted = True

    def _open(self, sender: _Sender, frame: Frame) -> None:
        if not sender.greeted:
            return  # refused: it was told, and fails its task
        try:
            address = msgspec.msgpack.decode(frame.payload, type=ChannelAddress)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError("A channel's address cannot be read.", detail=str(error)) from None
        if frame.channel in sender.channels or frame.channel in sender.waiting:
            raise ProtocolError("A peer opened a channel twice.", detail=str(address))
        key = (address.attempt_id, address.gate)
        if key in self._gates:
            self._connect(key, sender, frame.channel, address.channel)
            return
        if self._waiting_count >= OPENS_WAITING_MAX:
            raise ProtocolError("Too many channels were opened for tasks that are not there.")
        self._waiting_count += 1
        sender.waiting[frame.channel] = key
        self._waiting.setdefault(key, []).append((sender, frame.channel, address.channel))

    def _close(self, sender: _Sender, number: int) -> None:
        """The sending task has ended, after its last frame or without one."""
        entry = sender.channels.pop(number, None)
        if entry is not None:
            entry[1].identity = b""  # nobody to give a credit to
        elif number in sender.waiting:
            self._forget_waiting(sender, number)

    def _forget_waiting(self, sender: _Sender, number: int | None = None) -> None:
        """Forget one channel of a sender that waits for its gate, or all of them."""
        given_up = list(sender.waiting) if number is None else [number]
        for key in {sender.waiting.pop(channel) for channel in given_up}:
            opens = self._waiting[key]
            kept = [entry for entry in opens if entry[0] is not sender or entry[1] not in given_up]
            self._waiting_count -= len(opens) - len(kept)
            if kept:
                self._waiting[key] = kept
            else:
                del self._waiting[key]

    def _connect(self, key: GateKey, sender: _Sender, number: int, index: int) -> None:
        gate = self._gates[key]
        if not 0 <= index < len(gate.channels):
            raise ProtocolError(
                "A peer opened a channel its gate does not have.", detail=f"{key}, channel {index}"
            )
        channel = gate.channels[index]
        channel.identity = sender.identity
        channel.number = number
        sender.channels[number] = (gate, channel)
        self._grant(gate, gate.credits.opened(index))

    def _grant(self, gate: _Gate, grants: list[tuple[int, int]]) -> None:
        for index, credit in grants:
            channel = gate.channels[index]
            sender = self._senders.get(channel.identity)
            if sender is not None:
                sender.grants.append(Frame(FrameKind.CREDIT, channel.number, records=credit))
                self._granting[channel.identity] = sender

    def _refuse(self, sender: _Sender, sentence: str) -> None:
        """Tell a sender why nothing it opens will ever get credit: HELLO the other way round."""
        sender.grants.append(Frame(FrameKind.HELLO, 0, sentence.encode()))
        self._granting[sender.identity] = sender

    def _abandon(self, sender: _Sender, error: ProtocolError) -> None:
        """The peer makes no sense: tell it, and fail the tasks that expected something from it."""
        for _, channel in sender.channels.values():
            channel.mailbox.put((None, error))
        sender.channels.clear()
        sender.greeted = False
        self._forget_waiting(sender)
        self._refuse(sender, str(error))
