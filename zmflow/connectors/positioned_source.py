"""``PositionedSource``: a source in a few lines, a generator that can begin at any of its positions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import (
    BATCH_RECORDS_DEFAULT,
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.api.time import Duration
from zmflow.connectors.fixed_splits import FixedSplitEnumerator
from zmflow.errors import ConnectorError

__all__ = ["PositionedSource"]

T = TypeVar("T")

POLL_INTERVAL = Duration.of_millis(100)

BATCH_TIME_MAX_S = 0.01
"""A slow generator is left with what it has given by then: records do not wait for a batch to fill."""


@dataclass(frozen=True)
class _Partition:
    """A split: what of a partition is left. The only one of a source without partitions has no name."""

    index: int
    position: Any


class PositionedSource(Source[T, _Partition], Generic[T]):
    """What a generator yields: pairs of a position and a record.

    ``read(position)`` is called with ``start``, and after a failure with the position that it had yielded
    with the last record of the checkpoint; it must go on behind that record. So a record is processed
    exactly once, as long as the same comes again. A position is whatever can be pickled, and is never
    changed here. A generator that has nothing now, and may have something later, yields None: it is asked
    again after ``poll_interval``. It should do so rather than wait long, since the task waits with it.

    Args:
        read: the generator function: ``read(position)``, or ``read(partition, position)`` with partitions.
        start: the position of the first call.
        partitions: what is read side by side, each with positions of its own; divided among the subtasks.
            Without, one subtask reads all.
        bounded: whether it ends: what has an end may be read in BATCH mode.
        poll_interval: how long to wait after a None.
        name: of the operator.

    >>> def squares(position):
    ...     for number in range(position, 5):
    ...         yield number + 1, number * number
    >>> from zmflow.testing.source_run import SourceRun
    >>> SourceRun(PositionedSource(squares, start=0), parallelism=1).read_all()
    [0, 1, 4, 9, 16]
    """

    name = "Positioned Source"

    def __init__(
        self,
        read: Callable[..., Iterable[tuple[Any, T] | None]],
        start: Any = None,
        partitions: Iterable[Any] | None = None,
        *,
        bounded: bool = True,
        poll_interval: Duration = POLL_INTERVAL,
        name: str | None = None,
    ) -> None:
        if not callable(read):
            raise ConnectorError(
                f"A PositionedSource takes a generator function, not {read!r}.",
                hint="Give the function itself, without calling it.",
            )
        self.bounded = bounded
        self.name = name or type(self).name
        self._read = read
        self._start = start
        self._partitions = None if partitions is None else list(partitions)
        self._poll_interval_s = poll_interval.to_millis() / 1000

    def create_enumerator(self, context: SplitEnumeratorContext[_Partition]) -> SplitEnumerator[_Partition]:
        count = 1 if self._partitions is None else len(self._partitions)
        return self.restore_enumerator(context, [_Partition(index, self._start) for index in range(count)])

    def restore_enumerator(
        self, context: SplitEnumeratorContext[_Partition], state: Sequence[_Partition]
    ) -> SplitEnumerator[_Partition]:
        return FixedSplitEnumerator(context, state, lambda partition: partition.index)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, _Partition]:  # noqa: ARG002
        return _GeneratorReader(self._open, self._poll_interval_s)

    def _open(self, partition: _Partition) -> Iterator[tuple[Any, T] | None]:
        if self._partitions is None:
            return iter(self._read(partition.position))
        return iter(self._read(self._partitions[partition.index], partition.position))


class _Running(Generic[T]):
    """A partition and the generator that reads it."""

    def __init__(self, partition: _Partition, generator: Iterator[tuple[Any, T] | None]) -> None:
        self.partition = partition
        self.generator = generator
        self.asked_again = 0.0  # when, after it had nothing


class _GeneratorReader(SourceReader[T, _Partition]):
    """Runs the generators of its partitions in turn, each until it has a batch, nothing more or no time left.

    Args:
        open_partition: begins to read a partition at its position.
        poll_interval_s: how long one that has nothing is left alone.
    """

    def __init__(
        self,
        open_partition: Callable[[_Partition], Iterator[tuple[Any, T] | None]],
        poll_interval_s: float,
    ) -> None:
        self._open = open_partition
        self._poll_interval_s = poll_interval_s
        self._running: deque[_Running[T]] = deque()
        self._complete = False

    def add_splits(self, splits: Sequence[_Partition]) -> None:
        self._running.extend(_Running(partition, self._open(partition)) for partition in splits)

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        for _ in range(len(self._running)):
            running = self._running.popleft()
            if running.asked_again > time.monotonic():
                self._running.append(running)
                continue
            records, ended = self._read(running)
            if not ended:
                self._running.append(running)
            if records:
                return records
        return EndOfInput.END if self._complete and not self._running else None

    def poll_again_after_s(self) -> float | None:
        if not self._running:
            return None
        first = min(running.asked_again for running in self._running)
        return max(0.0, first - time.monotonic())

    def snapshot_state(self, checkpoint_id: int) -> list[_Partition]:  # noqa: ARG002 - of the interface
        return [running.partition for running in self._running]

    def close(self) -> None:
        while self._running:
            generator = self._running.popleft().generator
            if (close := getattr(generator, "close", None)) is not None:
                close()

    def _read(self, running: _Running[T]) -> tuple[list[T], bool]:
        """The next records of a partition, and whether it has ended."""
        records: list[T] = []
        until = time.monotonic() + BATCH_TIME_MAX_S
        position = running.partition.position
        ended = True
        for item in running.generator:
            if item is None:
                running.asked_again = time.monotonic() + self._poll_interval_s
                ended = False
                break
            try:
                position, record = item
            except (TypeError, ValueError):
                raise ConnectorError(
                    f"The generator of a PositionedSource yielded no pair: {item!r}.",
                    hint="It yields (position, record), or None when it has nothing now.",
                ) from None
            records.append(record)
            if len(records) == BATCH_RECORDS_DEFAULT or time.monotonic() > until:
                ended = False
                break
        running.partition = replace(running.partition, position=position)
        return records, ended
