"""Stream formats: how the bytes of a split become batches of records. Text, JSON lines, binary.

CSV is in ``csv_format``. A format is pickled with the job; what cannot be pickled is made in ``read``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar, cast

import msgspec

from zmflow.connectors.file_splits import FileSplit
from zmflow.connectors.line_blocks import TextDecoder, is_compressed, line_blocks, place_of, reading
from zmflow.errors import ConnectorError

__all__ = [
    "FILE_SIZE_MAX_BYTES",
    "JsonLinesFormat",
    "PositionedFormat",
    "RecordsOfFixedSizeFormat",
    "StreamFormat",
    "TextLineFormat",
    "WholeFileFormat",
]

T = TypeVar("T")

FILE_SIZE_MAX_BYTES = 256 * 2**20
"""Whole files are single records: some of them are in memory at a time, beside the frame that carries one."""

BINARY_BATCH_SIZE_BYTES = 256 * 1024
"""Records of fixed size are read this many bytes at a time, rounded down to whole records."""


class StreamFormat(ABC, Generic[T]):
    """How the bytes of a split become records."""

    def is_splittable(self, path: str) -> bool:
        """Whether reading may begin in the middle of this file."""
        return not is_compressed(path)

    def align(self, split_size_bytes: int) -> int:
        """The size of splits to use where ``split_size_bytes`` is wanted; at least 1."""
        return max(1, split_size_bytes)

    @abstractmethod
    def read(self, split: FileSplit) -> Iterator[Sequence[T]]:
        """Batches of all records that start in the split; none of them empty.

        Raises:
            ConnectorError: the file cannot be read or holds something else, with file and position.
        """

    def read_on(self, split: FileSplit) -> Iterator[tuple[Sequence[T], int]]:
        """Batches of the records of a split that were not read yet, each with a mark: where it ends.

        This one counts records, and after a restart it reads those again that come first, without
        returning them: right for every format that reads the same from the same bytes.
        """
        seen = 0
        for batch in self.read(split):
            seen += len(batch)
            if seen > split.records_read:
                fresh = min(len(batch), seen - split.records_read)
                yield batch[len(batch) - fresh :], seen

    def rest(self, split: FileSplit, mark: int) -> FileSplit:
        """What is left of a split behind a mark of ``read_on``."""
        return replace(split, records_read=mark)

    @staticmethod
    def text_line_format(charset_name: str = "UTF-8") -> StreamFormat[str]:
        """Lines of text, as PyFlink spells it."""
        return TextLineFormat(TextDecoder(charset_name))


class PositionedFormat(StreamFormat[T]):
    """A format that can be entered at the byte after any of its batches."""

    def read(self, split: FileSplit) -> Iterator[Sequence[T]]:
        return (batch for batch, _ in self.read_on(split))

    def read_on(self, split: FileSplit) -> Iterator[tuple[Sequence[T], int]]:
        return self.batches(split)

    def rest(self, split: FileSplit, mark: int) -> FileSplit:
        return replace(split, start=mark)

    @abstractmethod
    def batches(self, split: FileSplit) -> Iterator[tuple[Sequence[T], int]]:
        """Batches of the records that start in the split, each with the byte behind its last record."""

    def whole_records_size(self, block: bytes) -> int:
        """Of bytes that begin with a record, how many are whole records: those up to the last line feed."""
        return block.rfind(b"\n") + 1


@dataclass(frozen=True)
class TextLineFormat(PositionedFormat[str]):
    """Lines without their ends (``\\n`` or ``\\r\\n``)."""

    decoder: TextDecoder = field(default_factory=TextDecoder)

    def batches(self, split: FileSplit) -> Iterator[tuple[list[str], int]]:
        decode = self.decoder.lines
        with reading(split.path) as file:
            for offset, block in line_blocks(file, split):
                if lines := decode(split.path, offset, block):
                    yield lines, offset + len(block)


@dataclass(frozen=True)
class JsonLinesFormat(PositionedFormat[T]):
    """A JSON value on each line; blank lines are skipped.

    Args:
        record_type: what to decode a value into: a dataclass, a msgspec.Struct, ``dict[str, int]``, ...;
            None gives dicts, lists, strings and numbers.
    """

    record_type: type[T] | None = None

    def batches(self, split: FileSplit) -> Iterator[tuple[list[T], int]]:
        decode = cast("Callable[[bytes], T]", msgspec.json.Decoder(self.record_type or Any).decode)
        with reading(split.path) as file:
            for offset, block in line_blocks(file, split):
                marked = offset == 0 and block.startswith(b"\xef\xbb\xbf")
                lines = (block[3:] if marked else block).split(b"\n")
                try:
                    values = [decode(line) for line in lines if line and not line.isspace()]
                except (msgspec.DecodeError, UnicodeDecodeError):
                    _refuse_json(split.path, offset + 3 * marked, lines, decode)
                    raise
                if values:
                    yield values, offset + len(block)


def _refuse_json(path: str, offset: int, lines: list[bytes], decode: Callable[[bytes], object]) -> None:
    for line in lines:
        try:
            if line and not line.isspace():
                decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            wrong = isinstance(error, msgspec.ValidationError)
            raise ConnectorError(
                "A line of the input file is "
                + ("JSON of another shape: " if wrong else "not JSON: ")
                + f"{error}.",
                detail=f"{place_of(path, offset)}\n{excerpt(line.decode('utf-8', 'replace'))}",
            ) from None
        offset += len(line) + 1


def excerpt(line: str, length_max: int = 120) -> str:
    """The beginning of a line, for an error message."""
    line = line.rstrip("\r\n")
    return line if len(line) <= length_max else line[:length_max] + "…"


@dataclass(frozen=True)
class WholeFileFormat(StreamFormat[tuple[str, bytes]]):
    """One record per file: its path and its bytes, decompressed when its suffix says it is compressed."""

    size_max_bytes: int = FILE_SIZE_MAX_BYTES

    def is_splittable(self, path: str) -> bool:  # noqa: ARG002 - of the interface
        return False

    def read_on(self, split: FileSplit) -> Iterator[tuple[Sequence[tuple[str, bytes]], int]]:
        # A file that was read is not read again to find out that it has one record.
        return iter(()) if split.records_read else super().read_on(split)

    def read(self, split: FileSplit) -> Iterator[list[tuple[str, bytes]]]:
        with reading(split.path) as file:
            parts = []
            left = self.size_max_bytes
            while part := file.read(min(left + 1, BINARY_BATCH_SIZE_BYTES)):
                parts.append(part)
                left -= len(part)
                if left < 0:
                    raise ConnectorError(
                        f"The input file is larger than {self.size_max_bytes} bytes.",
                        detail=split.path,
                        hint="Raise size_max_bytes, or read it in records of a fixed size.",
                    )
            yield [(split.path, b"".join(parts))]


@dataclass(frozen=True)
class RecordsOfFixedSizeFormat(PositionedFormat[bytes]):
    """Records of the same number of bytes, one after the other."""

    record_size_bytes: int

    def __post_init__(self) -> None:
        if self.record_size_bytes < 1:
            raise ConnectorError(
                f"Records cannot have {self.record_size_bytes} bytes.", hint="Give 1 or more."
            )

    def align(self, split_size_bytes: int) -> int:
        return max(1, split_size_bytes // self.record_size_bytes) * self.record_size_bytes

    def whole_records_size(self, block: bytes) -> int:
        return len(block) - len(block) % self.record_size_bytes

    def batches(self, split: FileSplit) -> Iterator[tuple[list[bytes], int]]:
        size = self.record_size_bytes
        position = split.start
        with reading(split.path) as file:
            file.seek(position)
            while split.end is None or position < split.end:
                batch = self.align(BINARY_BATCH_SIZE_BYTES)
                block = file.read(batch if split.end is None else min(batch, split.end - position))
                # Unbuffered and compressed files may return less than was asked for.
                while len(block) % size and (more := file.read(size - len(block) % size)):
                    block += more
                if surplus := len(block) % size:
                    raise ConnectorError(
                        f"The input file does not end with a whole record of {size} bytes.",
                        detail=f"{split.path}: {surplus} bytes at byte {position + len(block) - surplus}.",
                    )
                if not block:
                    return
                position += len(block)
                yield [block[start : start + size] for start in range(0, len(block), size)], position
