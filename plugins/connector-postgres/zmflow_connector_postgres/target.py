"""``Target``: what records are written with: a COPY, an upsert, or a statement of the user's."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import psycopg
from psycopg import sql

from zmflow.errors import ConnectorError
from zmflow_connector_postgres.database import Connection, Database, reason_of
from zmflow_connector_postgres.record_mapping import RecordMapping, shown

__all__ = ["Mode", "Target", "TargetOptions", "table_identifier"]

Mode: TypeAlias = Literal["upsert", "exactly_once"]

_COLUMNS = """
SELECT attname, format_type(atttypid, atttypmod), attgenerated = '' AND attidentity <> 'a'
FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

_PRIMARY_KEY = """
SELECT a.attname FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(attnum, place), pg_attribute a
WHERE i.indrelid = %s::regclass AND i.indisprimary AND a.attrelid = i.indrelid AND a.attnum = k.attnum
ORDER BY k.place
"""


def table_identifier(table: str) -> sql.Identifier:
    """The quoted name of ``table`` or ``schema.table``.

    >>> table_identifier("public.words").as_string(None)
    '"public"."words"'
    """
    return sql.Identifier(*table.split("."))


@dataclass(frozen=True)
class TargetOptions:
    """What the user says of where records go: a table, or a statement."""

    mode: Mode
    table: str | None
    statement: str | None
    columns: tuple[str, ...] | None
    key_columns: tuple[str, ...] | None

    @property
    def name(self) -> str:
        """For errors."""
        return f"table {self.table}" if self.table is not None else "the statement"

    def resolve(self, database: Database, connection: Connection) -> Target:
        """Look at the table and make the statement.

        Raises:
            ConnectorError: the table, a column or a key is missing.
        """
        if self.table is None:
            assert self.statement is not None
            mapping = RecordMapping(self.columns, exact=False, target=self.name)
            return Target(self.name, mapping, sql.SQL(self.statement), is_copy=False, types=())
        found = self._columns_of(database, connection)
        types = {name: kind for name, kind, _ in found}
        columns = self.columns or tuple(name for name, _, writable in found if writable)
        if unknown := [name for name in (*columns, *(self.key_columns or ())) if name not in types]:
            raise ConnectorError(
                f"Table {self.table} has no column {unknown[0]}.",
                detail=f"{database.place}: its columns are {', '.join(types)}.",
            )
        mapping = RecordMapping(columns, exact=self.columns is None, target=self.name)
        names = sql.SQL(", ").join(map(sql.Identifier, columns))
        table = table_identifier(self.table)
        copies = self.mode == "exactly_once"
        if copies:
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(table, names)
        else:
            key = self.key_columns or self._primary_key_of(database, connection)
            statement = _upsert(table, columns, key)
            self._explain(database, connection, statement, len(columns), key)
        return Target(
            self.name,
            mapping,
            statement,
            is_copy=copies,
            types=tuple((name, types[name]) for name in columns),
        )

    def _columns_of(self, database: Database, connection: Connection) -> list[tuple[Any, ...]]:
        try:
            return connection.execute(_COLUMNS, [self._quoted(connection)]).fetchall()
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise database.failure(
                f"There is no table {self.table}.",
                error,
                "Make it before the job runs. Names are taken as they are written, capital letters too.",
            ) from None

    def _primary_key_of(self, database: Database, connection: Connection) -> tuple[str, ...]:
        key = connection.execute(_PRIMARY_KEY, [self._quoted(connection)]).fetchall()
        if not key:
            raise ConnectorError(
                f"Table {self.table} has no primary key to overwrite rows by.",
                detail=database.place,
                hint="Name the columns of a unique constraint with key_columns=[...], or use exactly_once.",
            )
        return tuple(name for (name,) in key)

    def _explain(
        self,
        database: Database,
        connection: Connection,
        statement: sql.Composed,
        width: int,
        key: Sequence[str],
    ) -> None:
        """Let the server plan the statement, so that what is wrong with it is known before the first
        record."""
        try:
            connection.execute(sql.SQL("EXPLAIN ") + statement, [None] * width)
        except psycopg.errors.InvalidColumnReference as error:
            raise database.failure(
                f"Table {self.table} has no unique constraint on {', '.join(key)}.",
                error,
                "Make one, or name the columns of another with key_columns=[...].",
            ) from None
        except psycopg.ProgrammingError as error:
            raise database.failure(f"Table {self.table} cannot be written.", error) from None

    def _quoted(self, connection: Connection) -> str:
        assert self.table is not None
        return table_identifier(self.table).as_string(connection)


def _upsert(table: sql.Identifier, columns: Sequence[str], key: Sequence[str]) -> sql.Composed:
    rest = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in columns if name not in key]
    action = sql.SQL("UPDATE SET ") + sql.SQL(", ").join(rest) if rest else sql.SQL("NOTHING")
    return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO {}").format(
        table,
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
        sql.SQL(", ").join(map(sql.Identifier, key)),
        action,
    )


class Target:
    """How rows are sent to the server.

    Args:
        name: for errors.
        mapping: makes rows of records.
        statement: what is executed.
        is_copy: whether the statement is a COPY; else it is executed with each row.
        types: the columns and their types, where they are known.
    """

    def __init__(
        self,
        name: str,
        mapping: RecordMapping,
        statement: sql.Composable,
        *,
        is_copy: bool,
        types: Sequence[tuple[str, str]],
    ) -> None:
        self.name = name
        self.mapping = mapping
        self._statement = statement
        self._is_copy = is_copy
        self._types = types

    def send(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write rows, in the transaction there is."""
        with connection.cursor() as cursor:
            if not self._is_copy:
                cursor.executemany(self._statement.as_bytes(connection), rows)
                return
            with cursor.copy(self._statement.as_bytes(connection)) as copy:
                for row in rows:
                    copy.write_row(row)

    def refusal(
        self,
        database: Database,
        connection: Connection,
        rows: Sequence[tuple[Any, ...]],
        error: Exception,
    ) -> ConnectorError:
        """The error for rows that the server does not take: it names the first such, and its column.

        The connection must be outside of a transaction.
        """
        culprit, column = None, getattr(getattr(error, "diag", None), "column_name", None)
        with suppress(psycopg.OperationalError), connection.transaction(force_rollback=True):
            for row in rows:
                try:
                    with connection.transaction():
                        self.send(connection, [row])
                except psycopg.OperationalError:
                    raise
                except (psycopg.Error, TypeError, ValueError, OverflowError) as its_error:
                    culprit, error = row, its_error
                    column = getattr(getattr(error, "diag", None), "column_name", None)
                    column = column or self._column_that_fails(connection, row)
                    break
        where = f" (column {column})" if column else ""
        record = "" if culprit is None else f"\nThe record: {shown(culprit)}"
        return ConnectorError(
            f"PostgreSQL refuses a record for {self.name}{where}.",
            detail=f"{database.place}: {reason_of(error)}{record}",
            hint="Change the record before the sink, or the table.",
        )

    def _column_that_fails(self, connection: Connection, row: Sequence[Any]) -> str | None:
        """The first column whose value cannot be one of its type."""
        for (name, kind), value in zip(self._types, row, strict=False):
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("SELECT CAST(%s AS {})").format(sql.SQL(kind)), [value])
            except psycopg.OperationalError:
                raise
            except (psycopg.Error, TypeError, ValueError, OverflowError):
                return name
        return None
