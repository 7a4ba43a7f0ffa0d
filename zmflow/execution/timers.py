"""``TimerService``: the event-time and processing-time timers of one keyed operator.

A timer is a key, a namespace and a time; setting one twice sets it once. Timers fire in the order of their
times, and those of one time in the order in which they were set, so that a run can be repeated. There is no
clock here: who owns the service says how far time is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Any, TypeAlias

from zmflow.errors import StateError
from zmflow.execution.stream_operator import MIN_WATERMARK
from zmflow.state.backend import NO_KEY_GROUP, KeyedStateBackend
from zmflow.state.chunks import KeyedChunk
from zmflow.state.keys import key_group

__all__ = ["EVENT_TIMERS", "PROCESSING_TIMERS", "FireTimer", "KeyGroupTimers", "Timer", "TimerService"]

EVENT_TIMERS, PROCESSING_TIMERS = "timers.event", "timers.processing"
"""Kinds of chunks: timers are values, keys and namespaces are theirs."""

FireTimer: TypeAlias = Callable[[int, Any, Any], object]
"""Called with the time, the key and the namespace of a timer; the key is the backend's current one."""

Timer: TypeAlias = tuple[int, Any, Any]
"""Time in milliseconds, key, namespace."""

KeyGroupTimers: TypeAlias = tuple[list[Timer], list[Timer]]
"""The timers of one key group for a snapshot: those of event time, those of processing time."""

EMPTY_TIMES_MIN = 64
"""Times without timers that are left in the heap before they are looked for at all: below it, one pass over
the heap costs more than it saves."""


