"""The client's handle of one job: wait for its end, take its rows, cancel it."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from zmflow.api.execution import JobExecutionResult, RowsKeeper
from zmflow.errors import JobCanceledError, JobFailedError
from zmflow.protocol.checkpoints import CheckpointKind
from zmflow.protocol.messages import CollectedRows, JobState, JobStatus, TaskFailure
from zmflow.runtime.client import ENDED_STATES, ClusterClient
from zmflow.runtime.collected_rows import RowBuffer
from zmflow.runtime.rows_receiver import RowsReceiver
from zmflow.state.checkpoint_storage import absolute_location

__all__ = ["RemoteJobClient", "job_failed_error"]


def job_failed_error(status: JobStatus) -> JobFailedError:
    """What a person is told about a failed job: the user's own traceback first, then the place."""
    summary = status.summary
    failure = status.failure
    if failure is None:
        return JobFailedError(f"Job {summary.name!r} failed.", detail=status.reason or None)
    parts = [failure.user_traceback.rstrip(), _place(failure, status), _earlier_restarts(summary.restarts)]
    if not failure.user_traceback and failure.kind == "engine":
        parts.append(failure.traceback.rstrip())
    detail = "\n".join(part for part in parts if part)
    return JobFailedError(
        f"Job {summary.name!r} failed: {failure.summary}", detail=detail or None, hint=failure.hint or None
    )


def _place(failure: TaskFailure, status: JobStatus) -> str:
    parts = []
    if failure.operator_name:
        parts.append(f"operator {failure.operator_name!r}")
    if failure.vertex_name and failure.vertex_name != failure.operator_name:
        parts.append(f"chain {failure.vertex_name!r}")
    if failure.subtask_index >= 0:
        parallelism = next((v.parallelism for v in status.vertices if v.name == failure.vertex_name), 0)
        of = f"/{parallelism}" if parallelism else ""
        parts.append(f"subtask {failure.subtask_index + 1}{of}")
    where = ("In " + ", ".join(parts)) if parts else ""
    if failure.host:
        where = f"{where}, on host {failure.host}" if where else f"On host {failure.host}"
    return f"{where}." if where else ""


def _earlier_restarts(count: int) -> str:
    if not count:
        return ""
    return f"The job had been restarted {'once' if count == 1 else f'{count} times'} before."


def _unpacked(status: JobStatus) -> dict[str, Any]:
    if not status.accumulators:
        return {}
    from zmflow.api.accumulators import unpack_accumulators  # only for jobs that have any

    return unpack_accumulators(status.accumulators)


