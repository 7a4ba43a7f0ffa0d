"""Keyed aggregates as functions of (accumulated record, next record) → record.

``combiner_for`` answers with the fastest function for the kind of record at hand. Records of one stream
are nearly always of one type and arity, so the choice is made at the first record of a key and the
function it yields falls back to the general one when a record turns out to differ.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import msgspec

from zmflow.errors import ConnectorError

__all__ = ["AdaptingCombine", "AggregateKind", "Combine", "combiner_for"]

Combine = Callable[[Any, Any], Any]
AggregateKind = Literal["sum", "min", "max", "min_by", "max_by"]
Field = int | str | None


def combiner_for(kind: AggregateKind, field: Field, first: object) -> Combine:
    """How two records of one key become one, for records like ``first``.

    >>> combiner_for("sum", 1, ("a", 1))(("a", 1), ("a", 4))
    ('a', 5)
    >>> combiner_for("max", 1, ("a", 1, "x"))(("a", 1, "x"), ("a", 4, "y"))
    ('a', 4, 'x')
    >>> combiner_for("max_by", 1, ("a", 1, "x"))(("a", 1, "x"), ("a", 4, "y"))
    ('a', 4, 'y')
    >>> combiner_for("sum", None, 1)(1, 2)
    3
    """
    if isinstance(field, int) and not isinstance(first, (tuple, list)) and not _has_items(first):
        field = None  # a bare number is its own and only field, as in PyFlink
    if kind in ("min_by", "max_by"):
        return _choose(kind, field)
    if field is None:
        return _SCALAR[kind]
    if type(first) is tuple and isinstance(field, int) and 0 <= field < len(first):
        return _tuple_combiner(kind, field, len(first), _general(kind, field))
    return _general(kind, field)


class AdaptingCombine:
    """Chooses the combiner when the first pair of records shows what they are.

    ``resolved`` is the chosen function, or this object while there has been no pair.
    """

    __slots__ = ("_combine", "_field", "_kind")

    def __init__(self, kind: AggregateKind, field: Field) -> None:
        self._kind = kind
        self._field = field
        self._combine: Combine | None = None

    def resolved(self) -> Combine:
        """What to call for the next batch."""
        return self._combine or self

    def __call__(self, total: Any, record: Any) -> Any:
        if self._combine is None:
            self._combine = combiner_for(self._kind, self._field, total)
        return self._combine(total, record)


def _has_items(record: object) -> bool:
    return hasattr(type(record), "__getitem__") and not isinstance(record, (str, bytes))


_SCALAR: dict[str, Combine] = {
    "sum": lambda total, value: total + value,
    "min": lambda least, value: value if value < least else least,
    "max": lambda most, value: value if value > most else most,
}

_TUPLE_EXPRESSION = {
    "sum": "a{p} + b{p}",
    "min": "b{p} if b{p} < a{p} else a{p}",
    "max": "b{p} if b{p} > a{p} else a{p}",
}


def _tuple_combiner(kind: str, position: int, arity: int, general: Combine) -> Combine:
    """Unpacking refuses a record of another arity, so the fast path cannot drop a field."""
    names_a = "".join(f"a{i}, " for i in range(arity))
    names_b = "".join(f"b{i}, " if i == position else "_, " for i in range(arity))
    expression = _TUPLE_EXPRESSION[kind].format(p=position)
    result = "".join(f"({expression}), " if i == position else f"a{i}, " for i in range(arity))
    source = (
        "def combine(total, record):\n"
        "    try:\n"
        f"        {names_a}= total\n"
        f"        {names_b}= record\n"
        "    except ValueError:\n"
        "        return general(total, record)\n"
        f"    return ({result})\n"
    )
    namespace: dict[str, Any] = {"general": general}
    exec(compile(source, "<zmflow aggregate>", "exec"), namespace)  # noqa: S102 - our own text above
    combine: Combine = namespace["combine"]
    return combine


def _general(kind: str, field: int | str) -> Combine:
    scalar = _SCALAR[kind]

    def combine(total: Any, record: Any) -> Any:
        return _replaced(total, field, scalar(_get(total, field), _get(record, field)))

    return combine


def _choose(kind: str, field: Field) -> Combine:
    # The first of equals stays, as in Flink's minBy and maxBy.
    if kind == "min_by":
        return lambda best, record: record if _get(record, field) < _get(best, field) else best
    return lambda best, record: record if _get(record, field) > _get(best, field) else best


def _get(record: Any, field: Field) -> Any:
    if field is None:
        return record
    try:
        if isinstance(field, int) or isinstance(record, dict) or not hasattr(record, field):
            return record[field]
        return getattr(record, field)
    except (IndexError, KeyError, TypeError, AttributeError):
        raise ConnectorError(
            f"A record has no field {field!r} to aggregate.",
            detail=f"{record!r:.200}",
            hint="Give the position or name of a field that every record has.",
        ) from None


def _replaced(record: Any, field: int | str, value: Any) -> Any:
    """A copy of the record with one field changed."""
    if isinstance(record, tuple):
        if isinstance(field, str):
            return record._replace(**{field: value})  # type: ignore[attr-defined]
        position = field % len(record)
        changed = (*record[:position], value, *record[position + 1 :])
        return changed if type(record) is tuple else type(record)._make(changed)  # type: ignore[attr-defined]
    if isinstance(field, str):
        if dataclasses.is_dataclass(record) and not isinstance(record, type):
            return dataclasses.replace(record, **{field: value})
        if isinstance(record, msgspec.Struct):
            return msgspec.structs.replace(record, **{field: value})
    changed_copy = copy.copy(record)
    if isinstance(field, str) and not isinstance(record, dict) and hasattr(record, field):
        setattr(changed_copy, field, value)
    else:
        changed_copy[field] = value
    return changed_copy
