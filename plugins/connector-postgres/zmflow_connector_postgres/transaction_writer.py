"""``TransactionWriter``: one transaction for each checkpoint, which the checkpoint commits when it is
complete."""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import psycopg
from psycopg import sql

from zmflow.api.sinks import WriterContext
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, Session
from zmflow_connector_postgres.row_writer import RowWriter
from zmflow_connector_postgres.target import Target, TargetOptions
from zmflow_connector_postgres.transactions import PreparedTransaction, SubtaskTransactions

__all__ = ["TransactionWriter", "check_prepared_transactions"]

LOCK_TIMEOUT_S = 30
"""Long for a row of somebody else's. A row of this sink's own is locked until a checkpoint that cannot come
while we wait for it, so waiting for ever would be just that."""

SERVER_VERSION_MIN = 130_000
"""The oldest that is maintained, and the first with numbers of transactions that do not wrap around."""

_SESSION_SETTINGS = {
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "lock_timeout": f"{LOCK_TIMEOUT_S}s",
    "statement_timeout": "0",
    "transaction_timeout": "0",
}
"""A transaction is open from one checkpoint to the next, however long that is."""


def check_prepared_transactions(database: Database, connection: Connection, parallelism: int = 1) -> None:
    """Whether the server can do this at all.

    Raises:
        ConnectorError: it is too old, or keeps fewer prepared transactions than a checkpoint needs.
    """
    if connection.info.server_version < SERVER_VERSION_MIN:
        raise ConnectorError(
            "Exactly once needs PostgreSQL 13 or newer.",
            detail=f"{database.place} has {connection.info.parameter_status('server_version')}.",
        )
    (setting,) = connection.execute("SHOW max_prepared_transactions").fetchone() or ("0",)
    if int(setting) < parallelism:
        raise ConnectorError(
            "The server keeps no prepared transactions, which exactly once needs."
            if setting == "0"
            else f"The server keeps {setting} prepared transactions, a checkpoint needs {parallelism}.",
            detail=f"{database.place}: max_prepared_transactions = {setting}",
            hint="Set max_prepared_transactions in postgresql.conf to at least twice the parallelism of all "
            'such sinks, and restart the server; or use mode="upsert".',
        )


class TransactionWriter(RowWriter):
    """Writes into a transaction that is open from one checkpoint to the next.

    It has one connection for its whole life. When that is lost, so is the transaction, and the job has to
    go on from its last checkpoint.

    Args:
        database: to write to.
        options: what of it.
        batch_rows: how many rows are sent at once, at least.
        prefix: of the names of transactions.
        context: the engine's.
    """

    def __init__(
        self,
        database: Database,
        options: TargetOptions,
        batch_rows: int,
        prefix: str,
        context: WriterContext,
    ) -> None:
        self._database = database
        runtime = context.runtime_context
        subtask, parallelism = runtime.get_index_of_this_subtask(), runtime.get_number_of_parallel_subtasks()
        restored = context.restored_checkpoint_id
        self._transactions = SubtaskTransactions(prefix, subtask, parallelism)
        self._after = restored or 0
        self._writer = uuid.uuid4().hex[:12]
        self._prepared = 0
        self._is_open = False
        self._session = Session(database, self._transactions.session_name)

        def begin(connection: Connection) -> tuple[Connection, Target]:
            check_prepared_transactions(database, connection, parallelism)
            self._transactions.take_over(database, connection, restored)
            connection.execute(
                "SELECT set_config(s.name, v.value, false) FROM pg_settings s "
                "JOIN unnest(%s::text[], %s::text[]) v(name, value) USING (name)",
                [list(_SESSION_SETTINGS), list(_SESSION_SETTINGS.values())],
            )
            return connection, options.resolve(database, connection)

        self._connection, target = self._session.begin(f"The sink cannot write to {options.name}.", begin)
        super().__init__(target, batch_rows)

    def prepare_commit(self) -> Sequence[PreparedTransaction]:
        if not self._is_open:
            return ()
        name = self._transactions.name(self._after, f"{self._writer}-{self._prepared}")
        self._prepared += 1
        try:
            (number,) = self._connection.execute("SELECT pg_current_xact_id()::text").fetchone() or ("",)
            done = self._connection.execute(sql.SQL("PREPARE TRANSACTION {}").format(name))
        except psycopg.errors.OutOfMemory as error:
            raise self._database.failure(
                "The server keeps no more prepared transactions.",
                error,
                "Set max_prepared_transactions higher; pg_prepared_xacts shows those there are.",
            ) from error
        except psycopg.Error as error:
            raise self._lost("A transaction could not be prepared.", error) from error
        assert done.statusmessage == "PREPARE TRANSACTION", done.statusmessage
        self._is_open = False
        return [PreparedTransaction(name, number)]

    def snapshot_state(self, checkpoint_id: int) -> Sequence[object]:
        self._after = checkpoint_id
        return ()

    def close(self, completed: bool) -> None:  # noqa: ARG002 - of the interface
        # What is prepared stays: it may be part of a checkpoint that is complete.
        self._session.close()

    def _send(self) -> None:
        try:
            if not self._is_open:
                self._connection.execute("BEGIN")
                self._is_open = True
            self._target.send(self._connection, self._rows)
        except psycopg.errors.LockNotAvailable as error:
            raise self._database.failure(
                f"Rows for {self._target.name} are locked, for {LOCK_TIMEOUT_S} s by now.",
                error,
                "This sink may wait for itself: what it wrote stays locked until its checkpoint is complete. "
                'Rows that meet other rows need mode="upsert".',
            ) from error
        except psycopg.OperationalError as error:
            raise self._lost(f"Rows could not be written to {self._target.name}.", error) from error
        except (psycopg.Error, TypeError, ValueError, OverflowError) as error:
            if self._connection.closed:
                raise self._lost(f"Rows could not be written to {self._target.name}.", error) from error
            raise self._refusal(error) from error
        self._rows = []

    def _refusal(self, error: Exception) -> ConnectorError:
        try:
            self._connection.execute("ROLLBACK")
        except psycopg.OperationalError as lost:
            return self._lost(f"Rows could not be written to {self._target.name}.", lost)
        return self._target.refusal(self._database, self._connection, self._rows, error)

    def _lost(self, what: str, error: Exception) -> ConnectorError:
        hint = None
        if isinstance(error, psycopg.errors.AdminShutdown):
            hint = (
                "Another attempt of the job has taken over, another job uses the same transaction_prefix, "
                "or the server was shut down."
            )
        elif self._connection.closed:
            hint = "The transaction is lost with the connection: the job goes on from its last checkpoint."
        return self._database.failure(what, error, hint)
