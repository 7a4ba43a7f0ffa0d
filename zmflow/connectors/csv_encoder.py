"""``CsvEncoder``: turns batches of records into CSV lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

import msgspec

from zmflow.errors import ConnectorError

__all__ = ["CsvEncoder"]


class CsvEncoder:
    """Remembers the columns and whether the header was written."""

    def __init__(self, columns: tuple[str, ...] | None, delimiter: str, header: bool) -> None:
        self._columns = columns
        self._delimiter = delimiter
        self._header = header
        self._row: Callable[[Any], Sequence[object]] | None = None

    def encode(self, values: Sequence[Any]) -> bytes:
        """The lines of a batch, with the header before the first."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
        if self._row is None:
            self._row = self._row_of(values[0])
            if self._header and self._columns:
                writer.writerow(self._columns)
        try:
            writer.writerows(map(self._row, values))
        except (csv.Error, KeyError, AttributeError, TypeError) as error:
            raise ConnectorError(
                f"A record cannot be written as CSV: {type(error).__name__}: {error}.",
                detail=f"Columns: {', '.join(self._columns or ())}",
                hint="Every record must have the fields of the first one, or those given as columns.",
            ) from None
        return text.getvalue().encode()

    def _row_of(self, first: object) -> Callable[[Any], Sequence[object]]:
        if isinstance(first, Mapping):
            columns = self._columns = self._columns or tuple(map(str, first))
            return lambda record: [record[column] for column in columns]
        names = _field_names(first)
        if names:
            self._columns = self._columns or names
            return _attributes(self._columns)
        if isinstance(first, (tuple, list)):
            return lambda record: record
        return lambda record: (record,)


def _field_names(record: object) -> tuple[str, ...]:
    if is_dataclass(record):
        return tuple(field.name for field in fields(record))
    if isinstance(record, msgspec.Struct):
        return record.__struct_fields__
    return ()


def _attributes(columns: tuple[str, ...]) -> Callable[[Any], Sequence[object]]:
    get = attrgetter(*columns)
    return get if len(columns) > 1 else lambda record: (get(record),)
