"""A job with five times as much state as its slot may use of memory, on a TaskManager that watches it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zmflow import KeyedProcessFunction, RuntimeContext, StreamExecutionEnvironment, ValueStateDescriptor
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.connectors import TextFileSink
from zmflow.errors import JobFailedError
from zmflow.runtime import local_cluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

MIB = 2**20
LIMIT_MIB = 144
MANAGED_MIB = 16
"""What the backend may use. A worker has 45 MiB before it does anything, and RocksDB takes some 50 MiB beside
its caches while it compacts and is read for a checkpoint."""

VALUE_BYTES = 64 * 2**10
KEYS = 5 * LIMIT_MIB * MIB // VALUE_BYTES
ASKED_EVERY = 4
ASKED = KEYS // ASKED_EVERY
"""Keys that come again: from all files of the database, which is large enough for that."""


def key_of(number: int) -> int:
    """All keys in turn, then some of them."""
    return number if number < KEYS else (number - KEYS) * ASKED_EVERY


class Remember(KeyedProcessFunction):
    """Keeps a value for each key, and says whether it still has it when the key comes again."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.value = runtime_context.get_state(ValueStateDescriptor[bytes]("value"))

    def process_element(self, value: int, ctx: Any) -> Iterator[str]:
        key = ctx.get_current_key()
        content = random.Random(key).randbytes(VALUE_BYTES)  # noqa: S311 - does not get smaller by compression
        if value < KEYS:
            self.value.update(content)
        else:
            yield f"{key} {'is whole' if self.value.value() == content else 'is lost'}"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Settings]:
    """One slot that may use so much, a ninth of it for its backend; gives the settings of its clients."""
    texts = {
        "jobmanager.rpc.port": "0",
        "taskmanager.numberOfTaskSlots": "1",
        "taskmanager.memory.slot-limit": f"{LIMIT_MIB} m",
        "taskmanager.memory.managed.size": f"{MANAGED_MIB} m",
    }
    settings = Settings().with_values(texts, "test")
    running = local_cluster.start(settings, 1, tmp_path / "cluster")
    address = {"jobmanager.rpc.address": running.host, "jobmanager.rpc.port": str(running.port)}
    try:
        yield settings.with_values({**address, "execution.target": "remote"}, "test")
    finally:
        local_cluster.stop(tmp_path / "cluster", settings)


def run(cluster: Settings, output: Path, backend: str) -> None:
    """One task, with a checkpoint now and then."""
    texts = {
        "state.backend.type": backend,
        "execution.checkpointing.interval": "8 s",
        "execution.checkpointing.dir": str(output / "checkpoints"),
        "restart-strategy.type": "none",
    }
    with environment_context(cluster.with_values(texts, "test")):
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(1)
        numbers = env.from_sequence(0, KEYS + ASKED - 1)
        numbers.key_by(key_of).process(Remember()).sink_to(TextFileSink(output / "out"))
        env.execute("much state")


def test_much_state_stays_within_the_limit_of_its_slot(cluster: Settings, tmp_path: Path) -> None:
    """It is there when asked for, and is checkpointed meanwhile. The same job on the heap dies of it."""
    run(cluster, tmp_path, "rocksdb")
    lines = [line for file in (tmp_path / "out").iterdir() for line in file.read_text().splitlines()]
    assert sorted(lines) == sorted(f"{key} is whole" for key in range(0, KEYS, ASKED_EVERY))
    with pytest.raises(JobFailedError, match=f"{LIMIT_MIB} MiB"):
        run(cluster, tmp_path / "heap", "hashmap")
