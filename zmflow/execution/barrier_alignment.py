"""``BarrierAlignment``: when the inputs of a task have all reached a checkpoint's barrier.

Exactly once: behind a barrier a channel is *blocked*, its records wait, until the barrier has come on every
open channel; then the task takes its snapshot, and all go on. At least once: barriers are counted, nothing
waits. Flink's rules (CheckpointBarrierHandler): a channel that ends counts as if its barrier had come; a
newer barrier gives up the one that is waited for; numbers that are over are ignored.

Unaligned: when the coordinator says that a checkpoint is not to wait any longer, the task takes its snapshot
at once, and what is on its way on the channels without a barrier, up to theirs, is part of it (Chandy and
Lamport, Distributed Snapshots, 1985; FLIP-76).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

from zmflow.protocol.checkpoints import CheckpointBarrier

__all__ = ["Alignment", "BarrierAlignment"]

ABORTED_KEPT_MAX = 128
"""Given-up checkpoints that are remembered because their barriers may still come: more than can be under way
at once (100)."""


@dataclass(slots=True)
class Alignment:
    """What has become of alignment.

    Args:
        take: take the snapshot of this checkpoint now.
        given_up: a checkpoint that cannot be completed any more, because a newer one has begun.
        resumes: channels were blocked and are not any more.
        began_us: when the first barrier of ``take`` came.
        overtakes: whether something on channels that wait for their barrier belongs to the snapshot too.
        overtaken: the barrier of the last of those channels has come: this snapshot is whole.
        forgets: a snapshot that will not be whole, because another checkpoint has begun or it was given up.
    """

    take: CheckpointBarrier | None = None
    given_up: int = 0
    resumes: bool = False
    began_us: int = 0
    overtakes: bool = False
    overtaken: int = 0
    forgets: int = 0


@dataclass(slots=True)
class _Pending:
    barrier: CheckpointBarrier
    missing: set[Hashable]
    began_us: int


@dataclass(slots=True)
class BarrierAlignment:
    """The alignment of one task.

    Args:
        channels: its input channels, by whatever names them.
        blocks: exactly once; else at least once.

    ``blocked`` holds the channels whose records have to wait; it is always the same set. ``behind`` holds
    those whose records up to their barrier belong to the snapshot ``overtaking``, which was taken.

    >>> alignment = BarrierAlignment(["a", "b"])
    >>> alignment.barrier("a", CheckpointBarrier(1, 0), now_us=5).take, alignment.blocked
    (None, {'a'})
    >>> done = alignment.barrier("b", CheckpointBarrier(1, 0), now_us=9)
    >>> done.take.checkpoint_id, done.resumes, done.began_us, alignment.blocked
    (1, True, 5, set())
    """

    channels: Iterable[Hashable]
    blocks: bool = True
    blocked: set[Any] = field(default_factory=set)
    _open: set[Hashable] = field(init=False)
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _over: int = 0  # the greatest number that was taken or subsumed
    _aborted: dict[int, None] = field(default_factory=dict)
    _overtaking: int = 0  # the checkpoint whose snapshot is not whole yet
    behind: set[Any] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._open = set(self.channels)

    @property
    def waits_for(self) -> CheckpointBarrier | None:
        """The oldest checkpoint whose barrier has come on some channels and not on all."""
        return next((pending.barrier for pending in self._pending.values()), None)

    def barrier(self, channel: Hashable, barrier: CheckpointBarrier, now_us: int) -> Alignment:
        """A barrier has come on an open channel."""
        number = barrier.checkpoint_id
        outcome = Alignment()
        if number <= self._over or number in self._aborted:
            return self.passed(channel, number)
        if self._overtaking:
            self._forget(outcome)
        if self.blocks:
            for older in [n for n in self._pending if n < number]:
                outcome.given_up = older
                self._give_up(older, outcome)
        pending = self._pending.get(number)
        if pending is None:
            pending = self._pending[number] = _Pending(barrier, set(self._open), now_us)
        pending.missing.discard(channel)
        if self.blocks:
            self.blocked.add(channel)
        if not pending.missing:
            self._take(pending, outcome)
        return outcome

    def triggered(self, barrier: CheckpointBarrier, now_us: int) -> Alignment:
        """The coordinator asks directly: all that feeds the task has finished, so the ends of its channels
        stand for barriers; some may not be here yet."""
        number = barrier.checkpoint_id
        outcome = Alignment()
        if number <= self._over or number in self._aborted or number in self._pending:
            return outcome
        pending = self._pending[number] = _Pending(barrier, set(self._open), now_us)
        if not pending.missing:
            self._take(pending, outcome)
        return outcome

    def unaligned(self, barrier: CheckpointBarrier, now_us: int) -> Alignment:
        """The coordinator says that a checkpoint is not to wait for barriers: it is taken now, if it was
        not."""
        number = barrier.checkpoint_id
        outcome = Alignment()
        if number <= self._over or number in self._aborted:
            return outcome
        self._forget(outcome)
        for older in [n for n in self._pending if n < number]:
            outcome.given_up = older
            self._give_up(older, outcome)
        pending = self._pending.get(number) or _Pending(barrier, set(self._open), now_us)
        self._pending[number] = pending
        self._overtaking, self.behind = number, pending.missing
        outcome.overtakes = bool(pending.missing)
        self._take(pending, outcome)
        return outcome if self.behind else self._whole(outcome)

    def passed(self, channel: Hashable, checkpoint_id: int) -> Alignment:
        """A barrier that stands for itself only, or the end of a channel, was seen ahead of its turn."""
        outcome = Alignment()
        if self._overtaking and channel in self.behind:
            if checkpoint_id > self._overtaking:
                self._forget(outcome)
            elif checkpoint_id == self._overtaking:
                self.behind.discard(channel)
                if not self.behind:
                    return self._whole(outcome)
        return outcome

    @property
    def overtaking(self) -> int:
        """The checkpoint whose snapshot waits for barriers to be whole; 0: none."""
        return self._overtaking

    def ended(self, channel: Hashable) -> list[Alignment]:
        """A channel has ended: for every checkpoint it is as if its barrier had come."""
        self._open.discard(channel)
        self.blocked.discard(channel)
        outcomes = []
        if (whole := self.passed(channel, self._overtaking)).overtaken:
            outcomes.append(whole)
        for pending in list(self._pending.values()):
            pending.missing.discard(channel)
            if not pending.missing:
                outcome = Alignment()
                self._take(pending, outcome)
                outcomes.append(outcome)
        return outcomes

    def aborted(self, checkpoint_id: int) -> Alignment:
        """The coordinator has given a checkpoint up; its barriers may come all the same."""
        outcome = Alignment()
        if checkpoint_id > self._over:
            self._aborted[checkpoint_id] = None
            if len(self._aborted) > ABORTED_KEPT_MAX:
                del self._aborted[next(iter(self._aborted))]
        if checkpoint_id in self._pending:
            self._give_up(checkpoint_id, outcome)
        if checkpoint_id == self._overtaking:
            self._forget(outcome)
        return outcome

    def _whole(self, outcome: Alignment) -> Alignment:
        outcome.overtaken, self._overtaking = self._overtaking, 0
        return outcome

    def _forget(self, outcome: Alignment) -> None:
        if self._overtaking:
            outcome.forgets, self._overtaking, self.behind = self._overtaking, 0, set()

    def _take(self, pending: _Pending, outcome: Alignment) -> None:
        outcome.take = pending.barrier
        outcome.began_us = pending.began_us
        self._over = pending.barrier.checkpoint_id
        for number in [n for n in self._pending if n <= self._over]:
            del self._pending[number]
        for number in [n for n in self._aborted if n <= self._over]:
            del self._aborted[number]
        self._resume(outcome)

    def _give_up(self, number: int, outcome: Alignment) -> None:
        del self._pending[number]
        self._resume(outcome)

    def _resume(self, outcome: Alignment) -> None:
        if self.blocked:
            outcome.resumes = True
            self.blocked.clear()
