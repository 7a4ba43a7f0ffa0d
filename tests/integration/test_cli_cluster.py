"""The zmflow command on daemons in the background: life of a cluster, and the commands about its jobs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

PIPELINE = """
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
numbers = env.from_sequence(1, 100).filter(lambda n: n % 2 == 0)
sums = numbers.map(lambda n: (n % 3, n)).key_by(lambda pair: pair[0]).sum(1)
sums.print()
env.execute("sums")
"""
ENDLESS = """
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
def endless(n):
    print("began", flush=True)
    while True:
        pass
env.from_sequence(1, 1).map(endless).print()
env.execute("endless")
"""
MEASURED = """
from pyflink.datastream import MapFunction, StreamExecutionEnvironment
class Measured(MapFunction):
    def open(self, runtime_context):
        group = runtime_context.get_metrics_group()
        self.counter = group.counter("my_counter")
        self.sizes = group.add_group("table", "users").distribution("my_sizes")
        group.gauge("my_gauge", lambda: "ready")
    def map(self, n):
        self.sizes.update(n)
        self.counter.inc()
        while n == 3:
            pass
        return n
env = StreamExecutionEnvironment.get_execution_environment()
env.from_collection([1, 2, 3]).map(Measured()).name("Measured").print()
env.execute("measured")
"""


def zmflow(*arguments: str | Path, timeout: int = 60) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "zmflow.cli.main", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)


def answer(*arguments: str) -> Any:
    """The JSON a command answers with."""
    done = zmflow(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose cluster, if a test starts one, is stopped after it."""
    for name in [name for name in os.environ if name.startswith("ZMFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sums.py").write_text(PIPELINE)
    (tmp_path / "endless.py").write_text(ENDLESS)
    yield tmp_path
    zmflow("cluster", "stop")


def runs(pid: int) -> bool:
    """Whether a process is there and not just the remains of one that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def start(taskmanagers: int, slots: int) -> None:
    """Start the cluster of this test, on a port of its own."""
    options = ["--taskmanagers", str(taskmanagers), "--slots", str(slots), "-D", "jobmanager.rpc.port=0"]
    done = zmflow("cluster", "start", *options)
    assert done.returncode == 0, done.stderr


def until(state: str, name: str) -> dict[str, Any]:
    """The job's info once it is in this state; fails after 20 s."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        info: dict[str, Any] = answer("info", name)
        if info["summary"]["state"] == state:
            return info
    raise AssertionError(f"{name} is not {state}: {info}")


def test_a_cluster_runs_jobs_and_is_gone_after_stop(directory: Path) -> None:
    """run finds the cluster by itself; its jobs are listed; after stop no daemon is left."""
    start(2, 2)
    status = answer("cluster", "status")
    assert [len(taskmanager["slots"]) for taskmanager in status["taskmanagers"]] == [2, 2]
    done = zmflow("run", "-p", "4", "sums.py")
    assert done.returncode == 0, done.stderr
    assert [(job["name"], job["state"]) for job in answer("list")] == [("sums", "FINISHED")]
    pids = [taskmanager["pid"] for taskmanager in status["taskmanagers"]]
    stopped = answer("cluster", "stop")
    pids += [daemon["pid"] for daemon in stopped["daemons"]]
    assert [pid for pid in pids if runs(pid)] == []
    assert zmflow("list").returncode == 2


def metric(info: dict[str, Any], name: str) -> dict[str, Any] | None:
    """What a job's info says of a metric; None while it says nothing."""
    found = [m for vertex in info["vertices"] for m in vertex["metrics"] if m["name"] == name]
    return found[0] if found else None


def test_info_shows_metrics_while_the_job_runs_and_when_it_has_ended(directory: Path) -> None:
    """Of a program of PyFlink: also what a function has counted that does not return."""
    start(1, 1)
    (directory / "measured.py").write_text(MEASURED)
    done = zmflow("run", "--pyflink", "--detached", "-p", "1", "measured.py")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 20
    counter: dict[str, Any] | None = None
    while counter is None or counter["count"] < 3:
        assert time.monotonic() < deadline, counter
        info = answer("info", "measured")
        counter = metric(info, "my_counter")
    assert (counter["operator"], counter["kind"], counter["count"]) == ("Measured", "counter", 3)
    assert info["summary"]["state"] == "RUNNING"
    assert zmflow("cancel", "measured").returncode == 0
    info = until("CANCELED", "measured")
    sizes = metric(info, "my_sizes")
    assert sizes is not None
    assert (sizes["groups"], sizes["count"], sizes["mean"]) == ([["table", "users"]], 3, 2.0)
    gauge = metric(info, "my_gauge")
    assert gauge is None or gauge["values"] == [[0, "ready"]]
    lines = zmflow("info", "measured").stdout.splitlines()
    assert any(line.split()[1:] == ["Measured", "my_counter", "counter", "3"] for line in lines), lines
    shown = next(line for line in lines if "table.users.my_sizes" in line)
    assert shown.endswith("distribution  3, 1 to 3, mean 2, sum 6")


@pytest.mark.parametrize(("taskmanagers", "slots"), [(2, 2), (5, 1)])
def test_info_shows_a_job_spread_over_taskmanagers(directory: Path, taskmanagers: int, slots: int) -> None:
    """Two slots on two TaskManagers: subtask i of every vertex in one of them."""
    start(taskmanagers, slots)
    assert zmflow("run", "-p", "2", "sums.py").returncode == 0
    info = answer("info", "sums")
    places = {
        (subtask["subtask_index"], subtask["taskmanager_id"], subtask["slot_index"])
        for vertex in info["vertices"]
        for subtask in vertex["subtasks"]
    }
    assert len(info["vertices"]) == 2
    assert len(places) == 2 and len({taskmanager for _, taskmanager, _ in places}) == 2
    shown = zmflow("info", "sums").stdout
    assert all(taskmanager in shown for _, taskmanager, _ in places)


def test_a_detached_job_that_never_returns_is_cancelled(directory: Path) -> None:
    """-d returns at once, logs show what was printed, cancel ends it, and its waiter exits with 4."""
    start(1, 1)
    done = zmflow("run", "-d", "-p", "1", "endless.py")
    assert (done.returncode, "Submitted job endless" in done.stdout) == (0, True), done.stderr
    until("RUNNING", "endless")
    deadline = time.monotonic() + 20
    while "began" not in (logs := zmflow("logs", "endless").stdout) and time.monotonic() < deadline:
        pass
    assert "began" in logs
    cancelled = zmflow("cancel", "endless", "-D", "client.timeout=30 s")
    assert (cancelled.returncode, "CANCELED" in cancelled.stdout) == (0, True), cancelled.stderr


def test_whoever_waits_for_a_cancelled_job_exits_with_4(directory: Path) -> None:
    """The exit code tells a cancellation from a failure."""
    start(1, 1)
    command = [sys.executable, "-m", "zmflow.cli.main", "run", "-p", "1", "endless.py"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stderr is not None
        for line in waiting.stderr:
            if "is RUNNING" in line:
                break
        assert zmflow("cancel", "endless").returncode == 0
        said = waiting.stderr.read()
        assert waiting.wait(timeout=30) == 4, said
    assert "cancelled" in said


def test_an_unknown_job_is_answered_with_where_to_look(directory: Path) -> None:
    """A wrong id is wrong usage."""
    start(1, 1)
    done = zmflow("info", "nosuchjob")
    assert (done.returncode, "zmflow list" in done.stderr) == (2, True)


def test_a_second_cluster_in_the_same_directory_is_refused(directory: Path) -> None:
    """One that runs is named; it goes on."""
    start(1, 1)
    assert zmflow("cluster", "start").returncode == 3
    assert answer("cluster", "status")["taskmanagers"]
