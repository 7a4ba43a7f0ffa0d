"""Sinks of PostgreSQL: upserts, records of all kinds, errors, lost servers, transactions."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from postgres_server import PostgresServer
from zmflow_connector_postgres import PostgresSink, transaction_writer
from zmflow_connector_postgres.database import Database
from zmflow_connector_postgres.transactions import PreparedTransaction, TransactionCommitter

from zmflow import CommitRequest, Row, RowKind, RuntimeContext
from zmflow.api.sinks import WriterContext
from zmflow.api.time import Duration
from zmflow.errors import ConnectorError
from zmflow.testing.sink_run import SinkRun

TABLES = itertools.count()
EXACTLY_ONCE = {"table": "t", "mode": "exactly_once", "transaction_prefix": "p"}


@pytest.fixture
def table(server: PostgresServer) -> str:
    """An empty table of words and counts."""
    name = f"sink_{next(TABLES)}"
    server.query(f'CREATE TABLE {name} (word text PRIMARY KEY, "Count" int)')
    return name


@pytest.fixture
def rows(server: PostgresServer, table: str) -> Callable[[], list[tuple[object, ...]]]:
    """What is in it."""
    return lambda: server.query(f'SELECT word, "Count" FROM {table} ORDER BY word')


def upsert(server: PostgresServer, table: str, **options: Any) -> PostgresSink[Any]:
    """A sink of that table."""
    return PostgresSink(server.conninfo, table, **options)


def exactly_once(server: PostgresServer, table: str, **options: Any) -> PostgresSink[Any]:
    """Likewise, with the table's name for its transactions."""
    return PostgresSink(server.conninfo, table, mode="exactly_once", transaction_prefix=table, **options)


# -- upserts ----------------------------------------------------------------------------------------


def test_rows_overwrite_those_with_the_same_key(server: PostgresServer, table: str, rows: Any) -> None:
    """In one batch, in later ones, and when a batch is written again after a failure."""
    run = SinkRun(upsert(server, table, batch_rows=3), 2)
    run.write([("a", 1), ("b", 1), ("a", 2)])
    assert rows() == [("a", 2), ("b", 1)]
    run.write([("a", 3)])
    assert rows() == [("a", 2), ("b", 1)]
    run.checkpoint()
    assert rows() == [("a", 3), ("b", 1)]
    run.write([("a", 4), ("c", 1), ("b", 2)], 1)
    run.kill()
    run = SinkRun(upsert(server, table), attempt=1)
    run.write([("a", 4), ("c", 1), ("b", 2)])
    run.finish()
    assert rows() == [("a", 4), ("b", 2), ("c", 1)]


def test_a_batch_waits_no_longer_than_the_flush_interval(
    server: PostgresServer, table: str, rows: Any
) -> None:
    """From its first row on."""
    run = SinkRun(upsert(server, table, flush_interval=Duration.of_seconds(1)))
    run.write([("a", 1)])
    run.tick(999)
    run.write([("b", 1)])
    assert rows() == []
    run.tick(1)
    assert rows() == [("a", 1), ("b", 1)]
    run.tick(5000)
    run.finish()


def test_other_keys_and_tables_that_are_all_key(server: PostgresServer, table: str, rows: Any) -> None:
    """A unique constraint beside the primary key; columns that nothing is left to update beside."""
    server.query(f'ALTER TABLE {table} ADD UNIQUE ("Count")')
    sink = upsert(server, f"public.{table}", key_columns=["Count"])
    sink.validate()
    run = SinkRun(sink)
    run.write([("a", 1), ("b", 1)])
    run.finish()
    assert rows() == [("b", 1)]
    run = SinkRun(upsert(server, table, columns=["word"]))
    run.write(["b", "c"])
    run.finish()
    assert rows() == [("b", 1), ("c", None)]


def test_a_statement_is_executed_for_each_record(server: PostgresServer, table: str, rows: Any) -> None:
    """With its fields in the order of the columns."""
    statement = (
        f'INSERT INTO {table} AS t VALUES (%s, %s) ON CONFLICT (word) DO UPDATE SET "Count" = 10 * t."Count"'
    )
    run = SinkRun(PostgresSink(server.conninfo, statement=statement, columns=["word", "n"]))
    run.write([{"n": 1, "word": "a", "more": 5}, ("a", 3)])
    run.finish()
    assert rows() == [("a", 10)]


def test_a_server_that_restarts_is_waited_for(restarted: PostgresServer, table: str, rows: Any) -> None:
    """Between two batches, and while it is away."""
    run = SinkRun(upsert(restarted, table, batch_rows=2))
    run.write([("a", 1), ("b", 1)])
    restarted.stop()
    restarted.start()
    run.write([("a", 2), ("c", 1)])
    run.finish()
    assert rows() == [("a", 2), ("b", 1), ("c", 1)]


