"""Credit flow control: who may send how many frames on which channel, as Flink has it.

The receiver of a channel grants credits: frames it is ready to hold. Each channel owns a few
(``buffers-per-channel``); the channels of a gate share a pool of floating ones, which go where senders
report a backlog. The sender spends one credit per frame and attaches its backlog. So the memory of both
sides is bounded by credits x frame size, whatever the peers do.

A barrier that must not wait has everything before it in its queue sent without credit. Such frames are
*owed*: the room they had in the queue comes back only when they are consumed, so that a channel holds no more
on both sides than its credits and its queue.

Both classes only count. They are told what happened and answer with what to send.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

from zmflow.errors import ProtocolError

__all__ = ["OVERDRAFT_MAX", "CreditBalance", "GateCredits"]

C = TypeVar("C", bound=Hashable)

OVERDRAFT_MAX = 1 << 17
"""Most frames a channel may owe: twice the largest taskmanager.network.memory.max-buffers-per-channel, and
what one slice of a batch adds to a full queue."""


class _ChannelCredits:
    __slots__ = ("announced", "backlog", "granted", "held", "owed", "waiting")

    def __init__(self) -> None:
        self.granted = 0  # credits the sender has not used yet
        self.held = 0  # frames received and not yet consumed
        self.backlog = 0  # what the sender last said is waiting
        self.waiting = False  # whether it stands in the queue for floating credits
        self.announced = 0  # frames that may come without credit
        self.owed = 0  # frames that came so and are not yet consumed


class GateCredits(Generic[C]):
    """The receiving side: the credits of the channels of one input gate.

    Every method returns what to grant now, as (channel, credits) pairs.

    >>> gate = GateCredits(exclusive=2, floating=1)
    >>> gate.opened("a")
    [('a', 2)]
    >>> gate.received("a", backlog=5)
    [('a', 1)]
    >>> gate.consumed("a")
    [('a', 1)]
    """

    def __init__(self, exclusive: int, floating: int) -> None:
        self._exclusive = exclusive
        self._floating = floating
        self._floating_used = 0
        self._channels: dict[C, _ChannelCredits] = {}
        self._waiting: deque[C] = deque()

    def opened(self, channel: C) -> list[tuple[C, int]]:
        """A sender is there: grant what the channel owns."""
        self._channels[channel] = _ChannelCredits()
        return self._grant(channel)

    def received(self, channel: C, backlog: int) -> list[tuple[C, int]]:
        """A frame came in.

        Raises:
            ProtocolError: the sender had no credit for it.
        """
        state = self._channels[channel]
        if state.granted <= 0:
            if not state.announced:
                raise ProtocolError("A peer sent a frame without a credit.", detail=f"channel {channel}")
            state.announced -= 1
            state.owed += 1
            state.backlog = backlog
            return []
        state.granted -= 1
        state.held += 1
        state.backlog = backlog
        return self._grant(channel)

    def consumed(self, channel: C) -> list[tuple[C, int]]:
        """The task is done with a frame: its buffer is free for this channel or for another."""
        state = self._channels.get(channel)
        if state is None:
            return []
        if state.owed:
            state.owed -= 1
            return [(channel, 1)]
        if state.held + state.granted > self._exclusive:
            self._floating_used -= 1
        state.held -= 1
        grants = self._grant(channel)
        while self._waiting and self._floating_used < self._floating:
            other = self._waiting.popleft()
            waiting = self._channels.get(other)
            if waiting is not None:
                waiting.waiting = False
                grants += self._grant(other)
        return grants

    def announced(self, channel: C, frames: int) -> None:
        """A barrier is not to wait for credit: so many frames come without, it among them.

        Raises:
            ProtocolError: more than a sender may have queued.
        """
        state = self._channels[channel]
        if frames + state.owed > OVERDRAFT_MAX:
            raise ProtocolError(
                "A peer sends more without credit than it can have queued.",
                detail=f"channel {channel}: {frames} frames beside {state.owed}, at most {OVERDRAFT_MAX}.",
            )
        state.announced = frames

    def check(self) -> None:
        """Assert that no more is promised than there is."""
        used = 0
        for state in self._channels.values():
            assert state.granted >= 0
            assert state.held >= 0
            assert state.owed >= 0
            used += max(0, state.granted + state.held - self._exclusive)
        assert used == self._floating_used <= self._floating

    def _grant(self, channel: C) -> list[tuple[C, int]]:
        state = self._channels[channel]
        wanted = state.backlog + self._exclusive - state.granted
        grant = 0
        while grant < wanted:
            if state.granted + state.held >= self._exclusive:
                if self._floating_used >= self._floating:
                    if state.backlog and not state.waiting:
                        state.waiting = True
                        self._waiting.append(channel)
                    break
                self._floating_used += 1
            state.granted += 1
            grant += 1
        return [(channel, grant)] if grant else []


class CreditBalance:
    """The sending side of one channel. Below zero it owes frames that left without credit.

    >>> balance = CreditBalance()
    >>> balance.granted(2), balance.spend(), balance.available
    (0, True, 1)
    >>> balance.spend(), balance.spend(), balance.available
    (True, False, -1)
    >>> balance.granted(3), balance.available
    (1, 2)
    """

    __slots__ = ("available",)

    def __init__(self) -> None:
        self.available = 0

    def granted(self, credit: int) -> int:
        """The receiver will take this many more frames. Returns how many of those owed that pays."""
        owed = -self.available
        self.available += credit
        return min(credit, owed) if owed > 0 else 0

    def spend(self) -> bool:
        """A frame leaves. False: without a credit, so it is owed."""
        self.available -= 1
        return self.available >= 0
