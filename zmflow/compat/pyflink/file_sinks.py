"""File sinks and sources with PyFlink's builders, over zmflow's own."""

from __future__ import annotations

import copy
import os
from typing import Any

from zmflow import connectors
from zmflow.api.typeinfo import renderer_for
from zmflow.api.types import TypeInformation
from zmflow.connectors import file_sink
from zmflow.connectors.file_source import FileSourceBuilder

__all__ = ["FileSink", "FileSinkBuilder", "FileSourceBuilder"]


class FileSink(connectors.FileSink[Any]):
    """Part files in a directory, made by ``for_row_format``."""

    @staticmethod
    def for_row_format(base_path: str | os.PathLike[str], encoder: connectors.Encoder) -> FileSinkBuilder:
        """A line of text for each record; in Java's form where its type is declared."""
        return FileSinkBuilder(base_path, encoder)


class FileSinkBuilder(file_sink.FileSinkBuilder):
    """Makes the sink of ``FileSink.for_row_format``."""

    def __init__(self, base_path: str | os.PathLike[str], encoder: connectors.Encoder) -> None:
        super().__init__(base_path, encoder)
        self._sink = RowFormatFileSink(base_path, str, encoding=encoder.charset_name)


class RowFormatFileSink(connectors.TextFileSink[Any]):
    """A line of text for each record; in Java's form once it knows their declared type."""

    def for_type(self, type_info: TypeInformation | None) -> RowFormatFileSink:
        """The sink for records of this type."""
        typed = copy.copy(self)
        typed._formatter = str if type_info is None else _Renderer(type_info)
        return typed


class _Renderer:
    """A renderer that can be pickled: it is made from its type where it is used."""

    def __init__(self, type_info: TypeInformation) -> None:
        self._type_info = type_info
        self._render = renderer_for(type_info)

    def __call__(self, value: Any) -> str:
        return self._render(value)

    def __reduce__(self) -> tuple[object, ...]:
        return _Renderer, (self._type_info,)
