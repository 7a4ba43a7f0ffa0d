"""Rows that were kept of one job and are read by later ones: how they leave a job, and how they come back.

Batches are packed into one record each, with their timestamps, on the way out; that record is what the
collect sink sends and what the source reads. So keeping and reading cost little per record.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.errors import ConnectorError

__all__ = ["LENGTH_SIZE_BYTES", "CachedRowsSource", "PackRowsOperator", "Range", "UnpackRowsOperator"]

LENGTH_SIZE_BYTES = 8
"""What precedes each piece of the file: its length, big endian."""

Range = tuple[int, int]
"""The bytes of a file from the first to before the second: what one subtask produced, in its order."""


@dataclass(frozen=True, slots=True)
class PackRowsOperator:
    """Each batch becomes one record: a pair of its rows and their timestamps, or None."""


@dataclass(frozen=True, slots=True)
class UnpackRowsOperator:
    """Each such pair becomes a batch again."""


class _Ranges(SplitEnumerator[Range]):
    """Gives subtask i what subtask i produced, and those beyond the last one to the first ones again."""

    def __init__(self, context: SplitEnumeratorContext[Range], ranges: Sequence[Range]) -> None:
        self._context = context
        count = context.parallelism
        self._left = [list(reversed(ranges[subtask::count])) for subtask in range(count)]

    def handle_split_request(self, subtask: int) -> None:
        if self._left[subtask]:
            self._context.assign_splits([self._left[subtask].pop()], subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[Range], subtask: int) -> None:
        self._left[subtask].extend(reversed(splits))


class _RangeReader(SourceReader[Any, Range]):
    """Reads the packed batches in its ranges of the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._ranges: list[Range] = []
        self._complete = False

    def start(self) -> None:
        self._file = self._path.open("rb")

    def add_splits(self, splits: Sequence[Range]) -> None:
        self._ranges.extend((begin, end) for begin, end in splits if begin < end)

    def poll_next(self) -> Sequence[Any] | EndOfInput | None:
        while self._ranges:
            begin, end = self._ranges.pop(0)
            packed, position = self._read(begin)
            if position < end:
                self._ranges.insert(0, (position, end))
            if packed:  # the last piece of a subtask is often empty
                return packed
        return EndOfInput.END if self._complete else None

    def _read(self, begin: int) -> tuple[Sequence[Any], int]:
        assert self._file is not None
        self._file.seek(begin)
        length = int.from_bytes(self._file.read(LENGTH_SIZE_BYTES), "big")
        data = self._file.read(length)
        if not length or len(data) < length:
            raise ConnectorError("Kept rows are damaged.", detail=f"{self._path} ends at byte {begin}.")
        packed: Sequence[Any] = pickle.loads(data)
        return packed, begin + LENGTH_SIZE_BYTES + length

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class CachedRowsSource(Source[Any, Range]):
    """Reads packed batches out of a file that travels with the job.

    Args:
        file_name: what the job calls the file.
        ranges: what each subtask produced.
        classes: the user's classes that may be in it, by module and name: they go along, so that workers
            know them.
    """

    name = "Cached Rows"

    def __init__(
        self, file_name: str, ranges: Sequence[Range], classes: Mapping[str, Mapping[str, type]]
    ) -> None:
        self.file_name = file_name
        self.ranges = list(ranges)
        self.classes = classes

    def create_enumerator(self, context: SplitEnumeratorContext[Range]) -> SplitEnumerator[Range]:
        return _Ranges(context, self.ranges)

    def create_reader(self, context: RuntimeContext) -> SourceReader[Any, Range]:
        return _RangeReader(Path(context.get_distributed_cache().get_file(self.file_name)))
