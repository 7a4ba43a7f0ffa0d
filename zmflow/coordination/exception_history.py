"""What went wrong in a job, and what was done about it: bounded, newest last."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import msgspec

from zmflow.protocol.messages import ExceptionEntry, TaskFailure

__all__ = ["CONCURRENT_FAILURES_MAX", "EXCEPTIONS_MAX", "ExceptionHistory"]

EXCEPTIONS_MAX = 16
"""Failures kept of a job: Flink's number. With tracebacks of at most 64 KiB each, about 1 MB."""

CONCURRENT_FAILURES_MAX = 8
"""Failures kept that came while a job was waiting to restart. A lost TaskManager takes hundreds of tasks
with it, and all of them say the same."""


class ExceptionHistory:
    """The failures of one job."""

    def __init__(self) -> None:
        self._entries: deque[ExceptionEntry] = deque(maxlen=EXCEPTIONS_MAX)

    def add(self, entry: ExceptionEntry) -> None:
        """One more failure with a cause of its own."""
        self._entries.append(entry)

    def add_concurrent(self, failure: TaskFailure, restarted: Sequence[str], restarted_tasks: int) -> None:
        """A failure while the job was waiting to restart because of the newest one; more restarts with it."""
        if not self._entries:
            return
        newest = self._entries[-1]
        kept = newest.concurrent
        if len(kept) < CONCURRENT_FAILURES_MAX:
            kept = [*kept, msgspec.structs.replace(failure, traceback="")]
        self._entries[-1] = msgspec.structs.replace(
            newest, concurrent=kept, restarted=list(restarted), restarted_tasks=restarted_tasks
        )

    def entries(self) -> list[ExceptionEntry]:
        """All that are kept."""
        return list(self._entries)
