"""Sinks that write directories of part files: text, JSON lines, CSV.

Subtask i writes ``part-i``. Until it has everything, the file has a hidden temporary name in the same
directory; it is renamed when the task completes and removed when it fails, so a part file is never
half of one. A task that is restarted writes its part anew, replaces that of its last attempt, and removes
what that attempt left when it was killed. A directory that holds part files already is refused, unless
``overwrite`` is given; the parts of the earlier job are then replaced, and those it had more of are removed.
"""

from __future__ import annotations

import csv
import glob
import io
import os
import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.connectors.file_listing import PathLike, os_failure
from zmflow.errors import ConnectorError

__all__ = [
    "CsvFileSink",
    "Encoder",
    "FileSink",
    "FileSinkBuilder",
    "JsonLinesFileSink",
    "PartFileWriter",
    "TextFileSink",
]

T = TypeVar("T")

BatchEncoder = Callable[[Sequence[T]], bytes]
"""What a batch of records looks like in the file."""

WRITE_BUFFER_SIZE_BYTES = 256 * 1024
"""Batches may be single records; this many bytes go to the system at a time."""

_PART = re.compile(r"part-(\d+)(\.[\w.]+)?")
_LEFTOVER = re.compile(r"\.part-(?P<number>\d+)(?P<suffix>.*)\.inprogress-[^-]+-(?P<attempt>\d+)")


class FileSink(Sink[T], Generic[T]):
    """Base of the sinks that write part files.

    Args:
        path: the directory; made when it is missing.
        overwrite: replace the part files of an earlier job.
        suffix: what follows ``part-<subtask>``: ``.csv``.
    """

    name = "FileSink"

    def __init__(self, path: PathLike, *, overwrite: bool = False, suffix: str = "") -> None:
        if "/" in suffix:
            raise ConnectorError(f"The suffix of part files holds a slash: {suffix!r}.")
        self._directory = str(Path(path).absolute())
        self._overwrite = overwrite
        self._suffix = suffix

    @staticmethod
    def for_row_format(base_path: PathLike, encoder: Encoder) -> FileSinkBuilder:
        """A builder, as PyFlink spells it."""
        return FileSinkBuilder(base_path, encoder)

    def validate(self) -> None:
        """Refuses a path that is not a directory, and one with part files unless ``overwrite``."""
        try:
            names = sorted(os.listdir(self._directory))  # noqa: PTH208 - names are what is looked at
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_failure("The output directory cannot be used", self._directory, error) from None
        parts = [name for name in names if _PART.fullmatch(name)]
        if parts and not self._overwrite:
            raise ConnectorError(
                "The output directory holds part files already.",
                detail=f"{self._directory}: {parts[0]}"
                + (f" and {len(parts) - 1} more" if parts[1:] else ""),
                hint="Give another directory, or overwrite=True to replace them.",
            )

    def create_writer(self, context: WriterContext) -> SinkWriter[T]:
        runtime = context.runtime_context
        return PartFileWriter(
            Path(self._directory),
            self._suffix,
            runtime.subtask_index,
            runtime.parallelism,
            runtime.job_id[:8],
            runtime.attempt_number,
            self._create_encoder(),
            overwrite=self._overwrite,
        )

    @abstractmethod
    def _create_encoder(self) -> BatchEncoder[T]:
        """Turns batches into bytes; called in the worker, once per subtask."""