def test_a_server_that_stays_away_is_given_up(restarted: PostgresServer, table: str) -> None:
    """With an error that says where it was, and no password."""
    run = SinkRun(upsert(restarted, table, batch_rows=1, max_retries=1))
    restarted.stop()
    with pytest.raises(ConnectorError, match="Rows could not be written to table sink") as caught:
        run.write([("a", 1)])
    assert f"database shop at {restarted.directory}:5432" in str(caught.value)
    assert "secret" not in str(caught.value)
    run.fail()


# -- records ----------------------------------------------------------------------------------------


@dataclass
class Word:
    """A record by name, in another order."""

    Count: int
    word: str


class Pair(NamedTuple):
    """A tuple by name."""

    Count: int
    word: str


class Struct(msgspec.Struct):
    """Likewise."""

    Count: int
    word: str


class Plain:
    """An object."""

    def __init__(self) -> None:
        self.Count, self.word = 1, "a"


@pytest.mark.parametrize(
    "record",
    [
        ("a", 1),
        ["a", 1],
        Row("a", 1),
        Row(Count=1, word="a"),
        {"Count": 1, "word": "a"},
        Word(1, "a"),
        Pair(1, "a"),
        Struct(1, "a"),
        Plain(),
        Row.of_kind(RowKind.UPDATE_AFTER, "a", 1),
    ],
    ids=lambda record: type(record).__name__,
)
@pytest.mark.parametrize("kind", [upsert, exactly_once])
def test_records_of_any_kind(
    server: PostgresServer, table: str, rows: Any, record: object, kind: Callable[..., PostgresSink[Any]]
) -> None:
    """By position or by name."""
    run = SinkRun(kind(server, table))
    run.write([record])
    run.finish()
    assert rows() == [("a", 1)]


def test_values_of_many_types_come_back(server: PostgresServer) -> None:
    """What psycopg adapts, and dicts; columns that the server fills are left out."""
    values = (Decimal("1.50"), {"a": [1, None]}, [1, 2], b"\0\\", None, "tab\tand\\N")
    for kind in (upsert, exactly_once):
        name = f"sink_{next(TABLES)}"
        server.query(
            f"CREATE TABLE {name} (id int GENERATED ALWAYS AS IDENTITY, n numeric PRIMARY KEY, j jsonb, "
            "a int[], b bytea, t timestamptz, s text, twice numeric GENERATED ALWAYS AS (n * 2) STORED)"
        )
        run = SinkRun(kind(server, name))
        run.write([values])
        run.finish()
        assert server.query(f"SELECT n, j, a, b, t, s, twice FROM {name}") == [(*values, Decimal("3.00"))]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (("a",), "It has 1 values for 2 columns: word, Count."),
        ({"word": "a"}, "nothing for column Count"),
        ({"word": "a", "Count": 1, "other": 2}, "no column other"),
        (Row(word="a", other=2), "nothing for column Count"),
        (Row.of_kind(RowKind.DELETE, "a", 1), "a change of the kind -D"),
        (7, "has no attribute"),
        (("a", "seven"), "(column Count)"),
        (("a", 10**10), "(column Count)"),
        (("a", 1j), "(column Count)"),
        ((None, 7), "(column word)"),
        (("zero \0 byte", 7), "(column word)"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [upsert, exactly_once])
def test_a_record_that_does_not_fit_is_named(
    server: PostgresServer,
    table: str,
    rows: Any,
    record: object,
    says: str,
    kind: Callable[..., PostgresSink[Any]],
) -> None:
    """And its column, among those that do fit; nothing of the batch is written."""
    run = SinkRun(kind(server, table))
    with pytest.raises(ConnectorError) as caught:
        run.write([("good", 1), ("fine", 2), record])
        run.barrier()
    assert says in str(caught.value)
    assert repr(record) in str(caught.value)
    run.fail()
    assert rows() == []


