"""Who is told about a job: clients that watch its status, and the one that takes its collected rows."""

from __future__ import annotations

from collections.abc import Callable

from zmflow.coordination.turn import Turn
from zmflow.protocol.messages import CollectedRows, JobStatus

__all__ = ["JobWatchers"]

PUSH_INTERVAL_MS = 200
"""Least time between two status updates that report only progress: what an eye can follow."""

ROWS_HELD_MAX = 100_000
"""Batches of rows kept for a client that submitted and has not begun to watch. Workers stop at a few
unacknowledged batches per subtask, so this is only reached by a worker that breaks that rule."""


class JobWatchers:
    """The clients of one job.

    Args:
        status: makes the status to send, for a request id (0 for updates nobody asked for).
    """

    def __init__(self, status: Callable[[int, int], JobStatus]) -> None:
        self._status = status
        self._watching: dict[bytes, None] = {}
        self._collector: bytes | None = None
        self._rows_wanted = True
        self._held: list[CollectedRows] = []
        self._pushed_ms = -PUSH_INTERVAL_MS
        self._changed = False

    def watch(self, turn: Turn, peer: bytes, request_id: int, *, collect: bool) -> bool:
        """Answer with the status and send one on every change. False when another client collects.

        Rows that waited for their client leave first, so that they precede the job's last status.
        """
        if collect:
            if self._collector not in (None, peer):
                return False
            self._collector = peer
            for rows in self._held:
                turn.send(peer, rows)
            self._held.clear()
        self._watching[peer] = None
        turn.send(peer, self._status(request_id, turn.now_ms))
        return True

    def gone(self, peer: bytes) -> bool:
        """Forget a client. True when it was the one that takes the rows."""
        self._watching.pop(peer, None)
        if self._collector != peer:
            return False
        self._collector = None
        self.drop_rows()
        return True

    def rows(self, turn: Turn, rows: CollectedRows) -> bool:
        """Pass rows on, or hold them until their client watches. False when they are dropped."""
        if self._collector is not None:
            turn.send(self._collector, rows)
            return True
        if not self._rows_wanted or len(self._held) >= ROWS_HELD_MAX:
            return False
        self._held.append(rows)
        return True

    def progress(self) -> None:
        """Something worth showing changed; it is sent with the next push."""
        self._changed = True

    def push_now(self, turn: Turn) -> None:
        """The job's state changed: tell everybody at once."""
        self._changed = False
        self._pushed_ms = turn.now_ms
        if self._watching:
            update = self._status(0, turn.now_ms)
            for peer in self._watching:
                turn.send(peer, update)

    def push_if_due(self, turn: Turn) -> None:
        """Send progress whose time has come."""
        deadline = self.deadline_ms()
        if deadline is not None and turn.now_ms >= deadline:
            self.push_now(turn)

    def deadline_ms(self) -> int | None:
        """When the next update is due."""
        if not self._changed or not self._watching:
            return None
        return self._pushed_ms + PUSH_INTERVAL_MS

    def drop_rows(self) -> None:
        """Nobody will take the rows any more."""
        self._rows_wanted = False
        self._held.clear()
