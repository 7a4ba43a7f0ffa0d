"""Reading back what the tasks of a job logged on this TaskManager."""

from __future__ import annotations

import os
from collections import OrderedDict
from pathlib import Path

__all__ = ["TaskLogs", "task_log_path"]

JOBS_REMEMBERED_MAX = 1000
"""Jobs whose log files a TaskManager can still name; the files themselves stay."""


def task_log_path(log_dir: Path, job_id: str, allocation_id: str) -> Path:
    """The file of the tasks that one worker runs for one job."""
    return log_dir / "tasks" / job_id / f"{allocation_id}.jsonl"


class TaskLogs:
    """The task logs of the workers this TaskManager started.

    Only those: several TaskManagers may share a log directory, and a client must not be able to name files.
    """

    def __init__(self, log_dir: Path) -> None:
        self._log_dir = log_dir
        self._allocations: OrderedDict[str, list[str]] = OrderedDict()

    def started(self, job_id: str, allocation_id: str) -> None:
        """A worker was asked for."""
        self._allocations.setdefault(job_id, []).append(allocation_id)
        self._allocations.move_to_end(job_id)
        while len(self._allocations) > JOBS_REMEMBERED_MAX:
            self._allocations.popitem(last=False)

    def newest(self, job_id: str, size_max_bytes: int) -> bytes:
        """The newest whole lines of a job, oldest first, at most this many bytes."""
        allocations = self._allocations.get(job_id, [])
        lines: list[bytes] = []
        for allocation_id in allocations:
            path = task_log_path(self._log_dir, job_id, allocation_id)
            lines += _newest_lines(path, size_max_bytes)
        lines.sort()  # every line begins with its timestamp
        size_bytes = 0
        first = len(lines)
        while first > 0 and size_bytes + len(lines[first - 1]) + 1 <= size_max_bytes:
            first -= 1
            size_bytes += len(lines[first]) + 1
        return b"".join(line + b"\n" for line in lines[first:])


def _newest_lines(path: Path, size_max_bytes: int) -> list[bytes]:
    try:
        with path.open("rb") as file:
            size_bytes = os.fstat(file.fileno()).st_size
            start = max(0, size_bytes - size_max_bytes)
            file.seek(start)
            lines = file.read(size_max_bytes).split(b"\n")
    except OSError:
        return []  # the worker has not written yet
    complete = lines[1 if start else 0 : -1]
    return [line for line in complete if line]
