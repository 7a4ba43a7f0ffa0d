"""A job's client that tells a progress display what it hears while somebody waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from zmflow.api.execution import JobClient, JobExecutionResult, RowsKeeper
from zmflow.cli.progress import Progress
from zmflow.errors import ZmflowError
from zmflow.protocol.messages import JobState, JobStatus

__all__ = ["JobWatcher", "WatchedClient"]

ASK_INTERVAL_SECONDS = 0.5
"""While rows are collected the connection belongs to them; the display asks beside it, this often."""


@runtime_checkable
class JobWatcher(Protocol):
    """What a client offers beyond ``JobClient`` when its job can be watched."""

    def status(self) -> JobStatus:
        """The job in full, now; may be called while another thread waits."""
        ...

    def watch(self) -> Iterator[JobStatus]:
        """The job in full, now and on every change, until it has ended."""
        ...


class WatchedClient:
    """Hands everything on to ``client``; its job's statuses also go to ``progress``."""

    def __init__(self, client: JobClient, watcher: JobWatcher, progress: Progress) -> None:
        self._client = client
        self._watcher = watcher
        self._progress = progress
        self._over = threading.Event()
        self._asking: threading.Thread | None = None

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
        """Ask for cancellation and return."""
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
        """Wait for the end; raises as the client does."""
        for status in self._watcher.watch():
            self._progress.update(status)
        return self._client.get_job_execution_result()

    def collected(self) -> Iterator[Any]:
        """The job's rows as they arrive; raises as the client does."""
        self._asking = threading.Thread(target=self._ask_until_over, name="job progress", daemon=True)
        self._asking.start()
        try:
            yield from self._client.collected()
        finally:
            self._stop_asking()

    def keep(self, keepers: Mapping[str, RowsKeeper], *, background: bool) -> None:
        """Hands rows to keepers, as the client does."""
        self._client.keep(keepers, background=background)

    def _ask_until_over(self) -> None:
        while not self._over.wait(ASK_INTERVAL_SECONDS):
            try:
                self._progress.update(self._watcher.status())
            except ZmflowError:
                return  # whoever waits for the rows gets this error, and it is theirs to report

    def _stop_asking(self) -> None:
        self._over.set()
        if self._asking is not None:
            self._asking.join()

    def close(self) -> None:
        """Let go of the job."""
        self._stop_asking()
        self._client.close()
