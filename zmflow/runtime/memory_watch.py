"""How much memory the slot workers use, for those that may not use more than so much."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["SAMPLE_INTERVAL_MS", "MemoryWatch", "resident_bytes"]

SAMPLE_INTERVAL_MS = 100
"""One sample reads one line of /proc, some 10 microseconds, so a hundred workers cost 1 % of a core. A
function that fills lists allocates some 100 MB in this time; what is faster meets the hard limit of the fork
server."""

_PAGE_SIZE_BYTES = os.sysconf("SC_PAGE_SIZE")


def resident_bytes(pid: int) -> int:
    """The resident memory of a process, as ``top`` shows it; 0 when it has gone.

    Pages it still shares with the fork server are part of it.
    """
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE_SIZE_BYTES
    except (OSError, IndexError):
        return 0


class MemoryWatch:
    """The workers with a limit, from their order to their end. Each is reported once."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}
        self._pids: dict[str, int] = {}
        self._due_ms = 0

    def limit(self, allocation_id: str, limit_bytes: int) -> None:
        """The worker of this allocation may use so much; 0 does not watch it."""
        if limit_bytes:
            self._limits[allocation_id] = limit_bytes

    def started(self, allocation_id: str, pid: int) -> None:
        """The worker exists."""
        if allocation_id in self._limits:
            self._pids[allocation_id] = pid

    def ended(self, allocation_id: str) -> None:
        """The worker is gone."""
        self._limits.pop(allocation_id, None)
        self._pids.pop(allocation_id, None)

    def deadline_ms(self) -> int | None:
        """When to look again; None while there is nobody to look at."""
        return self._due_ms if self._pids else None

    def exceeded(self, now_ms: int) -> list[tuple[str, int]]:
        """Workers that use more than they may, with how much; looks only when it is due."""
        if not self._pids or now_ms < self._due_ms:
            return []
        self._due_ms = now_ms + SAMPLE_INTERVAL_MS
        found = []
        for allocation_id, pid in list(self._pids.items()):
            used = resident_bytes(pid)
            if used > self._limits[allocation_id]:
                found.append((allocation_id, used))
                self.ended(allocation_id)
        return found
