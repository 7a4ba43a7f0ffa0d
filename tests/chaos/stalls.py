"""When the machine itself stood still: a virtual processor that its host does not run stops what is on it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from tests.chaos.cluster import wall_ms

__all__ = ["Stall", "StallWatch", "standstill_ms"]

TICK_S = 0.02

STALL_LEAST_MS = 100
"""A thread that only looks at the clock is late by some 10 ms on a machine with plenty to do."""


@dataclass(frozen=True)
class Stall:
    """A processor ran nothing between these instants; wall clock, milliseconds."""

    cpu: int
    start_ms: float
    end_ms: float

    @property
    def duration_ms(self) -> float:
        """How long it lasted."""
        return self.end_ms - self.start_ms


def standstill_ms(stalls: Sequence[Stall], start_ms: float, end_ms: float) -> float:
    """For how much of this time some processor stood still.

    >>> standstill_ms([Stall(0, 10, 30), Stall(1, 20, 40), Stall(0, 90, 120)], 0, 100)
    40.0
    """
    total = 0.0
    for stall in sorted(stalls, key=lambda stall: stall.start_ms):
        total += max(0.0, min(stall.end_ms, end_ms) - max(stall.start_ms, start_ms))
        start_ms = max(start_ms, stall.end_ms)
    return total


class StallWatch:
    """A thread on each processor that looks at the clock; a context manager."""

    def __init__(self) -> None:
        self.stalls: list[Stall] = []
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._look, args=(cpu,), name=f"stall-watch-{cpu}", daemon=True)
            for cpu in sorted(os.sched_getaffinity(0))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _look(self, cpu: int) -> None:
        os.sched_setaffinity(0, {cpu})  # of this thread only
        looked = time.monotonic()
        while not self._over.wait(TICK_S):
            now, now_ms = time.monotonic(), wall_ms()
            late_ms = (now - looked - TICK_S) * 1000
            if late_ms >= STALL_LEAST_MS:
                self.stalls.append(Stall(cpu, now_ms - late_ms, now_ms))
            looked = now
