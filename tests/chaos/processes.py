"""Which processes belong to a run of this package: those that inherited its mark, and nobody else's."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["MARK", "Process", "is_alive", "marked_processes", "signal_marked", "wait_until"]

MARK = "CHAOS_RUN"
"""Environment variable of every daemon; its descendants have it too, whoever their parent is by then."""

POLL_INTERVAL_S = 0.005
"""How often a condition is looked at that no descriptor announces."""


@dataclass(frozen=True)
class Process:
    """A process as it was found."""

    pid: int
    parent: int
    command: str


def _stat(pid: int) -> list[str]:
    """State, parent and the rest of what the kernel says of a process; empty when it is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()  # the name before it may contain anything


def is_alive(pid: int) -> bool:
    """Whether a process is there, and not just what remains until its parent has asked."""
    fields = _stat(pid)
    return bool(fields) and fields[0] not in ("Z", "X")


def _bears(pid: int, mark: str) -> bool:
    return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def marked_processes(mark: str) -> list[Process]:
    """The living processes that inherited this value of ``MARK``."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdecimal():
            continue
        pid = int(path.name)
        try:
            if not (_bears(pid, mark) and is_alive(pid)):
                continue
            command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            found.append(Process(pid, int(_stat(pid)[1]), command[:100]))
        except (OSError, IndexError):  # another user's, or gone meanwhile
            continue
    return found


def signal_marked(pid: int, mark: str, number: signal.Signals = signal.SIGKILL) -> bool:
    """Signal a process if it is there and bears the mark: by now its pid may be another's. Whether it was."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        if not _bears(pid, mark):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Look until the condition holds; False when it does not within this time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        select.select([], [], [], POLL_INTERVAL_S)
    return True
