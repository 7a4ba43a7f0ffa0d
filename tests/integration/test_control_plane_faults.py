"""Faults between the parts: a JobManager that returns, keys that differ, clients that are killed."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import zmq

from zmflow.config import Settings
from zmflow.errors import ConfigurationError, IncompatiblePeerError, JobManagerUnreachableError
from zmflow.protocol.versions import Versions, local_versions
from zmflow.runtime import local_cluster
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.fork_server import Exited, Forked, ForkServer, exit_reason
from zmflow.runtime.jobmanager import JobManagerServer
from zmflow.runtime.run_directory import RunDirectory
from zmflow.runtime.security import create_key_file
from zmflow.runtime.taskmanager import TaskManagerServer
from zmflow.runtime.worker_boot import WorkerBoot

pytestmark = pytest.mark.integration

DEADLINE_S = 30


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


def replies(server: ForkServer, number: int) -> list[Forked | Exited]:
    """The next so many replies of a fork server."""
    found: list[Forked | Exited] = []
    while len(found) < number:
        assert select.select([server.fileno()], [], [], DEADLINE_S)[0], "the fork server is silent"
        more = server.receive()
        assert more is not None, "the fork server died"
        found += more
    return found


def boot(allocation_id: str) -> WorkerBoot:
    """Orders for a worker that only sleeps."""
    return WorkerBoot(allocation_id, 0, "j", "tm", "host", "id", "", "", "127.0.0.1", "", {}, "", False)


@pytest.fixture
def fork_server():
    """A fork server whose workers do what ``fork_server_entry`` says."""
    server = ForkServer(entry="control_plane_entries:run_worker")
    yield server
    server.close()


def test_workers_report_how_they_ended(fork_server):
    """Each end of a worker is told: by itself, with a status, by an exception, by a signal."""
    for name in ("return", "exit3", "raise", "sleep"):
        fork_server.fork(boot(name))
    forked = [reply for reply in replies(fork_server, 4 + 3) if isinstance(reply, Forked)]
    assert [reply.allocation_id for reply in forked] == ["return", "exit3", "raise", "sleep"]
    fork_server.kill("sleep")
    [last] = [reply for reply in replies(fork_server, 1) if isinstance(reply, Exited)]
    assert "SIGKILL" in exit_reason(last)
    assert last.pid == forked[3].pid


def test_exit_reasons_are_sentences(fork_server):
    """A status and a failed entry have different reasons."""
    reasons = {}
    for name in ("exit3", "raise"):
        fork_server.fork(boot(name))
        exited = next(reply for reply in replies(fork_server, 2) if isinstance(reply, Exited))
        reasons[name] = exit_reason(exited)
    assert reasons["exit3"].endswith("exited with status 3")
    assert reasons["raise"].endswith("exited with status 70")


def test_workers_die_with_a_killed_fork_server(fork_server):
    """kill -9 of the fork server takes its workers along, and its handle says that it died."""
    fork_server.fork(boot("sleep"))
    [forked] = replies(fork_server, 1)
    os.kill(fork_server.pid, signal.SIGKILL)
    wait_gone(forked.pid)
    assert select.select([fork_server.fileno()], [], [], DEADLINE_S)[0]
    assert fork_server.receive() is None
    assert not fork_server.fork(boot("sleep"))


def test_forking_takes_milliseconds(fork_server):
    """A loaded fork server starts a worker in well under the time a new interpreter needs."""
    fork_server.fork(boot("return"))
    replies(fork_server, 2)
    began = time.monotonic()
    for _ in range(10):
        fork_server.fork(boot("return"))
    replies(fork_server, 20)
    assert (time.monotonic() - began) / 10 < 0.1


KILLED_CLIENT = """
import sys, threading
from zmflow.runtime.mini_cluster import MiniCluster
from test_control_plane_jobs import job, submit, wait_running
cluster = MiniCluster(1, 1, worker_entry="control_plane_worker:run_worker")
pids = wait_running(submit(cluster, job("wait")), cluster)
print(*pids, cluster.taskmanagers[0].fork_server_pid, flush=True)
threading.Event().wait()
"""


def test_killed_client_leaves_no_processes():
    """kill -9 of a process with an embedded cluster ends its fork server and its workers."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with subprocess.Popen(
        [sys.executable, "-c", KILLED_CLIENT], stdout=subprocess.PIPE, env=environment
    ) as client:
        pids = [int(word) for word in client.stdout.readline().split()]
        assert len(pids) == 2
        client.kill()
    for pid in pids:
        wait_gone(pid)


