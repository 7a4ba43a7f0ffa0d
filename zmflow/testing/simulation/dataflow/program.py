"""The program of a simulated job: numbers in splits, a count by key, a sink of two phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import CommitRequest, Committer, Sink, SinkWriter, WriterContext
from zmflow.api.sources import EndOfInput, Source, SourceReader, SplitEnumerator, SplitEnumeratorContext

__all__ = ["Numbers", "NumbersEnumerator", "NumbersReader", "PlaceSink", "Row", "Split", "Transaction"]

Split: TypeAlias = tuple[str, int, int]
"""Its name, the next number to read, and the one behind the last."""

Row: TypeAlias = tuple[int, int]
"""A number, and how many of its key had come by then; 0 where nobody counts."""

Transaction: TypeAlias = tuple[str, tuple[Row, ...]]
"""A name of its own, and what was written in it."""


@dataclass(frozen=True, slots=True)
class Numbers(Source[int, Split]):
    """Reads these splits, so many numbers at a time."""

    splits: tuple[Split, ...]
    batch: int

    def create_enumerator(self, context: SplitEnumeratorContext[Split]) -> NumbersEnumerator:
        """One that has all splits."""
        return NumbersEnumerator(context, list(self.splits))

    def restore_enumerator(
        self, context: SplitEnumeratorContext[Split], state: list[Split]
    ) -> NumbersEnumerator:
        """One that has what it had."""
        return NumbersEnumerator(context, state)

    def create_reader(self, context: RuntimeContext) -> NumbersReader:  # noqa: ARG002 - of the interface
        """One that has none yet."""
        return NumbersReader(self.batch)


class NumbersEnumerator(SplitEnumerator[Split]):
    """Gives a split to whoever asks."""

    def __init__(self, context: SplitEnumeratorContext[Split], splits: list[Split]) -> None:
        self._context = context
        self.splits = splits

    def handle_split_request(self, subtask: int) -> None:
        """The next one, or the news that there is none."""
        if self.splits:
            self._context.assign_splits([self.splits.pop(0)], subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[Split], subtask: int) -> None:  # noqa: ARG002 - of the interface
        """They come first."""
        self.splits[:0] = splits

    def snapshot_state(self, checkpoint_id: int) -> list[Split]:  # noqa: ARG002 - of the interface
        """What is not assigned."""
        return list(self.splits)


class NumbersReader(SourceReader[int, Split]):
    """Reads one split after the other."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._told = False
        self.splits: list[Split] = []

    def add_splits(self, splits: Sequence[Split]) -> None:
        """They come last."""
        self.splits += splits

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        """The next few numbers."""
        if not self.splits:
            return EndOfInput.END if self._told else None
        name, first, end = self.splits[0]
        behind = min(end, first + self._batch)
        self.splits[:1] = [(name, behind, end)] if behind < end else []
        return list(range(first, behind))

    def notify_no_more_splits(self) -> None:
        """The end is near."""
        self._told = True

    def snapshot_state(self, checkpoint_id: int) -> list[Split]:  # noqa: ARG002 - of the interface
        """What is not read."""
        return list(self.splits)


class PlaceSink(Sink[Row]):
    """Writes to a place outside of the job.

    Args:
        name: of its transactions, different for each attempt of each subtask.
        commit: makes a transaction visible; may be called again.
        keeps: its writers keep the last row over a checkpoint.
    """

    name = "place"

    def __init__(
        self, name: str, commit: Callable[[CommitRequest[Transaction]], None], *, keeps: bool
    ) -> None:
        self._prefix = name
        self._commit = commit
        self._keeps = keeps

    def create_writer(self, context: WriterContext) -> _Writer:  # noqa: ARG002 - of the interface
        """One that has written nothing."""
        return _Writer(self._prefix, [], keeps=self._keeps)

    def restore_writer(self, context: WriterContext, states: Sequence[Any]) -> _Writer:  # noqa: ARG002
        """One that has kept rows."""
        return _Writer(self._prefix, list(states), keeps=self._keeps)

    def create_committer(self) -> _Committer:
        """What commits."""
        return _Committer(self._commit)


class _Writer(SinkWriter[Row]):
    def __init__(self, prefix: str, rows: list[Row], *, keeps: bool) -> None:
        self._prefix = prefix
        self._rows = rows
        self._keeps = keeps
        self._count = 0

    def write(self, value: Row) -> None:
        self._rows.append(value)

    def flush(self, end_of_input: bool) -> None:
        if end_of_input:
            self._keeps = False

    def prepare_commit(self) -> list[Transaction]:
        kept = self._rows[-1:] if self._keeps else []
        rows, self._rows = self._rows[: len(self._rows) - len(kept)], kept
        # One transaction each for the first row and for the others: several belong to a checkpoint.
        prepared = []
        for part in (rows[:1], rows[1:]):
            if part:
                self._count += 1
                prepared.append((f"{self._prefix}/{self._count}", tuple(part)))
        return prepared

    def snapshot_state(self, checkpoint_id: int) -> list[Row]:  # noqa: ARG002 - of the interface
        return list(self._rows)


class _Committer(Committer[Transaction]):
    def __init__(self, commit: Callable[[CommitRequest[Transaction]], None]) -> None:
        self._commit = commit

    def commit(self, requests: Sequence[CommitRequest[Transaction]]) -> None:
        for request in requests:
            self._commit(request)
