"""What became of the checkpoints of a job: counts, and the newest ones in full."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from zmflow.coordination.checkpoints.pending import PendingCheckpoint
from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary

__all__ = ["CheckpointHistory"]

CHECKPOINTS_MAX = 10
"""Ended checkpoints that are kept: Flink's number. A task takes some 300 bytes of each: 30 MB for ten
thousand tasks."""

GIVEN_UP_MAX = 100
"""Given up checkpoints whose files are looked for again: more are only where storage hangs for hours."""


class CheckpointHistory:
    """The checkpoints of one job that have ended."""

    def __init__(self) -> None:
        self._ended: deque[PendingCheckpoint] = deque(maxlen=CHECKPOINTS_MAX)
        self._given_up: dict[int, str] = {}
        self._last: PendingCheckpoint | None = None
        self._last_bytes = 0
        self._completed = self._failed = self._aborted = 0
        self._last_failure = ""

    def add(self, checkpoint: PendingCheckpoint) -> None:
        """One that is complete or was given up."""
        if checkpoint.state == "ABORTED" and checkpoint.location:
            self._given_up[checkpoint.checkpoint_id] = checkpoint.location
            if len(self._given_up) > GIVEN_UP_MAX:
                del self._given_up[next(iter(self._given_up))]
        self._ended.append(checkpoint)
        if checkpoint.state == "COMPLETED":
            self._completed += 1
            self._last = checkpoint
            self._last_bytes = sum(snapshot.metrics.state_bytes for snapshot in checkpoint.snapshots)
        elif checkpoint.counted:
            self._failed += 1
            self._last_failure = checkpoint.failure
        else:
            self._aborted += 1

    def discarded(self, location: str) -> None:
        """The files there are being deleted."""
        for checkpoint in self._ended:
            if checkpoint.location == location:
                checkpoint.discarded = True

    def location_of(self, checkpoint_id: int) -> str:
        """Where one that was given up had its files; empty when it is not known any more, or had none."""
        return self._given_up.get(checkpoint_id, "")

    def take_given_up(self) -> list[str]:
        """Where files may be again of what was given up: a task was still writing, or they could not be
        deleted then."""
        given_up, self._given_up = list(self._given_up.values()), {}
        return given_up

    def summary(self, interval_ms: int, in_progress: int, restored_id: int) -> CheckpointSummary:
        """All of them in one line."""
        last = self._last
        return CheckpointSummary(
            interval_ms,
            self._completed,
            self._failed,
            self._aborted,
            in_progress,
            last.checkpoint_id if last else 0,
            last.triggered_wall_ms if last else 0,
            last.ended_ms - last.triggered_ms if last and last.ended_ms is not None else 0,
            self._last_bytes,
            self._last_failure,
            restored_id,
        )

    def records(
        self, pending: Iterable[PendingCheckpoint], now_ms: int, detailed_id: int
    ) -> list[CheckpointRecord]:
        """Those that are kept and those that are under way, in the order of their numbers."""
        every = sorted((*self._ended, *pending), key=lambda each: each.checkpoint_id)
        return [each.record(now_ms, detailed=each.checkpoint_id == detailed_id) for each in every]

    def forget_details(self) -> None:
        """The job has ended: keep what fits into a line of each."""
        for checkpoint in self._ended:
            checkpoint.forget_details()
