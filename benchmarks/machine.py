"""What this machine is."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks.results import Machine

__all__ = ["this_machine"]


def this_machine() -> Machine:
    """The processor, the cores this process may use, memory, Python and kernel."""
    cpu = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Machine(
        cpu=cpu,
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory, 1),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        system=f"{platform.system()} {platform.release()}",
    )
