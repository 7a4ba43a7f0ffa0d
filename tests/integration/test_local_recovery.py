"""Local recovery on real processes: a killed worker's successor reads the copies of its TaskManager."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cluster_executor import ClusterExecutor

from zmflow import (
    KeyedProcessFunction,
    MapFunction,
    RuntimeContext,
    StreamExecutionEnvironment,
    ValueStateDescriptor,
)
from zmflow.api.environment import environment_context
from zmflow.api.execution import JobClient
from zmflow.config import Settings
from zmflow.errors import JobFailedError
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

RECORDS = 3_000
KEYS = 100
PAYLOAD_BYTES = 1_000
"""Of each key: enough that state is in files and not in the metadata."""

DEADLINE_S = 60

IN_CHECKPOINT = "checkpoints/*/chk-*/*.state"
COPIES = "zmflow-run-*/copies-*/*/*/chk-*/*"


class Struck(MapFunction):
    """Damages files when somebody wishes so, and is killed at once."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._directory = Path(runtime_context.get_job_parameter("directory", "/nothing"))

    def map(self, value: int) -> int:
        time.sleep(0.001)
        with contextlib.suppress(FileNotFoundError):
            patterns = (self._directory / "strike").read_text().split()
            (self._directory / "strike").unlink()
            for path in (path for pattern in patterns for path in found(self._directory, pattern)):
                damage(path)
            os.kill(os.getpid(), signal.SIGKILL)
        return value


def found(directory: Path, pattern: str) -> list[Path]:
    """The files there are now; what is deleted meanwhile is passed over."""
    return [directory / name for name in glob(pattern, root_dir=directory)]  # noqa: PTH207 - Path.glob fails where files go


def damage(path: Path) -> None:
    """Let a file hold something else, as much of it; not the files that it shares its content with."""
    with contextlib.suppress(FileNotFoundError):  # it is deleted meanwhile
        content = bytes(byte ^ 0xFF for byte in path.read_bytes())
        path.unlink()
        path.write_bytes(content)


class Counting(KeyedProcessFunction):
    """Counts the records of a key, and keeps some bytes of it."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor[int]("count"))
        self.payload = runtime_context.get_state(ValueStateDescriptor[bytes]("payload"))

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int]]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        if count == 1:
            self.payload.update(Random(value).randbytes(PAYLOAD_BYTES))
        yield ctx.get_current_key(), count


def lines_to(directory: Path) -> Callable[[tuple[int, int]], None]:
    """A sink that writes rows to a file of its process."""

    def write(row: tuple[int, int]) -> None:
        with (directory / f"rows-{os.getpid()}").open("a") as file:
            file.write(json.dumps(row) + "\n")

    return write


@pytest.fixture
def directory() -> Iterator[Path]:
    """Of a test: short, because sockets are in it, too."""
    path = Path(tempfile.mkdtemp(prefix="copies-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def run(directory: Path) -> Iterator[Callable[[], JobClient]]:
    """Begins the job on a cluster of its own; nothing of its copies is left."""
    settings = Settings().with_values(
        {
            "env.run.dir": str(directory),
            "execution.checkpointing.interval": "100 ms",
            "execution.checkpointing.dir": str(directory / "checkpoints"),
            "execution.checkpointing.local-backup.enabled": "true",
            "execution.state-recovery.from-local": "true",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.delay": "10 ms",
            "restart-strategy.fixed-delay.attempts": "3",
            "pipeline.global-job-parameters": f"directory:{directory}",
        },
        "test",
    )
    with MiniCluster(1, 2, settings) as cluster:

        def begin() -> JobClient:
            with environment_context(settings, ClusterExecutor(cluster)):
                env = StreamExecutionEnvironment.get_execution_environment()
            env.set_parallelism(2)
            struck = env.from_sequence(1, RECORDS).set_parallelism(1).map(Struck()).set_parallelism(1)
            struck.key_by(lambda value: value % KEYS).process(Counting()).add_sink(lines_to(directory))
            return env.execute_async("local recovery")

        yield begin
        wait_until(lambda: not copies(directory))
    assert not list(directory.glob("zmflow-run-*"))


def wait_until(holds: Callable[[], object]) -> None:
    """Wait for what takes less than a second on an idle machine."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def copies(directory: Path) -> list[Path]:
    """The copies there are now."""
    return found(directory, COPIES)


def newest_completed(job: JobClient) -> int:
    """The number of the newest checkpoint that is complete."""
    assert isinstance(job, RemoteJobClient)
    with contextlib.closing(job._dial()) as client:
        records = client.checkpoints(job.get_job_id(), 0).records
    return max((record.checkpoint_id for record in records if record.state == "COMPLETED"), default=0)


def strike(directory: Path, job: JobClient, *patterns: str) -> None:
    """Have files damaged, and their worker killed, when there is a checkpoint to go back to."""
    wait_until(lambda: newest_completed(job) >= 2)
    order = directory / "order"
    order.write_text(" ".join(patterns))
    order.rename(directory / "strike")
    wait_until(lambda: not (directory / "strike").exists())


def counts(directory: Path) -> dict[int, int]:
    """The last count of each key."""
    last: dict[int, int] = {}
    for file in directory.glob("rows-*"):
        for line in file.read_text().splitlines():
            key, count = json.loads(line)
            last[key] = max(last.get(key, 0), count)
    return last


@pytest.mark.parametrize("damaged", [IN_CHECKPOINT, COPIES])
def test_either_of_the_two_is_enough(run: Callable[[], JobClient], directory: Path, damaged: str) -> None:
    """With every state file of every checkpoint damaged the copies are read; with every copy damaged the
    checkpoint is. Each record counts once."""
    job = run()
    strike(directory, job, damaged)
    job.get_job_execution_result()
    job.close()
    assert counts(directory) == dict.fromkeys(range(KEYS), RECORDS // KEYS)
    assert len(list(directory.glob("rows-*"))) > 2, "no worker was killed"


def test_what_is_damaged_in_both_places_is_refused(run: Callable[[], JobClient], directory: Path) -> None:
    """So the test above damages what matters."""
    job = run()
    strike(directory, job, IN_CHECKPOINT, COPIES)
    with pytest.raises(JobFailedError, match="damaged"):
        job.get_job_execution_result()
    job.close()


def test_copies_of_superseded_checkpoints_go(run: Callable[[], JobClient], directory: Path) -> None:
    """While the job runs there are those of the newest checkpoints, and none when it has ended."""
    job = run()
    wait_until(lambda: newest_completed(job) >= 3)
    wait_until(
        lambda: (
            (kept := copies(directory))
            and min(int(path.parent.name.removeprefix("chk-")) for path in kept) >= 3
        )
    )
    job.cancel()
    job.close()
