"""``SinkRun``: runs a sink as the engine does, without one: barriers, notices, failures, restarts.

Everything that travels is pickled, as it is between processes, and what is prepared waits in the engine's own
``SinkCommits``. When what happens is the caller's to say, so that a run can be stopped anywhere.
"""

from __future__ import annotations

import gc
import pickle
import warnings
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import Sink, WriterContext
from zmflow.errors import ZmflowError
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.sink_commits import SinkCommits
from zmflow.state.function_states import FunctionStates
from zmflow.state.operator_state import OperatorStateSnapshot, redistribute

__all__ = ["SinkCheckpoint", "SinkRun"]

JOB_ID = "5a" * 16
MAX_PARALLELISM = 128


@dataclass(frozen=True)
class SinkCheckpoint:
    """What a checkpoint holds of a sink, by subtask."""

    number: int
    subtasks: list[bytes]


class SinkRun:
    """The subtasks of a sink, of one attempt.

    Args:
        sink: to run; each subtask has a copy of its own.
        parallelism: how many subtasks.
        restored: what to go on from.
        attempt: how often the job has begun before.
        checkpoints: whether checkpoints commit; else the end of the input does.
        now_ms: what the clock shows.

    >>> from zmflow.api.console import PrintSink
    >>> run = SinkRun(PrintSink(), checkpoints=False)
    >>> run.write(["a", "b"])
    a
    b
    >>> run.finish()
    """

    def __init__(
        self,
        sink: Sink[Any],
        parallelism: int = 1,
        restored: SinkCheckpoint | None = None,
        *,
        attempt: int = 0,
        checkpoints: bool = True,
        now_ms: int = 1_700_000_000_000,
    ) -> None:
        self.parallelism = parallelism
        self.now_ms = now_ms
        self._sink = pickle.dumps(sink, protocol=5)
        self._attempt = attempt
        self._checkpoints = checkpoints
        self._restored = restored
        self._number = 0 if restored is None else restored.number
        shares: list[list[OperatorStateSnapshot]] = [[] for _ in range(parallelism)]
        if restored is not None:
            shares = redistribute([pickle.loads(state) for state in restored.subtasks], parallelism)
        self.subtasks = [self._open(subtask, share) for subtask, share in enumerate(shares)]
        for subtask in self.subtasks:
            subtask.begin()

    def _open(self, subtask: int, share: Iterable[OperatorStateSnapshot]) -> SinkCommits:
        functions = FunctionStates(share, None if self._restored is None else self._restored.number)
        runtime = RuntimeContext(
            job_id=JOB_ID,
            job_name="job",
            task_name="task",
            operator_name="sink",
            subtask_index=subtask,
            parallelism=self.parallelism,
            max_parallelism=MAX_PARALLELISM,
            attempt_number=self._attempt,
            host="host",
            function_states=functions,
        )
        return SinkCommits(
            pickle.loads(self._sink),
            WriterContext(runtime, _emit, self._checkpoints, lambda: self.now_ms),
            functions,
            checkpoints=self._checkpoints,
            processing_time=lambda: self.now_ms,
        )

    # -- what happens to it -------------------------------------------------------------------------

    def write(self, records: Sequence[Any], subtask: int = 0) -> None:
        """A batch comes to a subtask."""
        self.subtasks[subtask].writer.write_batch(records)

    def tick(self, passed_ms: int) -> None:
        """Time goes by, and what is due is done."""
        self.now_ms += passed_ms
        for subtask in self.subtasks:
            due_ms = subtask.next_processing_time_ms()
            if due_ms is not None and due_ms <= self.now_ms:
                subtask.advance_processing_time(self.now_ms)

    def barrier(self, subtasks: Iterable[int] | None = None) -> SinkCheckpoint:
        """A checkpoint comes to all subtasks, or to some: it can be completed only if it came to all."""
        self._number += 1
        return SinkCheckpoint(
            self._number,
            [
                self._snapshot(self.subtasks[index])
                for index in (range(self.parallelism) if subtasks is None else subtasks)
            ],
        )

    def _snapshot(self, subtask: SinkCommits) -> bytes:
        subtask.prepare(self._number)
        context = SnapshotContext(self._number, self.now_ms)
        subtask.snapshot_state(context)
        return pickle.dumps(context.operator, protocol=5)

    def complete(self, checkpoint: SinkCheckpoint, subtasks: Iterable[int] | None = None) -> None:
        """A checkpoint is complete, and the subtasks, or some of them, hear of it."""
        for index in range(self.parallelism) if subtasks is None else subtasks:
            self.subtasks[index].completed(checkpoint.number)

    def checkpoint(self) -> SinkCheckpoint:
        """A checkpoint from its beginning to its end."""
        checkpoint = self.barrier()
        self.complete(checkpoint)
        return checkpoint

    # -- its end ------------------------------------------------------------------------------------

    def end_input(self) -> None:
        """The input ends, and the last checkpoint has not come yet."""
        for subtask in self.subtasks:
            subtask.finish()

    def finish(self) -> None:
        """The input ends: the last checkpoint, where there are any, and all is closed."""
        self.end_input()
        if self._checkpoints:
            self.checkpoint()
            self.checkpoint()  # nothing may be left to do in the next
        for subtask in self.subtasks:
            subtask.close(True)

    def fail(self) -> None:
        """An error somewhere: all are closed and clean up. What of it fails as well does not matter."""
        for subtask in self.subtasks:
            with suppress(ZmflowError):
                subtask.close(False)

    def kill(self) -> None:
        """The processes are gone: nobody closes anything."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self.subtasks.clear()
            gc.collect()


def _emit(*_: object) -> int:
    raise AssertionError("Only collect sinks send rows to the client.")
