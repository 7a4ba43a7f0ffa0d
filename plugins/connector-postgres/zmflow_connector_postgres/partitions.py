"""Partitions: the ranges of a column that a table is read in, and the enumerator that hands them out."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql

from zmflow.api.sources import SplitEnumerator, SplitEnumeratorContext
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, Session
from zmflow_connector_postgres.target import table_identifier

__all__ = ["Partition", "PartitionEnumerator", "Scan", "bounds_between", "cut"]

_EVEN_TYPES = {
    20: "bigint",
    21: "smallint",
    23: "integer",
    26: "oid",
    701: "double precision",
    1700: "numeric",
}
_EVEN_TYPES |= {1082: "date", 1114: "timestamp", 1184: "timestamptz"}
_OTHER_TYPES = {17: "bytea", 25: "text", 1043: "varchar", 2950: "uuid"}
"""Types of the partition column by their numbers in the catalog: those whose values are equal in Python
exactly when they are for the server, and come back to it unchanged. Between values of the first kind one
can
divide."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Rows whose partition column is ``lower`` or more and less than ``upper``; or ``upper``, too, when it
    is closed.

    None is no bound. With ``after`` it begins behind that value: what is left in a checkpoint. ``nulls``
    are the rows that have no value there.
    """

    lower: Any = None
    upper: Any = None
    closed: bool = False
    nulls: bool = False
    after: Any = None


@dataclass(frozen=True)
class Scan:
    """What is read: a table or a query.

    Args:
        table: its name.
        query: a SELECT.
        columns: of the table; None: all.
        partition_column: what ranges are of.
    """

    table: str | None
    query: str | None
    columns: tuple[str, ...] | None
    partition_column: str

    @property
    def name(self) -> str:
        """For errors."""
        return f"table {self.table}" if self.table is not None else "the query"

    def rows_of(self, partition: Partition) -> tuple[sql.Composed, list[Any]]:
        """The statement that reads a partition in the order of its column, and its parameters."""
        where, values = self._where(partition)
        if self.columns is None:
            names: sql.Composable = sql.SQL("q.*")
        else:
            names = sql.SQL(", ").join(sql.Identifier("q", name) for name in self.columns)
        return self.select(names, where + sql.SQL(" ORDER BY ") + self.column), values

    def _where(self, partition: Partition) -> tuple[sql.Composed, list[Any]]:
        column = self.column
        conditions: list[sql.Composable] = []
        values: list[Any] = []

        def restrict(operator: str, value: Any) -> None:
            if value is not None:
                conditions.append(column + sql.SQL(f" {operator} ") + sql.Placeholder())
                values.append(value)

        if partition.nulls:
            conditions.append(column + sql.SQL(" IS NULL"))
        elif partition.after is not None:
            restrict(">", partition.after)
        else:
            restrict(">=", partition.lower)
        restrict("<=" if partition.closed else "<", partition.upper)
        if not conditions:
            conditions.append(column + sql.SQL(" IS NOT NULL"))
        return sql.SQL(" WHERE ") + sql.SQL(" AND ").join(conditions), values

    @property
    def column(self) -> sql.Composed:
        """The partition column."""
        return sql.Composed([sql.Identifier("q", self.partition_column)])

    def select(self, what: sql.Composable, rest: sql.Composable) -> sql.Composed:
        """SELECT something of it; to be executed with parameters."""
        if self.table is not None:
            place: sql.Composable = table_identifier(self.table)
        else:
            assert self.query is not None
            query = self.query.strip().rstrip(";").replace("%", "%%")
            place = sql.SQL("(") + sql.SQL(query) + sql.SQL("\n)")
        return sql.SQL("SELECT {} FROM {} AS q{}").format(what, place, rest)

    def partition_type(self, database: Database, connection: Connection) -> int:
        """The number of the type of the partition column.

        Raises:
            ConnectorError: values of that type cannot be told apart.
        """
        cursor = connection.execute(self.select(self.column, sql.SQL(" LIMIT 0")), [])
        assert cursor.description is not None
        number = cursor.description[0].type_code
        if number not in _EVEN_TYPES and number not in _OTHER_TYPES:
            known = ", ".join(sorted([*_EVEN_TYPES.values(), *_OTHER_TYPES.values()]))
            raise ConnectorError(
                f"{self.name.capitalize()} cannot be partitioned by {self.partition_column}.",
                detail=f"{database.place}: its type is none of {known}.",
                hint="Choose another column, or cast it in a query.",
            )
        return number

    def partitions(
        self, database: Database, connection: Connection, count: int, lower: Any, upper: Any
    ) -> list[Partition]:
        """So many partitions, or fewer; with bounds only what is between them, both included."""
        is_even = self.partition_type(database, connection) in _EVEN_TYPES
        inner = None
        if count > 1 and is_even:
            low, high = lower, upper
            if low is None or high is None:
                both = sql.SQL("min({0}), max({0})").format(self.column)
                found = connection.execute(self.select(both, sql.SQL("")), []).fetchone() or (None, None)
                low = found[0] if low is None else low
                high = found[1] if high is None else high
            inner = [] if low is None or high is None else bounds_between(low, high, count)
        if count > 1 and inner is None:
            inner = self._quantiles(connection, count, Partition(lower, upper, closed=True))
        return cut(inner or (), lower, upper)

    def _quantiles(self, connection: Connection, count: int, of: Partition) -> list[Any]:
        """Values that have as many rows between them, for types that one cannot divide."""
        where, values = self._where(of)
        what = sql.SQL("percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {})").format(self.column)
        fractions = [place / count for place in range(1, count)]
        row = connection.execute(self.select(what, where), [fractions, *values]).fetchone()
        return [value for value in (row[0] if row else None) or () if value is not None]


def bounds_between(low: Any, high: Any, count: int) -> list[Any] | None:
    """The inner bounds of ranges of the same width; None where there is no width.

    >>> bounds_between(1, 10, 2), bounds_between(0.0, float("inf"), 2)
    ([6], None)
    """
    if isinstance(low, (float, Decimal)) and not (math.isfinite(low) and math.isfinite(high)):
        return None
    if isinstance(low, int) and isinstance(high, int):
        return [low + (high - low + 1) * place // count for place in range(1, count)]
    return [low + (high - low) * place / count for place in range(1, count)]


def cut(inner: Iterable[Any], lower: Any, upper: Any) -> list[Partition]:
    """Partitions between bounds, in their order.

    Without outer bounds the first and the last are open, and rows without a value have a partition of their
    own.

    >>> [(part.lower, part.upper) for part in cut([3, 3, 6], None, 9)]
    [(None, 3), (3, 6), (6, 9)]
    """
    bounds = [
        bound
        for bound in dict.fromkeys(inner)
        if (lower is None or bound > lower) and (upper is None or bound <= upper)
    ]
    edges = [lower, *bounds]
    partitions = [Partition(start, end) for start, end in zip(edges, bounds, strict=False)]
    partitions.append(Partition(edges[-1], upper, closed=upper is not None))
    if lower is None and upper is None:
        partitions.append(Partition(nulls=True))
    return partitions


class PartitionEnumerator(SplitEnumerator[Partition]):
    """Cuts the table when the job starts and hands out partition by partition.

    Args:
        context: the engine's.
        database: to read from.
        scan: what of it.
        count: how many partitions; None: one for each reader.
        bounds: lower and upper.
        left: the partitions of a checkpoint, which are read instead.
    """

    def __init__(
        self,
        context: SplitEnumeratorContext[Partition],
        database: Database,
        scan: Scan,
        count: int | None,
        bounds: tuple[Any, Any],
        left: Sequence[Partition] | None = None,
    ) -> None:
        self._context = context
        self._database = database
        self._scan = scan
        self._count = count or context.parallelism
        self._bounds = bounds
        self._restored = left is not None
        self._partitions = deque(left or ())

    def start(self) -> None:
        if self._restored:
            return
        session = Session(self._database)
        try:
            self._partitions.extend(
                session.run(
                    f"The source cannot read {self._scan.name}.",
                    lambda connection: self._scan.partitions(
                        self._database, connection, self._count, *self._bounds
                    ),
                )
            )
        finally:
            session.close()

    def handle_split_request(self, subtask: int) -> None:
        if self._partitions:
            self._context.assign_splits([self._partitions.popleft()], subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[Partition], subtask: int) -> None:  # noqa: ARG002 - of the interface
        self._partitions.extendleft(reversed(splits))

    def snapshot_state(self, checkpoint_id: int) -> list[Partition]:  # noqa: ARG002 - of the interface
        return list(self._partitions)
