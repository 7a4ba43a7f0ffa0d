"""Incremental checkpoints of jobs on embedded clusters: real processes, real files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from glob import glob
from pathlib import Path
from random import Random
from typing import Any

import pytest

from zmflow import (
    Configuration,
    KeyedProcessFunction,
    MapFunction,
    MapStateDescriptor,
    RuntimeContext,
    StreamExecutionEnvironment,
    ValueStateDescriptor,
)
from zmflow.api.execution import JobClient
from zmflow.config import Settings
from zmflow.errors import JobFailedError
from zmflow.protocol.checkpoint_statistics import CheckpointRecord
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.state.reader import SnapshotReader, SnapshotWriter
from zmflow.state.snapshot_files import SnapshotFiles

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180), pytest.mark.xdist_group("incremental")]

LOADED = 6_000
"""Keys that get some state once, before the slow part of the input."""

PAYLOAD_BYTES = 500
TAIL = 3_000
KEYS = 10
"""The slow part changes the state of so many keys."""

DEADLINE_S = 60


class Paced(MapFunction):
    """The slow part of the input; its worker is killed when somebody wishes so, and files are damaged
    before."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self._directory = Path(runtime_context.get_job_parameter("directory", "/nothing"))

    def map(self, value: int) -> int:
        if value > LOADED:
            time.sleep(0.002)
            with contextlib.suppress(FileNotFoundError):
                patterns = (self._directory / "kill").read_text().split()
                (self._directory / "kill").unlink()
                for pattern in patterns:
                    for name in glob(pattern, root_dir=self._directory):  # noqa: PTH207 - Path.glob fails where files go
                        damage(self._directory / name)
                os.kill(os.getpid(), signal.SIGKILL)
        return value


def damage(path: Path) -> None:
    """Let a file hold nothing, as much of it; what else it is linked to stays as it is."""
    with contextlib.suppress(FileNotFoundError):  # it is deleted meanwhile
        size = path.stat().st_size
        path.unlink()
        path.write_bytes(bytes(size))


class Counting(KeyedProcessFunction):
    """Counts the records of a key beside what makes the state large."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor[int]("count"))
        self.payload = runtime_context.get_map_state(MapStateDescriptor[str, bytes]("payload"))

    def process_element(self, value: int, ctx: Any) -> Iterator[tuple[int, int]]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        if count == 1:
            self.payload.put("bytes", Random(value).randbytes(PAYLOAD_BYTES))  # noqa: S311 - incompressible
        ctx.timer_service().register_event_time_timer(10**12)
        yield ctx.get_current_key(), count


def key_of(value: int) -> int:
    return value if value <= LOADED else value % KEYS


def lines_to(directory: Path) -> Callable[[tuple[int, int]], None]:
    """A sink that writes rows to a file of its process."""

    def write(row: tuple[int, int]) -> None:
        with (directory / f"rows-{os.getpid()}").open("a") as file:
            file.write(json.dumps(row) + "\n")

    return write


def begin(directory: Path, parallelism: int, **more: str) -> JobClient:
    """Start the job."""
    settings = {
        "state.backend.type": "rocksdb",
        "execution.checkpointing.incremental": "true",
        "execution.checkpointing.interval": "150 ms",
        "execution.checkpointing.dir": str(directory / "checkpoints"),
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.delay": "10 ms",
        "pipeline.global-job-parameters": f"directory:{directory}",
        **more,
    }
    env = StreamExecutionEnvironment.get_execution_environment(Configuration.from_dict(settings))
    env.set_parallelism(parallelism)
    paced = env.from_sequence(1, LOADED + TAIL).set_parallelism(1).map(Paced()).set_parallelism(1)
    counted = paced.key_by(key_of).process(Counting()).uid("counts")
    counted.add_sink(lines_to(directory))
    return env.execute_async("incremental")


def completed(job: JobClient) -> list[CheckpointRecord]:
    """The checkpoints that are complete, oldest first."""
    assert isinstance(job, RemoteJobClient)
    with contextlib.closing(job._dial()) as client:
        records = client.checkpoints(job.get_job_id(), 0).records
    return [record for record in records if record.state == "COMPLETED"]


def await_checkpoint(job: JobClient, wanted: Callable[[CheckpointRecord], bool]) -> CheckpointRecord:
    """Wait until there is such a checkpoint."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        records = completed(job)
        if found := next(filter(wanted, records), None):
            return found
        assert time.monotonic() < deadline, records
        assert job.get_job_status() in ("CREATED", "RUNNING", "RESTARTING"), records
        time.sleep(0.02)


def is_loaded(record: CheckpointRecord) -> bool:
    return record.state_bytes > LOADED * PAYLOAD_BYTES


def is_small(record: CheckpointRecord) -> bool:
    return is_loaded(record) and record.written_bytes < record.state_bytes / 5


def counts(directory: Path) -> dict[int, int]:
    """The last count of each key."""
    last: dict[int, int] = {}
    for file in directory.glob("rows-*"):
        for line in file.read_text().splitlines():
            key, count = json.loads(line)
            last[key] = max(last.get(key, 0), count)
    return last


def expected() -> dict[int, int]:
    """What the counts are in the end when each record counts once."""
    every = dict.fromkeys(range(1, LOADED + 1), 1)
    for value in range(LOADED + 1, LOADED + TAIL + 1):
        every[value % KEYS] = every.get(value % KEYS, 0) + 1
    return every


