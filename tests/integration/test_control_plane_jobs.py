"""Jobs on a whole control plane: real JobManager, TaskManagers, fork servers and worker processes."""

import contextlib
import os
import select
import signal
import socket
import threading
import time

import pytest
import zmq

from zmflow.config import Settings
from zmflow.errors import IncompatiblePeerError, JobCanceledError, JobFailedError, JobManagerUnreachableError
from zmflow.graph.job_graph import JobGraph, JobOperator, JobVertex
from zmflow.protocol.versions import Versions, local_versions
from zmflow.runtime.client import ENDED_STATES, ClusterClient
from zmflow.runtime.executors import new_job_id
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.runtime.jobmanager import JobManagerServer
from zmflow.runtime.mini_cluster import MiniCluster

pytestmark = pytest.mark.integration

WORKER = "control_plane_worker:run_worker"
DEADLINE_S = 30


def job(vertex: str, parallelism: int = 1) -> JobGraph:
    """A job of one vertex, whose name tells the test worker what to do."""
    chain = [JobOperator("o1", "", vertex, "source")]
    vertices = [JobVertex("v1", vertex, parallelism, 128, "default", chain, b"")]
    return JobGraph(f"job {vertex}", vertices, [], {}, [], "STREAMING")


def submit(cluster: MiniCluster, graph: JobGraph) -> RemoteJobClient:
    """Submit a job and give its handle."""
    client = cluster.client()
    job_id = new_job_id()
    client.submit(graph, job_id)
    return RemoteJobClient(client, job_id, cluster.client)


def wait_gone(pid: int) -> None:
    """Wait until a process that is not ours has gone; fails after DEADLINE_S."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], DEADLINE_S)[0], f"process {pid} lives"
    finally:
        os.close(descriptor)


def worker_pids(client: ClusterClient) -> list[int]:
    """The workers the JobManager knows of."""
    status = client.cluster_status()
    return [slot.worker_pid for tm in status.taskmanagers for slot in tm.slots if slot.worker_pid]


def wait_running(handle: RemoteJobClient, cluster: MiniCluster) -> list[int]:
    """Wait until all tasks of a job run; gives its workers' pids."""
    with contextlib.closing(cluster.client()) as client:
        for status in client.watch(handle.get_job_id()):
            assert status.summary.state not in ENDED_STATES, status
            if status.summary.tasks_running == status.summary.tasks_total:
                return worker_pids(client)
    raise AssertionError("the job never ran")


@pytest.fixture(scope="module")
def cluster():
    """Two TaskManagers with two slots each."""
    with MiniCluster(2, 2, worker_entry=WORKER) as mini:
        yield mini


def test_job_finishes(cluster):
    """A job runs on forked workers and reaches FINISHED, and its handle says so."""
    handle = submit(cluster, job("finish", 4))
    result = handle.get_job_execution_result()
    assert result.job_id == handle.get_job_id()
    assert handle.get_job_status() == "FINISHED"
    handle.close()


def test_failure_shows_user_traceback_first(cluster):
    """The error of a failed job begins with the user's own traceback and names operator, subtask and host."""
    handle = submit(cluster, job("fail"))
    with pytest.raises(JobFailedError) as caught:
        handle.get_job_execution_result()
    detail = caught.value.detail
    assert detail.startswith('File "job.py", line 3, in broken')
    assert "operator 'map'" in detail
    assert "subtask 1/1" in detail
    assert socket.gethostname() in detail
    handle.close()


def test_cancel_from_another_thread(cluster):
    """cancel() works while another thread waits for the result, which then says the job was cancelled."""
    handle = submit(cluster, job("wait", 2))
    outcome = []

    def wait():
        with pytest.raises(JobCanceledError):
            handle.get_job_execution_result()
        outcome.append("canceled")

    thread = threading.Thread(target=wait)
    thread.start()
    wait_running(handle, cluster)
    handle.cancel()
    thread.join(DEADLINE_S)
    assert outcome == ["canceled"]
    handle.close()


