"""Scripts on the embedded cluster: output, several jobs in one process, Ctrl-C."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DEADLINE_S = 60

TWO_JOBS = """
import sys, zmflow
for parallelism in (1, 3):
    env = zmflow.StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(parallelism)
    env.from_collection([1, 2, 3]).map(lambda x: x * 10).print()
    env.execute(f"job {parallelism}")
rows = zmflow.StreamExecutionEnvironment.get_execution_environment().from_collection(["a", "b"])
with rows.execute_and_collect() as collected:
    print(sorted(collected))
"""

INTERRUPTED = """
import signal, time, zmflow
signal.signal(signal.SIGINT, signal.default_int_handler)  # also below a shell that ignores Ctrl-C
def slow(x):
    print("running", flush=True)
    time.sleep(0.01)
    return x
env = zmflow.StreamExecutionEnvironment.get_execution_environment()
env.set_parallelism(2)
env.from_sequence(1, 10**9).map(slow).filter(lambda x: False).print()
env.execute("long")
"""


def environment(tmp_path: Path) -> dict[str, str]:
    """Where the script keeps its files."""
    return {**os.environ, "ZMFLOW_ENV_RUN_DIR": str(tmp_path), "ZMFLOW_TASK_CANCELLATION_TIMEOUT": "1 s"}


def children(pid: int) -> list[int]:
    """The children of a process."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.fixture
def short_path():
    """A directory whose path leaves room for sockets."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="zt") as directory:
        yield Path(directory)


def test_jobs_of_one_process_share_a_cluster_that_grows(short_path):
    """Several jobs of one script run, the wider one too; print reaches the terminal; nothing is left."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_JOBS],
        capture_output=True,
        text=True,
        check=False,
        env=environment(short_path),
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [sum(line.endswith(str(n)) for line in lines) for n in (10, 20, 30)] == [2, 2, 2]
    assert lines[-1] == "['a', 'b']"
    assert done.stderr == ""
    assert list(short_path.iterdir()) == []


def test_interrupt_ends_job_workers_and_files(short_path):
    """Ctrl-C in a script ends it by that signal, and with it every process and file of its cluster."""
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(short_path),
    ) as script:
        assert script.stdout.readline() == b"running\n"
        servers = children(script.pid)
        workers = [worker for server in servers for worker in children(server)]
        assert len(workers) == 2
        script.send_signal(signal.SIGINT)
        _, errors = script.communicate(timeout=DEADLINE_S)
    assert b"KeyboardInterrupt" in errors
    assert script.returncode != 0
    for pid in servers + workers:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([descriptor], [], [], DEADLINE_S)[0], f"process {pid} lives"
        os.close(descriptor)
    assert list(short_path.iterdir()) == []
