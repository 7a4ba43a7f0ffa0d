"""Lives of workers that end in different ways, chosen by their allocation id."""

import sys
import threading

from zmflow.runtime.worker_boot import WorkerBoot


def run_worker(boot: WorkerBoot) -> None:
    """Return, exit with 3, raise, or stay."""
    match boot.allocation_id:
        case "exit3":
            sys.exit(3)
        case "raise":
            raise ValueError("on purpose")
        case "sleep":
            threading.Event().wait()
