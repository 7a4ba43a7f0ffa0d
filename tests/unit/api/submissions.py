"""An executor that keeps what is submitted, for tests of what programs describe."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from zmflow.api.environment import StreamExecutionEnvironment, environment_context
from zmflow.api.execution import JobClient, JobExecutionResult
from zmflow.config import Settings
from zmflow.graph.job_graph import ChainSpec, JobGraph
from zmflow.protocol.messages import JobState

__all__ = ["KeepingExecutor", "new_environment", "operators_of"]


@dataclass
class FinishedJob:
    """The handle of a job that ended at once with these rows."""

    rows: list[Any]
    calls: list[str] = field(default_factory=list)

    def get_job_id(self) -> str:
        return "j"

    def get_job_status(self) -> JobState:
        self.calls.append("status")
        return "RUNNING" if self.rows else "FINISHED"

    def get_accumulators(self) -> dict[str, Any]:
        return {}

    def cancel(self) -> None:
        self.calls.append("cancel")

    def get_job_execution_result(self) -> JobExecutionResult:
        return JobExecutionResult("j", 5)

    def collected(self) -> Iterator[Any]:
        while self.rows:
            yield self.rows.pop(0)

    def close(self) -> None:
        self.calls.append("close")


@dataclass
class KeepingExecutor:
    """Takes every job, runs none."""

    rows: list[Any] = field(default_factory=list)
    graphs: list[JobGraph] = field(default_factory=list)
    jobs: list[FinishedJob] = field(default_factory=list)

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:
        """Keep the graph."""
        self.graphs.append(graph)
        self.jobs.append(FinishedJob(list(self.rows) if collect else []))
        return self.jobs[-1]


def new_environment(
    executor: KeepingExecutor | None = None, **settings: str
) -> tuple[StreamExecutionEnvironment, KeepingExecutor]:
    """An environment of parallelism 2 that submits to the executor returned."""
    executor = executor or KeepingExecutor()
    texts = {"parallelism.default": "2", **{key.replace("__", "."): text for key, text in settings.items()}}
    with environment_context(Settings().with_values(texts, "test"), executor):
        return StreamExecutionEnvironment.get_execution_environment(), executor


def operators_of(graph: JobGraph) -> list[Any]:
    """The specifications of all operators, chain by chain."""
    chains: list[ChainSpec] = [pickle.loads(vertex.operators) for vertex in graph.vertices]
    return [node.operator for chain in chains for node in chain.nodes]
