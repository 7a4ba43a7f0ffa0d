"""``PartitionReader``: reads partitions, one after the other, through a cursor of the server's."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Generic, TypeVar

import psycopg
from psycopg import sql

from zmflow.api.sources import EndOfInput, SourceReader
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import RETRY_DELAY_S, Connection, Database
from zmflow_connector_postgres.partitions import Partition, Scan

__all__ = ["PartitionReader"]

T = TypeVar("T")

Row = tuple[Any, ...]

MakeRecords = Callable[[Sequence[str], list[Row]], list[T]]
"""Turns rows into records, with the names of their columns."""


class PartitionReader(SourceReader[T, Partition], Generic[T]):
    """Reads in the order of the partition column. Rows with the same value are returned together, so that a
    checkpoint needs that value alone to go on behind them, in whatever order the server returns them.

    Args:
        database: to read from.
        scan: what of it.
        fetch_rows: how many rows the server sends at once.
        snapshot: the exported snapshot to read; None: each partition what is there when it begins.
        make_records: turns rows into records.
    """

    def __init__(
        self,
        database: Database,
        scan: Scan,
        fetch_rows: int,
        snapshot: str | None,
        make_records: MakeRecords[T],
    ) -> None:
        self._database = database
        self._scan = scan
        self._fetch_rows = fetch_rows
        self._snapshot = snapshot
        self._make_records = make_records
        self._partitions: deque[Partition] = deque()
        self._partition: Partition | None = None  # what is left of the one that is being read
        self._no_more_splits = False
        self._connection: Connection | None = None
        self._cursor: psycopg.ServerCursor[Row] | None = None
        self._names: Sequence[str] = ()
        self._key = 0
        self._held: list[Row] = []  # of one value, of which there may be more
        self._tries = 0
        self._again_at = 0.0

    def add_splits(self, splits: Sequence[Partition]) -> None:
        self._partitions.extend(splits)

    def notify_no_more_splits(self) -> None:
        self._no_more_splits = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        if self._tries and time.monotonic() < self._again_at:
            return None
        while True:
            if self._partition is None:
                if not self._partitions:
                    if not self._no_more_splits:
                        return None
                    self._disconnect()
                    return EndOfInput.END
                self._partition = self._partitions.popleft()
            try:
                rows = self._read_on(self._partition)
            except psycopg.OperationalError as error:
                self._put_off(error)
                return None
            except psycopg.Error as error:
                raise self._database.failure(f"The source cannot read {self._scan.name}.", error) from error
            self._tries = 0
            if rows:
                return self._make_records(self._names, rows)

    def poll_again_after_s(self) -> float | None:
        return max(0.0, self._again_at - time.monotonic()) if self._tries else None

    def snapshot_state(self, checkpoint_id: int) -> list[Partition]:  # noqa: ARG002 - of the interface
        return list(self._partitions) if self._partition is None else [self._partition, *self._partitions]

    def close(self) -> None:
        self._partitions.clear()
        self._partition = None
        self._disconnect()

    def _read_on(self, partition: Partition) -> list[Row]:
        """The next rows; none, or the last ones, when the partition is read to its end."""
        cursor = self._cursor or self._open(partition)
        while True:
            rows = cursor.fetchmany(self._fetch_rows)
            if not rows:
                last, self._held = self._held, []
                self._partition = None
                self._end_transaction()
                return last
            key = self._key
            value = rows[-1][key]
            place = len(rows)
            while place and _same(rows[place - 1][key], value):
                place -= 1
            if place:
                ready, self._held = self._held + rows[:place], rows[place:]
            elif self._held and not _same(self._held[-1][key], value):
                ready, self._held = self._held, rows
            else:
                self._held += rows
                continue
            self._partition = replace(partition, after=ready[-1][key])
            return ready

    def _open(self, partition: Partition) -> psycopg.ServerCursor[Row]:
        if self._connection is None:
            self._connection = self._database.connect()
            self._connection.autocommit = False
            self._connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            self._connection.read_only = True
        if self._snapshot is not None:
            self._connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(self._snapshot))
        cursor = self._connection.cursor("zmflow")
        statement, values = self._scan.rows_of(partition)
        cursor.execute(statement, values)
        assert cursor.description is not None
        self._names = tuple(column.name for column in cursor.description)
        if self._scan.partition_column not in self._names:
            raise ConnectorError(
                f"There is no {self._scan.partition_column} among the columns that are read.",
                detail=f"{self._database.place}: {', '.join(self._names)}",
                hint="The partition column must be read, too.",
            )
        self._key = self._names.index(self._scan.partition_column)
        self._cursor = cursor
        return cursor

    def _end_transaction(self) -> None:
        assert self._connection is not None and self._cursor is not None
        cursor, self._cursor = self._cursor, None
        try:
            cursor.close()
            self._connection.rollback()
        except psycopg.OperationalError:  # all is read: the next partition connects anew
            self._disconnect()

    def _put_off(self, error: psycopg.OperationalError) -> None:
        """Go on behind the last row that was returned, in a while."""
        self._disconnect()
        self._tries += 1
        if self._tries > self._database.max_retries:
            raise self._database.failure(
                f"The source cannot read {self._scan.name}.",
                error,
                "Is the server up, and can this machine reach it?" if error.sqlstate is None else None,
            ) from error
        self._again_at = time.monotonic() + RETRY_DELAY_S * self._tries

    def _disconnect(self) -> None:
        cursor, self._cursor, self._held = self._cursor, None, []
        if cursor is not None:
            with suppress(psycopg.Error):
                cursor.close()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one for the server, for which NaN is."""
    return bool(one == other or (one != one and other != other))
