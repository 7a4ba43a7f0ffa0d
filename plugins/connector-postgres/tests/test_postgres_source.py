"""Sources of PostgreSQL, held to what every source with checkpoints has to do, and what is their own."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import psycopg
import pytest
from postgres_server import PostgresServer
from zmflow_connector_postgres import PostgresSource

from zmflow import Row
from zmflow.errors import ConnectorError
from zmflow.testing.source_run import SourceRun
from zmflow.testing.source_tests import SourceTests

TABLES = itertools.count()
ROWS = 300


def table_of(server: PostgresServer, kind: str, values: Sequence[object]) -> str:
    """A table with these values in column ``key``, in no order, and a number for each row."""
    name = f"source_{next(TABLES)}"
    server.query(f"CREATE TABLE {name} (number int, key {kind})")
    rows = sorted(enumerate(values), key=lambda row: row[0] * 7919 % len(values))
    with psycopg.connect(server.conninfo) as connection, connection.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {name} VALUES (%s, %s)", rows)
    return name


class _PostgresSourceTests(SourceTests):
    kind = "int"
    options: dict[str, Any] = {"partitions": 5, "fetch_rows": 16}  # noqa: RUF012 - never changed

    def values(self) -> list[Any]:
        """Of the partition column."""
        return list(range(ROWS))

    @pytest.fixture
    def source(self, server: PostgresServer) -> PostgresSource[tuple[Any, ...]]:
        table = table_of(server, self.kind, self.values())
        return PostgresSource(server.conninfo, table, partition_column="key", **self.options)

    @pytest.fixture
    def expected(self) -> list[tuple[Any, ...]]:
        return list(enumerate(self.values()))


class TestNumbers(_PostgresSourceTests):
    """A unique column; without a number of partitions there is one for each reader."""

    options = {"fetch_rows": 16}  # noqa: RUF012


class TestTies(_PostgresSourceTests):
    """Many rows with the same value, more than are fetched at once, and some without one."""

    def values(self) -> list[Any]:
        return [None if number % 10 == 0 else number // 23 for number in range(ROWS)]


class TestTexts(_PostgresSourceTests):
    """What cannot be divided is cut into parts with as many rows; texts as they come."""

    kind = "text"

    def values(self) -> list[Any]:
        return [f"{number % 97}'%s {number}" for number in range(ROWS)]


class TestTimes(_PostgresSourceTests):
    """Points in time, most of them in one partition."""

    kind = "timestamptz"

    def values(self) -> list[Any]:
        begin = datetime(2026, 1, 1, tzinfo=UTC)
        return [begin + timedelta(microseconds=number**4) for number in range(ROWS)]


class TestFloats(_PostgresSourceTests):
    """With values that are no numbers, which are equal to each other for the server."""

    kind = "double precision"

    def values(self) -> list[Any]:
        return [number / 7 if number % 3 else float("nan") for number in range(ROWS)]

    @pytest.fixture
    def expected(self) -> list[tuple[Any, ...]]:
        return [(number, repr(value)) for number, value in enumerate(self.values())]

    @pytest.fixture
    def source(self, server: PostgresServer) -> PostgresSource[tuple[Any, ...]]:
        table = table_of(server, self.kind, self.values())
        # nan != nan, so the kit is shown what they look like
        return PostgresSource(
            server.conninfo, table, partition_column="key", record_type=_with_repr, **self.options
        )


def _with_repr(number: int, key: float) -> tuple[int, str]:
    return number, repr(key)


class TestQueries(_PostgresSourceTests):
    """A query with bounds, a percent sign and a semicolon."""

    @pytest.fixture
    def source(self, server: PostgresServer) -> PostgresSource[dict[str, Any]]:
        table = table_of(server, "int", self.values())
        return PostgresSource(
            server.conninfo,
            query=f"SELECT key, key % 2 AS odd FROM {table} -- all of it\n;",
            partition_column="key",
            record_type=dict,
            lower=10,
            upper=200,
            **self.options,
        )

    @pytest.fixture
    def expected(self) -> list[Any]:
        return [{"key": number, "odd": number % 2} for number in range(10, 201)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("date", [date(2026, 1, 1) + timedelta(days=number) for number in range(5)]),
        ("numeric", [1, 2, 1000]),
        ("uuid", [f"00000000-0000-0000-0000-{number:012}" for number in range(9)]),
        ("bytea", [bytes([number]) for number in range(9)]),
        ("int", []),
        ("int", [None, None]),
        ("int", [7]),
    ],
)
def test_every_type_is_cut_and_read(server: PostgresServer, kind: str, values: list[Any]) -> None:
    """Few rows, one row and none, in more partitions than there are rows."""
    table = table_of(server, kind, values)
    source = PostgresSource(server.conninfo, table, partition_column="key", columns=["key"], partitions=12)
    assert len(SourceRun(source, 2).read_all()) == len(values)


@dataclass
class Reading:
    """A class that takes the columns by name."""

    number: int
    key: str


@pytest.mark.parametrize(
    ("kind", "record"),
    [
        (tuple, (0, "a")),
        (dict, {"number": 0, "key": "a"}),
        (Row, Row(number=0, key="a")),
        (Reading, Reading(0, "a")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_rows_become_records(server: PostgresServer, kind: type[Any], record: object) -> None:
    """Of the type that was asked for."""
    source = PostgresSource(
        server.conninfo, table_of(server, "text", ["a"]), partition_column="key", record_type=kind
    )
    assert SourceRun(source, 1).read_all() == [record]


def test_a_class_that_does_not_fit_is_named(server: PostgresServer) -> None:
    """With the row."""
    source = PostgresSource(
        server.conninfo,
        query=f"SELECT key FROM {table_of(server, 'text', ['a'])}",
        partition_column="key",
        record_type=Reading,
    )
    run = SourceRun(source, 1)
    with pytest.raises(ConnectorError, match=r"no Reading[\s\S]*'number'[\s\S]*\{'key': 'a'\}"):
        run.read_all()
    run.close()


def test_all_partitions_of_a_snapshot_see_the_same(server: PostgresServer) -> None:
    """Whatever is written while they are read, and by whichever attempt."""
    table = table_of(server, "int", list(range(50)))
    with psycopg.connect(server.conninfo) as holder:
        holder.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        (snapshot,) = holder.execute("SELECT pg_export_snapshot()").fetchone() or ("",)
        source = PostgresSource(
            server.conninfo, table, partition_column="key", partitions=5, snapshot=snapshot, fetch_rows=3
        )
        run = SourceRun(source, 1)
        seen = run.read_all(20)
        server.query(f"DELETE FROM {table} WHERE key > 30")
        server.query(f"INSERT INTO {table} SELECT n, n FROM generate_series(100, 200) n")
        checkpoint = run.snapshot()
        run.close()
        seen += SourceRun(source, 2, checkpoint).read_all()
    assert sorted(seen) == [(number, number) for number in range(50)]


def test_a_server_that_restarts_is_waited_for(restarted: PostgresServer) -> None:
    """The reader goes on behind the last row it has returned."""
    table = table_of(restarted, "int", [number // 3 for number in range(ROWS)])
    run = SourceRun(PostgresSource(restarted.conninfo, table, partition_column="key", fetch_rows=10), 2)
    seen = run.read_all(100)
    restarted.stop()
    seen += run.poll(0)
    restarted.start()
    seen += run.read_all()
    assert sorted(seen) == [(number, number // 3) for number in range(ROWS)]


def test_a_server_that_stays_away_is_given_up(restarted: PostgresServer) -> None:
    """With an error that says where it was."""
    table = table_of(restarted, "int", list(range(ROWS)))
    source = PostgresSource(
        restarted.conninfo, table, partition_column="key", fetch_rows=10, max_retries=0, partitions=1
    )
    run = SourceRun(source, 1)
    assert len(run.poll(0)) == 0
    assert len(run.poll(0)) > 0
    restarted.stop()
    with pytest.raises(
        ConnectorError, match=re.escape(f"database shop at {restarted.directory}:5432")
    ) as caught:
        run.read_all()
    assert "secret" not in str(caught.value)
    run.close()
    with pytest.raises(ConnectorError, match="Is the server up"):
        SourceRun(source, 1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda c: PostgresSource(c, partition_column="key"), "a table or a query"),
        (lambda c: PostgresSource(c, "t", query="SELECT 1", partition_column="key"), "a table or a query"),
        (lambda c: PostgresSource(c, "t", partition_column="key", partitions=0), "1 or more"),
        (lambda c: PostgresSource(c, "t", partition_column="key", columns=["a"]), "list that has key"),
        (lambda c: PostgresSource(c, "nothing_there", partition_column="key"), "nothing_there"),
        (lambda c: PostgresSource(c, "pg_class", partition_column="key"), "key"),
        (lambda c: PostgresSource(c, "pg_class", partition_column="relacl"), "none of bigint, bytea"),
        (lambda c: PostgresSource(c, query="SELEKT", partition_column="key"), "syntax error"),
        (
            lambda c: PostgresSource(c, "pg_class", partition_column="relpages", lower="x"),
            "invalid input syntax",
        ),
        (lambda c: PostgresSource("nonsense secret", "t", partition_column="key"), "cannot be read"),
    ],
)
def test_what_is_wrong_is_said_before_submission(
    server: PostgresServer, make: Callable[[str], PostgresSource[Any]], says: str
) -> None:
    """By the constructor, or by the client that looks at the server; without a word of the password."""
    with pytest.raises(ConnectorError, match=says) as caught:
        make(server.conninfo).validate()
    assert "secret" not in str(caught.value)


def test_the_client_need_not_see_the_server() -> None:
    """Where it is told so."""
    PostgresSource("host=/nowhere", "t", partition_column="key", check_on_client=False).validate()
    with pytest.raises(ConnectorError, match="database of the user at /nowhere:5432"):
        PostgresSource("host=/nowhere", "t", partition_column="key").validate()
