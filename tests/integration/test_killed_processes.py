"""kill -9 of a worker or a TaskManager while a job runs on daemons."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

ENDLESS = """
import time
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
env.from_sequence(1, 10**12).rebalance().map(lambda n: time.sleep(0.001)).add_sink(lambda n: None)
env.execute("endless")
"""
SHORT = """
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
env.from_sequence(1, 10).print()
env.execute("short")
"""


def zmflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "zmflow.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def taskmanagers() -> list[dict[str, Any]]:
    """The TaskManagers the JobManager knows of."""
    done = zmflow("cluster", "status", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["taskmanagers"]
    return found


def alive(pid: int) -> bool:
    """Whether a process is there and not just the remains of one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def workers(taskmanager: dict[str, Any]) -> list[int]:
    """The worker processes of its slots."""
    return [slot["worker_pid"] for slot in taskmanager["slots"] if slot["worker_pid"]]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two TaskManagers of two slots; gives the directory that holds the files of running processes."""
    for name in [name for name in os.environ if name.startswith("ZMFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "short.py").write_text(SHORT)
    with tempfile.TemporaryDirectory(prefix="zt") as run_directory:  # paths of sockets must be short
        monkeypatch.setenv("ZMFLOW_ENV_RUN_DIR", run_directory)
        done = zmflow(
            "cluster", "start", "--taskmanagers", "2", "--slots", "2", "-D", "jobmanager.rpc.port=0"
        )
        assert done.returncode == 0, done.stderr
        yield Path(run_directory)
        zmflow("cluster", "stop")


@pytest.mark.parametrize("victim", ["worker", "taskmanager"])
def test_a_killed_process_fails_the_job_in_time(cluster: Path, victim: str) -> None:
    """The job fails within 6 s naming who was lost, the next one runs, and stop leaves nothing behind."""
    command = [sys.executable, "-m", "zmflow.cli.main", "run", "-p", "4", "endless.py"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        said = ""
        while said.count("is RUNNING") < 3 and (line := running.stderr.readline()):  # the job, two vertices
            said += line
        before = taskmanagers()
        lost = before[0]
        os.kill(workers(lost)[0] if victim == "worker" else lost["pid"], signal.SIGKILL)
        killed = time.monotonic()
        assert running.wait(timeout=30) == 1, said
        assert time.monotonic() - killed < 6
        said += running.stderr.read()
    assert lost["taskmanager_id"] in said and lost["host"] in said

    left = [taskmanager["taskmanager_id"] for taskmanager in taskmanagers()]
    assert (lost["taskmanager_id"] in left) == (victim == "worker")
    done = zmflow("run", "-p", "4" if victim == "worker" else "2", "short.py")  # all slots there are
    assert done.returncode == 0, done.stderr

    pids = [
        pid for taskmanager in before + taskmanagers() for pid in [taskmanager["pid"], *workers(taskmanager)]
    ]
    assert zmflow("cluster", "stop").returncode == 0
    deadline = time.monotonic() + 10
    while [pid for pid in pids if alive(pid)] and time.monotonic() < deadline:
        pass
    assert [pid for pid in pids if alive(pid)] == []
    started = zmflow("cluster", "start", "--slots", "1", "-D", "jobmanager.rpc.port=0")
    assert started.returncode == 0, started.stderr
    assert zmflow("cluster", "stop").returncode == 0
    assert list(cluster.iterdir()) == []
