"""Which reader of a source has which splits, and which attempt of it is the newest.

These are the decisions of a ``SourceCoordinator`` without its thread. A reader is known by its subtask; it
comes back as another attempt when it was restarted, and then it has forgotten what its last attempt was
given.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Generic, TypeVar

__all__ = ["Asking", "SplitAssignments"]

SplitT = TypeVar("SplitT")


class Asking(Enum):
    """Who asks for a split, seen from what was known before."""

    FIRST = "first"  # a reader that was not heard of
    AGAIN = "again"  # the attempt that is known
    RESTARTED = "restarted"  # a newer attempt: what the last one had must go back
    STALE = "stale"  # an older attempt: it has ended, whatever it wanted


class SplitAssignments(Generic[SplitT]):
    """The books of one enumerator.

    A reader that restarts goes on from a checkpoint and has what was assigned to it before the enumerator's
    snapshot for that checkpoint. What it was given since must go back; so that is kept, with the number of
    the snapshot that came before it, until a later checkpoint is complete. A split is in the books of one
    reader at most, so they are never longer than the list of all splits, which the enumerator made itself.

    Args:
        restored: the checkpoint the enumerator goes on from; 0: none.

    >>> books = SplitAssignments[str]()
    >>> books.asks(1, attempt=0), books.give(1, ["a", "b"]), books.asks(1, attempt=1)
    (<Asking.FIRST: 'first'>, None, <Asking.RESTARTED: 'restarted'>)
    >>> books.take_back(1), books.take_back(1), books.asks(1, attempt=0)
    (['a', 'b'], [], <Asking.STALE: 'stale'>)
    """

    def __init__(self, restored: int = 0) -> None:
        self._attempts: dict[int, int] = {}
        self._given: dict[int, list[tuple[int, SplitT]]] = {}
        self.snapshot = restored
        """The checkpoint that the enumerator's last snapshot is of."""

    @property
    def readers(self) -> list[int]:
        """The subtasks that were heard of, in the order they came."""
        return list(self._attempts)

    @property
    def nothing_given(self) -> bool:
        """Whether no reader has a split."""
        return not self._given

    def asks(self, subtask: int, attempt: int) -> Asking:
        """An attempt of a reader asks for a split; a newer one than known is remembered."""
        known = self._attempts.get(subtask)
        if known is not None and attempt <= known:
            return Asking.AGAIN if attempt == known else Asking.STALE
        self._attempts[subtask] = attempt
        return Asking.FIRST if known is None else Asking.RESTARTED

    def attempt_of(self, subtask: int) -> int | None:
        """The newest attempt of a reader; None before it was heard of."""
        return self._attempts.get(subtask)

    def give(self, subtask: int, splits: Sequence[SplitT]) -> None:
        """A reader is given splits."""
        if splits:
            self._given.setdefault(subtask, []).extend((self.snapshot, split) for split in splits)

    def take_back(self, subtask: int, restored: int = 0) -> list[SplitT]:
        """What a reader was given since the snapshot of the checkpoint it goes on from, in that order."""
        given = self._given.pop(subtask, [])
        kept = [entry for entry in given if entry[0] < restored]
        if kept:
            self._given[subtask] = kept
        return [split for number, split in given if number >= restored]

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete: readers have in it what they were given before the snapshot for it."""
        for subtask, given in list(self._given.items()):
            self._given[subtask] = [entry for entry in given if entry[0] >= checkpoint_id]
            if not self._given[subtask]:
                del self._given[subtask]
