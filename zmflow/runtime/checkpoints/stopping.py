"""How a task ends with a savepoint that stops its job.

Behind the barrier the task stands still: it neither reads nor lets timers fire, so that nothing happens that
is not in the savepoint. When the savepoint is complete it commits and ends, without finishing what it does.
When it was given up the task goes on; but not after ``drain``, which has let event time go to its end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from zmflow.errors import JobError
from zmflow.execution.input import InputState
from zmflow.protocol.checkpoints import CheckpointBarrier, NotifyCheckpoint
from zmflow.protocol.frames import Frame, FrameKind
from zmflow.runtime.channels import END, Mailbox, Releases

__all__ = ["StoppedWithSavepointError", "Stopping"]


class StoppedWithSavepointError(Exception):
    """The savepoint that stops the job is complete: the task ends."""


class Stopping:
    """The end of one task. On its thread.

    Args:
        mailbox: the task's.
        deferred: what the task takes before what is in the mailbox.
        ending: raises where an item asks the task to end.
        notified: serves the end of a checkpoint.
        releases: batches that the task is done with.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        deferred: deque[tuple[Any, Any]],
        ending: Callable[[Any], None],
        notified: Callable[[NotifyCheckpoint], None],
        releases: Releases,
    ) -> None:
        self._mailbox = mailbox
        self._deferred = deferred
        self._ending = ending
        self._notified = notified
        self._releases = releases

    def stand_still(self, barrier: CheckpointBarrier) -> None:
        """Wait until it is decided what becomes of the savepoint, which the task has taken its part of.

        Raises:
            StoppedWithSavepointError: it is complete.
            JobError: it is not, and the task cannot go on.
        """
        held: list[tuple[Any, Any]] = []
        try:
            while True:
                sender, item = self._next()
                if sender is not None or not isinstance(item, NotifyCheckpoint):
                    held.append((sender, item))
                    continue
                self._notified(item)
                if item.checkpoint_id == barrier.checkpoint_id:
                    break
        finally:
            self._deferred.extendleft(reversed(held))
        if item.completed:
            raise StoppedWithSavepointError
        if barrier.kind == "drain":
            raise JobError(
                "The job could not be drained: its savepoint failed, and event time had gone to its end.",
                hint="'zmflow checkpoints' shows why. The job goes on from its last checkpoint.",
            )

    def read_to_end(self, state: InputState) -> None:
        """Take what says that the inputs have ended: whoever sent it waits for that."""
        while not state.finished:
            channel, item = self._next()
            if channel is None:
                continue
            self._releases.add(channel)
            if item is END or (item.__class__ is Frame and item.kind == FrameKind.END_OF_DATA):
                state.ended(channel.gate, channel.index)

    def _next(self) -> tuple[Any, Any]:
        if self._deferred:
            sender, item = self._deferred.popleft()
        else:
            self._releases.flush_idle()
            sender, item = self._mailbox.get()
        if sender is None:
            self._ending(item)
        return sender, item
