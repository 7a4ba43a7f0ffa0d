"""``RowWriter``: collects the rows of a subtask and sends them in batches; ``UpsertWriter`` sends them at
least once."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import psycopg

from zmflow.api.sinks import SinkWriter
from zmflow_connector_postgres.database import Connection, Database, Session
from zmflow_connector_postgres.target import Target, TargetOptions

__all__ = ["Row", "RowWriter", "UpsertWriter"]

Row = tuple[Any, ...]


class RowWriter(SinkWriter[Any]):
    """Base of the writers.

    Args:
        target: where rows go.
        batch_rows: how many are sent at once, at least.
    """

    def __init__(self, target: Target, batch_rows: int) -> None:
        self._target = target
        self._batch_rows = batch_rows
        self._rows: list[Row] = []

    def write(self, value: Any) -> None:
        self.write_batch((value,))

    def write_batch(self, values: Sequence[Any]) -> None:
        self._rows += self._target.mapping.rows(values)
        if len(self._rows) >= self._batch_rows:
            self._send()

    def flush(self, end_of_input: bool) -> None:  # noqa: ARG002 - of the interface
        if self._rows:
            self._send()

    @abstractmethod
    def _send(self) -> None:
        """Send the rows there are, and forget them."""


class UpsertWriter(RowWriter):
    """Writes each batch in a transaction of its own, again when that fails: rows with the same key are
    overwritten, so a row that was written twice is there once.

    Args:
        database: to write to.
        options: what of it.
        batch_rows: how many rows are sent at once, at least.
        flush_interval_ms: how long a row waits at the most; None: until the batch is full or a checkpoint
            comes.
        processing_time: the clock.
    """

    def __init__(
        self,
        database: Database,
        options: TargetOptions,
        batch_rows: int,
        flush_interval_ms: int | None,
        processing_time: Callable[[], int],
    ) -> None:
        self._database = database
        self._session = Session(database)
        self._flush_interval_ms = flush_interval_ms
        self._clock = processing_time
        self._due_ms: int | None = None
        target = self._session.begin(
            f"The sink cannot write to {options.name}.",
            lambda connection: options.resolve(database, connection),
        )
        super().__init__(target, batch_rows)

    def write_batch(self, values: Sequence[Any]) -> None:
        super().write_batch(values)
        if self._flush_interval_ms is not None and self._due_ms is None and self._rows:
            self._due_ms = self._clock() + self._flush_interval_ms

    def next_processing_time_ms(self) -> int | None:
        return self._due_ms

    def advance_processing_time(self, now_ms: int) -> None:  # noqa: ARG002 - of the interface
        self.flush(False)

    def close(self, completed: bool) -> None:  # noqa: ARG002 - of the interface
        self._session.close()

    def _send(self) -> None:
        self._due_ms = None
        self._session.run(f"Rows could not be written to {self._target.name}.", self._write)
        self._rows = []

    def _write(self, connection: Connection) -> None:
        try:
            with connection.transaction():
                self._target.send(connection, self._rows)
        except psycopg.OperationalError:
            raise
        except (psycopg.Error, TypeError, ValueError, OverflowError) as error:
            if connection.closed:
                raise psycopg.OperationalError(str(error)) from error
            raise self._target.refusal(self._database, connection, self._rows, error) from error
