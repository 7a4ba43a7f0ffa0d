"""How a finished JobGraph leaves the API: executors, the client's handle of a job, its result.

The API does not know clusters. An ``Executor`` is a plugin (entry-point group ``zmflow.executors``)
chosen by the setting ``execution.target``, as Flink's PipelineExecutors are; ``zmflow.runtime`` brings
``embedded`` and ``remote``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from zmflow.config import Settings
from zmflow.graph.job_graph import JobGraph
from zmflow.protocol.messages import CollectedRows, JobState, JobStatus

__all__ = ["CloseableIterator", "Executor", "JobClient", "JobExecutionResult", "RowsKeeper"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class JobExecutionResult:
    """A job that reached FINISHED."""

    job_id: str
    net_runtime_ms: int
    accumulators: Mapping[str, Any] = field(default_factory=dict)

    def get_job_id(self) -> str:
        """The job's id."""
        return self.job_id

    def get_net_runtime(self) -> int:
        """Milliseconds from the first deployment to the end."""
        return self.net_runtime_ms

    def get_accumulator_result(self, accumulator_name: str) -> Any:
        """What all subtasks together added to the accumulator of this name; None: there is none."""
        return self.accumulators.get(accumulator_name)

    def get_all_accumulator_results(self) -> dict[str, Any]:
        """The results of all accumulators, by name."""
        return dict(self.accumulators)


class RowsKeeper(Protocol):
    """What takes the rows of a collect sink as they come, still encoded."""

    def take(self, rows: CollectedRows) -> None:
        """The next rows of a subtask. Does not raise."""
        ...

    def end(self, status: JobStatus | None) -> None:
        """The job has ended like this; None: nobody knows. Called once, after the last rows."""
        ...


class JobClient(Protocol):
    """A submitted job, seen from the client."""

    def get_job_id(self) -> str: ...

    def get_job_status(self) -> JobState:
        """The job's state now."""
        ...

    def get_accumulators(self) -> dict[str, Any]:
        """The results of all accumulators by name, as of about now; at the end, the last ones."""
        ...

    def cancel(self) -> None:
        """Ask for cancellation and return; ``get_job_execution_result`` waits for the end."""
        ...

    def trigger_savepoint(self, savepoint_directory: str | None = None) -> str:
        """Take a savepoint and wait until it is complete; where it is.

        Args:
            savepoint_directory: it gets a directory of its own in this one; by default in that of the
                setting ``execution.checkpointing.savepoint-dir``.

        Raises:
            JobError: there is none.
        """
        ...

    def stop_with_savepoint(
        self, advance_to_end_of_event_time: bool, savepoint_directory: str | None = None
    ) -> str:
        """Take a savepoint, stop the job with it, and wait for both; where the savepoint is.

        Args:
            advance_to_end_of_event_time: let event time go to its end before, so that all windows and timers
                fire: for a job that is not to go on. Otherwise the savepoint is what a job goes on from.
            savepoint_directory: as for ``trigger_savepoint``.

        Raises:
            JobError: there is no savepoint, or the job did not stop.
        """
        ...

    def get_job_execution_result(self) -> JobExecutionResult:
        """Wait for the end.

        Raises:
            JobFailedError: it failed; the detail begins with the user's own traceback.
            JobCanceledError: it was cancelled.
        """
        ...

    def collected(self) -> Iterator[Any]:
        """The rows of the job's collect sink as they arrive; ends with the job. For jobs submitted
        with ``collect=True``. Raises like ``get_job_execution_result`` when the job fails."""
        ...

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        """Hand the rows of these collect sinks to keepers, and not to ``collected``.

        For jobs submitted with ``collect=True``, once, before anything else.

        Args:
            keepers: by the id of the sink.
            background: take them from now on, on a thread; otherwise whoever reads ``collected`` takes them.
        """
        ...

    def close(self) -> None:
        """Let go of the connection (and of the embedded cluster, which ends the job)."""
        ...


class Executor(Protocol):
    """Brings JobGraphs to a cluster."""

    def submit(self, graph: JobGraph, settings: Settings, *, collect: bool) -> JobClient:
        """Submit and return at once."""
        ...


class CloseableIterator(Generic[T]):
    """The rows of ``execute_and_collect``. Close it, use it with ``with``, or read it to its end."""

    def __init__(self, client: JobClient, limit: int | None = None) -> None:
        self._client = client
        self._rows: Iterator[T] = client.collected()
        self._left = limit
        self._closed = False

    def __iter__(self) -> CloseableIterator[T]:
        return self

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        if self._left is not None:
            if self._left <= 0:
                self.close()
                raise StopIteration
            self._left -= 1
        try:
            return next(self._rows)
        except BaseException:
            # The end of the rows is the end of the job, whichever way it ended.
            self._closed = True
            self._client.close()
            raise

    def next(self) -> T:
        """The next row, as PyFlink spells it."""
        return self.__next__()

    def close(self) -> None:
        """Cancel the job if it still runs and let go of it. Closing twice does no harm."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._client.get_job_status() in ("CREATED", "RUNNING"):
                self._client.cancel()
        finally:
            self._client.close()

    def __enter__(self) -> CloseableIterator[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
