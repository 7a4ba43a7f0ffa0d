"""The two ends of a channel between two tasks, in one process or in two.

Flow control is by *permits*: tokens in a queue. A producer takes one per batch and blocks, holding no lock,
when there is none; whoever makes room puts one back. Between processes the network thread returns a permit
when a frame has left, and frames leave only for credits (``zmflow.protocol.credits``). In one process the
consumer returns it when it is done with the batch, which is handed over by reference.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

from zmflow.execution.batches import Batch, decode_batch, encode_batch
from zmflow.execution.time_events import TimeEvent, encode_time_event
from zmflow.protocol.checkpoints import CheckpointBarrier, encode_barrier
from zmflow.protocol.credits import CreditBalance
from zmflow.protocol.frames import Frame, FrameKind

__all__ = [
    "CANCEL",
    "END",
    "InputChannel",
    "LocalChannel",
    "Mailbox",
    "Permits",
    "Releases",
    "RemoteChannel",
    "TaskCanceledError",
    "raise_if_ending",
]

Mailbox = SimpleQueue[tuple[Any, Any]]
"""What a task reads: (input channel, Frame | batch | event | END), or (None, a control item)."""

RELEASES_HELD_MAX = 4
"""Small beside the 64 credits a busy channel has by default, so that its sender never runs dry while notices
wait; when no input waits they leave at once."""

END = object()
"""A local channel's END_OF_DATA."""

CANCEL = object()
"""A control item: the task is cancelled."""


class TaskCanceledError(BaseException):
    """Ends a task that was cancelled, where it waits, between batches, or inside user code.

    Not an ``Exception``, so that user code which catches those does not keep a cancelled task alive.
    """


def raise_if_ending(item: object) -> None:
    """End the task, where a control item asks for that."""
    if isinstance(item, BaseException):
        raise item
    if item is CANCEL:
        raise TaskCanceledError


class Permits:
    """A counting semaphore of C speed that cancellation can break."""

    __slots__ = ("_blocked_s", "_count", "_tokens", "_waiting_since")

    def __init__(self, count: int) -> None:
        self._count = count
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        for _ in range(count):
            self._tokens.put(True)
        self._blocked_s = 0.0
        self._waiting_since = 0.0  # 0 while nobody waits

    @property
    def blocked_s(self) -> float:
        """How long the taker has waited, the present wait included: the task's back-pressure."""
        since = self._waiting_since
        return self._blocked_s + (time.perf_counter() - since if since else 0.0)

    def take(self) -> None:
        """Take a permit, waiting for one.

        Raises:
            TaskCanceledError: ``cancel`` was called.
        """
        tokens = self._tokens
        if tokens.empty():
            self._waiting_since = time.perf_counter()
            token = tokens.get()
            self._blocked_s, self._waiting_since = self.blocked_s, 0.0
        else:
            token = tokens.get()
        if not token:
            tokens.put(False)  # cancelled stays cancelled
            raise TaskCanceledError

    def take_all(self) -> None:
        """Wait until every permit is back: whatever was sent has left. Take it once, as the last thing.

        Raises:
            TaskCanceledError: ``cancel`` was called.
        """
        for _ in range(self._count):
            self.take()

    def give(self) -> None:
        """Put a permit back."""
        self._tokens.put(True)

    def cancel(self) -> None:
        """Wake whoever waits."""
        self._tokens.put(False)


class _Transmitter(Protocol):
    """The network thread, as a remote channel sees it."""

    def transmit(self, channel: RemoteChannel, frame: Frame) -> None: ...

    def consumed(self, channels: Sequence[InputChannel]) -> None: ...


@dataclass(eq=False, slots=True)
class InputChannel:
    """The receiving end. ``permits`` is set for a local producer, ``network`` for a remote one."""

    gate: int
    index: int
    mailbox: Mailbox
    gate_key: tuple[str, int]
    permits: Permits | None = None
    network: _Transmitter | None = None
    # Owned by the network thread: the connection and channel number credits go to.
    identity: bytes = b""
    number: int = 0

    def decode(self, received: Any) -> Batch:
        """The batch in what arrived."""
        batch: Batch = decode_batch(received) if received.__class__ is Frame else received
        return batch


class Releases:
    """Batches a task is done with: the places they held are given back in lots.

    Each notice to the network thread may wake it, and a thread that wakes takes the interpreter lock from the
    task. So notices for remote channels gather while more input waits; a local producer is told at once.
    """

    __slots__ = ("_mailbox", "_remote")

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._remote: list[InputChannel] = []

    def add(self, channel: InputChannel) -> None:
        """The task is done with a batch of this channel."""
        if channel.permits is not None:
            channel.permits.give()
            return
        remote = self._remote
        remote.append(channel)
        if len(remote) >= RELEASES_HELD_MAX or self._mailbox.empty():
            network = channel.network
            assert network is not None
            network.consumed(remote)
            self._remote = []

    def flush_idle(self) -> None:
        """The task puts input aside and none waits: what was held back must leave, for more to come."""
        if self._remote and self._mailbox.empty():
            network = self._remote[0].network
            assert network is not None
            network.consumed(self._remote)
            self._remote = []


class LocalChannel:
    """The sending end of a channel to a task in this process."""

    def __init__(self, target: InputChannel, permits: int) -> None:
        self.permits = Permits(permits)
        target.permits = self.permits
        self._target = target

    def send(self, batch: Batch) -> int:
        """Hand over by reference; blocks while the consumer has enough."""
        self.permits.take()
        self._target.mailbox.put((self._target, batch))
        return 0

    def send_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """Hand over an event; it takes a place like a batch."""
        self.permits.take()
        self._target.mailbox.put((self._target, event))

    def end(self) -> None:
        """Nothing more will come."""
        self._target.mailbox.put((self._target, END))

    def drain(self) -> None:
        """What was sent is where it belongs already."""


@dataclass(eq=False, slots=True)
class RemoteChannel:
    """The sending end of a channel to another process.

    ``number`` names the channel on its connection; ``on_lost`` is told, in a sentence, when the peer refuses
    it. ``connection``, ``queue``, ``balance`` and ``ready`` belong to the network thread.
    """

    number: int
    network: _Transmitter
    compress: bool
    permits: Permits
    open_payload: bytes
    on_lost: Callable[[str], None]
    connection: object = None
    queue: deque[Frame] = field(default_factory=deque)
    balance: CreditBalance = field(default_factory=CreditBalance)
    ready: bool = False

    def send(self, batch: Batch) -> int:
        """Encode and queue; blocks while too many frames wait for the consumer."""
        frame = encode_batch(self.number, batch, compress=self.compress)
        self.permits.take()
        self.network.transmit(self, frame)
        return len(frame.payload)

    def send_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """Queue an event; it costs a credit like a batch."""
        if isinstance(event, CheckpointBarrier):
            self.send_frame(Frame(FrameKind.BARRIER, self.number, encode_barrier(event)))
        else:
            self.send_frame(encode_time_event(self.number, event))

    def send_frame(self, frame: Frame) -> None:
        """Queue a frame that is encoded already."""
        self.permits.take()
        self.network.transmit(self, frame)

    def end(self) -> None:
        """Nothing more will come."""
        self.send_frame(Frame(FrameKind.END_OF_DATA, self.number))

    def drain(self) -> None:
        """After ``end``: wait until the consumer has taken every frame, or granted a credit for it.

        Raises:
            TaskCanceledError: the task was cancelled.
        """
        self.permits.take_all()
