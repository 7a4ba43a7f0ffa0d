"""Savepoints of jobs on real processes: who stops and goes on writes what he would have written."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.counted_lines import expected_lines, written_lines
from zmflow import (
    Configuration,
    KeyedProcessFunction,
    MapFunction,
    StreamExecutionEnvironment,
    Time,
    TumblingEventTimeWindows,
    Types,
    ValueStateDescriptor,
    WatermarkStrategy,
)
from zmflow.api.execution import JobClient
from zmflow.connectors import Encoder, FileSink, RollingPolicy
from zmflow.errors import JobFailedError
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.state.reader import SnapshotWriter

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180), pytest.mark.xdist_group("savepoints")]

RECORDS = 3_000
KEYS = 7
WINDOW_MS = 100
DEADLINE_S = 40


class Paced(MapFunction):
    """Slow enough that a job can be stopped on its way. Where it is told to, it damages the newest checkpoint
    that is complete, and fails."""

    def open(self, runtime_context: Any) -> None:
        self.damage = Path(runtime_context.get_job_parameter("damage", "/nothing"))

    def map(self, value: int) -> int:
        time.sleep(0.0008)
        if self.damage.exists():
            newest = max(
                (path.parent for path in self.damage.parent.glob("checkpoints/*/chk-*/_metadata")),
                key=lambda path: int(path.name.removeprefix("chk-")),
            )
            for file in newest.iterdir():
                if file.name != "_metadata":
                    file.write_bytes(b"")
            self.damage.unlink()
            raise ValueError("told to fail")
        return value


class CountAndRemind(KeyedProcessFunction):
    """Counts by key; a timer says the count when the event time is there."""

    def open(self, runtime_context: Any) -> None:
        self.count = runtime_context.get_state(ValueStateDescriptor("count", Types.INT()))

    def process_element(self, value: int, ctx: Any) -> Iterator[str]:
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        ctx.timer_service().register_event_time_timer(value + 500)
        yield f"count {value % KEYS} {count}"

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[str]:
        yield f"timer {ctx.get_current_key()} {timestamp}"


def begin(
    directory: Path, parallelism: int, path: str = "", records: int = RECORDS, **more: str
) -> JobClient:
    """Start the job, from a savepoint or anew."""
    settings = {
        "execution.checkpointing.interval": "150 ms",
        "execution.checkpointing.dir": str(directory / "checkpoints"),
        "execution.checkpointing.savepoint-dir": str(directory / "savepoints"),
        "execution.state-recovery.path": path,
        "restart-strategy.type": "none",
        **more,
    }
    env = StreamExecutionEnvironment.get_execution_environment(Configuration.from_dict(settings))
    env.set_parallelism(parallelism)
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(lambda n, _: n)
    numbers = env.from_sequence(1, records).set_parallelism(1).map(Paced()).set_parallelism(1)
    timed = numbers.assign_timestamps_and_watermarks(strategy).set_parallelism(1).key_by(lambda n: n % KEYS)
    counted = timed.process(CountAndRemind()).uid("counts")
    windows = (
        timed.window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW_MS)))
        .reduce(lambda a, b: a + b)
        .uid("windows")
        .map(lambda total: f"window {total}")
    )
    sink = (
        FileSink.for_row_format(str(directory / "out"), Encoder.simple_string_encoder())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .build()
    )
    counted.union(windows).sink_to(sink).uid("sink")
    return env.execute_async("rescaled")


def expected() -> Counter[str]:
    """What the job writes, each line once."""
    return expected_lines(RECORDS, KEYS, WINDOW_MS)


def written(directory: Path) -> Counter[str]:
    """The lines of the files that are complete."""
    return written_lines(directory / "out")


def await_lines(job: JobClient, directory: Path, count: int) -> None:
    """Wait until so many lines are complete."""
    deadline = time.monotonic() + DEADLINE_S
    while written(directory).total() < count:
        assert job.get_job_status() in ("CREATED", "RUNNING", "RESTARTING")
        assert time.monotonic() < deadline, written(directory).total()
        time.sleep(0.02)


def test_a_job_that_goes_on_at_other_parallelisms_writes_what_it_would_have(tmp_path: Path) -> None:
    """2, then 4, then 3 tasks: keyed state, timers and windows go where their keys go, every line once."""
    path = ""
    for parallelism, lines in ((2, 1_500), (4, 3_500)):
        job = begin(tmp_path, parallelism, path)
        await_lines(job, tmp_path, lines)
        path = job.stop_with_savepoint(False)
        assert job.get_job_status() == "FINISHED"
        job.close()
    moved = shutil.move(path, tmp_path / "moved")
    job = begin(tmp_path, 3, str(moved))
    job.get_job_execution_result()
    job.close()
    assert written(tmp_path) == expected()
    assert (moved / "_metadata").exists()


def test_a_drained_job_has_fired_all_its_windows_and_timers(tmp_path: Path) -> None:
    """And all of it is in files that are complete."""
    job = begin(tmp_path, 2)
    await_lines(job, tmp_path, 1_000)
    job.stop_with_savepoint(True)
    job.close()
    kinds = Counter(line.split()[0] for line in written(tmp_path).elements())
    assert kinds["count"] == kinds["timer"] < RECORDS
    whole = expected()
    assert kinds["window"] >= KEYS
    assert all(whole[line] == 1 for line in written(tmp_path) if not line.startswith("window"))


def test_a_damaged_savepoint_is_named_before_anything_runs(tmp_path: Path) -> None:
    """Missing metadata, a missing file and one that is too short; then state that is damaged inside."""
    job = begin(tmp_path, 1, records=10**6, **{"execution.checkpointing.data-inline-threshold": "0 b"})
    await_lines(job, tmp_path, 100)
    path = Path(job.stop_with_savepoint(False))
    job.close()
    victim = max((f for f in path.iterdir() if f.name != "_metadata"), key=lambda f: f.stat().st_size)
    whole = victim.read_bytes()

    def refused(where: Path) -> str:
        again = begin(tmp_path, 1, str(where))
        with pytest.raises(JobFailedError) as caught:
            again.get_job_execution_result()
        again.close()
        return str(caught.value)

    assert "There is no checkpoint or savepoint in" in refused(tmp_path / "nothing")
    victim.write_bytes(whole[:-1])
    assert f"{victim} is damaged" in refused(path)
    victim.write_bytes(whole[:20] + bytes([whole[20] ^ 1]) + whole[21:])
    said = refused(path)
    assert f"{victim} is damaged" in said and "no older checkpoint is kept" in said
    victim.unlink()
    assert str(victim) in refused(path)


def test_where_the_newest_checkpoint_is_damaged_the_one_before_it_is_taken(tmp_path: Path) -> None:
    """A job that is restored from it, automatically, writes each line once or more, and none is missing."""
    fails_once = tmp_path / "fail"
    settings = {
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "3",
        "restart-strategy.fixed-delay.delay": "1 ms",
        "execution.checkpointing.num-retained": "3",
        "execution.checkpointing.data-inline-threshold": "0 b",
        "pipeline.global-job-parameters": f"damage:{fails_once}",
    }
    job = begin(tmp_path, 2, **settings)
    await_lines(job, tmp_path, 500)
    fails_once.touch()
    job.get_job_execution_result()
    job.close()
    assert set(written(tmp_path)) == set(expected())
    assert not fails_once.exists(), "it has failed"


def test_a_running_job_is_rescaled_and_writes_what_it_would_have(tmp_path: Path) -> None:
    """From 3 to 2 tasks and back, without anybody starting anything; not even a restart is counted."""
    job = begin(tmp_path, 3)
    assert isinstance(job, RemoteJobClient)
    for parallelism, lines in ((2, 1_000), (3, 2_500)):
        await_lines(job, tmp_path, lines)
        with contextlib.closing(job._dial()) as client:
            client.rescale(job.get_job_id(), parallelism)
        status = job.status()
        assert {vertex.parallelism for vertex in status.vertices} == {1, parallelism}
        assert status.summary.restarts == 0
    job.get_job_execution_result()
    job.close()
    assert written(tmp_path) == expected()


def test_a_job_begins_with_state_that_no_job_has_written(tmp_path: Path) -> None:
    """Counts go on from those of the savepoint that was made from pairs."""
    writer = SnapshotWriter()
    writer.keyed_state("counts", "count", dict.fromkeys(range(KEYS), 1_000).items())
    path = writer.write(str(tmp_path / "made"))
    job = begin(tmp_path, 2, path, records=50)
    job.get_job_execution_result()
    job.close()
    counts = {line for line in written(tmp_path) if line.startswith("count")}
    assert counts == {f"count {key} {1_000 + n}" for key in range(1, KEYS) for n in range(1, 8)} | {
        f"count 0 {1_000 + n}" for n in range(1, 8)
    } | {"count 1 1008"}


def test_the_tour_of_the_readme(tmp_path: Path) -> None:
    """Every command does what the README says, on real daemons."""
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    (tour,) = re.findall(r"^```sh\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)
    environment = {name: text for name, text in os.environ.items() if not name.startswith("ZMFLOW_")}
    environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    tour = tour.replace("zmflow cluster start", "zmflow cluster start -D jobmanager.rpc.port=0")
    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", tour],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    finally:
        subprocess.run(["zmflow", "cluster", "stop"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^Sum +counts .* reduce +reduce +3 ", done.stdout, flags=re.MULTILINE), done.stdout
    assert re.search(r"^Sum +counts +restored +2 +", done.stdout, flags=re.MULTILINE), done.stdout
    assert "runs at parallelism 4." in done.stdout
    assert len(list((tmp_path / "savepoints").iterdir())) == 2
