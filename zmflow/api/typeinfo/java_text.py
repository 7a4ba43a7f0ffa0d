"""The one place that knows how Java writes values: what printing a stream of a declared type gives.

Only what the declaration names takes Java's form; values of no declared type are written as ``str`` writes
them. A mapping is written in its own order, where Java's has an order of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time
from typing import Any, TypeAlias

from zmflow.api.row import Row
from zmflow.api.time import Instant
from zmflow.api.typeinfo.java_numbers import double_text, float_text, wrapped
from zmflow.api.types import TypeInformation

__all__ = ["Renderer", "render", "renderer_for"]

Renderer: TypeAlias = Callable[[Any], str]


def render(value: Any, type_info: TypeInformation | None = None) -> str:
    """The text of a value of this type; of no declared type, what ``str`` gives.

    >>> from zmflow.api.types import Types
    >>> render(("a", 1, None), Types.ROW([Types.STRING(), Types.INT(), Types.STRING()]))
    '+I[a, 1, null]'
    >>> render(("a", [1.0, 2.5]), Types.TUPLE([Types.STRING(), Types.LIST(Types.DOUBLE())]))
    '(a,[1.0, 2.5])'
    >>> render(("a", 1))
    "('a', 1)"
    """
    return renderer_for(type_info)(value)


def renderer_for(type_info: TypeInformation | None) -> Renderer:
    """What writes values of a type; ``str`` where none is declared."""
    if type_info is None or type_info.kind == "PICKLED_BYTE_ARRAY":
        return str
    maker = _MAKERS.get(type_info.kind)
    write = _SCALARS.get(type_info.kind, str) if maker is None else maker(type_info)
    return lambda value: "null" if value is None else write(value)


def _boolean(value: Any) -> str:
    return "true" if value else "false"


def _time(value: Any) -> str:
    return value.strftime("%H:%M:%S") if isinstance(value, time) else str(value)


def _timestamp(value: Any) -> str:
    if not isinstance(value, datetime):
        return str(value)
    fraction = f"{value.microsecond:06}".rstrip("0") or "0"
    return f"{value:%Y-%m-%d %H:%M:%S}.{fraction}"


def _instant(value: Any) -> str:
    if not isinstance(value, Instant):
        return str(value)
    fraction = ""
    for digits in (3, 6, 9):  # Java writes as many groups of three as there is something in
        if value.nanos:
            fraction = f".{value.nanos:09}"[: digits + 1]
            if value.nanos % 10 ** (9 - digits) == 0:
                break
    return f"{datetime.fromtimestamp(value.seconds, UTC):%Y-%m-%dT%H:%M:%S}{fraction}Z"


_SCALARS: dict[str, Renderer] = {
    "BOOLEAN": _boolean,
    "FLOAT": float_text,
    "DOUBLE": double_text,
    "SQL_TIME": _time,
    "SQL_TIMESTAMP": _timestamp,
    "INSTANT": _instant,
}


def _row(type_info: TypeInformation) -> Renderer:
    write = _fields(type_info)

    def write_row(value: Any) -> str:
        kind = value.get_row_kind() if isinstance(value, Row) else "+I"
        return f"{kind}[{', '.join(write(value))}]"

    return write_row


def _tuple(type_info: TypeInformation) -> Renderer:
    write = _fields(type_info)
    return lambda value: f"({','.join(write(value))})"


def _fields(type_info: TypeInformation) -> Callable[[Any], Sequence[str]]:
    renderers = [renderer_for(each) for each in type_info.inner]

    def write_fields(value: Any) -> Sequence[str]:
        values = value.values() if isinstance(value, Mapping) else value
        return [write(each) for write, each in zip(renderers, values, strict=True)]

    return write_fields


def _list(type_info: TypeInformation) -> Renderer:
    write = renderer_for(type_info.inner[0])

    def write_list(value: Any) -> str:
        if isinstance(value, (bytes, bytearray)):
            return f"[{', '.join(str(wrapped(byte, 8)) for byte in value)}]"
        return f"[{', '.join(map(write, value))}]"

    return write_list


def _map(type_info: TypeInformation) -> Renderer:
    write_key, write_value = (renderer_for(each) for each in type_info.inner)

    def write_map(value: Any) -> str:
        return f"{{{', '.join(f'{write_key(key)}={write_value(item)}' for key, item in value.items())}}}"

    return write_map


_MAKERS: dict[str, Callable[[TypeInformation], Renderer]] = {
    "ROW": _row,
    "TUPLE": _tuple,
    "LIST": _list,
    "PRIMITIVE_ARRAY": _list,
    "BASIC_ARRAY": _list,
    "OBJECT_ARRAY": _list,
    "MAP": _map,
}