def await_only(kept: Path | None, directory: Path) -> None:
    """All files but those of one directory are deleted, beside the client."""
    deadline = time.monotonic() + DEADLINE_S
    while left := [
        path
        for folder, _, names in os.walk(directory)  # which passes over what is deleted meanwhile
        for path in (Path(folder, name) for name in names)
        if kept is None or kept not in path.parents
    ]:
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def kill(directory: Path, *damaged: str) -> None:
    """Have the worker killed, and these files damaged before."""
    (directory / "order").write_text(" ".join(damaged))
    (directory / "order").rename(directory / "kill")
    deadline = time.monotonic() + DEADLINE_S
    while (directory / "kill").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_killed_worker_goes_on_from_the_files(tmp_path: Path) -> None:
    """Each record counts once; checkpoints of state that hardly changes write little, also the first one
    after the restart; and when the job has ended nothing is left."""
    job = begin(tmp_path, 2)
    restarted_at = await_checkpoint(job, is_small).checkpoint_id
    kill(tmp_path)
    newest = max(record.checkpoint_id for record in completed(job))
    after = await_checkpoint(job, lambda record: record.checkpoint_id > newest)
    assert is_small(after), "the files were read, and written again"
    job.get_job_execution_result()
    job.close()
    assert restarted_at < after.checkpoint_id
    assert counts(tmp_path) == expected()
    await_only(None, tmp_path / "checkpoints")


def test_a_killed_worker_goes_on_from_its_links(tmp_path: Path) -> None:
    """Local recovery: what is in the checkpoint is damaged, and nobody has to read it."""
    both = ("execution.checkpointing.local-backup.enabled", "execution.state-recovery.from-local")
    job = begin(tmp_path, 2, **dict.fromkeys(both, "true"))
    await_checkpoint(job, is_small)
    kill(tmp_path, "checkpoints/*/shared/*", "checkpoints/*/chk-*/*.state")
    job.get_job_execution_result()
    job.close()
    assert counts(tmp_path) == expected()
    assert len(list(tmp_path.glob("rows-*"))) > 2, "no worker was killed"


def cancelled(directory: Path, parallelism: int) -> Path:
    """The last checkpoint of a job that was cancelled on its way."""
    job = begin(directory, parallelism)
    await_checkpoint(job, is_small)
    job.cancel()
    job.close()
    deadline = time.monotonic() + DEADLINE_S
    while len(found := list(directory.glob("checkpoints/*/chk-*/_metadata"))) != 1:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found[0].parent


@pytest.mark.parametrize("after", [2, 3])
def test_a_checkpoint_is_restored_at_another_parallelism(tmp_path: Path, after: int) -> None:
    """From 2 to 3 tasks each takes its key groups out of the files of others. The first checkpoint is whole,
    because the files it began with are not the job's own; they stay."""
    path = cancelled(tmp_path, 2)
    job = begin(tmp_path, after, **{"execution.state-recovery.path": str(path)})
    first = await_checkpoint(job, is_loaded)
    assert first.written_bytes == first.state_bytes
    await_checkpoint(job, is_small)
    job.get_job_execution_result()
    job.close()
    assert counts(tmp_path) == expected()
    await_only(path.parent, path.parent.parent)
    SnapshotFiles(str(path), Settings()).check_sizes()


def test_claimed_files_go_when_nobody_needs_them(tmp_path: Path) -> None:
    """The job that has claimed a checkpoint deletes its files, the shared ones, too, with the checkpoint."""
    path = cancelled(tmp_path, 2)
    claim = {"execution.state-recovery.path": str(path), "execution.state-recovery.claim-mode": "CLAIM"}
    job = begin(tmp_path, 2, **claim)
    job.get_job_execution_result()
    job.close()
    assert counts(tmp_path) == expected()
    await_only(None, tmp_path / "checkpoints")


def test_other_backends_are_refused_and_readers_are_not(tmp_path: Path) -> None:
    """A job on the heap is told to take a savepoint; the reader opens the files itself, and what it writes
    is a savepoint that the heap can read."""
    path = cancelled(tmp_path, 2)
    on_heap = {"execution.state-recovery.path": str(path), "state.backend.type": "hashmap"}
    refused = begin(tmp_path, 2, **on_heap)
    with pytest.raises(JobFailedError) as caught:
        refused.get_job_execution_result()
    refused.close()
    assert "'rocksdb', and the job has 'hashmap'" in str(caught.value)
    assert "savepoint" in str(caught.value)
    reader = SnapshotReader(str(path))
    assert len(dict(reader.keyed_state("counts", "payload"))) == LOADED + 1
    assert {state.name for state in reader.contents.operator("counts").states} >= {"count", "payload"}
    shown = subprocess.run(
        [sys.executable, "-m", "zmflow.cli.main", "checkpoint", "show", str(path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "Written" in shown and "rocksdb files" in shown and "in its files" in shown, shown
    made = SnapshotWriter(reader).write(str(tmp_path / "made"))
    job = begin(tmp_path, 3, **on_heap | {"execution.state-recovery.path": made})
    job.get_job_execution_result()
    job.close()
    assert counts(tmp_path) == expected()
