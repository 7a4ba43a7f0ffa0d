"""Values made to fit a declared type, as they are when PyFlink hands them through Java.

What fits already is handed on as it is, and so is None. What cannot fit is an error that names the type and
the value. As in PyFlink, a float declared as an integer loses its fraction, and a tuple its surplus fields.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, TypeAlias

from zmflow.api.row import Row, RowKind, named_row
from zmflow.api.typeinfo.java_numbers import to_float32, wrapped
from zmflow.api.types import TypeInformation

__all__ = ["Coercer", "coercer_for"]

Coercer: TypeAlias = Callable[[Any], Any]

_BITS = {"BYTE": 8, "SHORT": 16, "INT": 32, "LONG": 64}


def coercer_for(type_info: TypeInformation | None) -> Coercer | None:
    """What makes values fit a type; None where every value is left as it is.

    >>> from zmflow.api.types import Types
    >>> coercer_for(Types.TUPLE([Types.STRING(), Types.SHORT()]))(["a", 43878])
    ('a', -21658)
    >>> coercer_for(Types.STRING()) is None, coercer_for(None) is None
    (True, True)
    """
    if type_info is None:
        return None
    kind = type_info.kind
    if kind in _BITS:
        return _integer_coercer(kind, _BITS[kind])
    if kind in _MAKERS:
        return _MAKERS[kind](type_info)
    return _SCALARS.get(kind)


def _integer_coercer(kind: str, bits: int) -> Coercer:
    least, end = -(1 << (bits - 1)), 1 << (bits - 1)

    def to_integer(value: Any) -> Any:
        if type(value) is int and least <= value < end:
            return value
        if value is None:
            return None
        return wrapped(_whole(kind, value), bits)

    return to_integer


def _whole(kind: str, value: Any) -> int:
    try:
        return int(value) if isinstance(value, float) else operator.index(value)
    except (TypeError, ValueError, OverflowError):  # a text, not a number, infinity
        raise _misfit(kind, value) from None


def _to_float(value: Any) -> Any:
    return None if value is None else to_float32(_number("FLOAT", value))


def _to_double(value: Any) -> Any:
    return value if type(value) is float or value is None else _number("DOUBLE", value)


def _number(kind: str, value: Any) -> float:
    if isinstance(value, (str, bytes)):
        raise _misfit(kind, value)
    try:
        return float(value)
    except TypeError:
        raise _misfit(kind, value) from None


def _to_boolean(value: Any) -> Any:
    return value if value is None or value is True or value is False else bool(value)


def _to_big_integer(value: Any) -> Any:
    return value if type(value) is int or value is None else _whole("BIG_INT", value)


def _to_big_decimal(value: Any) -> Any:
    if value is None or isinstance(value, Decimal):
        return value
    if isinstance(value, int):
        return Decimal(value)
    raise _misfit("BIG_DEC", value)


def _to_date(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.date()
    if value is None or isinstance(value, date):
        return value
    raise _misfit("SQL_DATE", value)


def _to_time(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, time):
        raise _misfit("SQL_TIME", value)
    return value.replace(microsecond=value.microsecond // 1000 * 1000, tzinfo=None)


def _to_timestamp(value: Any) -> Any:
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise _misfit("SQL_TIMESTAMP", value)
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


_SCALARS: dict[str, Coercer] = {
    "FLOAT": _to_float,
    "DOUBLE": _to_double,
    "BOOLEAN": _to_boolean,
    "BIG_INT": _to_big_integer,
    "BIG_DEC": _to_big_decimal,
    "SQL_DATE": _to_date,
    "SQL_TIME": _to_time,
    "SQL_TIMESTAMP": _to_timestamp,
}


def _tuple_coercer(type_info: TypeInformation) -> Coercer:
    width = len(type_info.inner)
    changing = _changing_fields(type_info.inner)

    def to_tuple(value: Any) -> Any:
        if type(value) is not tuple:
            if value is None:
                return None
            if not isinstance(value, (tuple, list, Row)):
                raise _misfit(type_info, value)
            value = tuple(value)
        if len(value) != width:
            value = _shortened(type_info, value)
        for position, coerce in changing:
            field = value[position]
            fitting = coerce(field)
            if fitting is not field:
                value = (*value[:position], fitting, *value[position + 1 :])
        return value

    return to_tuple


def _row_coercer(type_info: TypeInformation) -> Coercer:
    names = tuple(type_info.get_field_names())
    width = len(names)
    changing = _changing_fields(type_info.inner)

    def to_row(value: Any) -> Any:
        if value is None:
            return None
        values = _row_values(value, names)
        if values is None:
            raise _misfit(type_info, value)
        if len(values) != width:
            values = _shortened(type_info, values)
        fields = list(values)
        for position, coerce in changing:
            fields[position] = coerce(fields[position])
        return named_row(fields, names, value.get_row_kind() if isinstance(value, Row) else RowKind.INSERT)

    return to_row


def _row_values(value: Any, names: tuple[str, ...]) -> Sequence[Any] | None:
    if isinstance(value, Row):
        known = value.field_names
        if known is names or known is None or known == names or not set(names) <= set(known):
            return list(value)
        return value.get_fields_by_names(names)
    if isinstance(value, (tuple, list)):
        return value
    if isinstance(value, Mapping):
        return [value.get(name) for name in names]
    attributes = getattr(value, "__dict__", None)
    return None if attributes is None else [attributes.get(name) for name in names]


def _shortened(type_info: TypeInformation, values: Sequence[Any]) -> Sequence[Any]:
    if len(values) < len(type_info.inner):
        raise _misfit(type_info, values)
    return values[: len(type_info.inner)]


def _changing_fields(types: Sequence[TypeInformation]) -> list[tuple[int, Coercer]]:
    """The fields whose values may change, by position."""
    found = ((position, coercer_for(each)) for position, each in enumerate(types))
    return [(position, coerce) for position, coerce in found if coerce is not None]


def _list_coercer(type_info: TypeInformation) -> Coercer:
    element = coercer_for(type_info.inner[0])
    is_bytes = type_info.kind == "PRIMITIVE_ARRAY" and type_info.inner[0].kind == "BYTE"

    def to_list(value: Any) -> Any:
        if value is None:
            return None
        if is_bytes and isinstance(value, (bytes, bytearray)):
            return bytes(value)
        if isinstance(value, (str, bytes, Mapping)):
            raise _misfit(type_info, value)
        try:
            values = value if type(value) is list else list(value)
        except TypeError:
            raise _misfit(type_info, value) from None
        return values if element is None else [element(each) for each in values]

    return to_list


def _map_coercer(type_info: TypeInformation) -> Coercer:
    of_key, of_value = (coercer_for(each) or _same for each in type_info.inner)

    def to_dict(value: Any) -> Any:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise _misfit(type_info, value)
        return {of_key(key): of_value(item) for key, item in value.items()}

    return to_dict


def _same(value: Any) -> Any:
    return value


_MAKERS: dict[str, Callable[[TypeInformation], Coercer]] = {
    "TUPLE": _tuple_coercer,
    "ROW": _row_coercer,
    "LIST": _list_coercer,
    "PRIMITIVE_ARRAY": _list_coercer,
    "BASIC_ARRAY": _list_coercer,
    "OBJECT_ARRAY": _list_coercer,
    "MAP": _map_coercer,
}


def _misfit(type_info: TypeInformation | str, value: Any) -> TypeError:
    return TypeError(f"A value declared as {type_info} is a {type(value).__name__}: {value!r:.200}")