class RemoteJobClient:
    """A submitted job. Implements ``zmflow.api.execution.JobClient``.

    Args:
        client: this job's own connection; closed with this object.
        dial: makes another connection, for a thread that asks while another one waits.
        cancel_on_interrupt: Ctrl-C while waiting cancels the job; the embedded cluster has no other client.
        on_close: called once, at the end of ``close``.

    Attributes:
        on_status: called with each status that arrives while something waits for the job.
    """

    def __init__(
        self,
        client: ClusterClient,
        job_id: str,
        dial: Callable[[], ClusterClient],
        *,
        collect: bool = False,
        cancel_on_interrupt: bool = False,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._job_id = job_id
        self._dial = dial
        self._collect = collect
        self._cancel_on_interrupt = cancel_on_interrupt
        self._on_close = on_close
        self._ended: JobStatus | None = None
        self._closed = False
        self.on_status: Callable[[JobStatus], None] | None = None
        self._keepers: dict[str, RowsKeeper] = {}  # of rows that come between those of ``collected``
        self._receiver: RowsReceiver | None = None
        self._busy = threading.RLock()
        self._waiting = False

    def get_job_id(self) -> str:
        """The job's id."""
        return self._job_id

    def _ask(self, question: Callable[[ClusterClient], Any]) -> Any:
        # A wait in progress owns the connection, be it another thread's or an iteration of this one.
        if self._busy.acquire(blocking=False):
            try:
                if not self._waiting and not self._closed:
                    return question(self._client)
            finally:
                self._busy.release()
        client = self._dial()
        try:
            return question(client)
        finally:
            client.close()

    def status(self) -> JobStatus:
        """The job in full, now."""
        if self._ended is None:
            status: JobStatus = self._ask(lambda client: client.get_job(self._job_id))
            if status.summary.state in ENDED_STATES:
                self._ended = status
            return status
        return self._ended

    def get_job_status(self) -> JobState:
        """The job's state now."""
        return self.status().summary.state

    def get_accumulators(self) -> dict[str, Any]:
        """The results of all accumulators by name: what running tasks reported last, and finished ones.

        Raises:
            ZmflowError: two tasks registered accumulators of different types under one name.
        """
        return _unpacked(self.status())

    def cancel(self) -> None:
        """Ask for cancellation and return."""
        if self._ended is None:
            self._ask(lambda client: client.cancel_job(self._job_id))

    def trigger_savepoint(self, savepoint_directory: str | None = None) -> str:
        """Take a savepoint and wait until it is complete; where it is.

        Args:
            savepoint_directory: it gets a directory of its own in this one; by default in that of the
                setting ``execution.checkpointing.savepoint-dir``.

        Raises:
            JobError: there is none.
        """
        return self._savepoint(savepoint_directory, "savepoint")

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
        return self._savepoint(savepoint_directory, "drain" if advance_to_end_of_event_time else "stop")

    def _savepoint(self, directory: str | None, kind: CheckpointKind) -> str:
        location = absolute_location(directory) if directory else ""
        answer: str = self._ask(lambda client: client.savepoint(self._job_id, location, kind))
        return answer

    def watch(self) -> Iterator[JobStatus]:
        """The job's status, now and on every change, until it has ended."""
        for update in self._updates(collect=False):
            if isinstance(update, JobStatus):
                yield update

    def _updates(self, *, collect: bool) -> Iterator[JobStatus | CollectedRows]:
        if self._ended is not None:
            yield self._ended
            return
        with self._busy:
            self._waiting = True
            try:
                for update in self._client.updates(self._job_id, collect=collect):
                    if isinstance(update, JobStatus):
                        if update.summary.state in ENDED_STATES:
                            self._ended = update
                        if self.on_status is not None:
                            self.on_status(update)
                    yield update
            except KeyboardInterrupt:
                if self._cancel_on_interrupt:
                    self._cancel_and_wait()
                raise
            finally:
                self._waiting = False

    def _cancel_and_wait(self) -> None:
        self._client.cancel_job(self._job_id)
        for update in self._client.updates(self._job_id):
            if isinstance(update, JobStatus):
                self._ended = update

    def get_job_execution_result(self) -> JobExecutionResult:
        """Wait for the end.

        Raises:
            JobFailedError: it failed; the detail begins with the user's own traceback.
            JobCanceledError: it was cancelled.
            JobManagerUnreachableError: the JobManager does not answer any more.
        """
        for _ in self._updates(collect=False):
            pass
        if self._receiver is not None:
            self._receiver.join()  # it hears of the end as well; the next job is to find what was kept
        return self._result()

    def _result(self) -> JobExecutionResult:
        assert self._ended is not None
        summary = self._ended.summary
        if summary.state == "FAILED":
            raise job_failed_error(self._ended)
        if summary.state == "CANCELED":
            raise JobCanceledError(f"Job {summary.name!r} was cancelled.", detail=self._ended.reason or None)
        return JobExecutionResult(self._job_id, self._ended.run_ms, _unpacked(self._ended))

    def collected(self) -> Iterator[Any]:
        """The rows of the job's collect sink as they arrive; ends with the job.

        Raises like ``get_job_execution_result`` when the job fails or is cancelled.
        """
        buffer = RowBuffer()
        for update in self._updates(collect=self._collect):
            if not isinstance(update, CollectedRows):
                continue
            keeper = self._keepers.get(update.collect_id)
            if keeper is not None:
                keeper.take(update)
                self._client.acknowledge(update)
                continue
            if update.transactional and update.commit is None:
                self._client.acknowledge(update)
            for rows in buffer.take(update):
                yield from pickle.loads(rows.rows)
                if not rows.transactional:
                    self._client.acknowledge(rows)
        self._end_keepers(self._ended)
        self._result()

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        """Hand the rows of these collect sinks to keepers, as they come or between those of ``collected``."""
        if background:
            self._receiver = RowsReceiver(self._job_id, self._dial, keepers)
        else:
            self._keepers.update(keepers)

    def _end_keepers(self, status: JobStatus | None) -> None:
        while self._keepers:
            self._keepers.popitem()[1].end(status)

    def close(self) -> None:
        """Let go of the connection; the job goes on unless its cluster ends."""
        if self._closed:
            return
        self._closed = True
        self._end_keepers(None)
        self._client.close()
        if self._on_close is not None:
            self._on_close()
