"""Collections, sequences, printing and collecting, driven as the engine drives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.api.collect import CollectSink
from zmflow.api.collections import CollectionSource, SequenceSource, split_range
from zmflow.api.console import PrintSink
from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import CommitRequest, WriterContext
from zmflow.api.sources import BATCH_RECORDS_DEFAULT, EndOfInput, Source


def runtime_context(subtask: int = 0, parallelism: int = 1) -> RuntimeContext:
    """A context of the given subtask."""
    return RuntimeContext("j", "job", "task", "operator", subtask, parallelism, 128, 0, "host")


class Assignments:
    """The enumerator's side of the engine: remembers what was assigned."""

    def __init__(self, parallelism: int) -> None:
        self.parallelism = parallelism
        self.given: list[Any] = []
        self.complete = False

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        self.given.extend(splits)

    def signal_no_more_splits(self, subtask: int) -> None:
        self.complete = True


def read_all(source: Source[Any, Any], parallelism: int) -> list[list[Any]]:
    """What each subtask reads when they take turns asking for splits."""
    context = Assignments(parallelism)
    enumerator = source.create_enumerator(context)
    enumerator.start()
    readers = [source.create_reader(runtime_context(i, parallelism)) for i in range(parallelism)]
    rows: list[list[Any]] = [[] for _ in readers]
    open_readers = set(range(parallelism))
    while open_readers:
        for index in sorted(open_readers):
            batch = readers[index].poll_next()
            if batch is EndOfInput.END:
                open_readers.discard(index)
            elif batch is None:
                context.given.clear()
                context.complete = False
                enumerator.handle_split_request(index)
                readers[index].add_splits(context.given)
                if context.complete:
                    readers[index].notify_no_more_splits()
            else:
                assert 0 < len(batch) <= BATCH_RECORDS_DEFAULT
                rows[index].extend(batch)
    return rows


@given(st.integers(-5000, 5000), st.integers(0, 9000), st.integers(1, 5))
def test_sequences_are_read_once_by_all(start: int, length: int, parallelism: int) -> None:
    """Every number from start to end, both included, is read by exactly one subtask."""
    rows = read_all(SequenceSource(start, start + length), parallelism)
    assert sorted(row for each in rows for row in each) == list(range(start, start + length + 1))


def test_sequences_are_shared() -> None:
    """Every subtask gets its part of a long sequence, in batches that are ranges."""
    source = SequenceSource(1, 100_000)
    assert all(read_all(source, 4))
    reader = source.create_reader(runtime_context())
    reader.add_splits([range(10, 20)])
    assert reader.poll_next() == range(11, 21)


@pytest.mark.parametrize("size", [0, 1, BATCH_RECORDS_DEFAULT, BATCH_RECORDS_DEFAULT * 2 + 1])
def test_collections_keep_their_order(size: int) -> None:
    """One subtask reads the elements in order; iterators are taken when the source is made."""
    assert read_all(CollectionSource(iter(range(size))), 1) == [list(range(size))]


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_split_range_covers_evenly(size: int, parts: int) -> None:
    """Parts are contiguous, cover everything, and differ by one element at most."""
    splits = split_range(size, parts)
    assert [number for split in splits for number in split] == list(range(size))
    lengths = {len(split) for split in splits}
    assert not lengths or max(lengths) - min(lengths) <= 1
    assert 0 not in lengths


@pytest.mark.parametrize(
    ("identifier", "subtask", "parallelism", "expected"),
    [
        (None, 0, 1, "a\nb\n"),
        (None, 1, 2, "2> a\n2> b\n"),
        ("id", 0, 1, "id> a\nid> b\n"),
        ("id", 0, 2, "id:1> a\nid:1> b\n"),
    ],
)
def test_print_has_flinks_prefixes(
    identifier: str | None, subtask: int, parallelism: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The identifier, and the subtask from 1 where there are several."""
    context = WriterContext(runtime_context(subtask, parallelism), lambda *_: None)
    writer = PrintSink(identifier).create_writer(context)
    writer.write_batch(["a", "b"])
    writer.write("c")
    writer.flush(True)
    prefix = expected[: expected.index("a")]
    assert capsys.readouterr().out == f"{expected}{prefix}c\n"


@pytest.mark.parametrize("checkpoints", [False, True])
def test_collect_sends_batches_and_the_end(checkpoints: bool) -> None:
    """Batches go to the client whole; the last call says that it is the last. With checkpoints they count
    when the client is told so."""
    sent: list[tuple[str, list[Any], bool, bool]] = []
    told: list[tuple[str, int, int, int]] = []

    def send(name: str, rows: Sequence[Any], end: bool, transactional: bool) -> int:
        sent.append((name, list(rows), end, transactional))
        return len(sent) - 1

    def commit(name: str, subtask: int, attempt: int, sequence: int) -> None:
        told.append((name, subtask, attempt, sequence))

    sink = CollectSink("c")
    context = WriterContext(runtime_context(), send, checkpoints, commit_at_client=commit)
    writer = sink.create_writer(context)
    writer.write_batch([1, 2])
    writer.write(3)
    first = writer.prepare_commit()
    writer.flush(False)
    assert list(writer.prepare_commit()) == []
    writer.flush(True)
    last = writer.prepare_commit()
    sink.create_committer().commit([CommitRequest(committable, 1) for committable in (*first, *last)])
    writer.close(True)
    assert sent == [
        ("c", [1, 2], False, checkpoints),
        ("c", [3], False, checkpoints),
        ("c", [], True, checkpoints),
    ]
    assert told == ([("c", 0, 0, 1), ("c", 0, 0, 2)] if checkpoints else [])
