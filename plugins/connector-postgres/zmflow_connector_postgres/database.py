"""``Database``: where a database is and how to reach it; ``Session``: a connection that is made anew.

No text that comes from here has a password in it: errors name host, port and database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import JsonbDumper

from zmflow.errors import ConnectorError

__all__ = ["Connection", "Database", "Session", "reason_of"]

R = TypeVar("R")

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]

RETRY_DELAY_S = 1.0
"""Flink's: a second before the first retry, two before the second, three before the third."""

_DEFAULTS = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""A server whose machine is gone is given up after a minute; the system's own defaults are hours."""


def reason_of(error: BaseException) -> str:
    """What the server or the client library said.

    >>> reason_of(ValueError("no such thing\\n"))
    'no such thing'
    """
    return str(error).strip() or type(error).__name__


class Database:
    """A database, and how often to try again what fails for its connection.

    Args:
        conninfo: as libpq takes it: ``host=... dbname=...``, a URL, ``service=...``, or nothing for what the
            environment says.
        max_retries: after the first try.
    """

    def __init__(self, conninfo: str, max_retries: int) -> None:
        self._conninfo = conninfo
        self.max_retries = max_retries
        try:
            self._parameters = conninfo_to_dict(conninfo)
        except psycopg.ProgrammingError:  # its text repeats the conninfo, and there may be a password in it
            raise ConnectorError(
                "The connection string of PostgreSQL cannot be read.",
                detail="It is not shown here, because it may have a password in it.",
                hint='Write "host=... port=... dbname=... user=...", or a URL "postgresql://user@host/dbname".',
            ) from None

    @property
    def place(self) -> str:
        """Which database it is, for people.

        >>> Database("postgresql://ada:secret@db.example:5433/orders", 3).place
        'database orders at db.example:5433'
        """
        parameters, environment = self._parameters, os.environ
        if service := parameters.get("service") or environment.get("PGSERVICE"):
            return f"service {service}"
        host = (
            parameters.get("host") or parameters.get("hostaddr") or environment.get("PGHOST", "local socket")
        )
        port = parameters.get("port") or environment.get("PGPORT", "5432")
        name = parameters.get("dbname") or environment.get("PGDATABASE") or parameters.get("user")
        return f"database {name or 'of the user'} at {host}:{port}"

    def connect(self, application_name: str | None = None) -> Connection:
        """A new connection, in autocommit mode."""
        parameters: dict[str, Any] = {"fallback_application_name": "zmflow"}
        if not (self._parameters.get("service") or os.environ.get("PGSERVICE")):
            parameters |= {key: value for key, value in _DEFAULTS.items() if key not in self._parameters}
        if application_name is not None:
            parameters["application_name"] = application_name
        connection = psycopg.connect(self._conninfo, autocommit=True, **parameters)
        connection.adapters.register_dumper(dict, JsonbDumper)
        return connection

    def failure(self, what: str, error: BaseException, hint: str | None = None) -> ConnectorError:
        """The error that says what could not be done, where and why."""
        return ConnectorError(what, detail=f"{self.place}: {reason_of(error)}", hint=hint)


class Session:
    """A connection that is made when it is needed, and made anew when it is lost.

    Args:
        database: to connect to.
        application_name: what the server's list of sessions calls it.
    """

    def __init__(self, database: Database, application_name: str | None = None) -> None:
        self._database = database
        self._application_name = application_name
        self._connection: Connection | None = None

    def run(self, what: str, work: Callable[[Connection], R], max_retries: int | None = None) -> R:
        """Do something that may be done twice; try again when the connection or a lock was in the way.

        Args:
            what: the sentence of the error when all tries have failed.
            work: is given the connection.
            max_retries: where it is not the database's.
        """
        tries = 1 + (self._database.max_retries if max_retries is None else max_retries)
        for number in range(1, tries + 1):
            try:
                return work(self._connected())
            except psycopg.OperationalError as error:
                self._drop_if_lost()
                if number == tries:
                    hint = (
                        "Is the server up, and can this machine reach it?" if error.sqlstate is None else None
                    )
                    raise self._database.failure(what, error, hint) from error
            except psycopg.Error as error:
                raise self._database.failure(what, error) from error
            time.sleep(RETRY_DELAY_S * number)
        raise AssertionError

    def begin(self, what: str, work: Callable[[Connection], R]) -> R:
        """Do the first thing; when that fails the session is closed, because nobody else will."""
        try:
            return self.run(what, work)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection; what was not committed is rolled back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._database.connect(self._application_name)
        return self._connection

    def _drop_if_lost(self) -> None:
        if self._connection is not None and self._connection.closed:
            self._connection = None
