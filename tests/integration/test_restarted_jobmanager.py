"""A JobManager that is started again at the same port: a later term, and the same TaskManagers."""

import os
import queue
import socket
import threading
import time
from pathlib import Path

import pytest
import zmq

from zmflow.config import Settings
from zmflow.ha.standalone import next_epoch
from zmflow.ids import allocation_id
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.jobmanager import JobManagerServer
from zmflow.runtime.run_directory import RunDirectory, lasting_directory
from zmflow.runtime.taskmanager import TaskManagerServer

pytestmark = pytest.mark.integration

DEADLINE_S = 30


def start_jobmanager(port, directory, context):
    """A JobManager that counts its terms in a directory, and the thread it serves in."""
    settings = Settings().with_values({"jobmanager.rpc.port": str(port)}, "test")
    if port:
        wait_until_free(port)
    server = JobManagerServer(settings, context, take_epoch=lambda _: next_epoch(directory))
    thread = threading.Thread(target=server.run)
    thread.start()
    return server, thread


def wait_until_free(port):
    """ZeroMQ gives a closed socket's port back in its own time; a process that ends gives it back at once."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return
            except OSError:
                assert time.monotonic() < deadline, f"port {port} is still taken"
                os.sched_yield()


def end(server, thread):
    """Stop a server and wait for its thread."""
    server.stop()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()


def test_taskmanagers_of_the_old_term_register_in_the_new_one(tmp_path):
    """After a restart the epoch is higher, allocation ids are new, and the TaskManager is there again."""
    context = zmq.Context()
    registered: queue.SimpleQueue[int] = queue.SimpleQueue()
    first, first_thread = start_jobmanager(0, tmp_path / "state", context)
    with RunDirectory(Settings()) as run:
        taskmanager = TaskManagerServer(
            Settings(),
            context,
            first.endpoint,
            run_directory=run,
            log_dir=tmp_path / "logs",
            slots=1,
            on_registered=lambda: registered.put(1),
        )
        serving = threading.Thread(target=taskmanager.run)
        serving.start()
        try:
            registered.get(timeout=DEADLINE_S)
            end(first, first_thread)
            first.close()
            second, second_thread = start_jobmanager(first.port, tmp_path / "state", context)
            try:
                registered.get(timeout=DEADLINE_S)
                assert (first.epoch, second.epoch) == (1, 2)
                assert allocation_id(first.epoch, 1) != allocation_id(second.epoch, 1)
                client = ClusterClient(Settings(), endpoint=second.endpoint, context=context)
                known = [each.taskmanager_id for each in client.cluster_status().taskmanagers]
                client.close()
                assert known == [taskmanager.taskmanager_id]
            finally:
                end(taskmanager, serving)
                end(second, second_thread)
                second.close()
        finally:
            end(taskmanager, serving)
            end(first, first_thread)
            context.destroy(linger=0)


def test_lasting_directory_is_the_named_one_or_the_users(tmp_path, monkeypatch):
    """What a daemon keeps is in env.run.dir; without it, in the user's state directory."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert lasting_directory(Settings()) == tmp_path / "state" / "zmflow"
    named = Settings().with_values({"env.run.dir": str(tmp_path)}, "test")
    assert lasting_directory(named) == Path(tmp_path).resolve()
