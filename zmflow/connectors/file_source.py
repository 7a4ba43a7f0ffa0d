"""Sources that read files and directories in parallel: text lines, CSV, JSON lines, binary.

>>> source = TextFileSource("/var/log", pattern="*.log", encoding="latin-1")
>>> source.name
'TextFileSource'
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Generic, TypedDict, TypeVar, Unpack, overload

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.api.time import Duration
from zmflow.connectors.csv_format import CsvFormat
from zmflow.connectors.file_discovery import ContinuousFileEnumerator
from zmflow.connectors.file_formats import (
    FILE_SIZE_MAX_BYTES,
    JsonLinesFormat,
    PositionedFormat,
    RecordsOfFixedSizeFormat,
    StreamFormat,
    TextLineFormat,
    WholeFileFormat,
)
from zmflow.connectors.file_listing import FileListing, FileStatus, PathLike, os_failure
from zmflow.connectors.file_splits import FileSplit, FileSplitEnumerator, cut_into_bundles, split_size_for
from zmflow.connectors.growing_files import GrowingFileEnumerator, GrowingFileReader
from zmflow.connectors.line_blocks import TextDecoder
from zmflow.errors import ConnectorError

__all__ = [
    "BinaryFileSource",
    "CsvFileSource",
    "FileSource",
    "FileSourceBuilder",
    "FileSourceOptions",
    "FixedSizeRecordSource",
    "JsonLinesSource",
    "TextFileSource",
]

T = TypeVar("T")


class FileSourceOptions(TypedDict, total=False):
    """What every file source takes beside its format.

    ``pattern``: which files of directories to read, ``*.csv``; all by default.
    ``exclude``: names of files and directories to pass over, globs.
    ``split_size_bytes``: size of the pieces large files are read in; by default an eighth of each
    reader's share, between 256 KiB and 64 MiB.
    ``check_on_client``: look for the files before submission; False when only the workers see them.
    ``monitor_interval``: go on for ever, looking for new files this often. A file is read once, as it is
    when it is found, so it should be moved there when it is complete.
    ``follow``: with ``monitor_interval``, files grow: read what is appended to them, too, and go on with
    those that are renamed (``growing_files`` says how rotation is handled).
    """

    pattern: str | None
    exclude: Sequence[str]
    split_size_bytes: int | None
    check_on_client: bool
    monitor_interval: Duration | None
    follow: bool


class FileSource(Source[T, Any], Generic[T]):
    """Reads files with a format.

    Paths are files, directories (read recursively, hidden files skipped) or globs. Each file is cut into
    byte ranges that are read in parallel, unless it is compressed (``.gz``, ``.bz2``, ``.xz``, ``.lzma``).
    With parallelism 1 records come in the order of the files' names.
    """

    name = "FileSource"

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        stream_format: StreamFormat[T],
        *,
        pattern: str | None = None,
        exclude: Sequence[str] = (),
        split_size_bytes: int | None = None,
        check_on_client: bool = True,
        monitor_interval: Duration | None = None,
        follow: bool = False,
    ) -> None:
        if split_size_bytes is not None and split_size_bytes < 1:
            raise ConnectorError(
                f"Splits cannot have {split_size_bytes} bytes.",
                hint="Give 1 or more, or None for the default.",
            )
        if monitor_interval is not None and monitor_interval.to_millis() < 1:
            raise ConnectorError(
                f"New files cannot be looked for every {monitor_interval.to_millis()} ms.",
                hint="Give 1 ms or more.",
            )
        if follow:
            _check_can_be_followed(stream_format, monitor_interval)
        self._follow = follow
        self.bounded = monitor_interval is None
        self._monitor_interval = monitor_interval
        self._listing = FileListing(paths, pattern, exclude, patient=not self.bounded)
        self._format = stream_format
        self._split_size_bytes = split_size_bytes
        self._check_on_client = check_on_client

    @staticmethod
    def for_record_stream_format(stream_format: StreamFormat[T], *paths: PathLike) -> FileSourceBuilder[T]:
        """A builder, as PyFlink spells it."""
        return FileSourceBuilder(stream_format, paths)

    def files(self) -> list[FileStatus]:
        """The files this source would read now, on this machine.

        Raises:
            ConnectorError: a path is missing or unreadable, or holds no file.
        """
        return self._listing.files()

    def validate(self) -> None:
        """Lists the files and opens each path's first one, unless told not to look on the client."""
        if not self._check_on_client:
            return
        files = self.files()
        if not files:
            return
        first = files[0].path
        try:
            with open(first, "rb"):  # noqa: PTH123 - the name is text all along
                pass
        except OSError as error:
            raise os_failure("The input file cannot be read", first, error) from None

    def create_enumerator(self, context: SplitEnumeratorContext[Any]) -> SplitEnumerator[Any]:
        if self._monitor_interval is None:
            return FileSplitEnumerator(context, self._listing, self._cut)
        interval_ms = self._monitor_interval.to_millis()
        if self._follow:
            followed = self._format.is_splittable
            return GrowingFileEnumerator(context, self._listing, followed, interval_ms)
        return ContinuousFileEnumerator(context, self._listing, self._cut, interval_ms)

    def restore_enumerator(self, context: SplitEnumeratorContext[Any], state: Any) -> SplitEnumerator[Any]:
        if self._monitor_interval is None:
            return FileSplitEnumerator(context, self._listing, self._cut, state)
        interval_ms = self._monitor_interval.to_millis()
        if self._follow:
            followed = self._format.is_splittable
            return GrowingFileEnumerator(context, self._listing, followed, interval_ms, state)
        return ContinuousFileEnumerator(context, self._listing, self._cut, interval_ms, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, Any]:  # noqa: ARG002 - of the interface
        if self._follow and self._monitor_interval is not None:
            assert isinstance(self._format, PositionedFormat)
            return GrowingFileReader(self._format, self._monitor_interval.to_millis() / 1000)
        return FileSourceReader(self._format)

    def _cut(self, files: Sequence[FileStatus], parallelism: int) -> list[list[FileSplit]]:
        size = self._split_size_bytes or split_size_for(sum(file.size_bytes for file in files), parallelism)
        return cut_into_bundles(files, self._format.align(size), self._format.is_splittable)


