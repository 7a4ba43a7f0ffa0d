"""``RecordMapping``: records of any kind as tuples of column values."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any

from zmflow.api.row import Row, RowKind
from zmflow.errors import ConnectorError

__all__ = ["RecordMapping", "shown"]

SHOWN_CHARACTERS_MAX = 300
"""Enough of a record to find it; one can be megabytes."""

Extract = Callable[[Any], tuple[Any, ...]]


def shown(record: object) -> str:
    """A record in an error.

    >>> shown(("a", 1))
    "('a', 1)"
    """
    text = repr(record)
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"


class RecordMapping:
    """Tuples, lists and rows without names go by position; dicts, named rows and tuples, dataclasses and
    other objects by name. Anything else is the value of the only column.

    Args:
        columns: to take from a record, in this order; None when everything is taken in the record's order.
        exact: whether a field that no column takes is an error.
        target: what is written to, for errors.

    >>> mapping = RecordMapping(["word", "count"], exact=True, target="words")
    >>> mapping.rows([("a", 1), {"count": 2, "word": "b"}, Row(word="c", count=3)])
    [('a', 1), ('b', 2), ('c', 3)]
    """

    def __init__(self, columns: Sequence[str] | None, *, exact: bool, target: str) -> None:
        self._columns = None if columns is None else tuple(columns)
        self._exact = exact
        self._target = target
        self._extracts: dict[type, Extract] = {}

    def rows(self, records: Sequence[Any]) -> list[tuple[Any, ...]]:
        """The column values of records."""
        extracts = self._extracts
        rows = []
        for record in records:
            kind = type(record)
            extract = extracts.get(kind)
            if extract is None:
                extract = extracts[kind] = self._extract_of(kind)
            rows.append(extract(record))
        return rows

    def _extract_of(self, kind: type) -> Extract:
        if issubclass(kind, Row):
            return self._of_row
        names = _fields_of(kind)
        if names is not None:
            return self._of_object(names)
        if issubclass(kind, (tuple, list)):
            return self._by_position
        if issubclass(kind, Mapping):
            return self._of_mapping()
        if self._columns is None or len(self._columns) == 1:
            return _only_value
        return self._of_object(None)

    def _by_position(self, record: Sequence[Any]) -> tuple[Any, ...]:
        columns = self._columns
        if columns is not None and len(record) != len(columns):
            raise self._refused(
                f"It has {len(record)} values for {len(columns)} columns: {', '.join(columns)}.", record
            )
        return tuple(record)

    def _of_row(self, record: Row) -> tuple[Any, ...]:
        if record.get_row_kind() in (RowKind.DELETE, RowKind.UPDATE_BEFORE):
            raise self._refused(f"It is a change of the kind {record.get_row_kind()}.", record)
        columns, names = self._columns, record.field_names
        if columns is None or names is None or names == columns:
            return self._by_position(list(record))
        self._check(names, record)
        return tuple(record[column] for column in columns)

    def _of_mapping(self) -> Extract:
        columns = self._columns
        if columns is None:
            raise ConnectorError(
                f"Which fields of a dict go into {self._target}?",
                hint="Name them: columns=[...], one for each %s of the statement.",
            )
        get = _one(itemgetter(*columns)) if len(columns) == 1 else itemgetter(*columns)
        width = len(columns) if self._exact else None

        def of_mapping(record: Mapping[str, Any]) -> tuple[Any, ...]:
            if width is not None and len(record) != width:
                self._check(record, record)
            try:
                row: tuple[Any, ...] = get(record)
            except KeyError:
                self._check(record, record)
                raise
            return row

        return of_mapping

    def _of_object(self, names: Sequence[str] | None) -> Extract:
        columns = self._columns
        if columns is None:
            assert names is not None
            columns = tuple(names)
        get = _one(attrgetter(*columns)) if len(columns) == 1 else attrgetter(*columns)
        checked = names is None

        def of_object(record: object) -> tuple[Any, ...]:
            nonlocal checked
            if not checked:
                assert names is not None
                self._check(names, record)
                checked = True
            try:
                row: tuple[Any, ...] = get(record)
            except AttributeError as error:
                raise self._refused(f"{error}.", record) from None
            return row

        return of_object

    def _check(self, names: Sequence[str] | Mapping[str, Any], record: object) -> None:
        """Every column must be among the names, and where it is exact every name among the columns."""
        columns = self._columns
        if columns is None:
            return
        if missing := [column for column in columns if column not in names]:
            raise self._refused(f"It has nothing for column {missing[0]}.", record)
        if self._exact and (unknown := [name for name in names if name not in columns]):
            raise self._refused(f"There is no column {unknown[0]} for its field of that name.", record)

    def _refused(self, why: str, record: object) -> ConnectorError:
        return ConnectorError(
            f"A record does not fit {self._target}.",
            detail=f"{why} The record: {shown(record)}",
            hint="Name the columns to write with columns=[...], or map the records first.",
        )


def _fields_of(kind: type) -> tuple[str, ...] | None:
    """The names of the fields of a class that has such."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    for attribute in ("_fields", "__struct_fields__"):  # named tuples; structs of msgspec
        names = getattr(kind, attribute, None)
        if isinstance(names, tuple):
            return names
    return None


def _only_value(record: object) -> tuple[Any, ...]:
    return (record,)


def _one(get: Callable[[Any], Any]) -> Extract:
    return lambda record: (get(record),)
