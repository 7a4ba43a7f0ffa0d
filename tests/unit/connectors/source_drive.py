"""Runs a source as the engine would, without one: an enumerator, readers, splits by request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source


def runtime_context(subtask: int = 0, parallelism: int = 1, attempt: int = 0) -> RuntimeContext:
    """The context of a subtask."""
    return RuntimeContext("0" * 32, "job", "task", "operator", subtask, parallelism, 128, attempt, "host")


class Context:
    """Hands splits straight to the readers."""

    def __init__(self, readers: list[Any]) -> None:
        self.readers = readers
        self.parallelism = len(readers)
        self.assigned: list[tuple[int, Any]] = []
        self.periodic: list[tuple[int, Callable[[], None]]] = []

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        self.assigned += [(subtask, split) for split in splits]
        self.readers[subtask].add_splits(splits)

    def signal_no_more_splits(self, subtask: int) -> None:
        self.readers[subtask].notify_no_more_splits()

    def call_periodically(self, interval_ms: int, function: Callable[[], None]) -> None:
        self.periodic.append((interval_ms, function))


def read_batches(source: Source[Any, Any], parallelism: int = 1) -> list[Sequence[Any]]:
    """Every batch, the readers taking turns."""
    readers = [source.create_reader(runtime_context(i, parallelism)) for i in range(parallelism)]
    context = Context(readers)
    enumerator = source.create_enumerator(context)
    batches: list[Sequence[Any]] = []
    enumerator.start()
    for reader in readers:
        reader.start()
    live = set(range(parallelism))
    try:
        while live:
            for subtask in sorted(live):
                batch = readers[subtask].poll_next()
                if batch is EndOfInput.END:
                    live.discard(subtask)
                elif batch is None:
                    enumerator.handle_split_request(subtask)
                else:
                    assert len(batch) > 0
                    batches.append(batch)
    finally:
        for reader in readers:
            reader.close()
        enumerator.close()
    return batches


def read_all(source: Source[Any, Any], parallelism: int = 1) -> list[Any]:
    """Every record; in the order of the input when parallelism is 1."""
    return [record for batch in read_batches(source, parallelism) for record in batch]
