"""Prepared transactions: their names, their commit, and how a restored sink gets rid of those nobody commits.

A name says whose a transaction is: ``zmflow/PREFIX/SUBTASK/AFTER/WRITER-COUNT``, where AFTER is the last
checkpoint that the writer took before. A subtask that goes on from checkpoint N knows so that what it had
prepared with AFTER below N is part of that checkpoint, and is committed, and that the rest is of no use. Each
subtask looks after its own names, so one that restarts alone takes nothing from the others; names of subtasks
that there are no more are shared out.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from zmflow.api.sinks import CommitRequest, Committer
from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, Session

__all__ = [
    "PreparedTransaction",
    "SubtaskTransactions",
    "TransactionCommitter",
    "is_transaction_prefix",
]

TRANSACTION_PREFIX_CHARACTERS_MAX = 40
"""With the subtask it must fit into the 63 bytes of the name of a session."""

TAKE_OVER_S = 30.0
"""How long to wait until a session that was told to end is gone: one ends its statement first."""

POLL_S = 0.02


def is_transaction_prefix(prefix: str) -> bool:
    """Whether names can begin with this.

    >>> is_transaction_prefix("orders-v2"), is_transaction_prefix("a/b")
    (True, False)
    """
    return bool(re.fullmatch(rf"[A-Za-z0-9._-]{{1,{TRANSACTION_PREFIX_CHARACTERS_MAX}}}", prefix))


@dataclass(frozen=True, slots=True)
class PreparedTransaction:
    """The committable: a transaction by its name, and by its number, which tells later what became of it."""

    name: str
    number: str


class SubtaskTransactions:
    """The prepared transactions, and the session, of one subtask.

    Args:
        prefix: of the sink.
        subtask: whose they are.
        parallelism: how many subtasks there are now.
    """

    def __init__(self, prefix: str, subtask: int, parallelism: int) -> None:
        self._prefix = f"zmflow/{prefix}/"
        self._subtask = subtask
        self._parallelism = parallelism

    @property
    def session_name(self) -> str:
        """What the server's list of sessions calls the writer's."""
        return f"{self._prefix}{self._subtask}"

    def name(self, after: int, unique: str) -> str:
        """The name of a transaction that is prepared after a checkpoint.

        >>> SubtaskTransactions("orders", 2, 4).name(17, "5f3a-1")
        'zmflow/orders/2/17/5f3a-1'
        """
        return f"{self._prefix}{self._subtask}/{after}/{unique}"

    def take_over(self, database: Database, connection: Connection, restored: int | None) -> None:
        """End the sessions of earlier attempts, which may not know yet that they are over, and roll back what
        they have prepared for checkpoints later than the one that was restored.

        Args:
            database: for errors.
            connection: of this attempt.
            restored: that checkpoint; None where the job begins anew.
        """
        self._end_sessions(database, connection)
        names = connection.execute(
            "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, %s)",
            [self._prefix],
        )
        for (name,) in names.fetchall():
            parts = name.removeprefix(self._prefix).split("/")
            if len(parts) != 3 or not self._owns(parts[0]):
                continue
            if restored is None or int(parts[1]) >= restored:
                self._roll_back(database, connection, name)

    def _owns(self, subtask: str) -> bool:
        index = int(subtask) if subtask.isdecimal() else -1
        return index == self._subtask or (
            index >= self._parallelism and index % self._parallelism == self._subtask
        )

    def _end_sessions(self, database: Database, connection: Connection) -> None:
        deadline = time.monotonic() + TAKE_OVER_S
        while True:
            sessions = connection.execute(
                "SELECT pid, application_name FROM pg_stat_activity WHERE datname = current_database() "
                "AND usename = session_user AND pid <> pg_backend_pid() "
                "AND starts_with(application_name, %s)",
                [self._prefix],
            ).fetchall()
            old = [pid for pid, name in sessions if self._owns(name.removeprefix(self._prefix))]
            if not old:
                return
            if time.monotonic() > deadline:
                raise ConnectorError(
                    "A session of an earlier attempt of the sink does not end.",
                    detail=f"{database.place}: the server process {old[0]}.",
                    hint="End it with pg_terminate_backend; a statement that hangs may hold it up.",
                )
            connection.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) pid", [old])
            time.sleep(POLL_S)

    def _roll_back(self, database: Database, connection: Connection, name: str) -> None:
        deadline = time.monotonic() + TAKE_OVER_S
        while True:
            try:
                connection.execute(sql.SQL("ROLLBACK PREPARED {}").format(name))
            except psycopg.errors.UndefinedObject:
                return  # an operator was faster
            except psycopg.errors.ObjectNotInPrerequisiteState as error:  # somebody is at it
                if time.monotonic() > deadline:
                    raise database.failure(f"Transaction {name} cannot be rolled back.", error) from error
                time.sleep(POLL_S)
            except psycopg.errors.InsufficientPrivilege as error:
                raise database.failure(
                    f"Transaction {name} was prepared by another user and cannot be rolled back.",
                    error,
                    "Connect as that user, or roll it back as a superuser.",
                ) from error
            else:
                return


class TransactionCommitter(Committer[PreparedTransaction]):
    """Commits prepared transactions.

    One that is not there any more was committed before, or rolled back by somebody: the server knows which,
    by its number, for as long as it keeps the outcomes of transactions, which is many millions of them.
    When it has forgotten, the transaction is taken for committed, because this sink never rolls back what a
    complete checkpoint has.
    """

    def __init__(self, database: Database, prefix: str) -> None:
        self._session = Session(database, f"zmflow-commit/{prefix}")
        self._place = database.place

    def commit(self, requests: Sequence[CommitRequest[PreparedTransaction]]) -> None:
        for request in requests:
            name = request.committable.name
            self._session.run(f"Transaction {name} could not be committed.", self._committed(request))

    def _committed(self, request: CommitRequest[PreparedTransaction]) -> Callable[[Connection], None]:
        def commit(connection: Connection) -> None:
            try:
                connection.execute(sql.SQL("COMMIT PREPARED {}").format(request.committable.name))
            except psycopg.errors.UndefinedObject:
                self._look_up(connection, request)

        return commit

    def _look_up(self, connection: Connection, request: CommitRequest[PreparedTransaction]) -> None:
        transaction = request.committable
        try:
            (outcome,) = connection.execute(
                "SELECT pg_xact_status(%s::text::xid8)", [transaction.number]
            ).fetchone() or (None,)
        except psycopg.errors.InvalidParameterValue:
            outcome = "unknown"  # a number that the server has not given out yet
        if outcome in ("committed", None):
            request.signal_already_committed()
        elif outcome == "in progress":  # another session is just finishing it
            request.retry_later()
        else:
            request.signal_failed(
                f"{self._place} has no prepared transaction {transaction.name}, and its number, "
                f"{transaction.number}, is {outcome}. Somebody has rolled it back, or this is another "
                "server or a backup of it."
            )

    def close(self) -> None:
        self._session.close()
