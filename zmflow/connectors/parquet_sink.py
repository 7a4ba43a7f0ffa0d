"""``ParquetFileSink``: part files in Parquet. Needs pyarrow, which ``pip install zmflow[parquet]`` brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, TypeVar

import msgspec

from zmflow.connectors.file_listing import PathLike
from zmflow.connectors.file_sink import FileSink
from zmflow.connectors.part_file_writer import PartFileOptions
from zmflow.connectors.part_files import PartEncoder
from zmflow.connectors.rolling_policy import RollingPolicy
from zmflow.errors import ConnectorError

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetFileSink"]

T = TypeVar("T")

ROW_GROUP_ROWS = 65_536
"""Small enough to be kept until a group is full, large enough for columns to compress."""


class ParquetFileSink(FileSink[T], Generic[T]):
    """A row per record: a mapping, a dataclass or a msgspec.Struct. A part is closed with every checkpoint.

    Args:
        path: the directory.
        schema: names and types of the columns; by default those of the first records of each part.
        compression: ``snappy``, ``zstd``, ``gzip``, ``none``, ...
        row_group_size: rows in a group.
        overwrite, suffix: see ``FileSink``; the suffix is ``.parquet`` by default.
    """

    name = "ParquetFileSink"

    def __init__(
        self,
        path: PathLike,
        schema: pa.Schema | None = None,
        *,
        compression: str = "snappy",
        row_group_size: int = ROW_GROUP_ROWS,
        overwrite: bool = False,
        suffix: str = ".parquet",
    ) -> None:
        super().__init__(path, overwrite=overwrite, suffix=suffix)
        self._schema = schema
        self._compression = compression
        self._row_group_size = row_group_size

    def validate_for(self, *, checkpoints: bool) -> None:
        """Needs pyarrow, too."""
        _pyarrow()
        super().validate_for(checkpoints=checkpoints)

    def _options(self) -> PartFileOptions:
        # The columns and their index stand at the end of a file: one that is not closed cannot be read.
        rolling = replace(self._rolling or RollingPolicy(), on_checkpoint=True)
        return replace(super()._options(), rolling=rolling, empty_parts=self._schema is not None)

    def _open_encoder(self, file: BinaryIO) -> PartEncoder[T]:
        return _ParquetEncoder(file, self._schema, self._compression, self._row_group_size)


class _ParquetEncoder(PartEncoder[Any]):
    """Gathers rows, and writes a group of them at a time."""

    def __init__(
        self, file: BinaryIO, schema: pa.Schema | None, compression: str, row_group_size: int
    ) -> None:
        self._pa = _pyarrow()
        self._file = file
        self._schema = schema
        self._compression = compression
        self._group_size = row_group_size
        self._rows: list[Mapping[str, Any]] = []
        self._writer: Any = None

    def write(self, values: Sequence[Any]) -> None:
        self._rows += map(_row, values)
        while len(self._rows) >= self._group_size:
            group, self._rows = self._rows[: self._group_size], self._rows[self._group_size :]
            self._write(group)

    def finish(self) -> None:
        if self._rows or self._writer is None:
            self._write(self._rows)
            self._rows = []
        self._writer.close()

    def abandon(self) -> None:
        if self._writer is not None:
            with suppress(Exception):  # else it writes the end of the file when it is collected
                self._writer.close()

    def _write(self, rows: list[Mapping[str, Any]]) -> None:
        pa = self._pa
        try:
            table = pa.Table.from_pylist(rows, schema=self._schema)
            if self._writer is None:
                from pyarrow import parquet

                self._schema = table.schema
                self._writer = parquet.ParquetWriter(self._file, table.schema, compression=self._compression)
            if rows:
                self._writer.write_table(table)
        except pa.ArrowException as error:
            raise ConnectorError(
                f"A record cannot be written as Parquet: {error}.",
                detail=f"Columns: {self._schema.names}" if self._schema is not None else None,
                hint="Give the sink a schema, and map records to it.",
            ) from None


def _row(record: Any) -> Mapping[str, Any]:
    if isinstance(record, Mapping):
        return record
    if is_dataclass(record):
        return {field.name: getattr(record, field.name) for field in fields(record)}
    if isinstance(record, msgspec.Struct):
        return msgspec.structs.asdict(record)
    raise ConnectorError(
        f"A record cannot be written as Parquet: it is a {type(record).__name__}.",
        hint="Map it to a dict, a dataclass or a msgspec.Struct.",
    )


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise ConnectorError(
            "Parquet files need pyarrow, which is not installed.",
            hint="pip install zmflow[parquet], on the machines of the TaskManagers, too.",
        ) from None
    return pyarrow
