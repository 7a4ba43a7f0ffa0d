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

    Until there are checkpoints nobody can say how far a reader came, so everything it was ever given is
    kept, to be given back when it restarts. A split is in the books of one reader at most and the sources
    are bounded, so the books are never longer than the list of all splits, which the enumerator made itself.

    >>> books = SplitAssignments[str]()
    >>> books.asks(1, attempt=0), books.give(1, ["a", "b"]), books.asks(1, attempt=1)
    (<Asking.FIRST: 'first'>, None, <Asking.RESTARTED: 'restarted'>)
    >>> books.take_back(1), books.take_back(1), books.asks(1, attempt=0)
    (['a', 'b'], [], <Asking.STALE: 'stale'>)
    """

    def __init__(self) -> None:
        self._attempts: dict[int, int] = {}
        self._given: dict[int, list[SplitT]] = {}

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
            self._given.setdefault(subtask, []).extend(splits)

    def take_back(self, subtask: int) -> list[SplitT]:
        """Everything a reader was given, in that order; it has nothing afterwards."""
        return self._given.pop(subtask, [])