def _check_can_be_followed(stream_format: StreamFormat[Any], monitor_interval: Duration | None) -> None:
    if monitor_interval is None:
        raise ConnectorError(
            "A file source that follows its files must know how often to look at them.",
            hint="Give monitor_interval as well, such as Duration.of_seconds(1).",
        )
    if not isinstance(stream_format, PositionedFormat) or not stream_format.is_splittable(""):
        raise ConnectorError(
            f"Files of the format {type(stream_format).__name__} cannot be followed.",
            detail="There is no telling where the last whole record of a file ends that still grows.",
            hint="Lines of text, JSON lines, CSV without multiline and records of fixed size can.",
        )


class FileSourceBuilder(Generic[T]):
    """PyFlink's way to make a FileSource: ``for_record_stream_format(...).build()``."""

    def __init__(self, stream_format: StreamFormat[T], paths: Sequence[PathLike]) -> None:
        self._format = stream_format
        self._paths = paths
        self._monitor_interval: Duration | None = None

    def monitor_continuously(self, discovery_interval: Duration) -> FileSourceBuilder[T]:
        """Go on for ever, looking for new files this often."""
        self._monitor_interval = discovery_interval
        return self

    def process_static_file_set(self) -> FileSourceBuilder[T]:
        """Read the files that are there when the job starts: what is done anyway."""
        self._monitor_interval = None
        return self

    def build(self) -> FileSource[T]:
        """The source."""
        return FileSource(self._paths, self._format, monitor_interval=self._monitor_interval)


class FileSourceReader(SourceReader[T, FileSplit], Generic[T]):
    """Reads its splits one after the other, a block at a time."""

    def __init__(self, stream_format: StreamFormat[T]) -> None:
        self._format = stream_format
        self._splits: deque[FileSplit] = deque()
        self._batches: Iterator[tuple[Sequence[T], int]] = iter(())
        self._reading: FileSplit | None = None
        self._mark = 0  # how far, by its format
        self._no_more_splits = False

    def add_splits(self, splits: Sequence[FileSplit]) -> None:
        self._splits.extend(splits)

    def notify_no_more_splits(self) -> None:
        self._no_more_splits = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        while True:
            for batch, mark in self._batches:
                self._mark = mark
                return batch
            self._reading = None
            if not self._splits:
                return EndOfInput.END if self._no_more_splits else None
            self._reading = self._splits.popleft()
            self._batches = self._format.read_on(self._reading)

    def snapshot_state(self, checkpoint_id: int) -> list[FileSplit]:  # noqa: ARG002 - of the interface
        if self._reading is None:
            return list(self._splits)
        rest = self._format.rest(self._reading, self._mark)
        read = rest.end is not None and rest.start >= rest.end
        return list(self._splits) if read else [rest, *self._splits]

    def close(self) -> None:
        # Dropping the iterator closes the file it has open.
        self._batches = iter(())
        self._splits.clear()


