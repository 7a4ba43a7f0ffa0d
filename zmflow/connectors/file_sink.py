"""Sinks that write directories of part files: text, JSON lines, CSV.

Each subtask writes its own parts. Until a part is committed, its file has a hidden name; a rename makes it
visible, so a part file is never half of one. Checkpoints commit what was closed before them. Without
checkpoints, and in BATCH mode, the end of the input commits: subtask i then writes ``part-i``, and a task
that is restarted writes it anew and replaces that of its last attempt.

A directory that holds part files already is refused unless checkpoints commit, because names could be the
same; with ``overwrite`` the parts of the earlier job are replaced, and those it had more of are removed.
Sinks that share a directory need prefixes or suffixes that differ.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Generic, Self, TypeVar

import msgspec

from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.connectors.bucket_assigner import BasePathBucketAssigner, BucketAssigner
from zmflow.connectors.csv_encoder import CsvEncoder
from zmflow.connectors.file_listing import PathLike, os_failure
from zmflow.connectors.part_file_writer import PartFileOptions, PartFileWriter, parts_below
from zmflow.connectors.part_files import OpenPart, PartCommitter, PartEncoder
from zmflow.connectors.part_names import OutputFileConfig
from zmflow.connectors.rolling_policy import RollingPolicy
from zmflow.errors import ConnectorError

__all__ = ["CsvFileSink", "Encoder", "FileSink", "FileSinkBuilder", "JsonLinesFileSink", "TextFileSink"]

T = TypeVar("T")

BatchEncoder = Callable[[Sequence[T]], bytes]
"""What a batch of records looks like in the file."""

CHECK_INTERVAL_MS = 60_000
"""Flink's: how often the rolling policy is asked whether time has come."""


class FileSink(Sink[T], Generic[T]):
    """Base of the sinks that write part files.

    Args:
        path: the directory; made when it is missing.
        overwrite: replace the part files of an earlier job.
        suffix: what part names end with: ``.csv``.

    The ``with_`` methods return a sink that differs in one thing:

    >>> sink = TextFileSink("out").with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
    """

    name = "FileSink"

    def __init__(self, path: PathLike, *, overwrite: bool = False, suffix: str = "") -> None:
        self._directory = str(Path(path).absolute())
        self._overwrite = overwrite
        self._names = OutputFileConfig(part_suffix=suffix)
        self._buckets: BucketAssigner[Any] = BasePathBucketAssigner()
        self._rolling: RollingPolicy | None = None
        self._check_interval_ms = CHECK_INTERVAL_MS

    @staticmethod
    def for_row_format(base_path: PathLike, encoder: Encoder) -> FileSinkBuilder:
        """A builder, as PyFlink spells it."""
        return FileSinkBuilder(base_path, encoder)

    def with_bucket_assigner(self, assigner: BucketAssigner[T]) -> Self:
        """Write each record into a directory below the sink's that the assigner chooses."""
        return self._with(_buckets=assigner)

    def with_rolling_policy(self, policy: RollingPolicy) -> Self:
        """Close parts and begin others by this policy.

        By default after 128 MiB or a minute where checkpoints commit, else only at the end of the input.
        """
        return self._with(_rolling=policy)

    def with_bucket_check_interval(self, interval: int) -> Self:
        """How often, in milliseconds, the rolling policy is asked whether time has come: each minute."""
        if interval <= 0:
            raise ConnectorError(f"The bucket check interval is {interval} ms: it must be greater than 0.")
        return self._with(_check_interval_ms=interval)

    def with_output_file_config(self, config: OutputFileConfig) -> Self:
        """Choose what names of parts begin and end with."""
        return self._with(_names=config)

    def _with(self, **values: object) -> Self:
        other = copy.copy(self)
        other.__dict__.update(values)
        return other

    def validate(self) -> None:
        """Refuses a path that is not a directory, and one with part files unless ``overwrite``."""
        self.validate_for(checkpoints=False)

    def validate_for(self, *, checkpoints: bool) -> None:
        """Part files do not matter where checkpoints commit: names differ from job to job."""
        try:
            names = [path.name for path in parts_below(Path(self._directory), self._buckets)]
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_failure("The output directory cannot be used", self._directory, error) from None
        parts = sorted(name for name in names if self._names.subtask_of(name, any_suffix=True) is not None)
        if parts and not self._overwrite and not checkpoints:
            raise ConnectorError(
                "The output directory holds part files already.",
                detail=f"{self._directory}: {parts[0]}"
                + (f" and {len(parts) - 1} more" if parts[1:] else ""),
                hint="Give another directory, or overwrite=True to replace them.",
            )

    def create_writer(self, context: WriterContext) -> SinkWriter[T]:
        return self.restore_writer(context, ())

    def restore_writer(self, context: WriterContext, states: Sequence[OpenPart]) -> SinkWriter[T]:
        return PartFileWriter(self._options(), self._open_encoder, context, states)

    def create_committer(self) -> PartCommitter:
        return PartCommitter(Path(self._directory))

    def _options(self) -> PartFileOptions:
        return PartFileOptions(
            Path(self._directory),
            self._names,
            self._buckets,
            self._rolling,
            self._check_interval_ms,
            self._overwrite,
        )

    @abstractmethod
    def _open_encoder(self, file: BinaryIO) -> PartEncoder[T]:
        """Begin a part; called in the worker."""


