"""``PostgresSink``: writes records into a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from zmflow.api.sinks import Committer, Sink, SinkWriter, WriterContext
from zmflow.api.time import Duration
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, Session
from zmflow_connector_postgres.row_writer import UpsertWriter
from zmflow_connector_postgres.target import Mode, TargetOptions
from zmflow_connector_postgres.transaction_writer import TransactionWriter, check_prepared_transactions
from zmflow_connector_postgres.transactions import TransactionCommitter, is_transaction_prefix

__all__ = ["PostgresSink"]

T = TypeVar("T")

BATCH_ROWS_DEFAULT = 5_000
MAX_RETRIES_DEFAULT = 3
"""Both are Flink's."""


class PostgresSink(Sink[T], Generic[T]):
    """Writes records into a table of PostgreSQL.

    With ``mode="upsert"`` rows overwrite those with the same key. They are visible with their batch, and
    after a failure some are written again, over themselves.

    With ``mode="exactly_once"`` rows are inserted in one transaction per subtask and checkpoint, and are
    visible when that is complete. The server needs ``max_prepared_transactions``.

    Args:
        conninfo: as libpq takes it. It travels with the job: keep passwords in a service file or in the
            environment of the workers.
        table: ``table`` or ``schema.table``, as they are spelled, capital letters too.
        statement: instead of a table, what to execute for each record, with a ``%s`` for each column. With
            ``mode="upsert"`` it must change nothing when it is executed once more.
        columns: what is written of each record; by default every column of the table that can be.
        key_columns: of the unique constraint that decides which row is overwritten; by default the primary
            key.
        mode: ``upsert`` or ``exactly_once``.
        transaction_prefix: of the names of the transactions of ``exactly_once``. No other sink of the
            database may have the same, and a job must keep it from one run to the next.
        batch_rows: so many rows are sent at once.
        flush_interval: with ``upsert``, how long a row waits for its batch to be full.
        max_retries: how often what fails for its connection is tried again.
        check_on_client: look at the table before submission; False when only the workers see the server.

    >>> sink = PostgresSink("service=orders", "totals", key_columns=["customer"])
    """

    name = "PostgresSink"

    def __init__(
        self,
        conninfo: str,
        table: str | None = None,
        *,
        statement: str | None = None,
        columns: Sequence[str] | None = None,
        key_columns: Sequence[str] | None = None,
        mode: Mode = "upsert",
        transaction_prefix: str | None = None,
        batch_rows: int = BATCH_ROWS_DEFAULT,
        flush_interval: Duration | None = None,
        max_retries: int = MAX_RETRIES_DEFAULT,
        check_on_client: bool = True,
    ) -> None:
        if (table is None) == (statement is None):
            raise ConnectorError("A PostgresSink needs a table or a statement, and not both.")
        if statement is not None and "%(" in statement:
            raise ConnectorError(
                "The placeholders of the statement have names.",
                hint="Write %s for each value, and name the fields in that order with columns=[...].",
            )
        if mode not in ("upsert", "exactly_once"):
            raise ConnectorError(f"There is no mode {mode!r}.", hint='Give "upsert" or "exactly_once".')
        if batch_rows < 1 or max_retries < 0:
            raise ConnectorError("batch_rows must be 1 or more, and max_retries 0 or more.")
        if flush_interval is not None and flush_interval.to_millis() < 1:
            raise ConnectorError("The flush interval must be 1 ms or more.")
        for names, what in ((columns, "columns"), (key_columns, "key_columns")):
            if names is not None and (isinstance(names, str) or not names or len(set(names)) < len(names)):
                raise ConnectorError(f"{what} must be a list of distinct names, and is {names!r}.")
        _check_mode(mode, transaction_prefix, key_columns, flush_interval)
        self._database = Database(conninfo, max_retries)
        self._target = TargetOptions(
            mode,
            table,
            statement,
            None if columns is None else tuple(columns),
            None if key_columns is None else tuple(key_columns),
        )
        self._prefix = transaction_prefix
        self._batch_rows = batch_rows
        self._flush_interval_ms = None if flush_interval is None else flush_interval.to_millis()
        self._check_on_client = check_on_client

    def validate(self) -> None:
        """Connects and looks at the table, unless told not to look on the client."""
        if not self._check_on_client:
            return

        def look(connection: Connection) -> None:
            if self._prefix is not None:
                check_prepared_transactions(self._database, connection)
            self._target.resolve(self._database, connection)

        session = Session(self._database)
        try:
            session.run(f"The sink cannot write to {self._target.name}.", look, max_retries=0)
        finally:
            session.close()

    def create_writer(self, context: WriterContext) -> SinkWriter[T]:
        if self._prefix is not None:
            return TransactionWriter(self._database, self._target, self._batch_rows, self._prefix, context)
        return UpsertWriter(
            self._database, self._target, self._batch_rows, self._flush_interval_ms, context.processing_time
        )

    def create_committer(self) -> Committer[Any] | None:
        return None if self._prefix is None else TransactionCommitter(self._database, self._prefix)


def _check_mode(
    mode: Mode, prefix: str | None, key_columns: Sequence[str] | None, flush_interval: Duration | None
) -> None:
    if mode == "upsert":
        if prefix is not None:
            raise ConnectorError('Transactions have names with mode="exactly_once" only.')
        return
    if prefix is None or not is_transaction_prefix(prefix):
        raise ConnectorError(
            f"{prefix!r} cannot be the transaction_prefix of an exactly-once sink.",
            hint="Give 1 to 40 letters, digits, dots, hyphens or underscores that no other sink has.",
        )
    if key_columns is not None:
        raise ConnectorError(
            "Rows that overwrite others cannot be written in the transactions of checkpoints.",
            detail="A row stays locked until its checkpoint is complete: the next one of its key would wait "
            "for that, and hold the checkpoint up.",
            hint='Leave out key_columns to insert rows, or use mode="upsert".',
        )
    if flush_interval is not None:
        raise ConnectorError(
            'With mode="exactly_once" a flush_interval has no effect: checkpoints make rows visible.'
        )
