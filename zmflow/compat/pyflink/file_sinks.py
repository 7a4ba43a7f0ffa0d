"""File sinks and sources with PyFlink's builders, over zmflow's own."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import Any

from zmflow import connectors
from zmflow.api.notices import notice_once
from zmflow.api.typeinfo import renderer_for
from zmflow.api.types import TypeInformation
from zmflow.connectors.file_source import FileSourceBuilder

__all__ = ["FileSink", "FileSinkBuilder", "FileSourceBuilder", "OutputFileConfig", "RollingPolicy"]


@dataclass(frozen=True)
class OutputFileConfig:
    """What the names of part files begin and end with.

    >>> OutputFileConfig.builder().with_part_suffix(".txt").build()
    OutputFileConfig(part_prefix='part', part_suffix='.txt')
    """

    part_prefix: str = "part"
    part_suffix: str = ""

    @staticmethod
    def builder() -> OutputFileConfigBuilder:
        """Choose prefix and suffix, then ``build()``."""
        return OutputFileConfigBuilder()


class OutputFileConfigBuilder:
    """Makes an ``OutputFileConfig``."""

    def __init__(self) -> None:
        self._prefix, self._suffix = "part", ""

    def with_part_prefix(self, prefix: str) -> OutputFileConfigBuilder:
        """What names begin with."""
        self._prefix = prefix
        return self

    def with_part_suffix(self, suffix: str) -> OutputFileConfigBuilder:
        """What names end with."""
        self._suffix = suffix
        return self

    def build(self) -> OutputFileConfig:
        """The configuration."""
        return OutputFileConfig(self._prefix, self._suffix)


class RollingPolicy:
    """When a part file is closed and another begun. Accepted: each subtask writes one."""

    @staticmethod
    def default_rolling_policy(*limits: int, **named_limits: int) -> RollingPolicy:  # noqa: ARG004 - see above
        """By size in bytes and time in milliseconds."""
        return RollingPolicy()

    @staticmethod
    def on_checkpoint_rolling_policy() -> RollingPolicy:
        """At each checkpoint."""
        return RollingPolicy()


class FileSink(connectors.FileSink[Any]):
    """Part files in a directory, made by ``for_row_format``."""

    @staticmethod
    def for_row_format(base_path: str | os.PathLike[str], encoder: connectors.Encoder) -> FileSinkBuilder:  # type: ignore[override]  # a builder of more
        """A line of text for each record; in Java's form where its type is declared."""
        return FileSinkBuilder(base_path, encoder)


class FileSinkBuilder:
    """Makes the sink of ``FileSink.for_row_format``."""

    def __init__(self, base_path: str | os.PathLike[str], encoder: connectors.Encoder) -> None:
        self._path = base_path
        self._encoder = encoder
        self._names = OutputFileConfig()

    def with_output_file_config(self, output_file_config: OutputFileConfig) -> FileSinkBuilder:
        """Choose the names of part files. They begin with ``part`` all the same."""
        if output_file_config.part_prefix != "part":
            notice_once(
                "part prefix", "The part files of zmflow begin with 'part': another prefix has no effect."
            )
        self._names = output_file_config
        return self

    def with_rolling_policy(self, rolling_policy: RollingPolicy) -> FileSinkBuilder:  # noqa: ARG002
        """Accepted: each subtask writes one part file."""
        return self

    def with_bucket_check_interval(self, interval: int) -> FileSinkBuilder:  # noqa: ARG002
        """Accepted: each subtask writes one part file."""
        return self

    def build(self) -> RowFormatFileSink:
        """The sink."""
        return RowFormatFileSink(
            self._path, str, encoding=self._encoder.charset_name, suffix=self._names.part_suffix
        )


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
