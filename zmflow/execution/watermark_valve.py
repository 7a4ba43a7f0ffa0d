"""Event time of several inputs: how watermarks and statuses of channels become those of a task.

A ``WatermarkValve`` merges the channels of one gate, ``GateValves`` the gates of a task. The rules are those
of Flink's StatusWatermarkValve and CombinedWatermarkStatus, with one status more. There, an input that has
finished stays in the comparison with the highest watermark there is; as soon as the others are idle, event
time ends, though they may go on (FLINK-38477). Here a finished input is out of it, until all are.

Both answer each event with what follows from it, in the order in which to pass it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK
from zmflow.execution.time_events import StreamStatus, TimeEvent, Watermark

__all__ = ["GateValves", "WatermarkValve"]

_STALE_SHARE = 2
"""The heap of minima is made anew when it holds so many entries per channel: a channel that stands still
keeps what the others have outgrown from leaving at the top, and clearing away costs less than that."""


class _Channel:
    __slots__ = ("active", "aligned", "finished", "watermark_ms")

    def __init__(self) -> None:
        self.watermark_ms = MIN_WATERMARK
        self.active = True
        self.aligned = True  # counts for the minimum: it is active, and not behind what was already said
        self.finished = False


class WatermarkValve:
    """The watermark of several channels: the least of those that are active and not behind.

    A channel that was idle counts again when it has caught up with the watermark that was given out without
    it. ``MAX_WATERMARK`` finishes a channel.

    >>> valve = WatermarkValve(2)
    >>> valve.watermark(0, 7), valve.watermark(1, 5)
    ([], [Watermark(timestamp_ms=5)])
    >>> valve.finished(1)
    [Watermark(timestamp_ms=7)]
    >>> valve.status(0, idle=True)
    [StreamStatus(idle=True)]
    """

    def __init__(self, channels: int) -> None:
        self.watermark_ms = MIN_WATERMARK
        self.idle = False
        self._channels = [_Channel() for _ in range(channels)]
        self._active = self._left = channels
        self._minima: list[tuple[int, int]] = [(MIN_WATERMARK, index) for index in range(channels)]

    @property
    def is_finished(self) -> bool:
        """Whether every channel has finished."""
        return self._left == 0

    def watermark(self, channel: int, watermark_ms: int) -> list[TimeEvent]:
        """A channel sent a watermark."""
        if watermark_ms >= MAX_WATERMARK:
            return self.finished(channel)
        state = self._channels[channel]
        if not state.active or watermark_ms <= state.watermark_ms:
            return []
        state.watermark_ms = watermark_ms
        if state.aligned or watermark_ms >= self.watermark_ms:
            self._align(channel)
        return self._advanced_to(self._minimum())

    def status(self, channel: int, *, idle: bool) -> list[TimeEvent]:
        """A channel went idle, or is active again."""
        state = self._channels[channel]
        if state.finished or state.active is not idle:
            return []
        if idle:
            return self._leaves(channel)
        state.active = True
        self._active += 1
        if state.watermark_ms >= self.watermark_ms:
            self._align(channel)
        return self._activated()

    def finished(self, channel: int) -> list[TimeEvent]:
        """A channel will say nothing any more."""
        state = self._channels[channel]
        if state.finished:
            return []
        state.finished = True
        self._left -= 1
        if not self._left:
            return [*self._activated(), *self._advanced_to(MAX_WATERMARK)]
        return self._leaves(channel) if state.active else []

    def _leaves(self, channel: int) -> list[TimeEvent]:
        """An active channel went idle or has finished, and others have not finished."""
        state = self._channels[channel]
        state.active = state.aligned = False
        self._active -= 1
        held = state.watermark_ms == self.watermark_ms
        if self._active:
            return self._advanced_to(self._minimum()) if held else []
        # Nobody is left to wait for: what the idle ones had reached may be said.
        events = self._advanced_to(self._idle_maximum()) if held else []
        self.idle = True
        events.append(StreamStatus(idle=True))
        return events

    def _activated(self) -> list[TimeEvent]:
        if not self.idle:
            return []
        self.idle = False
        return [StreamStatus(idle=False)]

    def _advanced_to(self, watermark_ms: int | None) -> list[TimeEvent]:
        if watermark_ms is None or watermark_ms <= self.watermark_ms:
            return []
        self.watermark_ms = watermark_ms
        return [Watermark(watermark_ms)]

    def _idle_maximum(self) -> int:
        return max(state.watermark_ms for state in self._channels if not state.finished)

    def _align(self, channel: int) -> None:
        state = self._channels[channel]
        state.aligned = True
        if len(self._minima) >= _STALE_SHARE * len(self._channels):
            self._minima = [(s.watermark_ms, i) for i, s in enumerate(self._channels) if s.aligned]
            heapify(self._minima)
        else:
            heappush(self._minima, (state.watermark_ms, channel))

    def _minimum(self) -> int | None:
        """The least watermark of the aligned channels; None when there are none."""
        minima, channels = self._minima, self._channels
        while minima:
            watermark_ms, channel = minima[0]
            state = channels[channel]
            if state.aligned and state.watermark_ms == watermark_ms:
                return watermark_ms
            heappop(minima)
        return None


class GateValves:
    """The watermark of a task: the least of its gates that are active.

    >>> valves = GateValves([1, 1])
    >>> valves.watermark(0, 0, 7), valves.watermark(1, 0, 5)
    ([], [Watermark(timestamp_ms=5)])
    >>> valves.status(1, 0, idle=True)
    [Watermark(timestamp_ms=7)]
    """

    def __init__(self, gate_channels: Sequence[int]) -> None:
        self.watermark_ms = MIN_WATERMARK
        self.idle = False
        self._valves = [WatermarkValve(channels) for channels in gate_channels]

    def watermark(self, gate: int, channel: int, watermark_ms: int) -> list[TimeEvent]:
        """A channel sent a watermark."""
        return self._combined(self._valves[gate].watermark(channel, watermark_ms))

    def status(self, gate: int, channel: int, *, idle: bool) -> list[TimeEvent]:
        """A channel went idle, or is active again."""
        return self._combined(self._valves[gate].status(channel, idle=idle))

    def finished(self, gate: int, channel: int) -> list[TimeEvent]:
        """A channel has ended."""
        return self._combined(self._valves[gate].finished(channel))

    def _combined(self, events: list[TimeEvent]) -> list[TimeEvent]:
        """What the events of one gate mean for the task."""
        if len(self._valves) == 1:
            self.watermark_ms, self.idle = self._valves[0].watermark_ms, self._valves[0].idle
            return events
        if not events:
            return events
        open_gates = [valve for valve in self._valves if not valve.is_finished]
        active = [valve.watermark_ms for valve in open_gates if not valve.idle]
        idle = bool(open_gates) and not active
        passed: list[TimeEvent] = []
        if self.idle and not idle:
            passed.append(StreamStatus(idle=False))
        reached_ms = min(active) if active else (self.watermark_ms if idle else MAX_WATERMARK)
        if reached_ms > self.watermark_ms:
            self.watermark_ms = reached_ms
            passed.append(Watermark(reached_ms))
        if idle and not self.idle:
            passed.append(StreamStatus(idle=True))
        self.idle = idle
        return passed
