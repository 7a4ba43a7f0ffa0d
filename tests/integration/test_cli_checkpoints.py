"""Checkpoints on real daemons: what is on disk, what the command says, what a killed worker goes on from."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.processes import wait_until
from tests.integration.test_cli_cluster import answer, start, zmflow
from zmflow.protocol.checkpoint_metadata import decode_metadata

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

DEADLINE_S = 60

COUNTS = """
import time
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
def paced(n):
    time.sleep(0.0001)
    return n
counts = env.from_sequence(1, 10**9).map(paced).map(lambda n: (n % 3, 1)).key_by(lambda pair: pair[0]).sum(1)
counts.add_sink(lambda pair: None)
env.execute("counts")
"""


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose cluster is stopped after the test."""
    for name in [name for name in os.environ if name.startswith("ZMFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "counts.py").write_text(COUNTS)
    yield tmp_path
    zmflow("cluster", "stop")


def statistics_when(wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """What ``zmflow checkpoints`` says once its summary is as wanted."""
    last: dict[str, Any] = {}

    def look() -> bool:
        last.update(answer("checkpoints", "counts"))
        return wanted(last["summary"])

    assert wait_until(look, DEADLINE_S), last
    return last


def test_a_killed_worker_goes_on_from_the_newest_checkpoint(directory: Path) -> None:
    """Its tasks are restored, the next checkpoints follow, and a cancelled job leaves no files."""
    start(1, 2)
    checkpoints = directory / "checkpoints"
    settings = [
        "-D",
        "execution.checkpointing.interval=100 ms",
        "-D",
        f"execution.checkpointing.dir={checkpoints}",
    ]
    done = zmflow("run", "-d", "-p", "2", *settings, "counts.py")
    assert done.returncode == 0, done.stderr
    known = statistics_when(lambda summary: summary["completed"] >= 2)
    job_id = known["job_id"]
    newest = max(record["checkpoint_id"] for record in known["records"] if record["state"] == "COMPLETED")
    detail = answer("checkpoints", "counts", "--id", str(newest))
    assert len(detail["subtasks"]) == detail["tasks"] == 4
    assert Path(detail["location"]) == checkpoints / job_id / f"chk-{newest}"

    def readable() -> bool:
        # The newest one of this moment may be replaced before it is read.
        try:
            (metadata,) = (checkpoints / job_id).glob("*/_metadata")
            found = decode_metadata(metadata.read_bytes(), str(metadata))
        except (ValueError, FileNotFoundError):
            return False
        return found.job_id == job_id and all(any(vertex.subtasks) for vertex in found.vertices)

    assert wait_until(readable, DEADLINE_S)
    worker = answer("slots", "--job", "counts")[0]["worker_pid"]
    os.kill(worker, signal.SIGKILL)
    after = statistics_when(lambda summary: summary["restored_id"] > 0)["summary"]["last_id"]
    statistics_when(lambda summary: summary["last_id"] > after + 1)
    assert answer("info", "counts")["summary"]["restarts"] == 1
    assert "Checkpoints " in zmflow("info", "counts").stdout
    assert zmflow("cancel", "counts").returncode == 0
    assert wait_until(lambda: not (checkpoints / job_id).exists(), DEADLINE_S)
