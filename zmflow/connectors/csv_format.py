"""Comma-separated values: lines become dicts, tuples or objects of a declared type.

A quoted field may hold delimiters and doubled quotes. A quoted field that holds a line break makes it
impossible to find the lines from the middle of a file; it is refused unless ``multiline`` says to read
each file from its beginning.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Any, Generic, TypeVar, cast, get_origin

import msgspec

from zmflow.connectors.file_formats import PositionedFormat, StreamFormat, excerpt
from zmflow.connectors.file_splits import FileSplit
from zmflow.connectors.line_blocks import (
    LINE_LENGTH_MAX_BYTES,
    TextDecoder,
    is_compressed,
    line_blocks,
    place_of,
    reading,
)
from zmflow.errors import ConnectorError

__all__ = ["CsvFormat"]

T = TypeVar("T")

ROWS_PER_BATCH = 1024
"""Of a file read as a whole, where blocks do not set the size of a batch."""


@dataclass(frozen=True)
class CsvFormat(PositionedFormat[T], Generic[T]):
    """Rows of a CSV file; blank lines are skipped.

    Args:
        record_type: ``dict`` (field name to text), ``tuple`` (of texts), or a dataclass or msgspec.Struct
            into whose field types the texts are converted; columns it does not name are dropped.
        has_header: the first line of each file names the columns.
        fields: the columns' names where no header gives them.
        multiline: quoted fields may hold line breaks; each file is one split.
    """

    record_type: type[T]
    delimiter: str = ","
    quotechar: str = '"'
    has_header: bool = True
    fields: tuple[str, ...] | None = None
    multiline: bool = False
    decoder: TextDecoder = field(default_factory=TextDecoder)

    def __post_init__(self) -> None:
        if len(self.delimiter) != 1 or self.delimiter in "\r\n" or self.delimiter == self.quotechar:
            raise ConnectorError(
                f"The delimiter is not one character: {self.delimiter!r}.", hint="Examples: ',', ';', '\\t'."
            )
        if self.has_header and self.fields:
            raise ConnectorError(
                "A CSV source was given a header and field names.",
                hint="Give fields= together with has_header=False.",
            )
        if not self.has_header and not self.fields and not self._tuples:
            raise ConnectorError(
                "A CSV source without a header does not know its columns.",
                hint="Give fields=[...], or record_type=tuple.",
            )

    @property
    def _tuples(self) -> bool:
        return (get_origin(self.record_type) or self.record_type) is tuple

    def is_splittable(self, path: str) -> bool:
        return not self.multiline and not is_compressed(path)

    def read(self, split: FileSplit) -> Iterator[Sequence[T]]:
        return self._read_whole(split) if self.multiline else super().read(split)

    def read_on(self, split: FileSplit) -> Iterator[tuple[Sequence[T], int]]:
        # A line break inside a field cannot be told from the end of a row at any byte: rows are counted.
        return StreamFormat.read_on(self, split) if self.multiline else super().read_on(split)

    def rest(self, split: FileSplit, mark: int) -> FileSplit:
        return StreamFormat.rest(self, split, mark) if self.multiline else super().rest(split, mark)

    def _rows(self, lines: Iterator[str] | Sequence[str]) -> Any:
        return csv.reader(lines, delimiter=self.delimiter, quotechar=self.quotechar, strict=True)

    def batches(self, split: FileSplit) -> Iterator[tuple[list[T], int]]:
        _allow_long_fields()
        names = self.fields or self._first_row(split.path)
        convert = self._converter(names)
        width = len(names)
        with reading(split.path) as file:
            for offset, block in line_blocks(file, split):
                lines = self.decoder.lines(split.path, offset, block)
                if offset == 0 and self.has_header:
                    # Skipped as a blank line is; its place is kept, since each line must give one row.
                    lines[0] = ""
                try:
                    rows = list(self._rows(lines))
                    widths = set(map(len, rows))
                    if len(rows) != len(lines) or not widths <= {0, width}:
                        self._refuse(split.path, offset, block, names)
                    if 0 in widths:
                        rows = list(filter(None, rows))
                    records = convert(rows)
                except (csv.Error, msgspec.ValidationError) as error:
                    self._refuse(split.path, offset, block, names)
                    raise AssertionError("A block was refused whose lines are all good.") from error
                if records:
                    yield records, offset + len(block)

    def _first_row(self, path: str) -> tuple[str, ...]:
        with reading(path) as file:
            for _, block in line_blocks(file, FileSplit(path, 0, None)):
                end = block.find(b"\n") + 1
                line = self.decoder.text(path, 0, block[:end] if end else block)
                try:
                    return tuple(next(self._rows([line.rstrip("\n")]), ()))
                except csv.Error as error:
                    raise _malformed(str(error), place_of(path, 0), line) from None
        return ()

    def _converter(self, names: Sequence[str]) -> Callable[[list[list[str]]], list[T]]:
        if self._tuples:
            return lambda rows: list(map(tuple, rows))  # type: ignore[arg-type]
        if (get_origin(self.record_type) or self.record_type) is dict:
            return lambda rows: [dict(zip(names, row, strict=True)) for row in rows]  # type: ignore[misc]
        target = list[self.record_type]  # type: ignore[name-defined]

        def to_objects(rows: list[list[str]]) -> list[T]:
            records: list[T] = msgspec.convert(
                [dict(zip(names, row, strict=True)) for row in rows], target, strict=False
            )
            return records

        return to_objects

    def _refuse(self, path: str, offset: int, block: bytes, names: Sequence[str]) -> None:
        """Name the first bad line of a block that holds one."""
        convert = self._converter(names)
        for raw in block.split(b"\n"):
            line = self.decoder.text(path, offset, raw).removesuffix("\r")
            header = offset == 0 and self.has_header
            if line and not header:
                try:
                    rows = list(self._rows([line]))
                    self._check_width(rows[0], names)
                    convert(rows)
                except (csv.Error, msgspec.ValidationError) as error:
                    raise _malformed(str(error), place_of(path, offset), line) from None
            offset += len(raw) + 1

    def _check_width(self, row: list[str], names: Sequence[str]) -> None:
        if len(row) != len(names):
            raise csv.Error(f"{len(row)} fields where {len(names)} were expected")

    def _read_whole(self, split: FileSplit) -> Iterator[list[T]]:
        _allow_long_fields()
        with reading(split.path) as file:
            encoding = "utf-8-sig" if self.decoder.encoding == "utf-8" else self.decoder.encoding
            text = io.TextIOWrapper(
                io.BufferedReader(cast(io.RawIOBase, file)), encoding, self.decoder.errors, newline=""
            )
            reader = self._rows(text)
            start = 1
            try:
                first = list(islice(reader, 1))
                names = self.fields or tuple(chain(*first))
                convert = self._converter(names)
                rest = reader if self.has_header else chain(first, reader)
                start = reader.line_num + 1 if self.has_header else 1
                while rows := list(islice(rest, ROWS_PER_BATCH)):
                    rows = list(filter(None, rows))
                    for row in rows:
                        self._check_width(row, names)
                    if records := convert(rows):
                        yield records
                    start = reader.line_num + 1
            except UnicodeDecodeError as error:
                raise ConnectorError(
                    f"The input file is not {self.decoder.encoding}: {error.reason}.",
                    detail=f"{split.path}: after line {start - 1}",
                    hint='Give the file\'s encoding, or errors="replace" to read on.',
                ) from None
            except (csv.Error, msgspec.ValidationError) as error:
                raise ConnectorError(
                    f"A row of the input file is malformed: {error}.",
                    detail=f"{split.path}: between line {start} and line {reader.line_num}",
                ) from None


def _allow_long_fields() -> None:
    """The csv module's limit of 128 KiB per field is a setting of the process."""
    csv.field_size_limit(max(csv.field_size_limit(), LINE_LENGTH_MAX_BYTES))


def _malformed(reason: str, place: str, line: str) -> ConnectorError:
    hint = None
    if reason == "unexpected end of data":
        reason = "a quoted field does not end on its line"
        hint = "If fields may hold line breaks, give multiline=True: each file is then read as one piece."
    return ConnectorError(
        f"A line of the input file is malformed: {reason}.", detail=f"{place}\n{excerpt(line)}", hint=hint
    )
