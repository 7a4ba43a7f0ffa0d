"""The sink that brings records back to the client that runs the job.

With checkpoints it has two phases, as other sinks have: rows travel at once, and the client shows them when
the checkpoint they belong to is complete. So a job whose rows are collected may restart, and each row is seen
once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from zmflow.api.sinks import CommitRequest, Committer, Sink, SinkWriter, WriterContext

__all__ = ["CollectSink", "CollectedUntil"]


class CollectedUntil(NamedTuple):
    """A committable: the rows that an attempt of a subtask has sent, up to a batch.

    Args:
        subtask: whose rows.
        attempt: of that subtask.
        sequence: of the last batch that belongs to it.
    """

    subtask: int
    attempt: int
    sequence: int


class _CollectWriter(SinkWriter[Any]):
    def __init__(self, collect_id: str, context: WriterContext) -> None:
        self._collect_id = collect_id
        self._emit = context.emit_to_client
        self._transactional = context.checkpoints
        runtime = context.runtime_context
        self._subtask = runtime.get_index_of_this_subtask()
        self._attempt = runtime.get_attempt_number()
        self._sequence = self._prepared = -1

    def write(self, value: Any) -> None:
        self.write_batch([value])

    def write_batch(self, values: Sequence[Any]) -> None:
        self._sequence = self._emit(self._collect_id, values, False, self._transactional)

    def flush(self, end_of_input: bool) -> None:
        if end_of_input:
            self._sequence = self._emit(self._collect_id, [], True, self._transactional)

    def prepare_commit(self) -> Sequence[CollectedUntil]:
        if not self._transactional or self._sequence == self._prepared:
            return ()
        self._prepared = self._sequence
        return (CollectedUntil(self._subtask, self._attempt, self._sequence),)


class _CollectCommitter(Committer[CollectedUntil]):
    """Tells the client which rows count. Doing so twice is harmless: it has shown them and let go of them."""

    def __init__(self, sink: CollectSink) -> None:
        self._sink = sink

    def commit(self, requests: Sequence[CommitRequest[CollectedUntil]]) -> None:
        context = self._sink.context
        assert context is not None, "a committer without a writer"
        for request in requests:
            context.commit_at_client(self._sink.collect_id, *request.committable)


class CollectSink(Sink[Any]):
    """Sends every record to the client, which takes them at its own pace."""

    name = "Collect Sink"

    def __init__(self, collect_id: str) -> None:
        self.collect_id = collect_id
        self.context: WriterContext | None = None
        """Of the writer, in a task: the committer speaks with the same client."""

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        self.context = context
        return _CollectWriter(self.collect_id, context)

    def create_committer(self) -> Committer[Any]:
        return _CollectCommitter(self)
