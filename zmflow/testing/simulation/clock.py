"""A component's own clock: it need not agree with anybody's."""

from __future__ import annotations

__all__ = ["TRUE_RATE", "Clock"]

TRUE_RATE = 1000
"""Milliseconds of this clock in a second of simulated time."""

_WALL_START_MS = 1_700_000_000_000
"""Some instant since 1970: brains must not care which."""


class Clock:
    """A monotonic clock with an offset and a rate, and a wall clock that may go anywhere.

    >>> clock = Clock(offset_ms=500)
    >>> clock.set_rate(1_000, 2_000)
    >>> clock.read(1_500), clock.when(2_500)
    (2500, 1500)
    """

    __slots__ = ("_anchor_ms", "_local_ms", "_rate", "_wall_ms")

    def __init__(self, offset_ms: int = 0) -> None:
        self._anchor_ms = 0
        self._local_ms = offset_ms
        self._rate = TRUE_RATE
        self._wall_ms = _WALL_START_MS

    def read(self, now_ms: int) -> int:
        """What it shows at this simulated instant."""
        return self._local_ms + (now_ms - self._anchor_ms) * self._rate // TRUE_RATE

    def when(self, local_ms: int) -> int:
        """The first simulated instant at which it shows at least ``local_ms``."""
        return self._anchor_ms - (self._local_ms - local_ms) * TRUE_RATE // self._rate

    def wall(self, now_ms: int) -> int:
        """What its wall clock shows."""
        return self._wall_ms + now_ms

    def set_rate(self, now_ms: int, rate: int) -> None:
        """From now on it runs faster or slower; it never goes back."""
        self._local_ms, self._anchor_ms = self.read(now_ms), now_ms
        self._rate = rate

    def step(self, by_ms: int) -> None:
        """It jumps ahead, as after a suspended machine wakes up."""
        assert by_ms >= 0, "a monotonic clock does not go back"
        self._local_ms += by_ms

    def step_wall(self, by_ms: int) -> None:
        """The wall clock is set, forwards or backwards."""
        self._wall_ms += by_ms
