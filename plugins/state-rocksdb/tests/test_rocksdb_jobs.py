"""Jobs with their state in RocksDB, on embedded clusters: real processes, real files."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from zmflow import (
    KeyedProcessFunction,
    ListStateDescriptor,
    MapFunction,
    MapStateDescriptor,
    RuntimeContext,
    StreamExecutionEnvironment,
    ValueStateDescriptor,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

RECORDS = 20_000
KEYS = 500
LAST = 3


def databases() -> set[str]:
    """The directories of the databases that are open in this process."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            path = descriptor.readlink()
            found |= {str(parent) for parent in path.parents if parent.name.startswith("rocksdb-")}
    return found


class Paced(MapFunction):
    """Lets the input last until the failure."""

    def __init__(self, directory: Path) -> None:
        self._failed = directory / "failed"

    def open(self, runtime_context: RuntimeContext) -> None:
        self._restored = self._failed.exists()

    def map(self, value: int) -> int:
        if not self._restored:
            time.sleep(0.0005)
        return value


class Counting(KeyedProcessFunction):
    """Counts the records of a key in three kinds of state, and fails once after a checkpoint."""

    def __init__(self, directory: Path, *, kills: bool) -> None:
        self._failed = directory / "failed"
        self._kills = kills
        self._checkpoints = 0

    def open(self, runtime_context: RuntimeContext) -> None:
        self._restored = self._failed.exists()
        self.count = runtime_context.get_state(ValueStateDescriptor[int]("count"))
        self.last = runtime_context.get_list_state(ListStateDescriptor[int]("last"))
        self.tens = runtime_context.get_map_state(MapStateDescriptor[int, int]("by last digit"))
        self._first = runtime_context.get_index_of_this_subtask() == 0

    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        self._checkpoints += 1

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[Any, ...]]:
        if self._first and self._checkpoints >= 2 and not self._restored:
            self._failed.write_text(json.dumps(sorted(databases())))
            if self._kills:
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("once")
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        self.last.update([*self.last.get(), value][-LAST:])
        self.tens.put(count % 10, (self.tens.get(count % 10) or 0) + 1)
        yield ctx.get_current_key(), count, list(self.last.get()), sum(self.tens.values())


class Lines:
    """Writes rows to a file."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def __call__(self, row: tuple[Any, ...]) -> None:
        with (self._directory / f"rows-{os.getpid()}").open("a") as file:
            file.write(json.dumps(row) + "\n")


@pytest.mark.parametrize("kills", [False, True])
def test_a_failed_job_goes_on_with_the_state_of_its_checkpoint(tmp_path: Path, kills: bool) -> None:
    """Each record counts once, whether a function raises or its worker is killed; what a killed worker had on
    disk is gone before the job is."""
    texts = {
        "parallelism.default": "2",
        "execution.target": "embedded",
        "state.backend.type": "rocksdb",
        "execution.checkpointing.interval": "100 ms",
        "execution.checkpointing.dir": str(tmp_path / "checkpoints"),
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.delay": "10 ms",
    }
    with environment_context(Settings().with_values(texts, "test")):
        env = StreamExecutionEnvironment.get_execution_environment()
        paced = env.from_sequence(1, RECORDS).map(Paced(tmp_path))
        numbers = paced.key_by(lambda number: number % KEYS)
        numbers.process(Counting(tmp_path, kills=kills)).add_sink(Lines(tmp_path))
        env.execute("counts")
    left = json.loads((tmp_path / "failed").read_text())
    assert left, "the backend had written nothing when the function failed"
    assert [path for path in left if Path(path).exists()] == []
    rows = [json.loads(line) for file in tmp_path.glob("rows-*") for line in file.read_text().splitlines()]
    most: dict[int, tuple[int, int]] = {}
    for key, count, last, tens in rows:
        assert len(last) == min(count, LAST), "the list is as old as the count"
        assert {number % KEYS for number in last} == {key}
        most[key] = max(most.get(key, (0, 0)), (count, tens))
    assert most == dict.fromkeys(range(KEYS), (RECORDS // KEYS, RECORDS // KEYS))