def test_killed_worker_fails_the_job_and_the_slot_returns(cluster):
    """kill -9 of a worker fails its job with a sentence about it; the next job runs on a fresh worker."""
    handle = submit(cluster, job("wait", 4))
    pids = wait_running(handle, cluster)
    os.kill(pids[0], signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(JobFailedError) as caught:
        handle.get_job_execution_result()
    assert time.monotonic() - began < 6
    assert "SIGKILL" in str(caught.value)
    handle.close()
    for pid in pids:
        wait_gone(pid)
    after = submit(cluster, job("finish", 4))
    after.get_job_execution_result()
    after.close()


def test_killed_fork_server_takes_its_workers_and_is_replaced(cluster):
    """kill -9 of a fork server leaves no worker behind, fails the job, and the next job finds a new one."""
    handle = submit(cluster, job("wait", 4))
    pids = wait_running(handle, cluster)
    os.kill(cluster.taskmanagers[0].fork_server_pid, signal.SIGKILL)
    with pytest.raises(JobFailedError):
        handle.get_job_execution_result()
    handle.close()
    for pid in pids:
        wait_gone(pid)
    after = submit(cluster, job("finish", 4))
    after.get_job_execution_result()
    after.close()


def test_logs_of_a_job(cluster):
    """What the tasks printed comes back as JSON lines that name their task."""
    handle = submit(cluster, job("finish", 2))
    handle.get_job_execution_result()
    with contextlib.closing(cluster.client()) as client:
        lines = client.logs(handle.get_job_id())
    assert len([line for line in lines if '"event":"hello from finish"' in line]) == 2
    assert all('"vertex":"finish"' in line for line in lines if "hello" in line)
    handle.close()


def test_close_leaves_nothing():
    """Closing the cluster ends its workers and removes its directory."""
    with MiniCluster(1, 1, worker_entry=WORKER) as mini:
        handle = submit(mini, job("wait"))
        pids = wait_running(handle, mini)
        servers = [taskmanager.fork_server_pid for taskmanager in mini.taskmanagers]
        directory = mini.run_directory
        handle.close()
    for pid in pids + servers:
        wait_gone(pid)
    assert not directory.exists()


def test_other_python_is_refused_with_both_versions():
    """A client of another Python minor version, and one of another protocol, is told both versions."""
    ours = local_versions()
    with MiniCluster(0, 0, worker_entry=WORKER) as mini:
        for theirs, words in (
            (Versions(ours.protocol, "2.7", ours.zmflow), ("2.7", ours.python)),
            (Versions(99, ours.python, "9.9"), ("version 99", f"version {ours.protocol}")),
        ):
            with pytest.raises(IncompatiblePeerError) as caught:
                ClusterClient(
                    mini.settings, endpoint="inproc://jobmanager", context=mini.context, versions=theirs
                )
            assert all(word in str(caught.value) for word in words)


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_unreachable_jobmanager_is_named():
    """A client whose JobManager is not there says which address it tried, within client.timeout."""
    port = free_port()
    settings = Settings().with_values(
        {"jobmanager.rpc.address": "127.0.0.1", "jobmanager.rpc.port": str(port), "client.timeout": "500 ms"},
        "test",
    )
    with pytest.raises(JobManagerUnreachableError, match=f"127.0.0.1:{port}"):
        ClusterClient(settings)


def test_waiting_client_notices_that_the_jobmanager_died():
    """A client that waits for a job gets an error, not silence, when the JobManager goes."""
    base = Settings().with_values({"jobmanager.rpc.port": "0", "client.timeout": "1 s"}, "test")
    context = zmq.Context()
    server = JobManagerServer(base, context)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    settings = base.with_values(
        {"jobmanager.rpc.address": "127.0.0.1", "jobmanager.rpc.port": str(server.port)}, "test"
    )
    with contextlib.closing(ClusterClient(settings)) as client:
        job_id = new_job_id()
        client.submit(job("finish"), job_id)
        updates = client.watch(job_id)
        assert next(updates).summary.state not in ENDED_STATES
        server.stop()
        thread.join(DEADLINE_S)
        with pytest.raises(JobManagerUnreachableError):
            for _ in updates:
                pass
    server.close()
    context.term()
