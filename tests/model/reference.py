"""What windows must answer, written from the rules alone: slow, plain, and knowing nothing of the operators.

A ``Plan`` says which windows, trigger, evictor, function and lateness. A ``Reference`` takes records,
watermarks and the clock, keeps every record of every window in a list, and finds out what is due by looking
at everything. Records are ``(key, number, serial)``; serial numbers are unique.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

END_OF_TIME = 2**63 - 1

Record = tuple[str, int, int]


@dataclass(frozen=True)
class Plan:
    """One way to use windows.

    ``windows`` is tumbling, sliding, session, dynamic, global, count or count_sliding; ``trigger`` is
    default, event, clock, count, continuous_event, continuous_clock, delta, never or timeout, the last about
    ``inner``; ``function`` is reduce, aggregate, apply, process, aggregate_process, sum, max_by.
    """

    windows: str
    event_time: bool = True
    size: int = 10
    slide: int = 10
    offset: int = 0
    trigger: str = "default"
    inner: str = "default"
    number: int = 3  # of the trigger: the count, the interval, the threshold, the timeout
    resets: bool = False
    clears: bool = True
    purging: bool = False
    evictor: str = "none"
    evicts_after: bool = False
    kept: int = 2  # of the evictor: the count, the time, the threshold
    lateness: int = 0
    late_output: bool = False
    function: str = "apply"

    @property
    def merges(self) -> bool:
        """Whether windows are sessions."""
        return self.windows in ("session", "dynamic")

    @property
    def counts(self) -> bool:
        """Whether time does not end the windows."""
        return self.windows in ("global", "count", "count_sliding")


@dataclass
class Pane:
    """One window of one key."""

    key: str
    start: int
    end: int  # exclusive; of windows that time does not end, the end of time
    records: list[tuple[Record, int]] = field(default_factory=list)
    event_timers: set[int] = field(default_factory=set)
    clock_timers: set[int] = field(default_factory=set)
    count: int = 0
    next_event_fire: int | None = None
    next_clock_fire: int | None = None
    last: Record | None = None
    timeout: int | None = None
    firings: int = 0

    @property
    def last_instant(self) -> int:
        """The last instant that belongs to the window."""
        return END_OF_TIME if self.end == END_OF_TIME else self.end - 1


class Reference:
    """The answers, in ``out`` as (result, timestamp); the records that were too late; and, of functions with
    state, in ``firings`` the how-manieth firing of its key each one was."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.panes: list[Pane] = []
        self.seen: dict[str, int] = {}
        self.firings_of_key: dict[str, int] = {}
        self.watermark_ms = -(2**63)
        self.now_ms = 0
        self.out: list[tuple[Any, int]] = []
        self.firings: list[tuple[str, int]] = []
        self.late: list[tuple[Record, int]] = []
        self.dropped = 0

    # -- what comes in --------------------------------------------------------------------------------

    def push(self, records: list[tuple[Record, int]]) -> None:
        """Records that arrive together."""
        for record, timestamp in records:
            self._record(record, timestamp)
        self._clock_timers_until(self.now_ms)

    def watermark(self, watermark_ms: int) -> None:
        """Event time has come this far."""
        self.watermark_ms = watermark_ms
        while due := [(t, pane) for pane in self.panes for t in pane.event_timers if t <= watermark_ms]:
            instant, pane = min(due, key=lambda timer: timer[0])
            pane.event_timers.remove(instant)
            self._act(pane, self._on_event_time(self.plan.trigger, pane, instant))
            if self.plan.event_time and instant == self._cleanup(pane):
                self.panes.remove(pane)
        self._clock_timers_until(self.now_ms)

    def clock(self, now_ms: int) -> None:
        """The clock shows this. Timers on the way fire when their millisecond is over."""
        self._clock_timers_until(now_ms)
        self.now_ms = now_ms

    def _clock_timers_until(self, now_ms: int) -> None:
        while due := [(t, pane) for pane in self.panes for t in pane.clock_timers if t < now_ms]:
            instant, pane = min(due, key=lambda timer: timer[0])
            pane.clock_timers.remove(instant)
            self.now_ms = max(self.now_ms, instant + 1)
            self._act(pane, self._on_clock(self.plan.trigger, pane, instant))
            if not self.plan.event_time and instant == self._cleanup(pane):
                self.panes.remove(pane)

    # -- records ----------------------------------------------------------------------------------------

    def _record(self, record: Record, timestamp: int) -> None:
        accepted = False
        for start, end in list(self._intervals(record, timestamp)):
            pane = self._pane(record[0], start, end)
            if self._is_over(pane):
                if pane in self.panes:
                    self.panes.remove(pane)
                continue
            accepted = True
            pane.records.append((record, timestamp))
            self._act(pane, self._on_record(self.plan.trigger, pane, record, timestamp))
            if self._cleanup(pane) != END_OF_TIME:
                (pane.event_timers if self.plan.event_time else pane.clock_timers).add(self._cleanup(pane))
        if not accepted and self.plan.event_time and timestamp + self.plan.lateness <= self.watermark_ms:
            if self.plan.late_output:
                self.late.append((record, timestamp))
            else:
                self.dropped += 1

    def _intervals(self, record: Record, timestamp: int) -> Iterator[tuple[int, int]]:
        """The windows of a record, each found by trying all that could be."""
        plan = self.plan
        instant = timestamp if plan.event_time else self.now_ms
        match plan.windows:
            case "session":
                yield instant, instant + plan.size
            case "dynamic":
                yield instant, instant + plan.size + record[1] % 3
            case "global":
                yield 0, END_OF_TIME
            case "count" | "count_sliding":
                position = self.seen.get(record[0], 0)
                self.seen[record[0]] = position + 1
                step = plan.size if plan.windows == "count" else plan.slide
                for number in range(position + 1):
                    if number * step <= position < number * step + plan.size:
                        yield number, END_OF_TIME
            case _:
                step = plan.size if plan.windows == "tumbling" else plan.slide
                for start in range(instant - plan.size, instant + 1):
                    if (start - plan.offset) % step == 0 and start <= instant < start + plan.size:
                        yield start, start + plan.size

    def _pane(self, key: str, start: int, end: int) -> Pane:
        """The window of the key: known, new, or merged from what the new one meets."""
        for pane in self.panes:
            if (pane.key, pane.start, pane.end) == (key, start, end):
                return pane
        pane = Pane(key, start, end)
        if self.plan.merges:
            while met := [
                p for p in self.panes if p.key == key and p.start <= pane.end and pane.start <= p.end
            ]:
                for other in met:
                    self.panes.remove(other)
                    self._merge(pane, other)
        self.panes.append(pane)
        if self.plan.merges:
            self._on_merged(self.plan.trigger, pane)
        return pane

    def _merge(self, pane: Pane, other: Pane) -> None:
        pane.start, pane.end = min(pane.start, other.start), max(pane.end, other.end)
        pane.records = other.records + pane.records
        pane.count += other.count
        pane.next_event_fire = least(pane.next_event_fire, other.next_event_fire)
        pane.next_clock_fire = least(pane.next_clock_fire, other.next_clock_fire)

    def _on_merged(self, trigger: str, pane: Pane) -> None:
        """Timers of the windows that were merged are gone; those of the result are set."""
        if pane.next_event_fire is not None:
            pane.event_timers.add(pane.next_event_fire)
        if pane.next_clock_fire is not None:
            pane.clock_timers.add(pane.next_clock_fire)

    def _is_over(self, pane: Pane) -> bool:
        return self.plan.event_time and self._cleanup(pane) <= self.watermark_ms

    def _cleanup(self, pane: Pane) -> int:
        lateness = self.plan.lateness if self.plan.event_time else 0
        return min(pane.last_instant + lateness, END_OF_TIME)

    # -- triggers: each answers whether the window fires, and whether it is purged ----------------------

    def _named(self, trigger: str) -> str:
        if trigger != "default":
            return trigger
        if self.plan.windows in ("count", "count_sliding"):
            return "full"
        if self.plan.windows == "global":
            return "never"
        return "event" if self.plan.event_time else "clock"

    def _on_record(self, trigger: str, pane: Pane, record: Record, timestamp: int) -> tuple[bool, bool]:
        plan = self.plan
        fires = purges = False
        match self._named(trigger):
            case "event" | "continuous_event" if pane.last_instant <= self.watermark_ms:
                fires = True
            case "event":
                pane.event_timers.add(pane.last_instant)
            case "continuous_event":
                pane.event_timers.add(pane.last_instant)
                if pane.next_event_fire is None:
                    self._next_event_fire(pane, math.floor(timestamp / plan.number) * plan.number)
            case "clock":
                pane.clock_timers.add(pane.last_instant)
            case "continuous_clock":
                if pane.next_clock_fire is None:
                    self._next_clock_fire(pane, self.now_ms // plan.number * plan.number)
            case "count" | "full" as kind:
                pane.count += 1
                if pane.count >= (plan.size if kind == "full" else plan.number):
                    pane.count = 0
                    fires, purges = True, kind == "full"
            case "delta":
                if pane.last is None:
                    pane.last = record
                elif abs(record[1] - pane.last[1]) > plan.number:
                    pane.last, fires = record, True
            case "timeout":
                return self._timeout_on_record(pane, record, timestamp)
        return fires, purges or (fires and plan.purging)

    def _timeout_on_record(self, pane: Pane, record: Record, timestamp: int) -> tuple[bool, bool]:
        fires, purges = self._on_record(self.plan.inner, pane, record, timestamp)
        if fires:
            self._forget_timeout(pane)
            self._clear(self.plan.inner, pane)
            return fires, purges
        if self.plan.resets:
            self._forget_timeout(pane)
        if pane.timeout is None:
            pane.timeout = self.now_ms + self.plan.number
            pane.clock_timers.add(pane.timeout)
        return fires, purges

    def _on_event_time(self, trigger: str, pane: Pane, instant: int) -> tuple[bool, bool]:
        fires = False
        match self._named(trigger):
            case "event":
                fires = instant == pane.last_instant
            case "continuous_event":
                fires = instant in (pane.last_instant, pane.next_event_fire)
                if fires and instant != pane.last_instant:
                    self._next_event_fire(pane, instant)
            case "timeout":
                fires, purges = self._on_event_time(self.plan.inner, pane, instant)
                if fires:
                    self._forget_timeout(pane)
                return fires, purges
        return fires, fires and self.plan.purging

    def _on_clock(self, trigger: str, pane: Pane, instant: int) -> tuple[bool, bool]:
        fires = False
        match self._named(trigger):
            case "clock":
                fires = True
            case "continuous_clock":
                fires = instant == pane.next_clock_fire
                if fires:
                    pane.next_clock_fire = None
                    if instant < pane.last_instant:
                        self._next_clock_fire(pane, instant)
            case "timeout":
                timed_out = instant == pane.timeout
                fires, purges = self._on_clock(self.plan.inner, pane, instant)
                if timed_out:
                    self._forget_timeout(pane)
                    if self.plan.clears:
                        self._clear(self.plan.inner, pane)
                return fires or timed_out, purges
        return fires, fires and self.plan.purging

    def _clear(self, trigger: str, pane: Pane) -> None:
        """The trigger begins anew: its timers and what it counted are gone."""
        match self._named(trigger):
            case "event":
                pane.event_timers.discard(pane.last_instant)
            case "clock":
                pane.clock_timers.discard(pane.last_instant)
            case "count" | "full":
                pane.count = 0

    def _forget_timeout(self, pane: Pane) -> None:
        if pane.timeout is not None:
            pane.clock_timers.discard(pane.timeout)
            pane.timeout = None

    def _next_event_fire(self, pane: Pane, base: int) -> None:
        pane.next_event_fire = min(base + self.plan.number, pane.last_instant)
        pane.event_timers.add(pane.next_event_fire)

    def _next_clock_fire(self, pane: Pane, base: int) -> None:
        pane.next_clock_fire = min(base + self.plan.number, pane.last_instant)
        pane.clock_timers.add(pane.next_clock_fire)

    # -- results ----------------------------------------------------------------------------------------

    def _act(self, pane: Pane, what: tuple[bool, bool]) -> None:
        fires, purges = what
        if fires and pane.records:
            self._fire(pane)
        if purges:
            pane.records = []

    def _fire(self, pane: Pane) -> None:
        plan = self.plan
        if not plan.evicts_after:
            pane.records = self._evicted(pane.records)
        if not pane.records:
            return
        pane.firings += 1
        of_key = self.firings_of_key[pane.key] = self.firings_of_key.get(pane.key, 0) + 1
        records = [record for record, _ in pane.records]
        total = sum(record[1] for record in records)
        serials = tuple(record[2] for record in records)
        if plan.merges:  # contents of sessions that meet come in no particular order
            serials = tuple(sorted(serials))
        where = (pane.key, pane.start, pane.end)
        result: Any = {
            "reduce": (pane.key, total, min(serials)),
            "aggregate": (total, len(records)),
            "apply": (where, serials),
            "process": (where, serials, 0 if plan.merges else pane.firings),
            "aggregate_process": (where, (total, len(records)), 0 if plan.merges else pane.firings),
            "sum": (pane.key, total, records[0][2]),
            "max_by": max(records, key=lambda record: record[1]),
        }[plan.function]
        self.out.append((result, pane.last_instant))
        if plan.function in ("process", "aggregate_process"):
            self.firings.append((pane.key, of_key))
        if plan.evicts_after:
            pane.records = self._evicted(pane.records)

    def _evicted(self, records: list[tuple[Record, int]]) -> list[tuple[Record, int]]:
        match self.plan.evictor:
            case "count":
                return records[-self.plan.kept :]
            case "time":
                newest = max(timestamp for _, timestamp in records)
                return [item for item in records if item[1] > newest - self.plan.kept]
            case "delta":
                last = records[-1][0][1]
                return [item for item in records if abs(item[0][1] - last) < self.plan.kept]
        return records


def least(first: int | None, second: int | None) -> int | None:
    """The lesser of those that are there."""
    there = [number for number in (first, second) if number is not None]
    return min(there, default=None)
