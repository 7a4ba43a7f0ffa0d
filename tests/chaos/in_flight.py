"""Which checkpoints of a job have records in them that were in flight, and which of these it went back to."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field

from zmflow.errors import ZmflowError
from zmflow.protocol.messages import JobStatus
from zmflow.runtime.client import ClusterClient

__all__ = ["InFlight", "InFlightWatch"]


@dataclass
class InFlight:
    """What is known of one job, by the numbers of its checkpoints."""

    size_bytes: dict[int, int] = field(default_factory=dict)  # of records in flight, where there are any
    restored: set[int] = field(default_factory=set)  # those that tasks were restored from

    @property
    def proofs(self) -> int:
        """How many checkpoints with records in flight the job was restored from."""
        return len(self.restored & self.size_bytes.keys())


class InFlightWatch:
    """Asks for the checkpoints of a job when there are others, for the JobManager keeps the newest only.

    Args:
        client: nobody else's.
    """

    def __init__(self, client: ClusterClient, job_id: str, seen: InFlight) -> None:
        self._client = client
        self._job_id = job_id
        self._seen = seen
        self._completed = 0

    def observe(self, status: JobStatus) -> None:
        """Take note of a status. A job without checkpoints is never asked."""
        summary = status.checkpoints
        if summary is None:
            return
        if summary.restored_id:
            self._seen.restored.add(summary.restored_id)
        if summary.completed == self._completed:
            return
        with contextlib.suppress(ZmflowError):
            for record in self._client.checkpoints(self._job_id).records:
                if record.state == "COMPLETED" and record.in_flight_bytes:
                    self._seen.size_bytes[record.checkpoint_id] = record.in_flight_bytes
            self._completed = summary.completed

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()
