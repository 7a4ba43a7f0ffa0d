"""``python -m zmflow.runtime.daemon ROLE``: a daemon of the local cluster, started by ``local_cluster``.

Its orders are a JSON object in the second argument. It says on the descriptor ``ready_fd``, in one
line of JSON, that it serves, or why it does not; after that it is as the foreground daemons are.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Literal

import msgspec

from zmflow.config import Settings
from zmflow.errors import ZmflowError

__all__ = ["DaemonOrders", "DaemonReport", "main"]


class DaemonOrders(msgspec.Struct, frozen=True):
    """What a daemon is told; ``state_dir`` is where a JobManager keeps its epoch."""

    role: Literal["jobmanager", "taskmanager"]
    settings: dict[str, str]
    ready_fd: int
    state_dir: str = ""


class DaemonReport(msgspec.Struct, frozen=True):
    """What it says when it is ready (``error`` is empty), or when it cannot be."""

    port: int = 0
    error: str = ""
    message: str = ""
    detail: str = ""
    hint: str = ""


def _report(descriptor: int, report: DaemonReport) -> None:
    with contextlib.suppress(OSError):  # nobody waits for it any more
        os.write(descriptor, msgspec.json.encode(report) + b"\n")
        os.close(descriptor)


def main() -> int:
    """Run the daemon the command line orders; returns the exit status."""
    orders = msgspec.json.decode(sys.argv[1], type=DaemonOrders)
    try:
        settings = Settings().with_values(orders.settings, "zmflow cluster start")
        if orders.role == "jobmanager":
            from zmflow.runtime.jobmanager import run_jobmanager

            return run_jobmanager(
                settings,
                console=False,
                state_dir=Path(orders.state_dir) if orders.state_dir else None,
                on_ready=lambda port: _report(orders.ready_fd, DaemonReport(port)),
            )
        from zmflow.runtime.taskmanager import run_taskmanager

        return run_taskmanager(
            settings, console=False, on_registered=lambda: _report(orders.ready_fd, DaemonReport())
        )
    except ZmflowError as error:
        sys.stderr.write(f"{error}\n")
        kind = type(error).__name__
        _report(
            orders.ready_fd,
            DaemonReport(0, kind, error.message, error.detail or "", error.hint or ""),
        )
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
