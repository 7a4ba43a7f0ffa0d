"""``InputLoop``: what a task with inputs does until all of its channels have ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zmflow.execution.barrier_alignment import Alignment
from zmflow.execution.batches import Batch
from zmflow.execution.chain import Chain
from zmflow.execution.input import InputState
from zmflow.execution.stages import BatchConsumer
from zmflow.execution.time_events import TIME_EVENTS, TimeEvent, Watermark, decode_time_event
from zmflow.execution.watermark_valve import GateValves
from zmflow.protocol.checkpoints import CheckpointBarrier, decode_barrier
from zmflow.protocol.frames import Frame, FrameKind
from zmflow.runtime.channels import END, InputChannel, Releases
from zmflow.runtime.checkpoints.task_checkpoints import TaskCheckpoints

__all__ = ["InputLoop"]

EVENT_FRAMES = frozenset((FrameKind.WATERMARK, FrameKind.STREAM_STATUS))


class InputLoop:
    """Takes what comes on the channels of a task to where it belongs. On the task's thread.

    Args:
        gate_channels: how many channels each gate has.
        checkpoints: of the task.
        releases: batches that the task is done with.
        next_item: waits for the next sender and item; no sender: an item that no channel sent.
        control: serves such an item.
        aligned: does what an alignment asks for.
        process: runs the batch of a channel through a consumer of the chain.
    """

    def __init__(
        self,
        gate_channels: Sequence[int],
        checkpoints: TaskCheckpoints,
        releases: Releases,
        *,
        next_item: Callable[[], tuple[Any, Any]],
        control: Callable[[Any], None],
        aligned: Callable[[Alignment], None],
        process: Callable[[Batch, BatchConsumer, InputChannel], None],
    ) -> None:
        self.state = InputState(gate_channels)
        self.bytes_in = 0
        self._gate_channels = gate_channels
        self._valves = GateValves(gate_channels)
        self._checkpoints = checkpoints
        self._releases = releases
        self._next_item = next_item
        self._control = control
        self._aligned = aligned
        self._process = process

    def run(self, chain: Chain) -> None:
        """Until the input is over; the last event is that event time is at its end."""
        consumers = (chain.process, chain.process_second)
        blocked = self._checkpoints.blocked
        while not self.state.finished:
            channel, item = self._next_item()
            if channel is None:
                self._control(item)
                continue
            if blocked and channel in blocked:
                self._checkpoints.hold(channel, item)
                self._releases.flush_idle()
                continue
            kind = item.kind if item.__class__ is Frame else None
            if item is END or kind == FrameKind.END_OF_DATA:
                self._ended(chain, channel)
            elif item.__class__ is CheckpointBarrier or kind == FrameKind.BARRIER:
                barrier = decode_barrier(item.payload) if kind is not None else item
                self._releases.add(channel)
                self._aligned(self._checkpoints.barrier(channel, barrier))
            elif item.__class__ in TIME_EVENTS or kind in EVENT_FRAMES:
                self._take_event(chain, channel, decode_time_event(item) if kind is not None else item)
                self._releases.add(channel)
            else:
                batch = channel.decode(item)
                if kind is not None:
                    self.bytes_in += len(item.payload)
                self._process(batch, consumers[channel.gate], channel)
                self._releases.add(channel)

    def end_event_time(self, chain: Chain) -> None:
        """Let event time go to its end although channels are open."""
        for gate, channels in enumerate(self._gate_channels):
            for index in range(channels):
                _take_events(chain, self._valves.finished(gate, index))

    def _ended(self, chain: Chain, channel: InputChannel) -> None:
        self._releases.add(channel)
        self.state.ended(channel.gate, channel.index)
        _take_events(chain, self._valves.finished(channel.gate, channel.index))
        for alignment in self._checkpoints.ended(channel):
            self._aligned(alignment)

    def _take_event(self, chain: Chain, channel: InputChannel, event: TimeEvent) -> None:
        """What an event of one channel means for the whole input goes through the chain."""
        if isinstance(event, Watermark):
            merged = self._valves.watermark(channel.gate, channel.index, event.timestamp_ms)
        else:
            merged = self._valves.status(channel.gate, channel.index, idle=event.idle)
        _take_events(chain, merged)


def _take_events(chain: Chain, events: Sequence[TimeEvent]) -> None:
    for event in events:
        chain.event(event)
