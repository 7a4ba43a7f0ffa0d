"""Local clusters of real daemons: started, found, stopped, killed, and what they leave behind."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.chaos.processes import wait_until
from zmflow.config import Settings
from zmflow.errors import AddressInUseError, ClusterError, ConfigurationError
from zmflow.runtime import local_cluster
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.run_directory import RunDirectory, remove_abandoned, worker_directory

pytestmark = pytest.mark.integration

DEADLINE_S = 30


def children(pid: int) -> list[int]:
    """The children of a process."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def wait_gone(pid: int) -> None:
    """Wait until a process has gone; fails after DEADLINE_S."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], DEADLINE_S)[0], f"process {pid} lives"
    finally:
        os.close(descriptor)


@pytest.fixture
def settings():
    """Settings of a cluster whose sockets are in a directory of their own, on any free port."""
    with tempfile.TemporaryDirectory(prefix="zt") as directory:
        yield Settings().with_values({"env.run.dir": directory, "jobmanager.rpc.port": "0"}, "test")


def connect(cluster: local_cluster.LocalCluster) -> ClusterClient:
    """A client of a local cluster."""
    address = {"jobmanager.rpc.address": cluster.host, "jobmanager.rpc.port": str(cluster.port)}
    return ClusterClient(Settings().with_values(address, "test"))


def test_start_registers_all_and_stop_leaves_only_logs_and_epoch(settings, tmp_path):
    """After start every TaskManager offers its slots; after stop neither processes nor files are left."""
    settings = settings.with_values({"taskmanager.numberOfTaskSlots": "3"}, "test")
    cluster = local_cluster.start(settings, 2, tmp_path)
    try:
        assert local_cluster.running_address(Settings(), tmp_path) == (cluster.host, cluster.port)
        with contextlib.closing(connect(cluster)) as client:
            found = client.cluster_status()
        assert [len(taskmanager.slots) for taskmanager in found.taskmanagers] == [3, 3]
        pids = [daemon.pid for daemon in cluster.daemons]
        pids += [child for pid in pids for child in children(pid)]
        assert len(pids) == 5
    finally:
        local_cluster.stop(tmp_path, settings)
    for pid in pids:
        wait_gone(pid)
    assert {path.name for path in tmp_path.iterdir()} == {"logs", "epoch"}
    assert list(Path(settings.texts()["env.run.dir"]).iterdir()) == []
    assert local_cluster.status(tmp_path) is None
    assert local_cluster.stop(tmp_path) is None


def test_second_start_in_the_same_directory_is_refused(settings, tmp_path):
    """A running cluster is not replaced by accident; the error names its address."""
    cluster = local_cluster.start(settings, 1, tmp_path)
    try:
        with pytest.raises(ClusterError, match=str(cluster.port)):
            local_cluster.start(settings, 1, tmp_path)
    finally:
        local_cluster.stop(tmp_path, settings)


def test_killed_daemons_leave_no_orphans_and_the_next_start_clears_up(settings, tmp_path):
    """kill -9 of every daemon ends their fork servers too; the next start removes their socket files."""
    cluster = local_cluster.start(settings, 1, tmp_path)
    run_base = Path(settings.texts()["env.run.dir"])
    try:
        pids = [daemon.pid for daemon in cluster.daemons]
        below = [child for pid in pids for child in children(pid)]
        left = sorted(run_base.iterdir())
        assert left
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids + below:
            wait_gone(pid)
        assert local_cluster.status(tmp_path) is None
        local_cluster.start(settings, 1, tmp_path)
        assert not set(left) & set(run_base.iterdir())
    finally:
        local_cluster.stop(tmp_path, settings)
    assert list(run_base.iterdir()) == []


def test_killed_taskmanager_is_noticed(settings, tmp_path):
    """The JobManager drops a TaskManager that was killed as soon as its connection closes."""
    cluster = local_cluster.start(settings, 1, tmp_path)
    try:
        with contextlib.closing(connect(cluster)) as client:
            assert len(client.cluster_status().taskmanagers) == 1
            os.kill(cluster.daemons[1].pid, signal.SIGKILL)
            wait_gone(cluster.daemons[1].pid)
            deadline = time.monotonic() + 4
            while client.cluster_status().taskmanagers and time.monotonic() < deadline:
                pass
            assert client.cluster_status().taskmanagers == []
    finally:
        local_cluster.stop(tmp_path, settings)


def test_port_in_use(settings, tmp_path):
    """A taken port that was asked for is one error, which names port and setting; nothing stays behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings = settings.with_values({"jobmanager.rpc.port": str(port)}, "test")
        with pytest.raises(AddressInUseError, match=rf"{port}[\s\S]*jobmanager.rpc.port"):
            local_cluster.start(settings, 1, tmp_path)
    assert not (tmp_path / "cluster.json").exists()


def test_other_addresses_need_keys(settings, tmp_path):
    """Binding what others can reach is refused without keys, with the command that makes them."""
    settings = settings.with_values({"jobmanager.bind-host": "192.0.2.1"}, "test")
    with pytest.raises(ConfigurationError, match="zmflow keygen FILE"):
        local_cluster.start(settings, 1, tmp_path)


def test_recycled_pid_is_not_killed(tmp_path):
    """A recorded pid that now belongs to another process is left alone."""
    record = local_cluster.LocalCluster(
        str(tmp_path), "127.0.0.1", 1, [local_cluster.Daemon("jobmanager", os.getpid(), 1)]
    )
    local_cluster._write(record)
    assert local_cluster.status(tmp_path) is None
    local_cluster.stop(tmp_path)
    assert not (tmp_path / "cluster.json").exists()


def test_run_directory_of_a_living_process_is_kept(settings):
    """Clearing up removes the directory of a process that died, and no other."""
    with RunDirectory(settings) as living:
        program = (
            "import os\n"
            "from zmflow.config import Settings\n"
            "from zmflow.runtime.run_directory import RunDirectory\n"
            f"directory = RunDirectory(Settings().with_values({settings.texts()!r}, 'test'))\n"
            "os.kill(os.getpid(), 9)\n"
        )
        assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
        assert len(remove_abandoned(settings)) == 1
        assert living.path.exists()
    assert not living.path.exists()


def test_what_a_worker_left_is_removed_and_nothing_else(settings):
    """Its TaskManager does that when it has ended: state on disk may be much."""
    with RunDirectory(settings) as run:
        of_one, of_other = (worker_directory(str(run.path), name) for name in ("a1", "a2"))
        for directory in (of_one, of_other):
            (directory / "rocksdb-x").mkdir(parents=True)
            (directory / "rocksdb-x" / "000001.sst").write_bytes(bytes(1000))
        run.worker_ended("a1")
        run.worker_ended("never had any")
        assert wait_until(lambda: not of_one.exists(), 30)
        assert (of_other / "rocksdb-x" / "000001.sst").exists()
