"""The collect sinks of a worker: rows on their way to the client, and its acknowledgements."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from zmflow.errors import ConnectorError
from zmflow.protocol.messages import MESSAGE_SIZE_MAX_BYTES, CollectAck, CollectedRows
from zmflow.runtime.channels import Permits, TaskCanceledError
from zmflow.runtime.task import Task

__all__ = ["CollectSinks"]

COLLECT_UNACKED_MAX = 8
"""Batches of collected rows under way to the client per subtask: enough to cover a round trip through
TaskManager and JobManager, few enough that neither holds much of them."""

COLLECT_ROWS_MAX = 1024
"""Rows in one such batch: a source's batch."""

COLLECT_SIZE_MAX_BYTES = MESSAGE_SIZE_MAX_BYTES // 2
"""Bytes of one such batch, with room for the message around it."""

SinkKey = tuple[str, str, int]  # vertex, sink, subtask


class _Collect:
    """One collect sink of one attempt: how far it is, and how far ahead of the client it may run."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.permits = Permits(COLLECT_UNACKED_MAX)
        self.sequence = 0
        self.acknowledged = 0


class CollectSinks:
    """The collect sinks of the newest attempts. Task threads call ``emit``, the worker's the rest.

    Args:
        post: sends rows; their epoch is the caller's to fill.
    """

    def __init__(self, post: Callable[[CollectedRows], None]) -> None:
        self._post = post
        self._collects: dict[SinkKey, _Collect] = {}

    def emit(
        self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool, *, transactional: bool = False
    ) -> int:
        """Send rows; blocks while the client is slow. Returns the number of their last batch.

        Raises:
            ConnectorError: the rows cannot be pickled, or a few of them are too large to travel.
        """
        if len(rows) > COLLECT_ROWS_MAX:
            middle = len(rows) // 2
            self.emit(task, collect_id, rows[:middle], False, transactional=transactional)
            return self.emit(task, collect_id, rows[middle:], finished, transactional=transactional)
        encoded = _encode(rows)
        deployment = task.deployment
        collect = self._of(task, collect_id)
        collect.permits.take()
        sequence = collect.sequence
        collect.sequence += 1  # before they leave: an acknowledgement may overtake this thread
        self._post(
            CollectedRows(
                0,
                deployment.job_id,
                deployment.vertex_id,
                collect_id,
                deployment.subtask_index,
                sequence,
                encoded,
                finished,
                deployment.attempt_number,
                transactional,
            )
        )
        return sequence

    def commit(self, task: Task, collect_id: str, subtask: int, attempt: int, sequence: int) -> None:
        """Tell the client that what an attempt of a subtask has sent counts, up to this batch."""
        deployment = task.deployment
        self._post(
            CollectedRows(
                0,
                deployment.job_id,
                deployment.vertex_id,
                collect_id,
                deployment.subtask_index,
                -1,
                b"",
                False,
                deployment.attempt_number,
                True,
                (subtask, attempt, sequence),
            )
        )

    def acknowledged(self, ack: CollectAck) -> None:
        """The client took a batch and all before it.

        Sequences begin anew with each attempt, so one for rows of the last attempt is ahead of what this
        one has sent, or says too early what will come true: it lets the task run ahead once, by what it has
        sent already, and nothing is given twice.
        """
        collect = self._collects.get((ack.vertex_id, ack.collect_id, ack.subtask_index))
        if collect is not None and ack.sequence < collect.sequence:
            for _ in range(collect.acknowledged, ack.sequence + 1):
                collect.permits.give()
            collect.acknowledged = max(collect.acknowledged, ack.sequence + 1)

    def _of(self, task: Task, collect_id: str) -> _Collect:
        deployment = task.deployment
        key = (deployment.vertex_id, collect_id, deployment.subtask_index)
        collect = self._collects.get(key)
        if collect is not None and collect.task is task:
            return collect
        if collect is not None and collect.task.deployment.attempt_number > deployment.attempt_number:
            raise TaskCanceledError  # this attempt has been replaced
        collect = self._collects[key] = _Collect(task)
        if task.canceled:  # before this was here to be told
            collect.permits.cancel()
        return collect

    def cancel(self, task: Task) -> None:
        """Wake a task that waits for the client."""
        for collect in list(self._collects.values()):
            if collect.task is task:
                collect.permits.cancel()

    def ended(self, task: Task) -> None:
        """Forget the sinks of an attempt that has ended."""
        for key in [key for key, collect in list(self._collects.items()) if collect.task is task]:
            del self._collects[key]


def _encode(rows: Sequence[Any]) -> bytes:
    try:
        encoded = pickle.dumps(list(rows), protocol=5)
    except Exception as error:
        raise ConnectorError(
            "Collected rows cannot be sent to the client.",
            detail=str(error),
            hint="Collect plain data: numbers, text, tuples, dataclasses of an importable module.",
        ) from error
    if len(encoded) > COLLECT_SIZE_MAX_BYTES:
        raise ConnectorError(
            f"{len(rows)} collected rows take {len(encoded)} bytes.",
            detail=f"At most {COLLECT_SIZE_MAX_BYTES} bytes travel to the client at once.",
            hint="Write large results to files and collect their names.",
        )
    return encoded
