"""Between a script and the executor of its job: names the target, shows progress, lets go when detached."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from zmflow.api.execution import Executor, JobClient, JobExecutionResult, RowsKeeper
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
        settings: those of the command line; what the program itself sets wins over them.
        progress: told every status of every job; None for silence.
        detached: hand out clients that do not wait.

    Raises:
        ConfigurationError: detached, without a cluster that outlives this process.
    """

    def __init__(self, settings: Settings, progress: Progress | None, *, detached: bool) -> None:
        self._progress = progress
        self._detached = detached
        self._jobs: list[tuple[str, JobClient]] = []
        self._refuse_detached_embedded(settings)

    def _refuse_detached_embedded(self, settings: Settings) -> None:
        if self._detached and target_of(settings) == "embedded":
            raise ConfigurationError(
                "A job on an embedded cluster cannot be detached: the cluster ends with this process.",
                hint="Start a cluster with 'zmflow cluster start', or name one with --jobmanager HOST:PORT.",
            )

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:
        """Submit, and return at once."""
        self._refuse_detached_embedded(settings)
        if self._detached and collect:
            raise ConfigurationError(
                "A detached job cannot send its rows back.",
                detail=f"The job {graph.name!r} calls execute_and_collect(), or cache() on a stream.",
                hint="Write to a sink, or run it without --detached.",
            )
        make_executor = cast("type[Executor]", load_plugin("zmflow.executors", target_of(settings)))
        client = make_executor().submit(graph, settings, collect=collect)
        self._jobs.append((graph.name, client))
        if self._detached:
            return DetachedClient(client)
        if self._progress is None:
            return client
        from zmflow.cli.watched_job import JobWatcher, WatchedClient

        return WatchedClient(client, client, self._progress) if isinstance(client, JobWatcher) else client

    def report(self, *, as_json: bool) -> None:
        """Say at the end what was submitted: always as JSON, as text only when detached."""
        sys.stdout.flush()
        if as_json:
            print_json([{"job_id": client.get_job_id(), "name": name} for name, client in self._jobs])
        elif self._detached:
            print_lines(f"Submitted job {name} ({client.get_job_id()})." for name, client in self._jobs)

    def report_interrupted(self, settings: Settings) -> None:
        """Say which jobs go on although nobody waits for them any more."""
        if target_of(settings) == "embedded":
            return
        for name, client in self._jobs:
            job_id = client.get_job_id()
            sys.stderr.write(f"Job {name} may still run; 'zmflow cancel {job_id}' ends it.\n")


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

    def get_accumulators(self) -> dict[str, Any]:
        """The results of all accumulators by name, as of about now."""
        return self._client.get_accumulators()

    def cancel(self) -> None:
        """Ask for cancellation."""
        self._client.cancel()

    def trigger_savepoint(self, savepoint_directory: str | None = None) -> str:
        """Take a savepoint and wait until it is complete; where it is."""
        return self._client.trigger_savepoint(savepoint_directory)

    def stop_with_savepoint(
        self, advance_to_end_of_event_time: bool, savepoint_directory: str | None = None
    ) -> str:
        """Take a savepoint, stop the job with it, and wait for both; where the savepoint is."""
        return self._client.stop_with_savepoint(advance_to_end_of_event_time, savepoint_directory)

    def get_job_execution_result(self) -> JobExecutionResult:
        """At once, with a runtime of 0: as Flink does for detached jobs."""
        return JobExecutionResult(self._client.get_job_id(), 0)

    def collected(self) -> Iterator[Any]:
        """No rows: ``submit`` has refused detached jobs that send any."""
        return iter(())

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        """No rows here either."""

    def close(self) -> None:
        """Let go of the connection; the job goes on."""
        self._client.close()