class PartFileWriter(SinkWriter[T], Generic[T]):
    """Writes one part file under a temporary name and renames it at the end."""

    def __init__(
        self,
        directory: Path,
        suffix: str,
        subtask: int,
        parallelism: int,
        job: str,
        attempt: int,
        encode: BatchEncoder[T],
        *,
        overwrite: bool,
    ) -> None:
        self._suffix = suffix
        self._final = directory / f"part-{subtask}{suffix}"
        self._temporary = directory / f".part-{subtask}{suffix}.inprogress-{job}-{attempt}"
        self._subtask = subtask
        self._parallelism = parallelism
        self._encode = encode
        self._overwrite = overwrite
        try:
            directory.mkdir(parents=True, exist_ok=True)
            if attempt:
                self._remove_leftovers(job, attempt)
            self._file = self._temporary.open("wb", buffering=WRITE_BUFFER_SIZE_BYTES)
        except OSError as error:
            raise os_failure("The output directory cannot be written", str(directory), error) from None

    def write(self, value: T) -> None:
        self.write_batch((value,))

    def write_batch(self, values: Sequence[T]) -> None:
        data = self._encode(values)
        try:
            self._file.write(data)
        except OSError as error:
            raise os_failure("The output file cannot be written", str(self._temporary), error) from None

    def flush(self, end_of_input: bool) -> None:  # noqa: ARG002 - of the interface
        try:
            self._file.flush()
        except OSError as error:
            raise os_failure("The output file cannot be written", str(self._temporary), error) from None

    def close(self, completed: bool) -> None:
        try:
            try:
                self._file.close()
            except OSError:
                if completed:
                    raise
            if completed:
                self._temporary.replace(self._final)
                self._remove_surplus_parts()
        except OSError as error:
            raise os_failure("The output file cannot be completed", str(self._final), error) from None
        finally:
            # Gone after the rename; what a failed task leaves must not look like output.
            self._temporary.unlink(missing_ok=True)

    def _remove_leftovers(self, job: str, attempt: int) -> None:
        """Temporary files of attempts that were killed: this subtask's, and for subtask 0 those of subtasks
        that are no more since the job was restarted with fewer."""
        for path in list(self._final.parent.glob(f".part-*.inprogress-{glob.escape(job)}-*")):
            left = _LEFTOVER.fullmatch(path.name)
            if left is None or left["suffix"] != self._suffix or int(left["attempt"]) >= attempt:
                continue
            if self._owns(int(left["number"])):
                path.unlink(missing_ok=True)

    def _remove_surplus_parts(self) -> None:
        """Parts that would be read as this job's: of subtasks it has no more, or of the job it overwrites.

        Without ``overwrite`` the directory was empty, so parts with another suffix are another sink's.
        """
        for path in list(self._final.parent.iterdir()):
            part = _PART.fullmatch(path.name)
            if part is None or path == self._final or not self._owns(int(part[1])):
                continue
            if self._overwrite or (part[2] or "") == self._suffix:
                path.unlink(missing_ok=True)

    def _owns(self, number: int) -> bool:
        """Whether no other subtask of this sink writes the part of this number."""
        return number == self._subtask or (self._subtask == 0 and number >= self._parallelism)


class TextFileSink(FileSink[T], Generic[T]):
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


class JsonLinesFileSink(FileSink[T], Generic[T]):
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


class CsvFileSink(FileSink[T], Generic[T]):
    """A CSV line per record: a mapping, a dataclass, a msgspec.Struct, or a sequence of fields.

    Args:
        path: the directory.
        columns: names of the columns, and which fields of mappings and objects to write; by default those of
            each subtask's first record.
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
        state = _CsvEncoder(self._columns, self._delimiter, self._header)
        return state.encode


class _CsvEncoder:
    """Remembers the columns and whether the header was written."""

    def __init__(self, columns: tuple[str, ...] | None, delimiter: str, header: bool) -> None:
        self._columns = columns
        self._delimiter = delimiter
        self._header = header
        self._row: Callable[[Any], Sequence[object]] | None = None

    def encode(self, values: Sequence[Any]) -> bytes:
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self._delimiter, lineterminator="\n")
        if self._row is None:
            self._row = self._row_of(values[0])
            if self._header and self._columns:
                writer.writerow(self._columns)
        try:
            writer.writerows(map(self._row, values))
        except (csv.Error, KeyError, AttributeError, TypeError) as error:
            raise ConnectorError(
                f"A record cannot be written as CSV: {type(error).__name__}: {error}.",
                detail=f"Columns: {', '.join(self._columns or ())}",
                hint="Every record must have the fields of the first one, or those given as columns.",
            ) from None
        return text.getvalue().encode()

    def _row_of(self, first: object) -> Callable[[Any], Sequence[object]]:
        if isinstance(first, Mapping):
            columns = self._columns = self._columns or tuple(map(str, first))
            return lambda record: [record[column] for column in columns]
        names = _field_names(first)
        if names:
            self._columns = self._columns or names
            return _attributes(self._columns)
        if isinstance(first, (tuple, list)):
            return lambda record: record
        return lambda record: (record,)


def _field_names(record: object) -> tuple[str, ...]:
    if is_dataclass(record):
        return tuple(field.name for field in fields(record))
    if isinstance(record, msgspec.Struct):
        return record.__struct_fields__
    return ()


def _attributes(columns: tuple[str, ...]) -> Callable[[Any], Sequence[object]]:
    get = attrgetter(*columns)
    return get if len(columns) > 1 else lambda record: (get(record),)


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
        self._base_path = base_path
        self._encoder = encoder

    def build(self) -> FileSink[Any]:
        """The sink."""
        return TextFileSink(self._base_path, str, encoding=self._encoder.charset_name)
