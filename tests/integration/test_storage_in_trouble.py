"""Checkpoint storage that fails, hangs, is full or damaged: no wrong result, no hang, the cause is named."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cluster_executor import ClusterExecutor
from zmflow import (
    KeyedBroadcastProcessFunction,
    MapFunction,
    MapStateDescriptor,
    StreamExecutionEnvironment,
    Types,
    ValueStateDescriptor,
)
from zmflow.api.environment import environment_context
from zmflow.config import Settings
from zmflow.connectors import Encoder, FileSink, RollingPolicy
from zmflow.errors import JobCanceledError, JobFailedError
from zmflow.protocol.messages import CheckpointStatistics
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.runtime.mini_cluster import MiniCluster
from zmflow.testing.faulty_storage import hold, register_faulty_storage, waiting_calls

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(120),
    pytest.mark.xdist_group("storage-in-trouble"),
]

DEADLINE_S = 60
RECORDS = 40_000
KEYS = 5
RULES = 3
DESCRIPTOR = MapStateDescriptor("rules", Types.INT(), Types.INT())


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterExecutor]:
    """Two slots in which the storage ``faulty`` is installed."""
    plugins = tmp_path_factory.mktemp("plugins")
    register_faulty_storage(plugins)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(plugins))
        with MiniCluster(1, 2) as mini:
            yield ClusterExecutor(mini)


class Paced(MapFunction):
    """Slow until the file ``hurry`` is there; fails, once, when it finds the file ``fail``."""

    def __init__(self, directory: Path) -> None:
        self.hurry, self.fail = directory / "hurry", directory / "fail"
        self.hurries = False

    def map(self, value: int) -> int:
        if not self.hurries:
            time.sleep(0.001)
            self.hurries = self.hurry.exists()
            with contextlib.suppress(FileNotFoundError):
                self.fail.unlink()
                raise ValueError("told to fail")
        return value


class CountUnderRules(KeyedBroadcastProcessFunction):
    """Counts by key. For the last record of each key it says which rules there are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, runtime_context: Any) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.INT()))
        self.subtask = runtime_context.get_index_of_this_subtask()

    def process_element(self, value: int, ctx: Any) -> Iterator[str]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield f"count {value % KEYS} {count}"
        if count == RECORDS // KEYS:
            rules = sorted(key for key, _ in ctx.get_broadcast_state(DESCRIPTOR).items())
            yield f"rules {value % KEYS} {rules}"

    def process_broadcast_element(self, value: int, ctx: Any) -> Iterator[str]:
        rules = ctx.get_broadcast_state(DESCRIPTOR)
        rules.put(value, value)
        if len(list(rules.items())) == RULES:
            (self.directory / f"ruled-{self.subtask}").touch()
        yield from ()


