"""The window operator of the common case: event time, tumbling or sliding, fired by the watermark.

Time is cut into panes: a tumbling window is one pane; a sliding one is several, as many as the greatest
common divisor of size and slide goes into the size. A record is added to one pane, once. When the watermark
passes the end of a window, its panes are merged into the result. There is one dict per pane, of all keys, and
one entry in a heap per window, of all keys: neither a timer nor a namespace is touched per record.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from heapq import heappop, heappush
from typing import Any

from zmflow.api.windows.operators import FieldContents, ListContents, WindowOperator
from zmflow.api.windows.time_assigners import (
    SlidingEventTimeWindows,
    TumblingEventTimeWindows,
    WindowStagger,
    refuse_missing_timestamp,
)
from zmflow.api.windows.time_triggers import EventTimeTrigger
from zmflow.api.windows.window import MAX_TIMESTAMP, NO_TIMESTAMP, TimeWindow
from zmflow.execution.batches import Rows
from zmflow.execution.chain_code import ROWS_HELD_MAX
from zmflow.execution.operator_snapshots import RestoredOperator, SnapshotContext
from zmflow.execution.stream_operator import MAX_WATERMARK, MIN_WATERMARK, OperatorContext, Timestamps
from zmflow.execution.windows.windows_base import WindowsBase
from zmflow.state.chunks import KeyedChunk

__all__ = ["PaneWindowOperator", "can_use_panes"]

PANES, SLIDING_PANES = "panes", "panes.sliding"
"""Kinds of chunks: accumulators, the namespaces are the beginnings of panes; of sliding windows each stands
beside its arrival."""

_MISSING = object()
_NO_ROWS: Mapping[Any, Any] = {}
_FIRE, _CLEAN_UP = 0, 1
_IMMUTABLE = frozenset((int, float, str, bytes, bool, type(None)))


def can_use_panes(specification: WindowOperator) -> bool:
    """Whether ``PaneWindowOperator`` gives the results that ``AnyWindowOperator`` does."""
    assigner, contents = specification.assigner, specification.contents
    if type(specification.trigger) is not EventTimeTrigger or specification.evictor is not None:
        return False
    if type(assigner) is TumblingEventTimeWindows:
        return assigner.stagger is WindowStagger.ALIGNED
    if type(assigner) is not SlidingEventTimeWindows or not specification.panes:
        return False
    if assigner.slide > assigner.size or isinstance(contents, ListContents):
        return False
    # The first of equals, in order of arrival, cannot be told from two panes.
    return not (isinstance(contents, FieldContents) and contents.kind in ("min_by", "max_by"))


class PaneWindowOperator(WindowsBase):
    """Windows made of panes. What it answers is what ``AnyWindowOperator`` answers."""

    def __init__(self, specification: WindowOperator) -> None:
        super().__init__(specification)
        assigner = specification.assigner
        assert isinstance(assigner, (TumblingEventTimeWindows, SlidingEventTimeWindows))
        self._size = assigner.size
        self._slide = assigner.slide if isinstance(assigner, SlidingEventTimeWindows) else assigner.size
        self._offset = assigner.offset
        self._pane = math.gcd(self._size, self._slide)
        self._is_sliding = self._pane < self._size
        self._watermark_ms = MIN_WATERMARK
        self._panes: dict[int, dict[Any, Any]] = {}  # accumulators by key, by the beginning of the pane
        # Of sliding windows, when the first record of a key and pane came: panes are merged in that order.
        self._arrivals: dict[int, dict[Any, int]] = {}
        self._arrived = 0
        self._agenda: list[tuple[int, int, int]] = []  # heap of (instant, fire or clean up, start of window)
        self._scheduled: set[int] = set()

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        self._output = context.output
        if context.restored is not None:
            self._restore(context.restored)

    def snapshot_state(self, context: SnapshotContext) -> None:
        """All panes, and how far event time was: windows that have fired or are over must not fire again."""
        keys: list[Any] = []
        starts: list[int] = []
        values: list[Any] = []
        for start, pane in self._panes.items():
            keys += pane
            starts += [start] * len(pane)
            if self._is_sliding:
                arrivals = self._arrivals[start]
                values += [(arrivals[key], accumulator) for key, accumulator in pane.items()]
            else:
                values += pane.values()
        groups = self.keyed_state.key_groups
        kind = SLIDING_PANES if self._is_sliding else PANES
        context.keyed.append(
            KeyedChunk(
                PANES,
                kind,
                groups.start,
                groups.stop - 1,
                keys,
                values,
                starts,
                watermark_ms=self._watermark_ms,
            )
        )

    def state_entries(self) -> int:
        return sum(map(len, self._panes.values()))

    def _restore(self, restored: RestoredOperator) -> None:
        """Go on with the panes of a checkpoint, at the event time that it was taken at: the least of all."""
        chunks = restored.of_kind(PANES) + restored.of_kind(SLIDING_PANES)
        times = [chunk.watermark_ms for chunk in chunks if chunk.watermark_ms is not None]
        self._watermark_ms = min(times, default=MIN_WATERMARK)
        for chunk in chunks:
            for key, start, value in chunk.entries():
                arrived, accumulator = value if chunk.kind == SLIDING_PANES else (0, value)
                pane, _ = self._pane_of(start, start)
                if pane is not None:
                    pane[key] = accumulator
                    if self._is_sliding:
                        self._arrivals[start][key] = arrived
                        self._arrived = max(self._arrived, arrived + 1)

    def current_watermark(self) -> int:
        return self._watermark_ms

    # -- records ------------------------------------------------------------------------------------

    def take(self, rows: Rows, timestamps: Timestamps) -> None:
        if timestamps is None:
            if rows:
                raise refuse_missing_timestamp(self.specification.assigner)
            return
        if self._opened.accumulation.create is None:
            self._take_reducing(rows, timestamps)
        else:
            self._take_aggregating(rows, timestamps)

    # The two loops differ in one statement only: a call for it would cost as much as the rest of the loop.

    def _take_reducing(self, rows: Rows, timestamps: Timestamps) -> None:
        assert timestamps is not None
        key_of, combine = self._opened.key_of, self._opened.accumulation.combine
        pane_size, offset = self._pane, self._offset
        start = end = NO_TIMESTAMP
        seen: dict[int, tuple[dict[Any, Any] | None, list[int]]] = {}
        pane: dict[Any, Any] | None = None
        ended: list[int] = []
        for value, timestamp in zip(rows, timestamps, strict=True):
            if not start <= timestamp < end:
                start = timestamp - (timestamp - offset) % pane_size
                end = start + pane_size
                found = seen.get(start)
                if found is None:
                    found = seen[start] = self._pane_of(timestamp, start)
                pane, ended = found
            if pane is None:
                self._late(value, timestamp)
                continue
            key = key_of(value)
            total = pane.get(key, _MISSING)
            if total is _MISSING:
                pane[key] = value
                if self._is_sliding:
                    self._note_arrival(start, key)
            else:
                pane[key] = combine(total, value)
            if ended:
                self._fire_late(ended, key)

    def _take_aggregating(self, rows: Rows, timestamps: Timestamps) -> None:
        assert timestamps is not None
        key_of, add = self._opened.key_of, self._opened.accumulation.add
        create = self._opened.accumulation.create
        assert create is not None
        pane_size, offset = self._pane, self._offset
        start = end = NO_TIMESTAMP
        seen: dict[int, tuple[dict[Any, Any] | None, list[int]]] = {}
        pane: dict[Any, Any] | None = None
        ended: list[int] = []
        for value, timestamp in zip(rows, timestamps, strict=True):
            if not start <= timestamp < end:
                start = timestamp - (timestamp - offset) % pane_size
                end = start + pane_size
                found = seen.get(start)
                if found is None:
                    found = seen[start] = self._pane_of(timestamp, start)
                pane, ended = found
            if pane is None:
                self._late(value, timestamp)
                continue
            key = key_of(value)
            accumulator = pane.get(key, _MISSING)
            if accumulator is _MISSING:
                pane[key] = add(value, create())
                if self._is_sliding:
                    self._note_arrival(start, key)
            else:
                pane[key] = add(value, accumulator)
            if ended:
                self._fire_late(ended, key)

    def _note_arrival(self, start: int, key: Any) -> None:
        self._arrivals[start][key] = self._arrived
        self._arrived += 1

    def _pane_of(self, timestamp: int, start: int) -> tuple[dict[Any, Any] | None, list[int]]:
        """The pane that begins at ``start``, None where all its windows are over; and the beginnings of those
        of its windows that have ended but are kept for late records."""
        if timestamp == NO_TIMESTAMP:
            raise refuse_missing_timestamp(self.specification.assigner)
        watermark_ms = self._watermark_ms
        alive = [
            window
            for window in range(
                start - (start - self._offset) % self._slide, start - self._size, -self._slide
            )
            if min(window + self._size - 1 + self._lateness_ms, MAX_TIMESTAMP) > watermark_ms
        ]
        if not alive:
            return None, []
        pane = self._panes.get(start)
        if pane is None:
            pane = self._panes[start] = {}
            if self._is_sliding:
                self._arrivals[start] = {}
            for window in alive:
                self._schedule(window)
        return pane, [window for window in alive if window + self._size - 1 <= watermark_ms]

    def _schedule(self, window: int) -> None:
        if window in self._scheduled:
            return
        self._scheduled.add(window)
        last_ms = window + self._size - 1
        if last_ms > self._watermark_ms:
            heappush(self._agenda, (last_ms, _FIRE, window))
        if self._lateness_ms:
            heappush(self._agenda, (min(last_ms + self._lateness_ms, MAX_TIMESTAMP), _CLEAN_UP, window))

    # -- time -----------------------------------------------------------------------------------------

    def advance_watermark(self, watermark_ms: int) -> None:
        if self._batch_mode and watermark_ms != MAX_WATERMARK:
            return  # final results only: nothing is late, and each window fires once
        self._watermark_ms = watermark_ms
        agenda = self._agenda
        while agenda and agenda[0][0] <= watermark_ms:
            _, action, window = heappop(agenda)
            if action == _FIRE:
                self._fire(window)
            if action == _CLEAN_UP or not self._lateness_ms:
                self._clean_up(window)
        self._collector.flush()

    def _fire(self, window: int) -> None:
        totals = self._totals(window)
        last_ms = window + self._size - 1
        call = self._opened.call
        if call is None:
            self._emit(totals, last_ms)
            return
        opened = self._opened
        elements, collect = opened.accumulation.elements, self._collector.collect
        fired = TimeWindow(window, window + self._size)
        for key, total in totals.items():
            if opened.uses_state:
                opened.backend.set_current_key(key)
            results = call(key, fired, elements(total))
            if results is not None:
                collect(results, last_ms)

    def _emit(self, totals: Mapping[Any, Any], last_ms: int) -> None:
        self._collector.flush()
        result = self._opened.accumulation.result
        rows = [result(total) for total in totals.values()]
        for first in range(0, len(rows), ROWS_HELD_MAX):
            part = rows[first : first + ROWS_HELD_MAX]
            self._output.emit(part, [last_ms] * len(part))

    def _fire_late(self, windows: list[int], key: Any) -> None:
        """A record came for windows that have ended: their results go out once more."""
        opened = self._opened
        for window in windows:
            parts = [
                (self._arrivals[start][key] if self._is_sliding else 0, pane[key])
                for start, pane in self._panes_of(window)
                if key in pane
            ]
            elements = opened.accumulation.elements(self._merged(parts))
            call = opened.call
            if opened.uses_state:
                opened.backend.set_current_key(key)
            fired = TimeWindow(window, window + self._size)
            results = elements if call is None else call(key, fired, elements)
            if results is not None:
                self._collector.collect(results, fired.max_timestamp())

    def _clean_up(self, window: int) -> None:
        opened = self._opened
        if opened.clears:
            over = TimeWindow(window, window + self._size)
            for key in dict.fromkeys(key for _, pane in self._panes_of(window) for key in pane):
                opened.backend.set_current_key(key)
                opened.clear(over)
        self._scheduled.discard(window)
        # Windows end in order: panes before the next one's beginning are in no window any more.
        for start in range(window, window + self._slide, self._pane):
            self._panes.pop(start, None)
            self._arrivals.pop(start, None)

    # -- panes ----------------------------------------------------------------------------------------

    def _panes_of(self, window: int) -> Iterator[tuple[int, dict[Any, Any]]]:
        """The panes of a window that hold something, with their beginnings."""
        for start in range(window, window + self._size, self._pane):
            pane = self._panes.get(start)
            if pane:
                yield start, pane

    def _totals(self, window: int) -> Mapping[Any, Any]:
        """The accumulators of all keys of a window."""
        panes = list(self._panes_of(window))
        if len(panes) <= 1:
            return panes[0][1] if panes else _NO_ROWS
        parts: dict[Any, list[tuple[int, Any]]] = {}
        for start, pane in panes:
            arrivals = self._arrivals[start]
            for key, accumulator in pane.items():
                parts.setdefault(key, []).append((arrivals[key], accumulator))
        return {key: self._merged(of_key) for key, of_key in parts.items()}

    def _merged(self, parts: list[tuple[int, Any]]) -> Any:
        """One accumulator of several panes, in the order in which the panes got their first records."""
        if len(parts) == 1:
            return parts[0][1]
        parts.sort(key=_arrival)
        merge = self._opened.accumulation.merge
        total = _own_copy(parts[0][1])
        for _, accumulator in parts[1:]:
            total = merge(total, _own_copy(accumulator))
        return total


def _arrival(part: tuple[int, Any]) -> int:
    return part[0]


def _own_copy(accumulator: Any) -> Any:
    """An accumulator that ``merge`` may change: panes are parts of other windows, too."""
    kind = type(accumulator)
    if kind in _IMMUTABLE or (kind is tuple and all(type(item) in _IMMUTABLE for item in accumulator)):
        return accumulator
    return copy.deepcopy(accumulator)
