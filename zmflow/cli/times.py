"""Instants and durations as people read them."""

from __future__ import annotations

import time
from datetime import UTC, datetime

__all__ = ["duration_text", "now_ms", "time_since", "when"]

_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def now_ms() -> int:
    """The wall clock, in milliseconds since 1970: what statuses carry."""
    return time.time_ns() // 1_000_000


def when(milliseconds: int) -> str:
    """A wall clock time in the local time zone; empty for 0."""
    if not milliseconds:
        return ""
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration_text(milliseconds: int) -> str:
    """A duration in its two largest units; below ten seconds with a decimal.

    >>> [duration_text(n) for n in (40, 9_950, 61_000, 7_260_000, 90_000_000)]
    ['0.0 s', '9.9 s', '1 min 1 s', '2 h 1 min', '1 d 1 h']
    """
    if milliseconds < 10_000:
        return f"{milliseconds // 100 / 10:.1f} s"
    seconds = milliseconds // 1000
    largest = next(i for i, (_, size) in enumerate(_UNITS) if seconds >= size)
    parts = []
    for unit, size in _UNITS[largest : largest + 2]:
        count, seconds = divmod(seconds, size)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts)


def time_since(milliseconds: int, now: int) -> str:
    """How long ago that was; "-" for 0. Clocks of two machines differ, so it is never negative.

    >>> time_since(1_000, 31_000), time_since(31_000, 1_000), time_since(0, 5)
    ('30 s', '0.0 s', '-')
    """
    return duration_text(max(now - milliseconds, 0)) if milliseconds else "-"
