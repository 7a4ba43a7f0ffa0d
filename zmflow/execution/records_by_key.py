"""``RecordsByKey``: the input of a keyed operator in BATCH mode, held until it has ended, then key by key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from zmflow.execution.batches import Rows
from zmflow.execution.stream_operator import MIN_WATERMARK, Timestamps

__all__ = ["HeldRecord", "RecordsByKey"]

HeldRecord = tuple[int | None, int, Any]
"""Timestamp, the input it came from (0 or 1), value."""


class RecordsByKey:
    """Records of one input or two. All are in memory: a key's records may come until the very end.

    >>> records = RecordsByKey()
    >>> records.add(0, str.lower, ["a", "B", "A"], [3, 1, 2])
    >>> for key, held in records.take():
    ...     print(key, held)
    a [(2, 0, 'A'), (3, 0, 'a')]
    b [(1, 0, 'B')]
    """

    def __init__(self) -> None:
        self._of_key: dict[Any, list[HeldRecord]] = {}

    def add(self, number: int, key_of: Callable[[Any], Any], rows: Rows, timestamps: Timestamps) -> None:
        """Hold a batch of an input."""
        of_key = self._of_key
        for value, timestamp in zip(rows, repeat(None) if timestamps is None else timestamps):  # noqa: B905
            key = key_of(value)
            held = of_key.get(key)
            if held is None:
                held = of_key[key] = []
            held.append((timestamp, number, value))

    def take(self) -> Iterator[tuple[Any, list[HeldRecord]]]:
        """Each key with its records in order of their timestamps; equal ones in order of arrival.

        Keys come as they first appeared. What was taken is not held any more.
        """
        of_key = self._of_key
        while of_key:
            key = next(iter(of_key))
            held = of_key.pop(key)
            held.sort(key=_timestamp)
            yield key, held


def _timestamp(record: HeldRecord) -> int:
    return MIN_WATERMARK if record[0] is None else record[0]
