"""How a task takes part in a checkpoint that must not wait: it looks ahead in its mailbox.

The order comes over the control plane. Until the task can be snapshotted its outputs lend it room, so that it
comes to the end of what it is doing, wherever it waits. Then its snapshot is taken, its barrier goes out
behind what it has sent, all of that leaves without waiting for credit, and what is in the mailbox before the
barriers of others is recorded. A task does not go on while it owes room: at most one slice of a batch is sent
beyond what its channels hold, however often it happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from zmflow.execution.barrier_alignment import Alignment
from zmflow.execution.batches import Batch
from zmflow.protocol.checkpoints import UnalignCheckpoint
from zmflow.runtime.channels import InputChannel, Mailbox, Releases
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints
from zmflow.runtime.task_outputs import TaskOutputs

__all__ = ["Overtaking"]

ROOM = object()
"""A control item: nothing is owed to a channel any more."""


class Overtaking:
    """The unaligned checkpoints of one task. On its thread, all but ``order``.

    Args:
        mailbox: the task's.
        deferred: what the task takes before what is in the mailbox.
        checkpoints: of the task.
        releases: batches that the task is done with.
        aligned: takes the snapshot that an alignment asks for.
        control: serves an item that no channel sent.
        has_input: whether there is anything to look ahead to. A source serves its mailbox in order: splits
            that were assigned before the order belong to its snapshot.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        deferred: deque[tuple[Any, Any]],
        checkpoints: TaskCheckpoints,
        releases: Releases,
        aligned: Callable[[Alignment], None],
        control: Callable[[Any], None],
        *,
        has_input: bool,
    ) -> None:
        self._mailbox = mailbox
        self._deferred = deferred
        self._checkpoints = checkpoints
        self._releases = releases
        self._aligned = aligned
        self._control = control
        self._has_input = has_input
        self._outputs: TaskOutputs | None = None
        self._ordered = 0  # written by ``order`` only
        self._served = 0  # written by the task only

    def connect(self, outputs: TaskOutputs) -> None:
        """What the task sends into; before it starts."""
        self._outputs = outputs

    def order(self, order: UnalignCheckpoint) -> None:
        """From another thread: this checkpoint is not to wait any longer."""
        self._ordered += 1
        if self._outputs is not None:
            self._outputs.lend()
        self._mailbox.put((None, order))

    @property
    def active(self) -> bool:
        """Whether the mailbox has to be looked at ahead of its turn."""
        return (self._has_input and self._ordered != self._served) or self._checkpoints.overtakes

    def look_ahead(self, channel: InputChannel | None = None, rest: Batch = ()) -> bool:
        """Take everything out of the mailbox, and follow the orders in it.

        Args:
            channel: whose batch the task is about.
            rest: what it has not processed of that.

        Returns:
            Whether there was an order.
        """
        orders = []
        if self._ordered != self._served:  # an operator that waited may have put it aside
            orders = [item for _, item in self._deferred if item.__class__ is UnalignCheckpoint]
            for order in orders:
                self._deferred.remove((None, order))
        mailbox = self._mailbox
        while not mailbox.empty():
            sender, item = mailbox.get()
            if item.__class__ is UnalignCheckpoint:
                orders.append(item)
            else:
                self._keep(sender, item)
        for order in orders:
            self.follow(order, channel, rest)
        return bool(orders)

    def took(self, sender: InputChannel | None, item: Any) -> tuple[Any, Any]:
        """The task took something out of its mailbox while this was active: what it is to make of it."""
        if item.__class__ is UnalignCheckpoint and self._has_input:
            self.follow(item)
            return None, None
        if sender is not None and self._is_passed(sender, item):
            return None, None
        return sender, item

    def follow(self, order: UnalignCheckpoint, channel: InputChannel | None = None, rest: Batch = ()) -> None:
        """Take the snapshot, if it was not taken, and let its barrier overtake what is on its way."""
        self._served += 1
        outputs = self._outputs
        assert outputs is not None
        try:
            alignment = self._checkpoints.unaligned(order.barrier)
            self._aligned(alignment)
            if alignment.take is not None and self._checkpoints.overtakes:
                if channel is not None and len(rest):
                    self._checkpoints.overtook(channel, rest)
                for _ in range(len(self._deferred)):
                    self._keep(*self._deferred.popleft())
            outputs.push(order.barrier.checkpoint_id)
        finally:
            outputs.end_lending()

    def before_slice(self, channel: InputChannel, batch: Batch, begin: int) -> None:
        """Before a slice of a batch: follow orders, and wait while room is owed.

        Args:
            channel: the one of the batch.
            begin: where in it the slice begins.
        """
        if not (self.active or self.owes):
            return
        rest = batch[begin:] if begin else batch
        if self.active:
            self.look_ahead(channel, rest)
        while self.owes:
            sender, item = self._mailbox.get()
            if item.__class__ is UnalignCheckpoint:
                self.follow(item, channel, rest)
            elif sender is None:
                self._control(item)
            else:
                self._keep(sender, item)

    @property
    def owes(self) -> bool:
        """Whether the task must not send more than it did; its mailbox is told when it may."""
        outputs = self._outputs
        return outputs is not None and outputs.has_lent and outputs.owes(self._tell_room)

    def _tell_room(self) -> None:
        self._mailbox.put((None, ROOM))

    def serve(self) -> None:
        """While the task waits for its last frames to leave: follow orders."""
        if self._ordered == self._served:
            return
        if self._has_input:
            self.look_ahead()
            return
        for _ in range(self._mailbox.qsize()):
            sender, item = self._mailbox.get()
            if item.__class__ is UnalignCheckpoint:
                self.follow(item)
            else:
                self._deferred.append((sender, item))

    def _keep(self, sender: InputChannel | None, item: Any) -> None:
        if sender is None or not self._is_passed(sender, item):
            self._deferred.append((sender, item))

    def _is_passed(self, channel: InputChannel, item: Any) -> bool:
        """Whether this was a barrier that was only waited for: the task has nothing to do with it."""
        if not self._checkpoints.overtook(channel, item):
            return False
        self._releases.add(channel)
        return True
