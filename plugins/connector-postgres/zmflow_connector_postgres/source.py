"""``PostgresSource``: reads a table or a query, in ranges of a column."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar, overload

from zmflow.api.functions import RuntimeContext
from zmflow.api.row import Row
from zmflow.api.sources import Source, SplitEnumeratorContext
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, Session
from zmflow_connector_postgres.partition_reader import PartitionReader
from zmflow_connector_postgres.partitions import Partition, PartitionEnumerator, Scan
from zmflow_connector_postgres.record_mapping import shown

__all__ = ["PostgresSource"]

T = TypeVar("T")

FETCH_ROWS_DEFAULT = 1_000
MAX_RETRIES_DEFAULT = 3


class PostgresSource(Source[T, Partition], Generic[T]):
    """Reads what a table or a query has, and ends.

    The values of ``partition_column`` are cut into ranges, which subtasks read side by side, each in the
    order of that column. A checkpoint holds the last value that was read. What is read again after a
    failure is the same where the table has not changed meanwhile, or where a snapshot is read.

    Rows with the same value are held in memory until all are there: choose a column with few rows for each.
    It should have an index.

    Args:
        conninfo: as libpq takes it. It travels with the job: keep passwords in a service file or in the
            environment of the workers.
        table: ``table`` or ``schema.table``, as they are spelled, capital letters too.
        query: instead of a table, a SELECT.
        partition_column: a column of numbers, dates, timestamps, texts, UUIDs or bytes, among those that
            are read.
        columns: of the table; by default all.
        partitions: into how many ranges to cut; by default one for each subtask. Numbers and times are cut
            into ranges of the same width, others into ranges with as many rows.
        lower, upper: read only rows whose value is not outside.
        record_type: what a row becomes: ``tuple`` (the default), ``dict``, ``Row``, or a class that takes the
            columns by name.
        snapshot: what ``pg_export_snapshot()`` returned to a session whose transaction stays open as long
            as the job runs: all subtasks, and all attempts, read the tables as that sees them.
        fetch_rows: how many rows the server sends at once.
        max_retries: how often what fails for its connection is tried again.
        check_on_client: look at the columns before submission; False when only the workers see the server.

    >>> source = PostgresSource("service=orders", "orders", partition_column="id", partitions=16)
    >>> source.bounded
    True
    """

    name = "PostgresSource"

    @overload
    def __init__(
        self: PostgresSource[tuple[Any, ...]],
        conninfo: str,
        table: str | None = ...,
        *,
        partition_column: str,
        query: str | None = ...,
        columns: Sequence[str] | None = ...,
        partitions: int | None = ...,
        lower: Any = ...,
        upper: Any = ...,
        snapshot: str | None = ...,
        fetch_rows: int = ...,
        max_retries: int = ...,
        check_on_client: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: PostgresSource[T],
        conninfo: str,
        table: str | None = ...,
        *,
        partition_column: str,
        record_type: type[T],
        query: str | None = ...,
        columns: Sequence[str] | None = ...,
        partitions: int | None = ...,
        lower: Any = ...,
        upper: Any = ...,
        snapshot: str | None = ...,
        fetch_rows: int = ...,
        max_retries: int = ...,
        check_on_client: bool = ...,
    ) -> None: ...

    def __init__(
        self,
        conninfo: str,
        table: str | None = None,
        *,
        partition_column: str,
        record_type: type[Any] = tuple,
        query: str | None = None,
        columns: Sequence[str] | None = None,
        partitions: int | None = None,
        lower: Any = None,
        upper: Any = None,
        snapshot: str | None = None,
        fetch_rows: int = FETCH_ROWS_DEFAULT,
        max_retries: int = MAX_RETRIES_DEFAULT,
        check_on_client: bool = True,
    ) -> None:
        if (table is None) == (query is None):
            raise ConnectorError("A PostgresSource needs a table or a query, and not both.")
        if (partitions is not None and partitions < 1) or fetch_rows < 1 or max_retries < 0:
            raise ConnectorError("partitions and fetch_rows must be 1 or more, and max_retries 0 or more.")
        if columns is not None and (isinstance(columns, str) or partition_column not in columns):
            raise ConnectorError(f"columns must be a list that has {partition_column}, and is {columns!r}.")
        self._database = Database(conninfo, max_retries)
        self._scan = Scan(table, query, None if columns is None else tuple(columns), partition_column)
        self._count = partitions
        self._bounds = (lower, upper)
        self._record_type = record_type
        self._snapshot = snapshot
        self._fetch_rows = fetch_rows
        self._check_on_client = check_on_client

    def validate(self) -> None:
        """Connects and lets the server plan the scan, unless told not to look on the client."""
        if not self._check_on_client:
            return

        def look(connection: Connection) -> None:
            self._scan.partition_type(self._database, connection)
            statement, values = self._scan.rows_of(Partition(*self._bounds))
            connection.execute("EXPLAIN " + statement.as_string(connection), values)

        session = Session(self._database)
        try:
            session.run(f"The source cannot read {self._scan.name}.", look, max_retries=0)
        finally:
            session.close()

    def create_enumerator(self, context: SplitEnumeratorContext[Partition]) -> PartitionEnumerator:
        return PartitionEnumerator(context, self._database, self._scan, self._count, self._bounds)

    def restore_enumerator(
        self, context: SplitEnumeratorContext[Partition], state: Sequence[Partition]
    ) -> PartitionEnumerator:
        return PartitionEnumerator(context, self._database, self._scan, self._count, self._bounds, state)

    def create_reader(self, context: RuntimeContext) -> PartitionReader[T]:  # noqa: ARG002 - of the interface
        return PartitionReader(
            self._database, self._scan, self._fetch_rows, self._snapshot, _records_of(self._record_type)
        )


def _records_of(kind: type[Any]) -> Callable[[Sequence[str], list[tuple[Any, ...]]], list[Any]]:
    if kind is tuple:
        return _tuples
    if kind is dict:
        return _dicts
    if kind is Row:
        return _rows
    return partial(_objects, kind)


def _tuples(names: Sequence[str], rows: list[tuple[Any, ...]]) -> list[Any]:  # noqa: ARG001 - like the others
    return rows


def _dicts(names: Sequence[str], rows: list[tuple[Any, ...]]) -> list[Any]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _rows(names: Sequence[str], rows: list[tuple[Any, ...]]) -> list[Any]:
    return [Row.of(row, names) for row in rows]


def _objects(kind: type[Any], names: Sequence[str], rows: list[tuple[Any, ...]]) -> list[Any]:
    records = []
    for row in rows:
        try:
            records.append(kind(**dict(zip(names, row, strict=True))))
        except (TypeError, ValueError) as error:
            raise ConnectorError(
                f"A row is no {kind.__name__}.",
                detail=f"{error}. The row: {shown(dict(zip(names, row, strict=True)))}",
                hint="Choose columns that are the fields of the class.",
            ) from error
    return records
