"""Sinks of PostgreSQL that write exactly once, held to what every sink that commits must do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from postgres_server import PostgresServer
from zmflow_connector_postgres import PostgresSink

from zmflow.testing.sink_tests import SinkPlace, SinkTests

NUMBERS = itertools.count()


class _ExactlyOnceTests(SinkTests):
    random_runs = 10

    @pytest.fixture
    def new_place(self, server: PostgresServer) -> Callable[[], SinkPlace]:
        def place() -> SinkPlace:
            name = f"kit_{next(NUMBERS)}"
            server.query(f"CREATE TABLE {name} (number int PRIMARY KEY, text text)")
            return SinkPlace(
                self.sink(server.conninfo, name),
                lambda: server.query(f"SELECT * FROM {name}"),
                lambda: [gid for gid in server.prepared() if gid.startswith(f"zmflow/{name}/")],
            )

        return place

    def sink(self, conninfo: str, name: str) -> PostgresSink[Any]:
        """The variant."""
        raise NotImplementedError

    def record(self, number: int) -> Any:
        return number, str(number)


class TestTables(_ExactlyOnceTests):
    """Rows go by COPY, in batches that end between checkpoints, too."""

    def sink(self, conninfo: str, name: str) -> PostgresSink[Any]:
        return PostgresSink(conninfo, name, mode="exactly_once", transaction_prefix=name, batch_rows=4)


class TestStatements(_ExactlyOnceTests):
    """A statement is executed for each record."""

    def sink(self, conninfo: str, name: str) -> PostgresSink[Any]:
        statement = f"INSERT INTO {name} VALUES (%s, %s)"
        return PostgresSink(conninfo, statement=statement, mode="exactly_once", transaction_prefix=name)
