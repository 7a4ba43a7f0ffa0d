"""Reads a source of a job as its subtasks would, one batch after the other, in turn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import EndOfInput, Source, SourceReader

__all__ = ["read_in_turn"]


class _Enumeration:
    """Hands splits to the readers at once; an implementation of ``SplitEnumeratorContext``."""

    def __init__(self, readers: Sequence[SourceReader[Any, Any]]) -> None:
        self._readers = readers

    @property
    def parallelism(self) -> int:
        return len(self._readers)

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        self._readers[subtask].add_splits(splits)

    def call_periodically(self, interval_ms: int, function: Callable[[], None]) -> None:
        """Nothing comes of it: what ends is there from the start."""

    def signal_no_more_splits(self, subtask: int) -> None:
        self._readers[subtask].notify_no_more_splits()


def read_in_turn(
    source: Source[Any, Any], contexts: Sequence[RuntimeContext]
) -> Iterator[tuple[int, Sequence[Any]]]:
    """The batches of a source that ends, each with the subtask that reads it."""
    readers = [source.create_reader(context) for context in contexts]
    enumerator = source.create_enumerator(_Enumeration(readers))
    reading = list(range(len(readers)))
    try:
        enumerator.start()
        for reader in readers:
            reader.start()
        while reading:
            for subtask in list(reading):
                rows = readers[subtask].poll_next()
                if rows is EndOfInput.END:
                    reading.remove(subtask)
                elif rows is None and readers[subtask].poll_again_after_s() is None:
                    enumerator.handle_split_request(subtask)
                elif rows:
                    yield subtask, rows
    finally:
        for reader in readers:
            reader.close()
        enumerator.close()
