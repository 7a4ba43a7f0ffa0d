"""Cancelling a job on daemons, whatever it is doing."""

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

BEGIN = """
import time
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
def spin(n):
    while True:
        pass
def stubborn(n):
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
class Slow:
    def __reduce__(self):
        return (time.sleep, (3600,))
"""
WAITING = 'env.set_parallelism(9)\nenv.from_sequence(1, 9).add_sink(lambda n: None)\nenv.execute("job")\n'
SCRIPT = 'env.from_sequence(1, 9).map({function}).add_sink(lambda n: None)\nenv.execute("job")\n'
SCRIPTS = {
    "running": SCRIPT.format(function="lambda n: time.sleep(0.01)").replace("(1, 9)", "(1, 10**12)"),
    "spinning": SCRIPT.format(function="spin"),
    "sleeping": SCRIPT.format(function="lambda n: time.sleep(3600)"),
    "stubborn": SCRIPT.format(function="stubborn"),
    "starting": SCRIPT.format(function="lambda n, slow=Slow(): n"),  # its function never arrives
    "waiting for slots": WAITING,
}


def zmflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "zmflow.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def job_state(name: str) -> str:
    """The state of a job."""
    done = zmflow("info", name, "--json")
    assert done.returncode == 0, done.stderr
    info: dict[str, Any] = json.loads(done.stdout)
    return str(info["summary"]["state"])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One TaskManager of two slots with a short grace period; gives the directory to work in."""
    directory = tmp_path_factory.mktemp("cancel")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("ZMFLOW_")]:
            patch.delenv(name)
        patch.setenv("XDG_STATE_HOME", str(directory / "state"))
        patch.setenv("ZMFLOW_TASK_CANCELLATION_TIMEOUT", "1 s")
        patch.chdir(directory)
        done = zmflow("cluster", "start", "--slots", "2", "-D", "jobmanager.rpc.port=0")
        assert done.returncode == 0, done.stderr
        yield directory
        zmflow("cluster", "stop")


@pytest.mark.xdist_group("cancel")
@pytest.mark.parametrize("doing", SCRIPTS)
def test_cancel_ends_a_job_whatever_it_does(cluster: Path, doing: str) -> None:
    """CANCELED within seconds, and all slots are free for the next job."""
    name = doing.replace(" ", "-")
    (cluster / "job.py").write_text(BEGIN + SCRIPTS[doing].replace('"job"', f'"{name}"'))
    done = zmflow("run", "-d", "-p", "2", "job.py")
    assert done.returncode == 0, done.stderr
    deadline = time.monotonic() + 20
    running = doing not in ("starting", "waiting for slots")
    while running and job_state(name) != "RUNNING" and time.monotonic() < deadline:
        pass
    began = time.monotonic()
    cancelled = zmflow("cancel", name)
    assert (cancelled.returncode, "CANCELED" in cancelled.stdout) == (0, True), cancelled.stderr
    assert time.monotonic() - began < 10
    assert job_state(name) == "CANCELED"
    (cluster / "next.py").write_text(BEGIN + "env.from_sequence(1, 9).print()\nenv.execute('next')\n")
    done = zmflow("run", "-p", "2", "next.py")
    assert done.returncode == 0, done.stderr
