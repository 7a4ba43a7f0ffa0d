"""A channel between two simulated tasks: first in, first out; and what a task sends into several."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from zmflow.config import Settings
from zmflow.execution.batches import Batch
from zmflow.execution.output import ResultWriter
from zmflow.execution.time_events import TimeEvent
from zmflow.protocol.checkpoints import CheckpointBarrier, SubtaskRestore
from zmflow.runtime.channels import END
from zmflow.runtime.checkpoints.in_flight import read_in_flight
from zmflow.testing.simulation.world import Violation

__all__ = ["END", "FlowChannel", "FlowOutputs"]

ROW_BYTES = 100
"""Size of a row for those who fill frames: with frames of ``FRAME_BYTES`` two or three rows fill one."""

ITEMS_MAX = 6
"""Items under way from which the producer waits."""


class FlowChannel:
    """Both ends of it. An ``OutputChannel`` for the writers of the engine.

    ``taken`` holds what the consumer has put aside and not processed: that takes up room as well. ``seen`` of
    the ``items`` were looked at by a consumer whose snapshot overtakes them.
    """

    __slots__ = ("ended", "gate", "index", "items", "name", "seen", "taken")

    def __init__(self, name: str, index: int = 0) -> None:
        self.name = name
        self.gate, self.index = 0, index
        self.items: deque[Any] = deque()
        self.taken = 0
        self.seen = 0
        self.ended = False

    def __repr__(self) -> str:
        return self.name

    @property
    def full(self) -> bool:
        """Whether the producer has to wait."""
        return len(self.items) + self.taken >= ITEMS_MAX

    def send(self, batch: Batch) -> int:
        """A batch is on its way."""
        self._put(batch)
        return ROW_BYTES * len(batch)

    def send_event(self, event: TimeEvent | CheckpointBarrier) -> None:
        """A barrier is on its way."""
        self._put(event)

    def end(self) -> None:
        """Nothing more will come."""
        self._put(END)
        self.ended = True

    def _put(self, item: object) -> None:
        if self.ended:
            # The engine would wait here for ever: who has ended a channel has taken all its permits back.
            raise Violation(f"{item!r} is sent into the channel {self.name}, which has ended")
        self.items.append(item)


class FlowOutputs:
    """The outputs of a task, as ``TaskOutputs`` has them.

    Args:
        writers: one for each edge, by its id.
        channels: all of theirs.
    """

    def __init__(self, writers: Mapping[str, ResultWriter], channels: Sequence[FlowChannel]) -> None:
        self._by_edge = writers
        self._writers = list(writers.values())
        self._channels = channels
        self._finished = False

    @property
    def full(self) -> bool:
        """Whether the task has to wait."""
        return any(channel.full for channel in self._channels)

    @property
    def pending(self) -> bool:
        """Whether rows wait for a flush."""
        return any(writer.pending for writer in self._writers)

    def emit(self, rows: Sequence[Any]) -> None:
        """Rows leave the chain."""
        for writer in self._writers:
            writer.emit(rows)

    def restore(self, restore: SubtaskRestore, settings: Settings) -> None:
        """Send again what was on its way."""
        for edge in restore.in_flight:
            for batch in read_in_flight(edge, restore.location, settings):
                self._by_edge[edge.edge_id].emit(batch)

    def flush(self) -> None:
        """What waits leaves."""
        for writer in self._writers:
            writer.flush()

    def emit_barrier(self, barrier: CheckpointBarrier) -> None:
        """Behind what was emitted and before everything else; after the end there is nobody to tell."""
        if not self._finished:
            for writer in self._writers:
                writer.emit_event(barrier)

    def finish(self) -> None:
        """Everything leaves, and the channels end."""
        self._finished = True
        for writer in self._writers:
            writer.finish()
        for channel in self._channels:
            channel.end()