class Daemons:
    """A TaskManager, and JobManagers that come and go on one port."""

    def __init__(self) -> None:
        self.context = zmq.Context()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.settings = Settings().with_values(
            {
                "jobmanager.rpc.port": str(self.port),
                "jobmanager.rpc.address": "127.0.0.1",
                "heartbeat.timeout": "2 s",
                "heartbeat.interval": "200 ms",
            },
            "test",
        )
        self.run = RunDirectory(self.settings)
        self.registered = threading.Semaphore(0)
        self.threads: dict[JobManagerServer, threading.Thread] = {}

    def jobmanager(self) -> JobManagerServer:
        server = JobManagerServer(self.settings, self.context)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        self.threads[server] = thread
        return server

    def taskmanager(self, versions: Versions | None = None) -> TaskManagerServer:
        return TaskManagerServer(
            self.settings,
            self.context,
            f"tcp://127.0.0.1:{self.port}",
            run_directory=self.run,
            log_dir=self.run.path,
            slots=1,
            fork_server=lambda: ForkServer(entry="control_plane_worker:run_worker"),
            versions=versions,
            on_registered=self.registered.release,
        )

    def stop(self, server: JobManagerServer) -> None:
        """End a JobManager and wait until its port is free."""
        server.stop()
        self.threads[server].join(DEADLINE_S)
        server.close()
        wait_port_free(self.port)

    def close(self) -> None:
        self.context.destroy(linger=0)
        self.run.close()


@pytest.fixture
def daemons():
    """A place for daemons as threads."""
    made = Daemons()
    yield made
    made.close()


def test_taskmanager_waits_for_its_jobmanager_and_finds_the_next_one(daemons):
    """A TaskManager may start first, and registers again with a JobManager that took the place of another."""
    taskmanager = daemons.taskmanager()
    thread = threading.Thread(target=taskmanager.run, daemon=True)
    thread.start()
    for _ in range(2):
        server = daemons.jobmanager()
        assert daemons.registered.acquire(timeout=DEADLINE_S)
        with contextlib.closing(ClusterClient(daemons.settings)) as client:
            assert [tm.taskmanager_id for tm in client.cluster_status().taskmanagers] == [
                taskmanager.taskmanager_id
            ]
        daemons.stop(server)
    taskmanager.stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def wait_port_free(port: int) -> None:
    """Wait until nothing listens on a port."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return
    raise AssertionError(f"port {port} is still taken")


def test_taskmanager_of_another_python_gives_up_with_both_versions(daemons):
    """A refused TaskManager ends with the error that names both versions."""
    ours = local_versions()
    server = daemons.jobmanager()
    taskmanager = daemons.taskmanager(Versions(ours.protocol, "2.7", ours.zmflow))
    with pytest.raises(IncompatiblePeerError) as caught:
        taskmanager.run()
    assert "2.7" in str(caught.value)
    assert ours.python in str(caught.value)
    daemons.stop(server)


def test_cluster_with_keys_serves_members_only(tmp_path):
    """With a key file, daemons and clients that have it work together; a client without it gets an error."""
    key_file = tmp_path / "cluster.key"
    create_key_file(key_file)
    plain = Settings().with_values({"jobmanager.rpc.port": "0", "client.timeout": "2 s"}, "test")
    keyed = plain.with_values({"security.curve.key-file": str(key_file)}, "test")
    cluster = local_cluster.start(keyed, 1, tmp_path / "cluster")
    try:
        address = {"jobmanager.rpc.address": cluster.host, "jobmanager.rpc.port": str(cluster.port)}
        with contextlib.closing(ClusterClient(keyed.with_values(address, "test"))) as client:
            assert len(client.cluster_status().taskmanagers) == 1
        with pytest.raises(JobManagerUnreachableError, match=r"security\.curve\.key-file"):
            ClusterClient(plain.with_values(address, "test"))
    finally:
        local_cluster.stop(tmp_path / "cluster", keyed)


@pytest.mark.parametrize("host", ["a b", "tcp://x"])
def test_addresses_that_are_none(host):
    """What cannot be an address is refused at once, naming the setting."""
    with pytest.raises(ConfigurationError, match=r"jobmanager\.rpc\.address"):
        ClusterClient(Settings().with_values({"jobmanager.rpc.address": host}, "test"))
