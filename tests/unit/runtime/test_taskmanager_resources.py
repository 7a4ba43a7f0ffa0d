"""What a TaskManager has to offer, and how its workers' memory is watched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.errors import ConfigurationError
from zmflow.protocol.resources import ResourceProfile
from zmflow.runtime.memory_watch import SAMPLE_INTERVAL_MS, MemoryWatch, resident_bytes
from zmflow.runtime.mini_cluster import MiniCluster
from zmflow.runtime.taskmanager_resources import machine_cores, machine_memory_bytes, taskmanager_resources

GIB = 2**30


def resources(**settings: str) -> ResourceProfile:
    """The resources with these settings on a machine of 8 cores and 16 GiB."""
    keys = {
        "cores": "taskmanager.cpu.cores",
        "memory": "taskmanager.memory.process.size",
        "managed": "taskmanager.memory.managed.size",
        "external": "taskmanager.external-resources",
    }
    given = Settings().with_values({keys[name]: text for name, text in settings.items()}, "a test")
    return taskmanager_resources(given, cores=8, memory_bytes=16 * GIB)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ResourceProfile(8000, 16 * GIB, 16 * GIB * 2 // 5)),
        ({"cores": "2.5"}, ResourceProfile(2500, 16 * GIB, 16 * GIB * 2 // 5)),
        ({"memory": "10 g"}, ResourceProfile(8000, 10 * GIB, 4 * GIB)),
        ({"memory": "10 g", "managed": "10 g"}, ResourceProfile(8000, 10 * GIB, 10 * GIB)),
        (
            {"memory": "10 g", "external": "gpu:2, fpga:0"},
            ResourceProfile(8000, 10 * GIB, 4 * GIB, (("gpu", 2),)),
        ),
    ],
)
def test_silent_settings_mean_what_the_machine_has(
    settings: dict[str, str], expected: ResourceProfile
) -> None:
    """All cores, all memory, 40 % of the memory managed; what is set is taken as it is."""
    assert resources(**settings) == expected


@pytest.mark.parametrize("settings", [{"memory": "1 g", "managed": "2 g"}, {"managed": "17 g"}])
def test_more_managed_memory_than_memory_is_refused(settings: dict[str, str]) -> None:
    """The error names both settings and both sizes."""
    with pytest.raises(ConfigurationError) as caught:
        resources(**settings)
    assert f"memory.managed.size is {settings['managed'][:-2]} GiB" in str(caught.value)
    assert "memory.process.size" in str(caught.value)


def test_an_embedded_cluster_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    """Neither processes nor files are left."""
    texts = {"taskmanager.memory.managed.size": "1000000 g", "env.run.dir": str(tmp_path)}
    with pytest.raises(ConfigurationError):
        MiniCluster(2, 1, Settings().with_values(texts, "a test"))
    assert list(tmp_path.iterdir()) == []


def test_the_machine_has_cores_and_memory() -> None:
    """As the system counts them."""
    assert machine_cores() == os.cpu_count()
    assert machine_memory_bytes() > 100 * 2**20


def test_a_worker_is_reported_once_when_it_uses_too_much() -> None:
    """Only those with a limit are looked at, and only when a sample is due."""
    watch = MemoryWatch()
    assert watch.deadline_ms() is None
    for name, limit in (("greedy", 1), ("modest", 2**60), ("free", 0)):
        watch.limit(name, limit)
        watch.started(name, os.getpid())
    [(name, used)] = watch.exceeded(1000)
    assert name == "greedy"
    assert 2**20 < used < 2**36
    assert watch.deadline_ms() == 1000 + SAMPLE_INTERVAL_MS
    assert watch.exceeded(1000 + SAMPLE_INTERVAL_MS) == []
    watch.ended("modest")
    assert watch.deadline_ms() is None


def test_a_worker_that_is_gone_uses_nothing() -> None:
    """Its end is reported by the fork server, not here."""
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    assert resident_bytes(gone.pid) == 0


def test_growth_is_seen() -> None:
    """Touched pages are counted at once."""
    before = resident_bytes(os.getpid())
    ballast = bytearray(os.urandom(1) * (64 * 2**20))
    assert resident_bytes(os.getpid()) - before > 48 * 2**20
    del ballast