class TimerService:
    """Timers of the backend's current key.

    Args:
        backend: whose current key timers belong to, and are set for when they fire.
        processing_time: the clock, milliseconds since 1970.
    """

    def __init__(self, backend: KeyedStateBackend, processing_time: Callable[[], int]) -> None:
        self._backend = backend
        self._processing_time = processing_time
        self._watermark_ms = MIN_WATERMARK
        self._event_time = _TimerQueue(backend)
        self._clock = _TimerQueue(backend)

    # -- for functions ------------------------------------------------------------------------------

    def current_processing_time(self) -> int:
        """The clock."""
        return self._processing_time()

    def current_watermark(self) -> int:
        """How far event time is; -2**63 before the first watermark."""
        return self._watermark_ms

    def register_event_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Fire when event time has reached this; with the next watermark where it has already."""
        self._event_time.add(timestamp, namespace)

    def register_processing_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Fire when the clock shows this; as soon as possible where it has already."""
        self._clock.add(timestamp, namespace)

    def delete_event_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Take a timer back; nothing happens where there is none."""
        self._event_time.remove(timestamp, namespace)

    def delete_processing_time_timer(self, timestamp: int, namespace: Any = None) -> None:
        """Take a timer back; nothing happens where there is none."""
        self._clock.remove(timestamp, namespace)

    # -- for the operator ---------------------------------------------------------------------------

    def advance_watermark(self, watermark_ms: int, fire: FireTimer) -> None:
        """Event time has reached this, callbacks see. What they set for this time or before fires, too."""
        self._watermark_ms = watermark_ms
        self._event_time.fire_until(watermark_ms, fire)

    def advance_processing_time(self, now_ms: int, fire: FireTimer) -> None:
        """The clock shows this: fire what is due, and what callbacks set for this time or before."""
        self._clock.fire_until(now_ms, fire)

    def next_processing_time_ms(self) -> int | None:
        """The time of the next processing-time timer; None where there is none."""
        return self._clock.next_ms()

    def event_time_timers(self) -> list[Timer]:
        """All event-time timers, in the order in which they will fire."""
        return self._event_time.timers()

    def processing_time_timers(self) -> list[Timer]:
        """All processing-time timers, in the order in which they will fire."""
        return self._clock.timers()

    # -- snapshots ----------------------------------------------------------------------------------

    def snapshot(self) -> dict[int, KeyGroupTimers]:
        """All timers by key group, groups without timers left out: one pass over the timers.

        The watermark is no part of it: after a restart event time begins anew, as in Flink.
        """
        groups: dict[int, KeyGroupTimers] = {}
        for number, queue in enumerate((self._event_time, self._clock)):
            for group, timer in queue.timers_with_group():
                groups.setdefault(group, ([], []))[number].append(timer)
        return groups

    def __len__(self) -> int:
        return len(self._event_time) + len(self._clock)

    def chunks(self) -> list[KeyedChunk]:
        """All timers, as they are written to a checkpoint."""
        chunks = []
        for group, (event_time, clock) in self.snapshot().items():
            for kind, timers in ((EVENT_TIMERS, event_time), (PROCESSING_TIMERS, clock)):
                if timers:
                    times, keys, namespaces = map(list, zip(*timers, strict=True))
                    chunks.append(KeyedChunk(kind, kind, group, group, keys, times, namespaces))
        return chunks

    def restore_chunks(self, chunks: Iterable[KeyedChunk]) -> None:
        """Set the timers of a checkpoint, beside those there are."""
        queues = {EVENT_TIMERS: self._event_time, PROCESSING_TIMERS: self._clock}
        max_parallelism = self._backend.max_parallelism
        for chunk in chunks:
            queue = queues.get(chunk.kind)
            if queue is None:
                continue
            one_group = chunk.first_group if chunk.first_group == chunk.last_group else None
            for key, namespace, timestamp in chunk.entries():
                group = key_group(key, max_parallelism) if one_group is None else one_group
                queue.set(timestamp, (key, namespace), group)

    def restore(self, group: int, timers: KeyGroupTimers) -> None:
        """Set the timers of a key group in place of those it has. Those that are overdue fire when time next
        advances."""
        for queue, of_group in zip((self._event_time, self._clock), timers, strict=True):
            queue.replace(group, of_group)


class _TimerQueue:
    """The timers of one time domain.

    Timers of one time are a dict, with their key groups, for its order and so that a timer is found at once;
    the heap has each time once. So ten thousand windows that end together cost one entry of the heap. A time
    whose timers were all removed stays in the heap until it is met there, or until half of the heap is such
    times: removing costs a constant amount on average.
    """

    def __init__(self, backend: KeyedStateBackend) -> None:
        self._backend = backend
        self._by_time: dict[int, dict[tuple[Any, Any], int]] = {}
        self._heap: list[int] = []
        self._empty_times = 0

    def add(self, timestamp: int, namespace: Any) -> None:
        backend = self._backend
        if timestamp.__class__ is not int:
            timestamp = _whole(timestamp)
        group = backend.current_key_group
        if group == NO_KEY_GROUP:
            raise StateError(
                "A timer was set where no key is current.",
                hint="Set it while a record or a timer is processed; open() and close() have no key.",
            )
        self.set(timestamp, (backend.current_key, namespace), group)

    def set(self, timestamp: int, timer: tuple[Any, Any], group: int) -> None:
        timers = self._by_time.get(timestamp)
        if timers is None:
            self._by_time[timestamp] = {timer: group}
            heappush(self._heap, timestamp)
            return
        if not timers:
            self._empty_times -= 1
        timers.setdefault(timer, group)

    def remove(self, timestamp: int, namespace: Any) -> None:
        timers = self._by_time.get(timestamp)
        if timers and timers.pop((self._backend.current_key, namespace), None) is not None and not timers:
            self._emptied()

    def _emptied(self) -> None:
        """One more time has no timers: drop such times when there are too many."""
        self._empty_times += 1
        if self._empty_times > max(EMPTY_TIMES_MIN, len(self._heap) // 2):
            self._by_time = {timestamp: timers for timestamp, timers in self._by_time.items() if timers}
            self._heap[:] = self._by_time
            heapify(self._heap)
            self._empty_times = 0

    def __len__(self) -> int:
        return sum(map(len, self._by_time.values()))

    def next_ms(self) -> int | None:
        while self._heap:
            timestamp = self._heap[0]
            if self._by_time[timestamp]:
                return timestamp
            self._drop_first()
        return None

    def _drop_first(self) -> None:
        """The first time has no timers any more."""
        del self._by_time[heappop(self._heap)]
        self._empty_times -= 1

    def fire_until(self, limit_ms: int, fire: FireTimer) -> None:
        while (timestamp := self.next_ms()) is not None and timestamp <= limit_ms:
            self._fire_at(timestamp, fire)

    def _fire_at(self, timestamp: int, fire: FireTimer) -> None:
        """Fire the timers of the first time, until a callback sets one for an earlier time."""
        set_current_key = self._backend.set_current_key
        heap = self._heap
        timers = self._by_time[timestamp]
        for timer in list(timers):
            if timers.pop(timer, None) is None:
                continue  # a callback took it back
            if not timers:
                self._empty_times += 1
            key, namespace = timer
            set_current_key(key)
            fire(timestamp, key, namespace)
            if not heap or heap[0] != timestamp:
                return

    def timers_with_group(self) -> Iterable[tuple[int, Timer]]:
        for timestamp in sorted(self._by_time):
            for (key, namespace), group in self._by_time[timestamp].items():
                yield group, (timestamp, key, namespace)

    def timers(self) -> list[Timer]:
        return [timer for _group, timer in self.timers_with_group()]

    def replace(self, group: int, timers: list[Timer]) -> None:
        for timestamp, of_time in list(self._by_time.items()):
            kept = {timer: its_group for timer, its_group in of_time.items() if its_group != group}
            if len(kept) < len(of_time):
                self._by_time[timestamp] = kept
                if not kept:
                    self._emptied()
        for timestamp, key, namespace in timers:
            self.set(timestamp, (key, namespace), group)


def _whole(timestamp: Any) -> int:
    try:
        return int(operator.index(timestamp))
    except TypeError:
        raise StateError(
            f"The time of a timer is {timestamp!r}.", hint="Give whole milliseconds since 1970."
        ) from None
