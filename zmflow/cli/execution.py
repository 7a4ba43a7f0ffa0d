"""Between a script and the executor of its job: names the target, shows progress, lets go when detached."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn, cast

from zmflow.api.execution import Executor, JobClient, JobExecutionResult
from zmflow.cli.output import print_json, print_lines
from zmflow.cli.targets import target_of
from zmflow.errors import ConfigurationError
from zmflow.plugins import load_plugin

if TYPE_CHECKING:
    from zmflow.cli.progress import Progress
    from zmflow.config import Settings
    from zmflow.graph.job_graph import JobGraph
    from zmflow.protocol.messages import JobState

__all__ = ["DetachedClient", "ReportingExecutor"]


class ReportingExecutor:
    """Submits to the executor the settings name, and remembers the jobs for the report at the end.

    Args:
        settings: those of the command line; they name the target.
        progress: told every status of every job; None for silence.
        detached: hand out clients that do not wait.
    """

    def __init__(self, settings: Settings, progress: Progress | None, *, detached: bool) -> None:
        self._target = target_of(settings)
        self._progress = progress
        self._detached = detached
        self._jobs: list[tuple[str, JobClient]] = []
        if detached and self._target == "embedded":
            raise ConfigurationError(
                "A job on an embedded cluster cannot be detached: the cluster ends with this process.",
                hint="Start a cluster with 'zmflow cluster start', or name one with --jobmanager HOST:PORT.",
            )

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:
        """Submit, and return at once."""
        if self._detached and collect:
            raise ConfigurationError(
                "A detached job cannot send its rows back.",
                detail=f"The job {graph.name!r} calls execute_and_collect().",
                hint="Write to a sink, or run it without --detached.",
            )
        make_executor = cast("type[Executor]", load_plugin("zmflow.executors", self._target))
        client = make_executor().submit(graph, settings, collect=collect)
        self._jobs.append((graph.name, client))
        if self._detached:
            return DetachedClient(client)
        return client

    def report(self, *, as_json: bool) -> None:
        """Say at the end what was submitted: always as JSON, as text only when detached."""
        sys.stdout.flush()
        if as_json:
            print_json([{"job_id": client.get_job_id(), "name": name} for name, client in self._jobs])
        elif self._detached:
            print_lines(f"Submitted job {name} ({client.get_job_id()})." for name, client in self._jobs)


class DetachedClient:
    """A job nobody waits for: its result is there at once, without a runtime."""

    def __init__(self, client: JobClient) -> None:
        self._client = client

    def get_job_id(self) -> str:
        """The job's id."""
        return self._client.get_job_id()

    def get_job_status(self) -> JobState:
        """The job's state now."""
        return self._client.get_job_status()

    def cancel(self) -> None:
        """Ask for cancellation."""
        self._client.cancel()

    def get_job_execution_result(self) -> JobExecutionResult:
        """At once, with a runtime of 0: as Flink does for detached jobs."""
        return JobExecutionResult(self._client.get_job_id(), 0)

    def collected(self) -> Iterator[Any]:
        """Not for detached jobs; ``submit`` refuses them before this could be called."""
        return self._refuse()

    def _refuse(self) -> NoReturn:
        raise ConfigurationError("A detached job cannot send its rows back.")

    def close(self) -> None:
        """Let go of the connection; the job goes on."""
        self._client.close()
