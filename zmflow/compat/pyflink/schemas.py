"""Serialization schemas: values from bytes and to bytes, for connectors that carry bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zmflow.api.row import Row
from zmflow.api.typeinfo import coercer_for
from zmflow.api.types import TypeInformation
from zmflow.errors import ConnectorError

__all__ = [
    "ByteArraySchema",
    "CountWindowSerializer",
    "DeserializationSchema",
    "GlobalWindowSerializer",
    "JsonRowDeserializationSchema",
    "JsonRowSerializationSchema",
    "RowFieldExtractorSchema",
    "SerializationSchema",
    "SimpleStringSchema",
    "TimeWindowSerializer",
]


class SerializationSchema:
    """Turns values into bytes."""

    def serialize(self, value: Any) -> bytes:
        """The bytes of a value."""
        raise NotImplementedError(f"{type(self).__name__} does not serialize")


class DeserializationSchema:
    """Turns bytes into values."""

    def deserialize(self, message: bytes) -> Any:
        """The value of a message."""
        raise NotImplementedError(f"{type(self).__name__} does not deserialize")


class SimpleStringSchema(SerializationSchema, DeserializationSchema):
    """Texts.

    >>> SimpleStringSchema().serialize("a"), SimpleStringSchema().deserialize(b"a")
    (b'a', 'a')
    """

    def __init__(self, charset: str = "UTF-8") -> None:
        self.charset = charset

    def serialize(self, value: Any) -> bytes:
        return str(value).encode(self.charset)

    def deserialize(self, message: bytes) -> str:
        return message.decode(self.charset)


class ByteArraySchema(SerializationSchema, DeserializationSchema):
    """Bytes as they are."""

    def serialize(self, value: Any) -> bytes:
        return bytes(value)

    def deserialize(self, message: bytes) -> bytes:
        return message


class RowFieldExtractorSchema(SerializationSchema):
    """The bytes in one field of each row."""

    def __init__(self, field_index: int) -> None:
        if field_index < 0:
            raise ValueError("Field index must be non-negative")
        self.field_index = field_index

    def serialize(self, value: Any) -> bytes:
        return bytes(value[self.field_index])


class JsonRowSerializationSchema(SerializationSchema):
    """Rows as JSON objects."""

    def __init__(self, field_names: Sequence[str]) -> None:
        self.field_names = tuple(field_names)

    @staticmethod
    def builder() -> _JsonBuilder:
        """Choose the type of the rows, then ``build()``."""
        return _JsonBuilder()

    def serialize(self, value: Any) -> bytes:
        fields = value.as_dict(True) if isinstance(value, Row) and value.field_names else None
        return json.dumps(fields or dict(zip(self.field_names, value, strict=True))).encode()


class JsonRowDeserializationSchema(DeserializationSchema):
    """JSON objects as rows of a declared type."""

    def __init__(
        self, type_info: TypeInformation, *, ignore_parse_errors: bool = False, fail_on_missing: bool = False
    ) -> None:
        self.type_info = type_info
        self._ignore = ignore_parse_errors
        self._strict = fail_on_missing
        self._fit = coercer_for(type_info) or (lambda value: value)

    @staticmethod
    def builder() -> _JsonBuilder:
        """Choose the type of the rows and what to do about mistakes, then ``build()``."""
        return _JsonBuilder(deserializes=True)

    def deserialize(self, message: bytes) -> Any:
        try:
            fields = json.loads(message)
            row = self._fit(fields)
        except (ValueError, TypeError) as error:
            return self._wrong(message, str(error))
        missing = sorted(set(self.type_info.get_field_names()) - set(fields))
        return self._wrong(message, f"no field {', '.join(missing)}") if missing and self._strict else row

    def _wrong(self, message: bytes, reason: str) -> None:
        if not self._ignore:
            raise ConnectorError("A message is not a JSON row.", detail=f"{message!r:.200}: {reason}")


class _WindowSerializer:
    """What a window assigner's ``get_window_serializer`` returns. Nobody asks it: windows are pickled."""


class TimeWindowSerializer(_WindowSerializer):
    """For windows of time."""


class CountWindowSerializer(_WindowSerializer):
    """For windows of a count."""


class GlobalWindowSerializer(_WindowSerializer):
    """For the one global window."""


class _JsonBuilder:
    def __init__(self, *, deserializes: bool = False) -> None:
        self._deserializes = deserializes
        self._type: TypeInformation | None = None
        self._ignore = False
        self._fail = False

    def type_info(self, type_info: TypeInformation) -> _JsonBuilder:
        self._type = type_info
        return self

    with_type_info = type_info

    def ignore_parse_errors(self) -> _JsonBuilder:
        self._ignore = True
        return self

    def fail_on_missing_field(self) -> _JsonBuilder:
        self._fail = True
        return self

    def build(self) -> Any:
        if self._type is None:
            raise ValueError("Give the builder a type with type_info().")
        if not self._deserializes:
            return JsonRowSerializationSchema(self._type.get_field_names())
        return JsonRowDeserializationSchema(
            self._type, ignore_parse_errors=self._ignore, fail_on_missing=self._fail
        )
