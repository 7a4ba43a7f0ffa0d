"""The source protocols: what somebody implements to read from a new place (FLIP-27).

A ``Source`` is pickled with the job. Its ``SplitEnumerator`` lives once per job, in the worker of
subtask 0, and hands ``splits`` to the ``SourceReader`` of each subtask that asks for one. A reader is
polled on its task's thread and returns batches; it must not block for long while other splits wait.

With each checkpoint the enumerator says which splits are left (``snapshot_state``), and after it each reader
which splits it has, with how far they were read: every split is in one of both. A task that is restarted goes
on from the last complete checkpoint: its reader is given its splits of then, and what was assigned to it
since goes back to the enumerator, which lives on. When all readers restart, or the enumerator's worker is
lost, the enumerator is made anew from its snapshot. Without a checkpoint everything begins anew.

Guarantees to implementers: ``start`` comes first, ``close`` last and exactly once; no method of one
object is called from two threads; after ``notify_no_more_splits`` no split is added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from zmflow.api.functions import RuntimeContext
from zmflow.errors import StateError

__all__ = [
    "EndOfInput",
    "Source",
    "SourceReader",
    "SplitEnumerator",
    "SplitEnumeratorContext",
]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
SplitT = TypeVar("SplitT")
SplitT_contra = TypeVar("SplitT_contra", contravariant=True)


class EndOfInput(Enum):
    """What ``SourceReader.poll_next`` returns after its last batch."""

    END = "end"


class SplitEnumeratorContext(Protocol[SplitT_contra]):
    """What the engine offers a ``SplitEnumerator``."""

    @property
    def parallelism(self) -> int:
        """How many readers there are."""
        ...

    def assign_splits(self, splits: Sequence[SplitT_contra], subtask: int) -> None:
        """Give splits to a reader. They are pickled."""
        ...

    def signal_no_more_splits(self, subtask: int) -> None:
        """Tell a reader that it has all it will get; it ends when it has read them."""
        ...

    def call_periodically(self, interval_ms: int, function: Callable[[], None]) -> None:
        """Call a function every ``interval_ms``, the first time after that long: to look for new splits.

        It is called where the enumerator's methods are, between two of them. What takes longer than its
        interval is not called more often for that.
        """
        ...


class SplitEnumerator(ABC, Generic[SplitT]):
    """Finds the splits of a source and hands them out."""

    def start(self) -> None:
        """Called once, before any request. Listing directories belongs here."""

    @abstractmethod
    def handle_split_request(self, subtask: int) -> None:
        """A reader has nothing left to read: assign it a split or signal that there are no more.

        Where there may be some later, neither: the reader waits, and does not ask again.
        """

    @abstractmethod
    def add_splits_back(self, splits: Sequence[SplitT], subtask: int) -> None:
        """The reader of a subtask was restarted: these splits were given to it and must be read again.

        They are copies of what was assigned, in that order. The restarted reader asks for a split right after
        this call; its splits may go to any reader that asks. A reader that restarts is never given splits
        by itself, so nothing more is to be done here than to keep them for ``handle_split_request``.
        """

    def snapshot_state(self, checkpoint_id: int) -> Any:
        """What an enumerator that goes on from this checkpoint needs to know.

        It is pickled at once, and given to ``Source.restore_enumerator``. Assigned splits are not in it.
        """
        raise _not_checkpointed(self, checkpoint_id)

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete: nothing before it will be asked for again."""

    def close(self) -> None:
        """Called once when the enumerator is not needed any more; not after it has raised."""


class SourceReader(ABC, Generic[T, SplitT]):
    """Reads the splits of one subtask."""

    def start(self) -> None:
        """Called once, before the first split."""

    @abstractmethod
    def add_splits(self, splits: Sequence[SplitT]) -> None:
        """Splits to read after those already given."""

    @abstractmethod
    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        """The next batch of records.

        Returns:
            A sequence of records (about ``BATCH_RECORDS_DEFAULT`` of them is a good size; a
            ``range`` will do); ``EndOfInput.END`` after ``notify_no_more_splits`` when all are read;
            ``None`` when there is nothing to read now: the task then adds the next split if there is one, and
            otherwise waits for one, for as long as ``poll_again_after_s`` says. An empty sequence, when the
            reader has waited for its input itself, for a fraction of the buffer timeout: it is asked again.
        """

    def poll_again_after_s(self) -> float | None:
        """Asked when ``poll_next`` has returned None: after how many seconds to call it again, though no
        split was added; by default never. Checkpoints, timers and cancelling do not wait for that."""
        return None

    @abstractmethod
    def notify_no_more_splits(self) -> None:
        """No split will be added any more."""

    def snapshot_state(self, checkpoint_id: int) -> Sequence[SplitT]:
        """The splits that are not read to their end, each as it must be given to a reader to go on from here.

        They are pickled at once. Called between two batches; the task has processed all that was returned.
        """
        raise _not_checkpointed(self, checkpoint_id)

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        """A checkpoint is complete: what was read before it may be acknowledged to where it came from."""

    def close(self) -> None:
        """Called once when the task ends, however it ends."""


def _not_checkpointed(part: object, checkpoint_id: int) -> StateError:
    return StateError(
        f"The {type(part).__name__} cannot take part in checkpoint {checkpoint_id}.",
        detail="It has no method snapshot_state().",
        hint="Write one, or run the job without checkpoints.",
    )


BATCH_RECORDS_DEFAULT = 1024
"""Large enough that the cost per batch (a few microseconds) vanishes beside the records', small
enough that a batch of ordinary records is processed well within the 100 ms buffer timeout."""


class Source(ABC, Generic[T_co, SplitT]):
    """A place to read from. Must be picklable.

    ``name`` is what plans and logs call the operator. ``bounded`` says whether its input ends: BATCH takes
    bounded sources only, and AUTOMATIC goes by it.
    """

    name: str = "Source"
    bounded: bool = True

    @abstractmethod
    def create_enumerator(self, context: SplitEnumeratorContext[SplitT]) -> SplitEnumerator[SplitT]: ...

    @abstractmethod
    def create_reader(self, context: RuntimeContext) -> SourceReader[T_co, SplitT]: ...

    def restore_enumerator(
        self,
        context: SplitEnumeratorContext[SplitT],  # noqa: ARG002 - of the interface
        state: Any,  # noqa: ARG002 - of the interface
    ) -> SplitEnumerator[SplitT]:
        """An enumerator that goes on from a checkpoint: with what its ``snapshot_state`` returned."""
        raise StateError(
            f"{self.name} cannot go on from a checkpoint.",
            detail=f"{type(self).__name__} has no method restore_enumerator().",
        )

    def validate(self) -> None:
        """Called by the client before submission: raise a ``ZmflowError`` for what is wrong already
        (a path that does not exist on this machine, an option that cannot be)."""
