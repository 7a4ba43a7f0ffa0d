"""``FixedSplitEnumerator``: splits that are known from the start, each meant for one reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from zmflow.api.sources import SplitEnumerator, SplitEnumeratorContext

__all__ = ["FixedSplitEnumerator"]

SplitT = TypeVar("SplitT")


class FixedSplitEnumerator(SplitEnumerator[SplitT], Generic[SplitT]):
    """Gives each reader, when it asks for the first time, all splits that are its own.

    For sources whose splits do not end, or are read side by side: a reader that takes what it can get would
    leave nothing to the others.

    Args:
        context: the engine's.
        splits: what is to be assigned.
        place: a number for each split; the reader of that number, modulo the parallelism, gets it.
    """

    def __init__(
        self,
        context: SplitEnumeratorContext[SplitT],
        splits: Iterable[SplitT],
        place: Callable[[SplitT], int],
    ) -> None:
        self._context = context
        self._left = list(splits)
        self._place = place

    def handle_split_request(self, subtask: int) -> None:
        parallelism = self._context.parallelism
        own = [split for split in self._left if self._place(split) % parallelism == subtask]
        if own:
            self._left = [split for split in self._left if self._place(split) % parallelism != subtask]
            self._context.assign_splits(own, subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[SplitT], subtask: int) -> None:  # noqa: ARG002 - of the interface
        self._left.extend(splits)

    def snapshot_state(self, checkpoint_id: int) -> list[SplitT]:  # noqa: ARG002 - of the interface
        return list(self._left)
