"""``PickleCost``: whether a snapshot is pickled by its task or by a forked process."""

from __future__ import annotations

__all__ = ["PickleCost"]

SYNC_MAX_S = 0.1
"""Longest that a task may pickle. What would take longer is left to a forked process. What is quicker costs
less without: both sides of a fork copy each page that they write to. With 500,000 entries a checkpoint took
three times as much of the processors."""

ENTRY_S_FIRST = 300e-9
"""How long an entry of state takes to pickle, before it was measured. A short text with a number takes a
third of that, a small object of the program's three times as long."""

ENTRIES_MEASURED_MIN = 10_000
"""Fewer entries say more of what a snapshot costs than of what an entry does, unless they took too long."""

FORKED_FACTOR = 2
"""A forked process takes about so many times as long as its task, because every page it counts a reference in
is copied first."""


class PickleCost:
    """How long state takes to pickle, by what it took before. In processor time: a processor that is busy
    with something else makes a snapshot take longer, and a forked process no cheaper.

    >>> cost = PickleCost()
    >>> cost.is_too_long(1_000)
    False
    >>> cost.measured(1_000, 0.5)
    >>> cost.is_too_long(1_000)
    True
    """

    def __init__(self) -> None:
        self._entry_s = ENTRY_S_FIRST

    def is_too_long(self, entries: int) -> bool:
        """Whether so many entries would hold the task up for longer than it may be."""
        return entries * self._entry_s > SYNC_MAX_S

    def measured(self, entries: int, seconds: float) -> None:
        """A snapshot was taken in the task."""
        if entries >= ENTRIES_MEASURED_MIN or (entries and seconds > SYNC_MAX_S):
            self._entry_s = seconds / entries

    def measured_forked(self, entries: int, seconds: float) -> None:
        """A snapshot was taken by a forked process: it may have been quick enough for the task."""
        self.measured(entries, seconds / FORKED_FACTOR)