class TextFileSource(FileSource[str]):
    """The lines of text files, without their line ends (``\\n`` or ``\\r\\n``).

    Args:
        paths: files, directories, globs.
        encoding: any in which a line feed is one byte and part of no other character; a UTF-8 byte order
            mark is skipped.
        errors: ``strict`` fails the job on undecodable bytes, naming file and offset; ``replace`` reads
            U+FFFD in their place.
        options: see ``FileSourceOptions``.
    """

    name = "TextFileSource"

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        encoding: str = "utf-8",
        errors: str = "strict",
        **options: Unpack[FileSourceOptions],
    ) -> None:
        super().__init__(paths, TextLineFormat(TextDecoder(encoding, errors)), **options)


class CsvFileSource(FileSource[T], Generic[T]):
    """The rows of CSV files.

    Args:
        paths: files, directories, globs.
        record_type: what a row becomes: ``dict`` (field name to text; the default), ``tuple`` (of texts), or
            a dataclass or msgspec.Struct into whose field types the texts are converted; columns it
            does not name are dropped. (A Struct must live in an importable module to travel.)
        delimiter: one character.
        has_header: the first line of each file names its columns.
        fields: the columns' names where there is no header.
        multiline: quoted fields may hold line breaks. Each file is then read by one reader; otherwise
            such a field is refused.
        encoding, errors: as for ``TextFileSource``.
        options: see ``FileSourceOptions``.
    """

    name = "CsvFileSource"

    @overload
    def __init__(
        self: CsvFileSource[dict[str, str]],
        paths: PathLike | Sequence[PathLike],
        *,
        delimiter: str = ...,
        has_header: bool = ...,
        fields: Sequence[str] | None = ...,
        multiline: bool = ...,
        encoding: str = ...,
        errors: str = ...,
        **options: Unpack[FileSourceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: CsvFileSource[T],
        paths: PathLike | Sequence[PathLike],
        record_type: type[T],
        *,
        delimiter: str = ...,
        has_header: bool = ...,
        fields: Sequence[str] | None = ...,
        multiline: bool = ...,
        encoding: str = ...,
        errors: str = ...,
        **options: Unpack[FileSourceOptions],
    ) -> None: ...

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        record_type: type[Any] = dict,
        *,
        delimiter: str = ",",
        has_header: bool = True,
        fields: Sequence[str] | None = None,
        multiline: bool = False,
        encoding: str = "utf-8",
        errors: str = "strict",
        **options: Unpack[FileSourceOptions],
    ) -> None:
        stream_format: CsvFormat[T] = CsvFormat(
            record_type,
            delimiter=delimiter,
            has_header=has_header,
            fields=tuple(fields) if fields else None,
            multiline=multiline,
            decoder=TextDecoder(encoding, errors),
        )
        super().__init__(paths, stream_format, **options)


class JsonLinesSource(FileSource[T], Generic[T]):
    """The values of files with a JSON value on each line.

    Args:
        paths: files, directories, globs.
        record_type: what to decode values into and check them against: a dataclass, a TypedDict, a
            msgspec.Struct, ``dict[str, int]``; by default whatever the JSON says.
        options: see ``FileSourceOptions``.
    """

    name = "JsonLinesSource"

    @overload
    def __init__(
        self: JsonLinesSource[Any],
        paths: PathLike | Sequence[PathLike],
        **options: Unpack[FileSourceOptions],
    ) -> None: ...
    @overload
    def __init__(
        self: JsonLinesSource[T],
        paths: PathLike | Sequence[PathLike],
        record_type: type[T],
        **options: Unpack[FileSourceOptions],
    ) -> None: ...

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        record_type: type[Any] | None = None,
        **options: Unpack[FileSourceOptions],
    ) -> None:
        super().__init__(paths, JsonLinesFormat(record_type), **options)


class BinaryFileSource(FileSource[tuple[str, bytes]]):
    """Whole files: ``(path, bytes)``, decompressed where the suffix says they are compressed.

    Args:
        paths: files, directories, globs.
        size_max_bytes: a larger file fails the job; 256 MiB by default, since it is one record.
        options: see ``FileSourceOptions``.
    """

    name = "BinaryFileSource"

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        size_max_bytes: int = FILE_SIZE_MAX_BYTES,
        **options: Unpack[FileSourceOptions],
    ) -> None:
        super().__init__(paths, WholeFileFormat(size_max_bytes), **options)


class FixedSizeRecordSource(FileSource[bytes]):
    """Binary files of records of one size: ``bytes`` of that length. A file that ends inside a record
    fails the job.

    Args:
        paths: files, directories, globs.
        record_size_bytes: 1 or more.
        options: see ``FileSourceOptions``.
    """

    name = "FixedSizeRecordSource"

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        record_size_bytes: int,
        **options: Unpack[FileSourceOptions],
    ) -> None:
        super().__init__(paths, RecordsOfFixedSizeFormat(record_size_bytes), **options)
