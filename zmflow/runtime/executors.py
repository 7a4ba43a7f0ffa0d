"""Where jobs run: on an embedded cluster in this process, or on the one the settings name."""

from __future__ import annotations

import atexit
import os
import secrets
import threading

from zmflow.config import Settings
from zmflow.config.options import TASK_SLOTS
from zmflow.graph.job_graph import JobGraph
from zmflow.graph.sharing import slots_required
from zmflow.runtime.client import ENDED_STATES, ClusterClient
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.runtime.mini_cluster import MiniCluster

__all__ = ["EmbeddedExecutor", "RemoteExecutor", "new_job_id"]


def new_job_id() -> str:
    """32 random hexadecimal digits."""
    return secrets.token_hex(16)


class RemoteExecutor:
    """Submits to the JobManager at ``jobmanager.rpc.address``."""

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> RemoteJobClient:
        """Submit and return at once.

        Raises:
            ClusterError: the JobManager cannot be reached, or refuses the job.
        """
        client = ClusterClient(settings)
        job_id = new_job_id()
        try:
            client.submit(graph, job_id)
        except BaseException:
            client.close()
            raise
        return RemoteJobClient(client, job_id, lambda: ClusterClient(settings), collect=collect)


class _EmbeddedCluster:
    """The one embedded cluster of this process: made for its first job, ended with the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cluster: MiniCluster | None = None
        self._required: dict[str, int] = {}
        self._pid = 0

    def for_job(self, graph: JobGraph, settings: Settings, job_id: str) -> MiniCluster:
        """A cluster with room for this job beside those that still run."""
        with self._lock:
            required = slots_required(graph.vertices)
            if self._cluster is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._required.clear()
                self._cluster = MiniCluster(
                    1, max(required, settings[TASK_SLOTS]), settings, echo_output=True
                )
                atexit.register(self.close)
            elif self._required:
                client = self._cluster.client()
                try:
                    ended = {job.job_id for job in client.list_jobs() if job.state in ENDED_STATES}
                finally:
                    client.close()
                self._required = {job: n for job, n in self._required.items() if job not in ended}
            missing = sum(self._required.values()) + required - self._cluster.slots
            if missing > 0:
                self._cluster.add_taskmanager(missing)
            self._required[job_id] = required
            return self._cluster

    def close(self) -> None:
        """End it, with whatever still runs."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
            if cluster is not None and self._pid == os.getpid():
                cluster.close()


_embedded = _EmbeddedCluster()


class EmbeddedExecutor:
    """Runs jobs on a cluster inside this process, with real worker processes.

    The cluster offers at least the slots a job needs. It serves all jobs of the process and ends with
    it; the settings of the first job are the cluster's.
    """

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> RemoteJobClient:
        """Submit and return at once.

        Raises:
            ClusterError: the job is refused.
        """
        job_id = new_job_id()
        cluster = _embedded.for_job(graph, settings, job_id)
        client = cluster.client()
        try:
            client.submit(graph, job_id)
        except BaseException:
            client.close()
            raise
        return RemoteJobClient(client, job_id, cluster.client, collect=collect, cancel_on_interrupt=True)
