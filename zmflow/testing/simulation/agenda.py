"""What happens next: a heap of (time, sequence, action)."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

__all__ = ["Agenda"]


class Agenda:
    """The simulated time and what is to happen in it. Actions of one instant happen in their order.

    >>> agenda, seen = Agenda(), []
    >>> agenda.at(20, seen.append, "later")
    >>> agenda.at(10, seen.append, "sooner")
    >>> agenda.run_until(15), agenda.now_ms, seen
    (1, 15, ['sooner'])
    """

    __slots__ = ("_heap", "_sequence", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self._heap: list[tuple[int, int, Callable[..., object], tuple[Any, ...]]] = []
        self._sequence = 0

    def at(self, at_ms: int, action: Callable[..., object], *arguments: object) -> None:
        """Call ``action`` at this instant, or now when the instant is over."""
        self._sequence += 1
        heappush(self._heap, (max(at_ms, self.now_ms), self._sequence, action, arguments))

    def after(self, delay_ms: int, action: Callable[..., object], *arguments: object) -> None:
        """Call ``action`` in so many milliseconds."""
        self._sequence += 1
        heappush(self._heap, (self.now_ms + delay_ms, self._sequence, action, arguments))

    def run_until(self, end_ms: int) -> int:
        """Let everything up to this instant happen; returns how many actions that were."""
        heap = self._heap
        number = 0
        while heap and heap[0][0] <= end_ms:
            self.now_ms, _, action, arguments = heappop(heap)
            action(*arguments)
            number += 1
        self.now_ms = end_ms
        return number
