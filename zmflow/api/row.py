"""``Row``: a record with positions and, where given, field names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, overload

__all__ = ["Row", "RowKind", "named_row"]


class RowKind(Enum):
    """What a row does to the rows before it in a stream of changes: INSERT, unless it says otherwise."""

    INSERT = 0
    UPDATE_BEFORE = 1
    UPDATE_AFTER = 2
    DELETE = 3

    def __str__(self) -> str:
        return _SIGNS[self]


_SIGNS = {
    RowKind.INSERT: "+I",
    RowKind.UPDATE_BEFORE: "-U",
    RowKind.UPDATE_AFTER: "+U",
    RowKind.DELETE: "-D",
}


def named_row(values: Iterable[Any], names: tuple[str, ...] | None, kind: RowKind = RowKind.INSERT) -> Row:
    """A row of values whose names are known to be distinct and as many."""
    row = Row.__new__(Row)
    _set_values(row, list(values))
    _set_names(row, names)
    _set_kind(row, kind)
    return row


class Row:
    """A record whose fields are reached by position, by name and as attributes.

    A row of names is also a factory of named rows. Rows are equal when their names, values and kinds are;
    do not change a row that was emitted.

    >>> row = Row(name="Ada", born=1815)
    >>> row["name"], row[1], row.born, row.as_dict()
    ('Ada', 1815, 1815, {'name': 'Ada', 'born': 1815})
    >>> Person = Row("name", "born")
    >>> Person("Ada", 1815) == row
    True
    """

    __slots__ = ("_kind", "_names", "_values")

    _kind: RowKind
    _values: list[Any]
    _names: tuple[str, ...] | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if args and kwargs:
            raise ValueError("A Row takes values or named values, not both.")
        object.__setattr__(self, "_values", list(args) if args else list(kwargs.values()))
        object.__setattr__(self, "_names", tuple(kwargs) if kwargs else None)
        object.__setattr__(self, "_kind", RowKind.INSERT)

    @staticmethod
    def of(values: Sequence[Any], names: Sequence[str] | None = None) -> Row:
        """A row of these values, with these names."""
        row = Row(*values)
        if names is not None:
            row.set_field_names(list(names))
        return row

    @staticmethod
    def of_kind(row_kind: RowKind, *args: Any, **kwargs: Any) -> Row:
        """A row of this kind, of values or named values."""
        row = Row(*args, **kwargs)
        row.set_row_kind(row_kind)
        return row

    def get_row_kind(self) -> RowKind:
        """What the row does to the rows before it."""
        return self._kind

    def set_row_kind(self, row_kind: RowKind) -> None:
        """Say what the row does to the rows before it."""
        object.__setattr__(self, "_kind", RowKind(row_kind))

    def as_dict(self, recursive: bool = False) -> dict[str, Any]:
        """Values by name.

        Args:
            recursive: turn rows inside rows, lists and mappings into dictionaries too.

        Raises:
            TypeError: the row has no names.
        """
        if self._names is None:
            raise TypeError("A Row without field names cannot become a dict.")
        values = [_as_plain(value) for value in self._values] if recursive else self._values
        return dict(zip(self._names, values, strict=True))

    def get_fields_by_names(self, names: Sequence[str]) -> list[Any]:
        """The values of these fields, in this order."""
        return [self[name] for name in names]

    def set_field_names(self, field_names: Sequence[str]) -> None:
        """Name the fields.

        Raises:
            ValueError: not one distinct name for each field.
        """
        if len(field_names) != len(self._values) or len(set(field_names)) != len(field_names):
            raise ValueError(f"A Row of {len(self._values)} fields cannot be named {list(field_names)}.")
        object.__setattr__(self, "_names", tuple(field_names))

    @property
    def field_names(self) -> tuple[str, ...] | None:
        """The names of the fields, or None."""
        return self._names

    def __call__(self, *args: Any) -> Row:
        return Row.of(args, self._values)

    def _position(self, name: str) -> int:
        if self._names is None or name not in self._names:
            raise KeyError(name)
        return self._names.index(name)

    @overload
    def __getitem__(self, item: int | str) -> Any: ...
    @overload
    def __getitem__(self, item: slice) -> list[Any]: ...
    def __getitem__(self, item: int | str | slice) -> Any:
        return self._values[self._position(item) if isinstance(item, str) else item]

    def __setitem__(self, item: int | str, value: Any) -> None:
        self._values[self._position(item) if isinstance(item, str) else item] = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in Row.__slots__:
            # Unpickling and copying look for hooks before the slots are filled.
            raise AttributeError(name)
        try:
            return self._values[self._position(name)]
        except KeyError:
            raise AttributeError(f"The Row has no field {name!r}.") from None

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            self._values[self._position(name)] = value
        except KeyError:
            raise AttributeError(f"The Row has no field {name!r}.") from None

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    def __contains__(self, value: object) -> bool:
        return value in self._values

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Row):
            return NotImplemented
        return self._names == other._names and self._values == other._values and self._kind is other._kind

    def __hash__(self) -> int:
        return hash(tuple(self._values))

    def __reduce__(self) -> tuple[object, ...]:
        parts = tuple(self._values), self._names
        return named_row, parts if self._kind is RowKind.INSERT else (*parts, self._kind)

    def __repr__(self) -> str:
        if self._names is None:
            return f"<Row({', '.join(map(repr, self._values))})>"
        return f"Row({', '.join(f'{k}={v!r}' for k, v in zip(self._names, self._values, strict=True))})"


# The slots' own setters: ``Row.__setattr__`` sets fields.
_set_values = vars(Row)["_values"].__set__
_set_names = vars(Row)["_names"].__set__
_set_kind = vars(Row)["_kind"].__set__


def _as_plain(value: Any) -> Any:
    if isinstance(value, Row):
        return value.as_dict(recursive=True)
    if isinstance(value, list):
        return [_as_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _as_plain(item) for key, item in value.items()}
    return value
