"""``SinkCommits``: the writer of a sink and what it has prepared, until that is committed.

What is prepared for a checkpoint is part of it, and is committed when the checkpoint is complete, with all
that was prepared for earlier ones and in their order: a notice that is missed is made up for by the next.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.api.sinks import CommitRequest, Committer, Sink, SinkWriter, WriterContext
from zmflow.errors import ConnectorError
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.state.function_states import FunctionStates
from zmflow.state.operator_state import OperatorStateMode

__all__ = ["SinkCommits"]

COMMIT_TRIES_MAX = 10
"""Flink's number of retries of a commit."""

RETRY_DELAY_MS = 1_000
"""Between two tries: a service that restarts is back after some seconds."""

WRITER_STATES, COMMITTABLES = "writer-states", "committables"
"""Operator states: what writers go on from; pairs of checkpoint and committable."""

AT_END = 2**63 - 1
"""Stands for the checkpoint of what is committed at the end of the input, without one."""


class SinkCommits:
    """One per sink and subtask.

    Args:
        sink: makes the writer and the committer.
        context: for the writer.
        functions: what was restored.
        checkpoints: whether there are checkpoints to commit with; else the end of the input commits.
        processing_time: the clock, milliseconds since 1970.
    """

    def __init__(
        self,
        sink: Sink[Any],
        context: WriterContext,
        functions: FunctionStates,
        *,
        checkpoints: bool,
        processing_time: Callable[[], int],
    ) -> None:
        self._name = sink.name
        self._checkpoints = checkpoints
        self._clock = processing_time
        self._retry_ms: int | None = None
        self._pending = [
            CommitRequest(committable, checkpoint_id)
            for checkpoint_id, committable in functions.store.take(COMMITTABLES, OperatorStateMode.SPLIT)
        ]
        self._pending.sort(key=_checkpoint_of)
        self._restored = AT_END if self._pending else 0
        states = functions.store.take(WRITER_STATES, OperatorStateMode.SPLIT)
        self._committer: Committer[Any] | None = sink.create_committer()
        restored = functions.restored_checkpoint_id is not None
        self.writer: SinkWriter[Any] = (
            sink.restore_writer(context, states) if restored else sink.create_writer(context)
        )

    @property
    def awaits_checkpoint(self) -> bool:
        """Whether something waits for a checkpoint to be complete."""
        return bool(self._pending)

    def begin(self) -> None:
        """Commit what belongs to the restored checkpoint: whether that was done already is not known."""
        if self._restored:
            self._commit(self._restored)

    def prepare(self, checkpoint_id: int) -> None:
        """A barrier is here: all that was written before it belongs to this checkpoint."""
        self.writer.flush(False)
        self._prepared(checkpoint_id)

    def snapshot_state(self, context: SnapshotContext) -> None:
        """What the writer goes on from, and what waits for its commit."""
        states = list(self.writer.snapshot_state(context.checkpoint_id))
        if states:
            context.add_list(WRITER_STATES, states)
        for request in self._pending:  # what was prepared at the end of the input belongs to this one
            request.checkpoint_id = min(request.checkpoint_id, context.checkpoint_id)
        if self._pending:
            waiting = [(request.checkpoint_id, request.committable) for request in self._pending]
            context.add_list(COMMITTABLES, waiting)

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        self._commit(checkpoint_id)

    def finish(self) -> None:
        """The input has ended."""
        self.writer.flush(True)
        self._prepared(AT_END)
        if not self._checkpoints:
            self._commit(AT_END)
            if self._pending:
                raise ConnectorError(
                    f"{self._name} could not commit what was written.",
                    detail=f"{len(self._pending)} commits were put off.",
                    hint="Run the job again.",
                )

    def next_processing_time_ms(self) -> int | None:
        """When ``advance_processing_time`` has something to do."""
        due_ms = self.writer.next_processing_time_ms()
        if self._retry_ms is None or (due_ms is not None and due_ms < self._retry_ms):
            return due_ms
        return self._retry_ms

    def advance_processing_time(self, now_ms: int) -> None:
        """Let the writer do what is due, and try again what was put off."""
        due_ms = self.writer.next_processing_time_ms()
        if due_ms is not None and due_ms <= now_ms:
            self.writer.advance_processing_time(now_ms)
        if self._retry_ms is not None and now_ms >= self._retry_ms:
            self._commit(max(request.checkpoint_id for request in self._pending if request.tries))

    def close(self, completed: bool) -> None:
        """Close writer and committer, both."""
        try:
            self.writer.close(completed)
        finally:
            if self._committer is not None:
                self._committer.close()

    def _prepared(self, checkpoint_id: int) -> None:
        committables = self.writer.prepare_commit()
        if committables and self._committer is None:
            raise ConnectorError(
                f"The writer of {self._name} prepares commits, and the sink has no committer.",
                hint="Let create_committer() return one.",
            )
        self._pending += [CommitRequest(committable, checkpoint_id) for committable in committables]

    def _commit(self, checkpoint_id: int) -> None:
        """Commit everything up to a checkpoint, one checkpoint after the other."""
        self._retry_ms = None
        while self._pending and self._pending[0].checkpoint_id <= checkpoint_id:
            first = self._pending[0].checkpoint_id
            due = [request for request in self._pending if request.checkpoint_id == first]
            self._pending = self._try(due) + self._pending[len(due) :]
            if self._pending and self._pending[0].checkpoint_id == first:
                self._retry_ms = self._clock() + RETRY_DELAY_MS
                return  # a later checkpoint must not overtake this one

    def _try(self, due: list[CommitRequest[Any]]) -> list[CommitRequest[Any]]:
        """Commit these; those that are to be tried again."""
        assert self._committer is not None
        for request in due:
            request.outcome = "committed"
        self._committer.commit(due)
        again = []
        for request in due:
            if request.outcome == "committed":
                continue
            request.tries += 1
            if request.outcome == "failed" or request.tries > COMMIT_TRIES_MAX:
                raise ConnectorError(
                    f"{self._name} could not commit what was written for checkpoint {request.checkpoint_id}.",
                    detail=request.reason or f"It was put off {request.tries} times.",
                    hint="What is not committed is lost: look at the place it was written to.",
                )
            again.append(request)
        return again


def _checkpoint_of(request: CommitRequest[Any]) -> int:
    return request.checkpoint_id
