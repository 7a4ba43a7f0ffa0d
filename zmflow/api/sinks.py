"""The sink protocols: what somebody implements to write to a new place (Flink's Sink V2).

A ``Sink`` is pickled with the job; each subtask makes one ``SinkWriter`` from it. Batches arrive whole:
override ``write_batch`` where a batch can be written faster than record by record.

Exactly once takes two phases. With each checkpoint a writer flushes and hands out *committables*: names of
what is written and not visible yet (``prepare_commit``). They are part of the checkpoint. When that is
complete, the ``Committer`` makes them visible; after a failure those of the restored checkpoint are committed
once more, so committing must be idempotent. Without checkpoints, and in BATCH mode, the end of the input
commits.

``zmflow.testing.sink_tests`` holds a sink to this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from zmflow.api.functions import RuntimeContext
from zmflow.api.types import TypeInformation

__all__ = ["CommitRequest", "Committer", "Sink", "SinkWriter", "WriterContext"]

T_contra = TypeVar("T_contra", contravariant=True)
C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class WriterContext:
    """What the engine offers a ``SinkWriter``.

    ``checkpoints`` says whether checkpoints commit, or the end of the input alone. ``processing_time`` is the
    clock of the writer's timers, in milliseconds since 1970.

    Only collect sinks use the rest. ``emit_to_client(sink, rows, finished, transactional)`` sends rows to the
    client that runs the job, blocks while that client is slow, and returns the number of their last batch;
    ``finished`` marks the subtask's last call. Transactional rows are shown when ``commit_at_client(sink,
    subtask, attempt, batch)`` says that they count.
    """

    runtime_context: RuntimeContext
    emit_to_client: Callable[[str, Sequence[Any], bool, bool], int]
    checkpoints: bool = False
    processing_time: Callable[[], int] = lambda: 0
    commit_at_client: Callable[[str, int, int, int], None] = lambda *_: None

    @property
    def restored_checkpoint_id(self) -> int | None:
        """The checkpoint the writer goes on from: what was prepared for later ones is to be aborted. None
        where it begins anew."""
        functions = self.runtime_context.function_states
        return None if functions is None else functions.restored_checkpoint_id


class SinkWriter(ABC, Generic[T_contra]):
    """Writes the records of one subtask. Blocking is fine: sources upstream will wait."""

    @abstractmethod
    def write(self, value: T_contra) -> None:
        """Write one record."""

    def write_batch(self, values: Sequence[T_contra]) -> None:
        """Write a batch; by default record by record. The sequence must not be kept or changed."""
        write = self.write
        for value in values:
            write(value)

    def flush(self, end_of_input: bool) -> None:
        """Make what was written visible; with ``end_of_input`` there will be no more."""

    def prepare_commit(self) -> Sequence[Any]:
        """What has been written since the last call and waits for its commit: committables, to be pickled.

        Called after ``flush``, for each checkpoint and at the end of the input.
        """
        return ()

    def snapshot_state(self, checkpoint_id: int) -> Sequence[Any]:  # noqa: ARG002 - of the interface
        """What a writer that goes on from this checkpoint needs to know, called after ``prepare_commit``.

        The elements are pickled, and dealt out anew where the parallelism changes; see ``restore_writer``.
        """
        return ()

    def next_processing_time_ms(self) -> int | None:
        """When ``advance_processing_time`` has something to do; None: never. Asked after every batch."""
        return None

    def advance_processing_time(self, now_ms: int) -> None:
        """The clock has reached the time that ``next_processing_time_ms`` named."""

    def close(self, completed: bool) -> None:
        """Called once. ``completed`` is false when the task failed or was cancelled: clean up."""


class CommitRequest(Generic[C]):
    """One committable, and what became of it: without a word from the committer it is committed.

    Args:
        committable: what ``prepare_commit`` returned.
        checkpoint_id: the checkpoint it belongs to.
        tries: how often it was tried before.
    """

    __slots__ = ("checkpoint_id", "committable", "outcome", "reason", "tries")

    def __init__(self, committable: C, checkpoint_id: int, tries: int = 0) -> None:
        self.committable = committable
        self.checkpoint_id = checkpoint_id
        self.tries = tries
        self.outcome: Literal["committed", "retry", "failed"] = "committed"
        self.reason = ""

    def signal_already_committed(self) -> None:
        """It was committed before a failure: all is well."""
        self.outcome = "committed"

    def retry_later(self) -> None:
        """It cannot be committed now: try again, ten times at the most."""
        self.outcome = "retry"

    def signal_failed(self, reason: str) -> None:
        """It can never be committed, so records are lost: the job fails with this sentence."""
        self.outcome, self.reason = "failed", reason


class Committer(ABC, Generic[C]):
    """Makes visible what writers have written. One per subtask, on the task's thread."""

    @abstractmethod
    def commit(self, requests: Sequence[CommitRequest[C]]) -> None:
        """Commit these, in this order. Must be idempotent: after a failure the same may come again."""

    def close(self) -> None:
        """Called once, however the task ends."""


class Sink(ABC, Generic[T_contra]):
    """A place to write to. Must be picklable. ``name`` is what plans and logs call the operator."""

    name: str = "Sink"

    @abstractmethod
    def create_writer(self, context: WriterContext) -> SinkWriter[T_contra]: ...

    def create_committer(self) -> Committer[Any] | None:
        """What commits; None for sinks whose records are visible as soon as they are written."""
        return None

    def restore_writer(
        self,
        context: WriterContext,
        states: Sequence[Any],  # noqa: ARG002 - of the interface
    ) -> SinkWriter[T_contra]:
        """A writer that goes on from a checkpoint: with what ``snapshot_state`` returned, by default anew."""
        return self.create_writer(context)

    def for_type(self, type_info: TypeInformation | None) -> Sink[T_contra]:  # noqa: ARG002 - of the interface
        """The sink for records of this declared type; by default this one."""
        return self

    def validate(self) -> None:
        """Called by the client before submission: raise a ``ZmflowError`` for what is wrong already."""

    def validate_for(self, *, checkpoints: bool) -> None:  # noqa: ARG002 - of the interface
        """What the client calls: ``validate`` for sinks that do not care whether checkpoints commit."""
        self.validate()
