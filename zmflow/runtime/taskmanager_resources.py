"""What a TaskManager has to cut slots from: its settings, and where they are silent, its machine."""

from __future__ import annotations

import os

from zmflow.config import Settings
from zmflow.config.options import CPU_CORES, EXTERNAL_RESOURCES, MANAGED_MEMORY, PROCESS_MEMORY
from zmflow.errors import ConfigurationError
from zmflow.protocol.resources import ResourceProfile, external_profile, size_text

__all__ = ["machine_cores", "machine_memory_bytes", "taskmanager_resources"]

MANAGED_PERCENT = 40
"""Flink's taskmanager.memory.managed.fraction."""


def machine_cores() -> int:
    """The cores of this machine."""
    return os.cpu_count() or 1


def machine_memory_bytes() -> int:
    """The memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def taskmanager_resources(settings: Settings, *, cores: int, memory_bytes: int) -> ResourceProfile:
    """The resources of a TaskManager on a machine with so many cores and so much memory.

    Raises:
        ConfigurationError: more managed memory than memory.

    >>> taskmanager_resources(Settings(), cores=2, memory_bytes=1000)
    ResourceProfile(cpu_millis=2000, memory_bytes=1000, managed_memory_bytes=400, external=())
    """
    memory = settings[PROCESS_MEMORY] or memory_bytes
    managed = settings[MANAGED_MEMORY] or memory * MANAGED_PERCENT // 100
    if managed > memory:
        raise ConfigurationError(
            "A TaskManager cannot have more managed memory than memory.",
            detail=f"{MANAGED_MEMORY.key} is {size_text(managed)}, {PROCESS_MEMORY.key} "
            f"{'(the machine) ' if not settings[PROCESS_MEMORY] else ''}is {size_text(memory)}.",
            hint=f"Managed memory is a part of the whole; leave {MANAGED_MEMORY.key} at 0 for "
            f"{MANAGED_PERCENT} % of it.",
        )
    external: dict[str, int] = settings[EXTERNAL_RESOURCES]
    return ResourceProfile(
        cpu_millis=round(settings[CPU_CORES] * 1000) or cores * 1000,
        memory_bytes=memory,
        managed_memory_bytes=managed,
        external=external_profile(external),
    )