EXPECTED = Counter(
    [f"count {key} {count}" for key in range(KEYS) for count in range(1, RECORDS // KEYS + 1)]
    + [f"rules {key} {list(range(RULES))}" for key in range(KEYS)]
)


class Trouble:
    """A job over a storage in trouble, and the knobs of its records."""

    def __init__(self, cluster: ClusterExecutor, directory: Path) -> None:
        self._cluster = cluster
        self.directory = directory
        self.checkpoints = directory / "checkpoints"
        self.out = directory / "out"
        self.job: RemoteJobClient | None = None

    def begin(self, faults: str = "", **more: str) -> RemoteJobClient:
        """Two sources, a union, a broadcast, and a sink that commits with checkpoints."""
        location = f"faulty://{self.checkpoints}?name={self.directory.name}&{faults}" if faults else ""
        settings = {
            "parallelism.default": "2",
            "execution.checkpointing.interval": "20 ms",
            "execution.checkpointing.dir": location or str(self.checkpoints),
            "execution.checkpointing.data-inline-threshold": "0 b",
            "execution.checkpointing.tolerable-failed-checkpoints": "1000000",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "3",
            "restart-strategy.fixed-delay.delay": "1 ms",
            "task.cancellation.timeout": "500 ms",
            **more,
        }
        with environment_context(Settings().with_values(settings, "test"), self._cluster):
            env = StreamExecutionEnvironment.get_execution_environment()
            paced = Paced(self.directory)
            halves = [
                env.from_sequence(0, RECORDS // 2 - 1).map(paced),
                env.from_sequence(RECORDS // 2, RECORDS - 1).map(paced),
            ]
            rules = env.from_sequence(0, RULES - 1).broadcast(DESCRIPTOR)
            numbers = halves[0].union(halves[1]).key_by(lambda n: n % KEYS)
            lines = numbers.connect(rules).process(CountUnderRules(self.directory))
            sink = (
                FileSink.for_row_format(str(self.out), Encoder.simple_string_encoder())
                .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
                .build()
            )
            lines.sink_to(sink)
            job = env.execute_async("trouble")
        assert isinstance(job, RemoteJobClient)
        self.job = job
        return job

    def statistics(self) -> CheckpointStatistics:
        """What the JobManager says of the job's checkpoints."""
        assert self.job is not None
        job_id = self.job.get_job_id()
        return self.job._ask(lambda client: client.checkpoints(job_id))

    def wait(self, what: Callable[[], bool]) -> None:
        """Until this is so, while the job lives."""
        assert self.job is not None
        deadline = time.monotonic() + DEADLINE_S
        while not what():
            assert self.job.get_job_status() in ("CREATED", "RUNNING", "RESTARTING"), str(
                self.statistics()
            ).replace("CheckpointRecord(", "\nCheckpointRecord(")
            assert time.monotonic() < deadline, str(self.statistics()).replace(
                "CheckpointRecord(", "\nCheckpointRecord("
            )
            time.sleep(0.01)

    def wait_completed(self, more: int) -> None:
        """Until so many more checkpoints are complete."""
        before = self.summary().completed
        self.wait(lambda: self.summary().completed >= before + more)

    def wait_failure(self, sentence: str) -> None:
        """Until this is why one of the newest checkpoints has failed."""
        self.wait(
            lambda: any(sentence in record.failure and record.counted for record in self.statistics().records)
        )

    def summary(self) -> Any:
        """All checkpoints in one line."""
        summary = self.statistics().summary
        assert summary is not None
        return summary

    def fail(self) -> None:
        """Let the map fail when all rules are in a checkpoint, and wait until the job runs again."""
        assert self.job is not None
        self.wait(lambda: all((self.directory / f"ruled-{subtask}").exists() for subtask in (0, 1)))
        self.wait_completed(2)  # the first of them may have begun before
        (self.directory / "fail").touch()
        self.wait(lambda: self.summary().restored_id > 0)

    def hurry(self) -> None:
        """No more pauses: the job ends soon."""
        (self.directory / "hurry").touch()

    def written(self) -> Counter[str]:
        """The lines that are committed."""
        files = [path for path in self.out.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return Counter(line for path in files for line in path.read_text().splitlines())

    def finish(self) -> None:
        """Wait for the end."""
        assert self.job is not None
        self.hurry()
        self.job.get_job_execution_result()

    def wait_deleted(self) -> None:
        """Until no file of a checkpoint of the job that has ended is left."""
        deadline = time.monotonic() + DEADLINE_S
        # Not by rglob, which fails when a directory is deleted that it is about to look into.
        while left := [name for _, _, names in os.walk(self.checkpoints) for name in names]:
            assert time.monotonic() < deadline, left
            time.sleep(0.01)


@pytest.fixture
def trouble(cluster: ClusterExecutor, tmp_path: Path) -> Iterator[Trouble]:
    """Whatever a test has begun is over when it ends."""
    trouble = Trouble(cluster, tmp_path)
    yield trouble
    job = trouble.job
    if job is not None:
        with contextlib.suppress(JobFailedError, JobCanceledError):
            job.cancel()
            job.get_job_execution_result()
        job.close()


@pytest.mark.parametrize(
    ("mode", "every", "inline"),
    [("EXACTLY_ONCE", 3, "20 kb"), ("EXACTLY_ONCE", 7, "0 b"), ("AT_LEAST_ONCE", 3, "20 kb")],
)
def test_writes_fail_every_few_times_and_the_job_ends_right(
    trouble: Trouble, mode: str, every: int, inline: str
) -> None:
    """Metadata and, where none is inline, state; a restart in between loses nothing."""
    more = {"execution.checkpointing.mode": mode, "execution.checkpointing.data-inline-threshold": inline}
    trouble.begin(f"fail_every={every}&on=write", **more)
    trouble.wait(lambda: trouble.summary().failed >= 2)
    trouble.fail()
    trouble.finish()
    written = trouble.written()
    if mode == "EXACTLY_ONCE":
        assert written == EXPECTED
    else:
        # A record that counted twice makes a number greater: each is there, by whatever count.
        counts = Counter(line.split()[1] for line in written.elements() if line.startswith("count"))
        assert all(counts[str(key)] >= RECORDS // KEYS for key in range(KEYS)), counts
        assert set(EXPECTED) <= set(written)
    summary = trouble.summary()
    assert summary.failed >= 2
    assert "A checkpoint file cannot be written." in summary.last_failure
    assert f"fails at each call number {every}" in summary.last_failure
    trouble.wait_deleted()


def test_a_failure_that_is_not_tolerated_fails_the_job_with_its_cause(trouble: Trouble) -> None:
    """Each write fails; the sentence has the checkpoint, the file and the reason."""
    more = {"execution.checkpointing.tolerable-failed-checkpoints": "0", "restart-strategy.type": "none"}
    job = trouble.begin("fail_every=1&on=write", **more)
    with pytest.raises(JobFailedError) as failed:
        job.get_job_execution_result()
    said = str(failed.value)
    assert "Checkpoint 1 failed:" in said, said
    assert "A checkpoint file cannot be written." in said and str(trouble.checkpoints) in said, said
    assert "tolerable-failed-checkpoints" in said, said


def test_a_storage_that_hangs_holds_up_nothing(trouble: Trouble, tmp_path: Path) -> None:
    """Checkpoints time out; when the storage goes on the job's last one is complete, and it ends."""
    lock = tmp_path / "lock"
    more = {"execution.checkpointing.timeout": "300 ms", "execution.checkpointing.interval": "200 ms"}
    with hold(lock):
        trouble.begin(f"hold={lock}&on=write", **more)
        trouble.wait_failure("was not complete after 0.3 s: it waited for")
        trouble.wait(lambda: bool(waiting_calls(lock)))
        trouble.wait_failure("snapshots of this task are still being written")
        trouble.hurry()
    trouble.finish()
    assert trouble.written() == EXPECTED
    trouble.wait_deleted()


def test_a_job_whose_storage_hangs_can_be_cancelled(trouble: Trouble, tmp_path: Path) -> None:
    """While it is restored, too, which its tasks wait for."""
    lock = tmp_path / "lock"
    job = trouble.begin(f"hold={lock}&on=read")
    trouble.wait_completed(1)
    with hold(lock):
        (tmp_path / "fail").touch()
        trouble.wait(lambda: bool(waiting_calls(lock)))
        job.cancel()
        with pytest.raises(JobCanceledError):
            job.get_job_execution_result()


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def truncated(data: bytes) -> bytes:
    return data[:-1]


@pytest.mark.parametrize("damage", [flipped, truncated, None])
def test_a_damaged_or_missing_checkpoint_gives_way_to_the_one_before_it(
    trouble: Trouble, tmp_path: Path, damage: Callable[[bytes], bytes] | None
) -> None:
    """What was committed after that comes again, as the warning says; no line is wrong or missing."""
    lock = tmp_path / "lock"
    trouble.begin(f"hold={lock}&on=write", **{"execution.checkpointing.num-retained": "2"})
    trouble.wait_completed(2)
    with hold(lock):
        # A call that waits now belongs to a checkpoint that is not complete, and the one before it is over.
        before = len(waiting_calls(lock))
        trouble.wait(lambda: len(waiting_calls(lock)) > before)
        newest = trouble.summary().last_id
        (directory,) = trouble.checkpoints.glob(f"*/chk-{newest}")
        for path in directory.glob("*.state"):
            if damage is None:
                path.unlink()
            else:
                path.write_bytes(damage(path.read_bytes()))
        (tmp_path / "fail").touch()
        trouble.wait(lambda: 0 < trouble.summary().restored_id < newest)
    trouble.finish()
    assert set(trouble.written()) == set(EXPECTED)


@pytest.mark.parametrize("fault", ["flip_every=1", "truncate_every=1"])
def test_files_that_were_damaged_unnoticed_are_never_read(trouble: Trouble, fault: str) -> None:
    """All of them are: the job fails with the file named, and does not begin anew or with less."""
    job = trouble.begin(f"{fault}&on=write", **{"execution.checkpointing.num-retained": "2"})
    trouble.wait_completed(2)
    (trouble.directory / "fail").touch()
    with pytest.raises(JobFailedError) as failed:
        job.get_job_execution_result()
    said = str(failed.value)
    assert "is damaged" in said and ".state" in said and str(trouble.checkpoints) in said, said
    assert "no older checkpoint is kept" in said, said


@pytest.mark.parametrize("damage", [flipped, truncated])
def test_a_snapshot_with_damaged_metadata_is_named(
    trouble: Trouble, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    """Nothing of the job that is to begin from it runs."""
    job = trouble.begin()
    trouble.wait_completed(1)
    path = Path(job.stop_with_savepoint(False, str(tmp_path / "savepoints"))) / "_metadata"
    job.close()
    path.write_bytes(damage(path.read_bytes()))
    again = trouble.begin(**{"execution.state-recovery.path": str(path.parent)})
    with pytest.raises(JobFailedError) as failed:
        again.get_job_execution_result()
    assert f"{path}" in str(failed.value) and "damaged" in str(failed.value)


@pytest.mark.parametrize(
    ("kind", "cause"),
    [("full", "No space left on device. Free space there."), ("read-only", "Read-only file system.")],
)
def test_a_disk_that_is_full_or_read_only_for_a_while(tmp_path: Path, kind: str, cause: str) -> None:
    """Checkpoints fail with that cause and the next ones do not; the job goes on from one and ends right."""
    namespace = ["unshare", "--mount", "--propagation", "private"]
    if shutil.which("unshare") is None or subprocess.run([*namespace, "true"], check=False).returncode != 0:
        pytest.skip("needs a mount namespace of its own")
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.integration.full_disk_job", tmp_path, kind],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert cause in done.stdout, done.stdout
