"""PyFlink's classes of declared types, as functions: all of zmflow's types are ``TypeInformation``."""

from __future__ import annotations

from collections.abc import Sequence

from zmflow.api.types import TypeInformation, Types

__all__ = [
    "BasicArrayTypeInfo",
    "BasicTypeInfo",
    "ListTypeInfo",
    "MapTypeInfo",
    "ObjectArrayTypeInfo",
    "PickledBytesTypeInfo",
    "PrimitiveArrayTypeInfo",
    "RowTypeInfo",
    "SqlTimeTypeInfo",
    "TupleTypeInfo",
]

BasicArrayTypeInfo = Types.BASIC_ARRAY
ListTypeInfo = Types.LIST
MapTypeInfo = Types.MAP
ObjectArrayTypeInfo = Types.OBJECT_ARRAY
PickledBytesTypeInfo = Types.PICKLED_BYTE_ARRAY
PrimitiveArrayTypeInfo = Types.PRIMITIVE_ARRAY
TupleTypeInfo = Types.TUPLE


def RowTypeInfo(  # noqa: N802 - PyFlink's name
    field_types: Sequence[TypeInformation], field_names: Sequence[str] | None = None
) -> TypeInformation:
    """A row, with or without field names.

    >>> RowTypeInfo([Types.INT()], ["a"]) == Types.ROW_NAMED(["a"], [Types.INT()])
    True
    """
    return Types.ROW(field_types) if field_names is None else Types.ROW_NAMED(field_names, field_types)


class BasicTypeInfo:
    """The types of single values."""

    STRING_TYPE_INFO = Types.STRING
    BOOLEAN_TYPE_INFO = Types.BOOLEAN
    BYTE_TYPE_INFO = Types.BYTE
    SHORT_TYPE_INFO = Types.SHORT
    INT_TYPE_INFO = Types.INT
    LONG_TYPE_INFO = Types.LONG
    FLOAT_TYPE_INFO = Types.FLOAT
    DOUBLE_TYPE_INFO = Types.DOUBLE
    CHAR_TYPE_INFO = Types.CHAR
    BIG_INT_TYPE_INFO = Types.BIG_INT
    BIG_DEC_TYPE_INFO = Types.BIG_DEC
    INSTANT_TYPE_INFO = Types.INSTANT


class SqlTimeTypeInfo:
    """The types of dates and times."""

    DATE = Types.SQL_DATE
    TIME = Types.SQL_TIME
    TIMESTAMP = Types.SQL_TIMESTAMP