def test_a_constraint_names_the_record(server: PostgresServer, table: str) -> None:
    """Of the batch the one that violates it."""
    run = SinkRun(exactly_once(server, table))
    with pytest.raises(ConnectorError, match=r"sink_[\s\S]*already exists[\s\S]*The record: \('b', 3\)"):
        run.write([("a", 1), ("b", 2), ("b", 3)])
        run.barrier()
    run.fail()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "a table or a statement"),
        ({"table": "t", "statement": "x"}, "a table or a statement"),
        ({"statement": "INSERT INTO t VALUES (%(a)s)"}, "placeholders"),
        ({"table": "t", "mode": "append"}, "no mode 'append'"),
        ({"table": "t", "batch_rows": 0}, "1 or more"),
        ({"table": "t", "columns": "abc"}, "list of distinct names"),
        ({"table": "t", "flush_interval": Duration.of_nanos(1)}, "1 ms"),
        ({"table": "t", "transaction_prefix": "p"}, "exactly_once"),
        ({"table": "t", "mode": "exactly_once"}, "transaction_prefix"),
        ({"table": "t", "mode": "exactly_once", "transaction_prefix": "a/b"}, "transaction_prefix"),
        (
            EXACTLY_ONCE | {"key_columns": ["a"]},
            "overwrite",
        ),
        (
            {
                "table": "t",
                "mode": "exactly_once",
                "transaction_prefix": "p",
                "flush_interval": Duration.of_days(1),
            },
            "no effect",
        ),
        ({"table": "nothing_there"}, "There is no table nothing_there"),
        ({"table": "nowhere.nothing"}, "There is no table nowhere.nothing"),
        ({"table": "TABLE", "columns": ["other"]}, "has no column other"),
        ({"table": "TABLE", "key_columns": ["Count"]}, "no unique constraint on Count"),
        ({"table": "KEYLESS"}, "no primary key"),
    ],
)
def test_what_is_wrong_is_said_before_submission(
    server: PostgresServer, table: str, options: dict[str, Any], says: str
) -> None:
    """By the constructor, or by the client that looks at the server."""
    if options.get("table") == "KEYLESS":
        server.query(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
    if options.get("table") in ("TABLE", "KEYLESS"):
        options = options | {"table": table}
    with pytest.raises(ConnectorError, match=says) as caught:
        PostgresSink(server.conninfo, **options).validate()
    assert "secret" not in str(caught.value)


def test_the_client_need_not_see_the_server() -> None:
    """Where it is told so; a connection string that cannot be read is not repeated."""
    sink: PostgresSink[Any] = PostgresSink("host=/nowhere", "t", check_on_client=False)
    pickle.loads(pickle.dumps(sink)).validate()
    with pytest.raises(ConnectorError, match="/nowhere:5432"):
        PostgresSink("host=/nowhere", "t").validate()
    with pytest.raises(ConnectorError) as caught:
        PostgresSink("host=a password=hush hush", "t")
    assert "hush" not in str(caught.value)


# -- transactions -----------------------------------------------------------------------------------


def test_a_server_without_prepared_transactions_is_refused(restarted: PostgresServer, table: str) -> None:
    """Before submission, with what to do; so is one that keeps fewer than a checkpoint needs."""
    restarted.stop()
    restarted.start(max_prepared_transactions=0)
    with pytest.raises(
        ConnectorError, match=r"keeps no prepared[\s\S]*max_prepared_transactions = 0[\s\S]*Hint"
    ):
        exactly_once(restarted, table).validate()
    restarted.stop()
    restarted.start(max_prepared_transactions=2)
    exactly_once(restarted, table).validate()
    with pytest.raises(ConnectorError, match="keeps 2 prepared transactions, a checkpoint needs 3"):
        SinkRun(exactly_once(restarted, table), 3)
    run = SinkRun(exactly_once(restarted, table))
    for number in range(2):
        run.write([(str(number), 1)])
        run.barrier()
    run.write([("2", 1)])
    with pytest.raises(ConnectorError, match=r"no more prepared[\s\S]*pg_prepared_xacts"):
        run.barrier()
    run.fail()
    SinkRun(exactly_once(restarted, table)).finish()
    assert restarted.prepared() == []


def test_what_is_prepared_outlives_the_server(restarted: PostgresServer, table: str, rows: Any) -> None:
    """The session does not: the attempt fails, and the next commits."""
    run = SinkRun(exactly_once(restarted, table), 2)
    run.write([("a", 1)])
    run.write([("b", 1)], 1)
    checkpoint = run.barrier()
    run.write([("lost", 1)])
    restarted.stop()
    restarted.start()
    assert rows() == []
    run.write([("lost", 2)])
    with pytest.raises(ConnectorError, match="could not be"):
        run.barrier()
    run.fail()
    run = SinkRun(exactly_once(restarted, table), 1, checkpoint, attempt=1)
    assert rows() == [("a", 1), ("b", 1)]
    run.finish()
    assert restarted.prepared() == []


def test_a_commit_waits_for_the_server(restarted: PostgresServer, table: str, rows: Any) -> None:
    """A committer connects anew."""
    run = SinkRun(exactly_once(restarted, table))
    for word in "ab":
        run.write([(word, 1)])
        checkpoint = run.barrier()
        if word == "a":
            run.complete(checkpoint)
    restarted.stop()
    restarted.start()
    run.complete(checkpoint)
    assert rows() == [("a", 1), ("b", 1)]
    run.fail()


def test_a_transaction_that_somebody_rolled_back_fails_the_job(server: PostgresServer, table: str) -> None:
    """It is not taken for one that was committed before."""
    run = SinkRun(exactly_once(server, table))
    run.write([("a", 1)])
    checkpoint = run.barrier()
    (name,) = [name for name in server.prepared() if name.startswith(f"zmflow/{table}/")]
    server.query(f"ROLLBACK PREPARED '{name}'")
    with pytest.raises(ConnectorError, match=rf"{name}[\s\S]*is aborted"):
        run.complete(checkpoint)
    run.fail()


@pytest.mark.parametrize(
    ("number", "outcome"), [("999999999", "failed"), ("1", "committed"), ("3", "committed")]
)
def test_transactions_of_other_times(server: PostgresServer, number: str, outcome: str) -> None:
    """One that the server has not begun yet is another server's; one that it has forgotten was committed."""
    committer = TransactionCommitter(Database(server.conninfo, 0), "other")
    request = CommitRequest(PreparedTransaction("zmflow/other/0/0/x", number), 1)
    committer.commit([request])
    committer.close()
    assert request.outcome == outcome


def test_a_subtask_that_restarts_alone_takes_nothing_from_the_others(
    server: PostgresServer, table: str, rows: Any
) -> None:
    """What they have prepared for a checkpoint that is not complete yet stays, and is committed later."""
    run = SinkRun(exactly_once(server, table), 2)
    run.write([("a", 1)])
    run.write([("b", 1)], 1)
    run.barrier()
    runtime = RuntimeContext("5a" * 16, "job", "task", "sink", 0, 2, 128, 1, "host")
    writer = exactly_once(server, table).create_writer(WriterContext(runtime, lambda *_: 0, True))
    assert [name.split("/")[2] for name in server.prepared() if table in name] == ["1"]
    writer.write_batch([("a", 1)])
    writer.flush(False)
    prepared = writer.prepare_commit()
    run.complete(run.barrier([1]), [1])
    assert rows() == [("b", 1)]
    committer = exactly_once(server, table).create_committer()
    assert committer is not None
    committer.commit([CommitRequest(transaction, 2) for transaction in prepared])
    assert rows() == [("a", 1), ("b", 1)]
    committer.close()
    writer.close(True)
    run.fail()


def test_transactions_of_subtasks_that_there_are_no_more_are_shared_out(
    server: PostgresServer, table: str, rows: Any
) -> None:
    """Each is rolled back by one of those that there are, with the session that prepared it."""
    run = SinkRun(exactly_once(server, table), 5)
    checkpoint = run.checkpoint()
    for subtask in range(5):
        run.write([(str(subtask), 1)], subtask)
    run.barrier()
    run.write([("late", 1)], 4)
    run.subtasks[4].writer.flush(False)
    new = SinkRun(exactly_once(server, table), 2, checkpoint, attempt=1)
    assert [name for name in server.prepared() if table in name] == []
    new.write([("late", 2)], 1)
    new.finish()
    assert rows() == [("late", 2)]
    run.fail()


def test_a_session_that_does_not_know_yet_that_it_is_over(
    server: PostgresServer, table: str, rows: Any
) -> None:
    """The next attempt ends it, with the rows it has locked; what it does then fails."""
    old = SinkRun(exactly_once(server, table))
    old.write([("a", 1)])
    old.subtasks[0].writer.flush(False)
    new = SinkRun(exactly_once(server, table), attempt=1)
    new.write([("a", 2)])
    new.checkpoint()
    assert rows() == [("a", 2)]
    old.write([("b", 1)])
    with pytest.raises(ConnectorError, match="Another attempt of the job has taken over"):
        old.barrier()
    old.fail()
    new.finish()
    assert [name for name in server.prepared() if table in name] == []


def test_a_row_that_waits_for_its_own_checkpoint_fails(
    server: PostgresServer, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a while, and with the reason."""
    monkeypatch.setitem(transaction_writer._SESSION_SETTINGS, "lock_timeout", "50ms")
    run = SinkRun(exactly_once(server, table))
    run.write([("a", 1)])
    run.barrier()
    run.write([("a", 2)])
    with pytest.raises(ConnectorError, match=r"are locked[\s\S]*may wait for itself"):
        run.barrier()
    run.fail()
    SinkRun(exactly_once(server, table)).finish()


def test_timeouts_of_the_server_do_not_end_a_transaction(
    restarted: PostgresServer, table: str, rows: Any
) -> None:
    """The session of the writer has none."""
    restarted.stop()
    restarted.start(idle_in_transaction_session_timeout=20, idle_session_timeout=20)
    run = SinkRun(exactly_once(restarted, table, batch_rows=1))
    run.write([("a", 1)])
    restarted.query("SELECT pg_sleep(0.1)")
    run.write([("b", 1)])
    run.finish()
    assert rows() == [("a", 1), ("b", 1)]
