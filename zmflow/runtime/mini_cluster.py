"""A whole cluster inside one process: JobManager and TaskManagers as threads, workers as processes.

This is what ``python job.py`` runs on, and what tests use where a real cluster is meant.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Self

import zmq

from zmflow.config import Settings
from zmflow.config.options import LOG_DIR, LOG_LEVEL
from zmflow.ids import TaskManagerId
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.fork_server import WORKER_ENTRY, ForkServer
from zmflow.runtime.jobmanager import JobManagerServer
from zmflow.runtime.run_directory import RunDirectory
from zmflow.runtime.security import end_authentication
from zmflow.runtime.taskmanager import TaskManagerServer, new_taskmanager_id
from zmflow.runtime.taskmanager_resources import machine_cores, machine_memory_bytes, taskmanager_resources
from zmflow.telemetry.logs import configure_logging

__all__ = ["MiniCluster"]

STOP_TIMEOUT_S = 10.0
"""Ending a TaskManager waits for its fork server, which is given 5 s."""

ENDPOINT = "inproc://jobmanager"


class MiniCluster:
    """A cluster in this process; a context manager.

    Args:
        taskmanagers: how many, each with its own fork server.
        slots: of each TaskManager.
        settings: of the cluster.
        echo_output: what user code prints also reaches this process's standard output.
        worker_entry: ``module:function`` that is a worker's life.

    Raises:
        ConfigurationError: the memory settings contradict each other; nothing is started.
    """

    def __init__(
        self,
        taskmanagers: int = 1,
        slots: int = 1,
        settings: Settings | None = None,
        *,
        echo_output: bool = False,
        worker_entry: str = WORKER_ENTRY,
    ) -> None:
        self.settings = settings or Settings()
        taskmanager_resources(self.settings, cores=machine_cores(), memory_bytes=machine_memory_bytes())
        self._worker_entry = worker_entry
        self._echo_output = echo_output
        self._taskmanagers: dict[TaskManagerServer, threading.Thread] = {}
        # Its imports take longest, so they begin first and go on beside everything else.
        fork_servers = [self._new_fork_server() for _ in range(taskmanagers)]
        self._run_directory = RunDirectory(self.settings)
        named = self.settings[LOG_DIR]
        self.log_dir = Path(named).expanduser() if named else self._run_directory.path / "logs"
        configure_logging("embedded", self.log_dir, self.settings[LOG_LEVEL])
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._jobmanager = JobManagerServer(self.settings, self.context, endpoint=ENDPOINT)
        self._jobmanager_thread = threading.Thread(
            target=self._jobmanager.run, name="jobmanager", daemon=True
        )
        self._jobmanager_thread.start()
        for fork_server in fork_servers:
            self.add_taskmanager(slots, fork_server=fork_server)

    def _new_fork_server(self) -> ForkServer:
        return ForkServer(sys_path=list(sys.path), entry=self._worker_entry)

    @property
    def slots(self) -> int:
        """Slots of all TaskManagers."""
        return sum(server.slots for server in self._taskmanagers)

    @property
    def taskmanagers(self) -> list[TaskManagerServer]:
        """The TaskManagers that run."""
        return list(self._taskmanagers)

    @property
    def run_directory(self) -> Path:
        """Where the sockets are."""
        return self._run_directory.path

    def add_taskmanager(self, slots: int, *, fork_server: ForkServer | None = None) -> TaskManagerId:
        """Start another TaskManager; it registers by itself."""
        first = [fork_server] if fork_server is not None else []
        server = TaskManagerServer(
            self.settings,
            self.context,
            ENDPOINT,
            run_directory=self._run_directory,
            log_dir=self.log_dir,
            taskmanager_id=new_taskmanager_id(),
            slots=slots,
            echo_output=self._echo_output,
            fork_server=lambda: first.pop() if first else self._new_fork_server(),
        )
        thread = threading.Thread(target=server.run, name=f"taskmanager-{server.taskmanager_id}", daemon=True)
        self._taskmanagers[server] = thread
        thread.start()
        return server.taskmanager_id

    def client(self) -> ClusterClient:
        """A new connection to the JobManager."""
        return ClusterClient(self.settings, endpoint=ENDPOINT, context=self.context)

    def close(self) -> None:
        """End everything: jobs, workers, threads, sockets, files."""
        for server in self._taskmanagers:
            server.stop()
        for thread in self._taskmanagers.values():
            thread.join(STOP_TIMEOUT_S)
        self._taskmanagers.clear()
        self._jobmanager.stop()
        self._jobmanager_thread.join(STOP_TIMEOUT_S)
        self._jobmanager.close()
        end_authentication(self.context)
        self.context.destroy(linger=0)
        configure_logging("", None)
        self._run_directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
