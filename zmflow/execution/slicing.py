"""How many rows a chain is given at once, so that a slow function does not hold back what it has made.

Rows leave a chain when the batch is done. A function that takes a millisecond a record would turn a batch
of a thousand into a second of latency, for checkpoints as well. The slice shrinks until it takes about half a
buffer timeout, and grows when the function is fast.
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["SLICE_ROWS_MAX", "SliceSize"]

SLICE_ROWS_MAX = 8192
"""As large as the largest frame: an unsliced batch is the normal case."""

SLICE_ROWS_FIRST = 16
"""Nobody knows yet how long a row takes: 20 ms each, and even the first slice is over in a third of a second.
A fast function has the largest slices after ten of them."""


class SliceSize:
    """The current slice.

    >>> slices = SliceSize(target_ms=50)
    >>> slices.took(rows=16, elapsed_ms=160); slices.rows
    5
    >>> slices.took(rows=5, elapsed_ms=1); slices.rows
    10
    """

    __slots__ = ("_target_ms", "rows")

    def __init__(self, target_ms: float) -> None:
        self._target_ms = target_ms
        self.rows = SLICE_ROWS_FIRST if target_ms > 0 else 1

    def of(self, count: int) -> Iterator[tuple[int, int]]:
        """The slices of a batch, as (begin, end); each is cut with the size of its moment.

        >>> slices = SliceSize(target_ms=50); slices.rows = 2
        >>> list(slices.of(5))
        [(0, 2), (2, 4), (4, 5)]
        """
        begin = 0
        while begin < count:
            end = min(count, begin + self.rows)
            yield begin, end
            begin = end

    def took(self, rows: int, elapsed_ms: float) -> None:
        """A slice of so many rows took so long."""
        if self._target_ms <= 0:
            return
        if elapsed_ms > self._target_ms:
            self.rows = max(1, int(rows * self._target_ms / elapsed_ms))
        elif rows >= self.rows and elapsed_ms < self._target_ms / 2:
            self.rows = min(SLICE_ROWS_MAX, self.rows * 2)
