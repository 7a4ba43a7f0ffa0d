"""``RecordsByKey``: the input of a keyed operator in BATCH mode, held until it has ended, then key by key.

What is more than may be held is sorted by key and time and written away as a *run*; in the end the runs are
merged, so that no more than a block of each is in memory.
"""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, repeat
from typing import Any

from zmflow.errors import ZmflowError
from zmflow.execution.batches import Rows, encoded_size_of_one
from zmflow.execution.spilling import Spill, SpillRun
from zmflow.execution.stream_operator import MIN_WATERMARK, Timestamps
from zmflow.state.keys import canonical_bytes

__all__ = ["HELD_BYTES_DEFAULT", "HeldRecord", "RecordsByKey"]

HeldRecord = tuple[int | None, int, Any]
"""Timestamp, the input it came from (0 or 1), value."""

HELD_BYTES_DEFAULT = 128 * 2**20
"""What an operator holds in memory that was given no managed memory of its own: as much as in Flink."""

RECORD_OVERHEAD_BYTES = 160
"""The tuple that holds a record, its timestamp, its place in a list, and the head of a Python object."""

ENCODED_FACTOR = 2
"""Python's objects take about twice as much as they do pickled: texts of some letters, small tuples."""

BLOCK_RECORDS = 1024
"""Records of a block: some 100 KiB, of each of a hundred runs 10 MiB."""

_Entry = tuple[bytes, int, Any, HeldRecord]
"""Canonical bytes of the key, the timestamp to sort by, key, record."""


class RecordsByKey:
    """Records of one input or two.

    >>> records = RecordsByKey()
    >>> records.add(0, str.lower, ["a", "B", "A"], [3, 1, 2])
    >>> for key, held in records.take():
    ...     print(key, list(held))
    a [(2, 0, 'A'), (3, 0, 'a')]
    b [(1, 0, 'B')]

    Args:
        limit_bytes: about what is held in memory; more is written away.
        make_spill: makes what it is written to; without, everything is held.
    """

    def __init__(
        self, limit_bytes: int = HELD_BYTES_DEFAULT, make_spill: Callable[[], Spill] | None = None
    ) -> None:
        self._of_key: dict[Any, list[HeldRecord]] = {}
        self._limit_bytes = limit_bytes
        self._held_bytes = 0
        self._make_spill = make_spill
        self._spill: Spill | None = None
        self._runs: list[SpillRun] = []

    def add(self, number: int, key_of: Callable[[Any], Any], rows: Rows, timestamps: Timestamps) -> None:
        """Hold a batch of an input."""
        of_key = self._of_key
        for value, timestamp in zip(rows, repeat(None) if timestamps is None else timestamps):  # noqa: B905
            key = key_of(value)
            held = of_key.get(key)
            if held is None:
                held = of_key[key] = []
            held.append((timestamp, number, value))
        if self._make_spill is not None and rows:
            each = ENCODED_FACTOR * encoded_size_of_one(rows) + RECORD_OVERHEAD_BYTES
            self._held_bytes += each * len(rows)
            if self._held_bytes >= self._limit_bytes:
                self._write_run(self._make_spill)

    def take(self) -> Iterator[tuple[Any, Iterable[HeldRecord]]]:
        """Each key with its records in order of their timestamps; equal ones in order of arrival.

        Keys come as they first appeared or, where records were written away, in the order of their bytes. The
        records of a key must be read before the next key. What was taken is not held any more.
        """
        if self._runs:
            yield from self._merged()
            self.close()
            return
        of_key = self._of_key
        while of_key:
            key = next(iter(of_key))
            held = of_key.pop(key)
            held.sort(key=_timestamp)
            yield key, held

    def close(self) -> None:
        """Nothing is held any more."""
        self._runs.clear()
        self._of_key.clear()
        if self._spill is not None:
            self._spill.close()
            self._spill = None

    # -- runs ---------------------------------------------------------------------------------------

    def _write_run(self, make_spill: Callable[[], Spill]) -> None:
        if self._spill is None:
            self._spill = make_spill()
        run = self._spill.new_run()
        block: list[tuple[bytes, Any, list[HeldRecord]]] = []
        filled = 0
        for encoded, key, held in self._sorted():
            for begin in range(0, len(held), BLOCK_RECORDS):
                part = held[begin : begin + BLOCK_RECORDS]
                block.append((encoded, key, part))
                filled += len(part)
                if filled >= BLOCK_RECORDS:
                    run.append(_packed(block))
                    block, filled = [], 0
        if block:
            run.append(_packed(block))
        self._runs.append(run)
        self._held_bytes = 0

    def _sorted(self) -> Iterator[tuple[bytes, Any, list[HeldRecord]]]:
        """What is in memory, in the order of a run; it is let go on the way."""
        of_key = self._of_key
        for encoded, key in sorted(((canonical_bytes(key), key) for key in of_key), key=_first):
            held = of_key.pop(key)
            held.sort(key=_timestamp)
            yield encoded, key, held

    def _merged(self) -> Iterator[tuple[Any, Iterable[HeldRecord]]]:
        # The merge is stable and runs are in order of arrival, what is in memory being the last of them.
        runs = [_entries(_unpacked(run)) for run in self._runs]
        entries = heapq.merge(*runs, _entries(self._sorted()), key=_place)
        for _, of_key in groupby(entries, key=_first):
            first = next(of_key)
            yield first[2], _records(first, of_key)  # noqa: B031 - the first of them, then the others


def _packed(block: list[tuple[bytes, Any, list[HeldRecord]]]) -> bytes:
    try:
        return pickle.dumps(block, protocol=5)
    except Exception as error:
        raise ZmflowError(
            f"Records that BATCH mode sorts by key cannot be pickled: {error}",
            detail="They are more than may be held in memory, so they have to be written to disk.",
            hint="Emit plain data, or give the operator more memory with managed_memory_weight().",
        ) from error


def _unpacked(run: SpillRun) -> Iterator[tuple[bytes, Any, list[HeldRecord]]]:
    for block in run.blocks():
        yield from pickle.loads(block)


def _entries(parts: Iterable[tuple[bytes, Any, list[HeldRecord]]]) -> Iterator[_Entry]:
    for encoded, key, held in parts:
        for record in held:
            yield encoded, _timestamp(record), key, record


def _records(first: _Entry, others: Iterator[_Entry]) -> Iterator[HeldRecord]:
    yield first[3]
    for entry in others:
        yield entry[3]


def _timestamp(record: HeldRecord) -> int:
    return MIN_WATERMARK if record[0] is None else record[0]


def _first(entry: tuple[bytes, Any] | _Entry) -> bytes:
    return entry[0]


def _place(entry: _Entry) -> tuple[bytes, int]:
    return entry[0], entry[1]
