"""The two ends of a channel between two tasks, in one process or in two.

Flow control is by *permits*: tokens in a queue. A producer takes one per batch and blocks, holding no lock,
when there is none; whoever makes room puts one back. Between processes the network thread returns a permit
when a frame has left, and frames leave only for credits (``zmflow.protocol.credits``). In one process the
consumer returns it when it is done with the batch, which is handed over by reference.
"""

from __future__ import annotations

import threading
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
    """A counting semaphore of C speed that cancellation can break.

    A checkpoint that must not wait *lends* permits: whoever has to wait goes on without, and owes what comes
    back next. So a task comes to the end of what it is doing, and can be snapshotted.
    """

    __slots__ = (
        "_back",
        "_blocked_s",
        "_count",
        "_lending",
        "_lock",
        "_on_repaid",
        "_owed",
        "_tokens",
        "_waiting_since",
    )

    def __init__(self, count: int) -> None:
        self._count = count
        self._tokens: SimpleQueue[bool | None] = SimpleQueue()
        for _ in range(count):
            self._tokens.put(True)
        self._blocked_s = 0.0
        self._waiting_since = 0.0  # 0 while nobody waits
        self._lock = threading.Lock()  # of what follows
        self._lending = 0  # for how many checkpoints
        self._owed = 0
        self._on_repaid: Callable[[], None] | None = None
        self._back = 0  # of those ``take_all`` waits for

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
        if not tokens.empty():
            token = tokens.get()
        elif self._borrowed():
            return
        else:
            token = self._wait()
        while not token:
            if token is False:
                tokens.put(False)  # cancelled stays cancelled
                raise TaskCanceledError
            # None wakes those who wait when permits are lent; it may be an old one.
            if self._borrowed():
                return
            token = self._wait()

    def _wait(self) -> bool | None:
        self._waiting_since = time.perf_counter()
        token = self._tokens.get()
        self._blocked_s, self._waiting_since = self.blocked_s, 0.0
        return token

    def _borrowed(self) -> bool:
        if not self._lending:
            return False
        with self._lock:
            self._owed += self._lending > 0
            return self._lending > 0

    def owes(self, on_repaid: Callable[[], None]) -> bool:
        """Whether permits were taken that were not there.

        Args:
            on_repaid: called once, when that is over, by whichever thread gives the last of them.
        """
        if not self._owed:
            return False
        with self._lock:
            self._on_repaid = on_repaid if self._owed else None
            return self._owed > 0

    def lend(self) -> None:
        """From any thread: nobody waits until ``end_lending`` was called as often."""
        with self._lock:
            self._lending += 1
        self._tokens.put(None)

    def end_lending(self) -> None:
        """Whoever takes a permit waits for it again."""
        with self._lock:
            self._lending -= 1

    def take_all(self) -> bool:
        """Wait until every permit is back: whatever was sent has left. Take it once, as the last thing.

        Returns:
            False when ``lend`` was called meanwhile: to be called again.

        Raises:
            TaskCanceledError: ``cancel`` was called.
        """
        while self._back < self._count:
            token = self._wait()  # never lent: whoever waits here would leave before what it waits for
            if token is False:
                self._tokens.put(False)
                raise TaskCanceledError
            if token is None:
                return False
            self._back += 1
        return True

    def give(self) -> None:
        """Put a permit back."""
        if self._owed:
            self._repay()
        else:
            self._tokens.put(True)

    def _repay(self) -> None:
        with self._lock:
            owed = self._owed > 0
            self._owed -= owed
            told = None if self._owed else self._on_repaid
            if told is not None:
                self._on_repaid = None
        if not owed:
            self._tokens.put(True)
        if told is not None:
            told()

    def cancel(self) -> None:
        """Wake whoever waits."""
        self._tokens.put(False)


class _Transmitter(Protocol):
    """The network thread, as a remote channel sees it."""

    def transmit(self, channel: RemoteChannel, frame: Frame) -> None: ...

    def push(self, channel: RemoteChannel) -> None: ...

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

    def push(self) -> None:
        """What was sent waits for nothing."""

    def end(self) -> None:
        """Nothing more will come."""
        self._target.mailbox.put((self._target, END))

    def drain(self) -> bool:
        """What was sent is where it belongs already."""
        return True


@dataclass(eq=False, slots=True)
class RemoteChannel:
    """The sending end of a channel to another process.

    ``number`` names the channel on its connection; ``on_lost`` is told, in a sentence, when the peer refuses
    it. ``connection``, ``queue``, ``balance``, ``ready`` and ``pushed`` belong to the network thread;
    ``pushed`` says how many of the queue leave without credit.
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
    pushed: int = 0

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

    def push(self) -> None:
        """Let what was sent leave, the barrier of a checkpoint behind it, without waiting for credit."""
        self.network.push(self)

    def end(self) -> None:
        """Nothing more will come."""
        self.send_frame(Frame(FrameKind.END_OF_DATA, self.number))

    def drain(self) -> bool:
        """After ``end``: wait until the consumer has taken every frame, or granted a credit for it.

        Returns:
            False when the wait was broken because room was lent: to be called again.

        Raises:
            TaskCanceledError: the task was cancelled.
        """
        return self.permits.take_all()