class RowFileSink(FileSink[T], Generic[T]):
    """Base of the sinks whose parts are the bytes of their records, one after the other."""

    def _open_encoder(self, file: BinaryIO) -> PartEncoder[T]:
        return _RowEncoder(file, self._create_encoder())

    @abstractmethod
    def _create_encoder(self) -> BatchEncoder[T]:
        """Turns batches into bytes; called for each part."""


class _RowEncoder(PartEncoder[T]):
    def __init__(self, file: BinaryIO, encode: BatchEncoder[T]) -> None:
        self._write = file.write
        self._encode = encode

    def write(self, values: Sequence[T]) -> None:
        self._write(self._encode(values))


class TextFileSink(RowFileSink[T], Generic[T]):
    """A line of text per record.

    Args:
        path: the directory.
        formatter: the line of a record, without its end; ``str`` by default.
        encoding: of the file.
        overwrite, suffix: see ``FileSink``.
    """

    name = "TextFileSink"

    def __init__(
        self,
        path: PathLike,
        formatter: Callable[[T], str] = str,
        *,
        encoding: str = "utf-8",
        overwrite: bool = False,
        suffix: str = "",
    ) -> None:
        super().__init__(path, overwrite=overwrite, suffix=suffix)
        self._formatter = formatter
        self._encoding = encoding

    def _create_encoder(self) -> BatchEncoder[T]:
        formatter, encoding = self._formatter, self._encoding

        def encode(values: Sequence[T]) -> bytes:
            try:
                return ("\n".join(map(formatter, values)) + "\n").encode(encoding)
            except UnicodeEncodeError as error:
                raise ConnectorError(
                    f"A record cannot be written in {encoding}: {error.reason}.",
                    detail=f"The character {error.object[error.start]!r}.",
                    hint="Write UTF-8.",
                ) from None

        return encode


class JsonLinesFileSink(RowFileSink[T], Generic[T]):
    """A JSON value per line: dicts, lists, strings, numbers, dataclasses, msgspec.Structs, dates, ...

    Args:
        path: the directory.
        overwrite, suffix: see ``FileSink``; the suffix is ``.jsonl`` by default.
    """

    name = "JsonLinesFileSink"

    def __init__(self, path: PathLike, *, overwrite: bool = False, suffix: str = ".jsonl") -> None:
        super().__init__(path, overwrite=overwrite, suffix=suffix)

    def _create_encoder(self) -> BatchEncoder[T]:
        encoder = msgspec.json.Encoder()

        def encode(values: Sequence[T]) -> bytes:
            try:
                return encoder.encode_lines(values if isinstance(values, (list, tuple)) else list(values))
            except (TypeError, ValueError, RecursionError) as error:
                raise ConnectorError(
                    f"A record cannot be written as JSON: {error}.",
                    hint="Map it to dicts, lists, strings and numbers, or to a dataclass.",
                ) from None

        return encode


class CsvFileSink(RowFileSink[T], Generic[T]):
    """A CSV line per record: a mapping, a dataclass, a msgspec.Struct, or a sequence of fields.

    Args:
        path: the directory.
        columns: names of the columns, and which fields of mappings and objects to write; by default those of
            each part's first record.
        delimiter: one character.
        header: begin each part with the names of the columns, where they are known.
        overwrite, suffix: see ``FileSink``; the suffix is ``.csv`` by default.
    """

    name = "CsvFileSink"

    def __init__(
        self,
        path: PathLike,
        columns: Sequence[str] | None = None,
        *,
        delimiter: str = ",",
        header: bool = True,
        overwrite: bool = False,
        suffix: str = ".csv",
    ) -> None:
        super().__init__(path, overwrite=overwrite, suffix=suffix)
        self._columns = tuple(columns) if columns else None
        self._delimiter = delimiter
        self._header = header

    def _create_encoder(self) -> BatchEncoder[T]:
        return CsvEncoder(self._columns, self._delimiter, self._header).encode

    def _options(self) -> PartFileOptions:
        # Of a part that is restored, nobody knows whether the next record has the columns it began with.
        return replace(super()._options(), resumable=False)


class Encoder:
    """How rows become lines, as PyFlink spells it."""

    def __init__(self, charset_name: str) -> None:
        self.charset_name = charset_name

    @staticmethod
    def simple_string_encoder(charset_name: str = "UTF-8") -> Encoder:
        """``str`` of each row."""
        return Encoder(charset_name)


class FileSinkBuilder:
    """PyFlink's way to make a FileSink: ``for_row_format(path, encoder).build()``."""

    def __init__(self, base_path: PathLike, encoder: Encoder) -> None:
        self._sink: FileSink[Any] = TextFileSink(base_path, str, encoding=encoder.charset_name)

    def with_bucket_assigner(self, assigner: BucketAssigner[Any]) -> Self:
        """Choose the directory of each record; by default all are written into the sink's own."""
        self._sink = self._sink.with_bucket_assigner(assigner)
        return self

    def with_rolling_policy(self, policy: RollingPolicy) -> Self:
        """Choose when a part is closed and another begun."""
        self._sink = self._sink.with_rolling_policy(policy)
        return self

    def with_bucket_check_interval(self, interval: int) -> Self:
        """How often, in milliseconds, the rolling policy is asked whether time has come."""
        self._sink = self._sink.with_bucket_check_interval(interval)
        return self

    def with_output_file_config(self, config: OutputFileConfig) -> Self:
        """Choose what names of parts begin and end with."""
        self._sink = self._sink.with_output_file_config(config)
        return self

    def build(self) -> FileSink[Any]:
        """The sink."""
        return self._sink
