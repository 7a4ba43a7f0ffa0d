"""Sources for data that the program already has: a collection, a range of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Generic, TypeVar, cast

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import (
    BATCH_RECORDS_DEFAULT,
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.errors import JobGraphError

__all__ = ["CollectionSource", "SequenceSource", "split_range"]

T = TypeVar("T")

SPLITS_PER_SUBTASK = 8
"""More splits than subtasks, so that a slow subtask takes fewer of them; few enough that asking for
them costs nothing beside reading them."""


class _SplitList(SplitEnumerator[range]):
    """Hands out splits that are known from the start, one for each request."""

    def __init__(self, context: SplitEnumeratorContext[range], splits: Iterable[range]) -> None:
        self._context = context
        self._left = list(splits)
        self._left.reverse()

    def handle_split_request(self, subtask: int) -> None:
        if self._left:
            self._context.assign_splits([self._left.pop()], subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[range], subtask: int) -> None:  # noqa: ARG002 - of the interface
        self._left.extend(reversed(splits))

    def snapshot_state(self, checkpoint_id: int) -> list[range]:  # noqa: ARG002 - of the interface
        return self._left[::-1]


class _SliceReader(SourceReader[T, range]):
    """Reads the elements that its splits name out of a sequence that it holds."""

    def __init__(self, elements: Sequence[T]) -> None:
        self._elements = elements
        self._splits: list[range] = []
        self._complete = False

    def add_splits(self, splits: Sequence[range]) -> None:
        self._splits.extend(split for split in splits if split)

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        if not self._splits:
            return EndOfInput.END if self._complete else None
        split = self._splits[0]
        end = min(split.start + BATCH_RECORDS_DEFAULT, split.stop)
        if end == split.stop:
            del self._splits[0]
        else:
            self._splits[0] = range(end, split.stop)
        return self._elements[split.start : end]

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def snapshot_state(self, checkpoint_id: int) -> list[range]:  # noqa: ARG002 - of the interface
        return list(self._splits)


class CollectionSource(Source[T, range], Generic[T]):
    """The elements of a collection, in its order, read by one subtask.

    The elements travel with the job; they are meant to be few. They are taken when the source is made:
    an iterator is read to its end, a ``range`` stays one.

    Args:
        elements: the collection.
        parallel: let each subtask read parts of it.

    >>> list(CollectionSource("ab").elements)
    ['a', 'b']
    """

    name = "Collection Source"

    def __init__(self, elements: Iterable[T], parallel: bool = False) -> None:
        self.elements: Sequence[T] = (
            cast("Sequence[T]", elements) if isinstance(elements, range) else [*elements]
        )
        self._parallel = parallel

    def create_enumerator(self, context: SplitEnumeratorContext[range]) -> SplitEnumerator[range]:
        parts = context.parallelism * SPLITS_PER_SUBTASK if self._parallel else 1
        return _SplitList(context, split_range(len(self.elements), parts))

    def restore_enumerator(
        self, context: SplitEnumeratorContext[range], state: list[range]
    ) -> SplitEnumerator[range]:
        return _SplitList(context, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[T, range]:  # noqa: ARG002
        return _SliceReader(self.elements)


class SequenceSource(Source[int, range]):
    """The whole numbers from ``start`` to ``end``, both included, read in parallel.

    Raises:
        JobGraphError: ``end`` is below ``start``.
    """

    name = "Sequence Source"

    def __init__(self, start: int, end: int) -> None:
        if end < start:
            raise JobGraphError(
                f"The sequence from {start} to {end} has no elements.",
                hint="Both ends are included; the end must not be below the start.",
            )
        self.numbers = range(start, end + 1)

    def create_enumerator(self, context: SplitEnumeratorContext[range]) -> SplitEnumerator[range]:
        return _SplitList(context, split_range(len(self.numbers), context.parallelism * SPLITS_PER_SUBTASK))

    def restore_enumerator(
        self, context: SplitEnumeratorContext[range], state: list[range]
    ) -> SplitEnumerator[range]:
        return _SplitList(context, state)

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, range]:  # noqa: ARG002
        return _SliceReader(self.numbers)


def split_range(size: int, parts: int) -> list[range]:
    """``range(size)`` in at most ``parts`` contiguous ranges of nearly equal size, none empty.

    >>> split_range(5, 2), split_range(1, 4)
    ([range(0, 2), range(2, 5)], [range(0, 1)])
    """
    bounds = [size * part // parts for part in range(parts + 1)]
    return [range(low, high) for low, high in pairwise(bounds) if low < high]
