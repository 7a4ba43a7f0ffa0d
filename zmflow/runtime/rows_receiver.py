"""A thread that takes the rows of a job while nobody waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

import zmq

from zmflow.api.execution import RowsKeeper
from zmflow.errors import ZmflowError
from zmflow.protocol.messages import CollectedRows, JobStatus
from zmflow.runtime.client import ENDED_STATES, ClusterClient

__all__ = ["RowsReceiver"]


class RowsReceiver:
    """Hands the rows of a job's collect sinks to keepers, over a connection of its own, until the job ends.

    It lasts as long as the job, whatever becomes of the client's handle; if the process ends before, the
    JobManager cancels the job, as it does with every job whose rows nobody takes any more.
    """

    def __init__(
        self, job_id: str, dial: Callable[[], ClusterClient], keepers: Mapping[str, RowsKeeper]
    ) -> None:
        self._job_id = job_id
        self._dial = dial
        self._keepers = keepers
        self._thread = threading.Thread(target=self._run, name="kept rows", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until the job has ended and the keepers know."""
        self._thread.join()

    def _run(self) -> None:
        status: JobStatus | None = None
        try:
            status = self._receive()
        except (ZmflowError, zmq.ZMQError):
            pass  # whoever waits for the job is told the same; its rows are not kept
        finally:
            for keeper in self._keepers.values():
                keeper.end(status)

    def _receive(self) -> JobStatus | None:
        status = None
        client = self._dial()
        try:
            for update in client.updates(self._job_id, collect=True):
                if isinstance(update, CollectedRows):
                    self._keepers[update.collect_id].take(update)
                    client.acknowledge(update)
                elif update.summary.state in ENDED_STATES:
                    status = update
        finally:
            client.close()
        return status
