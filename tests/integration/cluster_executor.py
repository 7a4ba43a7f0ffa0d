"""An executor of one embedded cluster, which tests can look into."""

from __future__ import annotations

from pathlib import Path

from zmflow.config import Settings
from zmflow.graph.job_graph import JobGraph
from zmflow.runtime.executors import new_job_id
from zmflow.runtime.job_client import RemoteJobClient
from zmflow.runtime.mini_cluster import MiniCluster

__all__ = ["ClusterExecutor"]


class ClusterExecutor:
    """Submits to one cluster."""

    def __init__(self, cluster: MiniCluster) -> None:
        self.cluster = cluster
        self.jobs: list[RemoteJobClient] = []
        """What was submitted."""

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> RemoteJobClient:
        """Submit and return at once."""
        client, job_id = self.cluster.client(), new_job_id()
        client.submit(graph, job_id)
        job = RemoteJobClient(client, job_id, self.cluster.client, collect=collect)
        self.jobs.append(job)
        return job

    def files(self) -> list[Path]:
        """What its TaskManagers keep of jobs now."""
        return list(self.cluster.run_directory.glob("files-*/*/*/*"))
