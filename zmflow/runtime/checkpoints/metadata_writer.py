"""What a JobManager asks of checkpoint storages, done on other threads: no heartbeat waits for a disk."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from zmflow.config import Settings
from zmflow.coordination.effects import (
    CheckpointLoaded,
    CheckpointStored,
    DiscardCheckpoint,
    LoadCheckpoint,
    StoreCheckpoint,
)
from zmflow.errors import ZmflowError
from zmflow.protocol.checkpoint_metadata import METADATA_NAME, encode_metadata
from zmflow.state.checkpoint_storage import open_storage
from zmflow.state.snapshot_files import SnapshotFiles

__all__ = ["CheckpointWriter"]

Order: TypeAlias = StoreCheckpoint | LoadCheckpoint | DiscardCheckpoint


class CheckpointWriter:
    """Carries out the orders of each job in their sequence, on a thread of the job's own that lives while
    there are any: a storage that hangs holds up the checkpoints of one job.

    Args:
        done: called on such a thread when there is something to ``take``.
        log: called with a sentence about files that could not be deleted.
    """

    def __init__(self, settings: Settings, done: Callable[[], None], log: Callable[[str], None]) -> None:
        self._settings = settings
        self._done = done
        self._log = log
        self._lock = threading.Lock()
        self._queues: dict[str, deque[Order]] = {}  # jobs whose thread lives
        self._idle = threading.Condition(self._lock)
        self._results: deque[CheckpointStored | CheckpointLoaded] = deque()

    def order(self, order: Order) -> None:
        """Do this after everything that was ordered for its job before."""
        with self._lock:
            queue = self._queues.get(order.job_id)
            if queue is not None:
                queue.append(order)
                return
            self._queues[order.job_id] = deque([order])
        name = f"checkpoints-{order.job_id[:8]}"
        threading.Thread(target=self._work, args=(order.job_id,), name=name, daemon=True).start()

    def take(self) -> list[CheckpointStored | CheckpointLoaded]:
        """What was stored or read, or was not, since the last call."""
        results = []
        while self._results:
            results.append(self._results.popleft())
        return results

    def close(self, timeout_s: float) -> None:
        """Wait until all is done, at most for so long: what a job that has ended leaves is to be deleted."""
        end_s = time.monotonic() + timeout_s
        with self._idle:
            while self._queues and (left_s := end_s - time.monotonic()) > 0:
                self._idle.wait(left_s)

    def _work(self, job_id: str) -> None:
        while True:
            with self._idle:
                queue = self._queues[job_id]
                if not queue:
                    del self._queues[job_id]
                    self._idle.notify_all()
                    return
                order = queue.popleft()
            if isinstance(order, StoreCheckpoint):
                self._results.append(CheckpointStored(job_id, order.checkpoint_id, self._store(order)))
                self._done()
            elif isinstance(order, LoadCheckpoint):
                self._results.append(self._load(order))
                self._done()
            else:
                self._discard(order)

    def _store(self, order: StoreCheckpoint) -> str:
        try:
            storage = open_storage(order.location, self._settings)
            storage.write(METADATA_NAME, [encode_metadata(order.metadata)])
        except ZmflowError as error:
            return " ".join(filter(None, (error.message, error.detail, error.hint)))
        except Exception as error:  # noqa: BLE001 - a plugin's fault is a failed checkpoint, not the JobManager's end
            return f"{type(error).__name__}: {error}"
        return ""

    def _load(self, order: LoadCheckpoint) -> CheckpointLoaded:
        try:
            files = SnapshotFiles(order.location, self._settings)
            files.check_sizes()
            stateful = frozenset(files.stateful_operators())
            return CheckpointLoaded(order.job_id, files.location, files.metadata, stateful)
        except ZmflowError as error:
            why = "\n".join(filter(None, (error.message, error.detail)))
            return CheckpointLoaded(order.job_id, order.location, None, error=why, hint=error.hint or "")
        except Exception as error:  # noqa: BLE001 - a plugin's fault is a failed job, not the JobManager's end
            why = f"{order.location} cannot be read: {type(error).__name__}: {error}"
            return CheckpointLoaded(order.job_id, order.location, None, error=why)

    def _discard(self, order: DiscardCheckpoint) -> None:
        try:
            storage = open_storage(order.location, self._settings)
            if order.names:
                storage.delete(order.names)
            else:
                storage.delete_all(order.kept)
        except Exception as error:  # noqa: BLE001 - what stays costs space, and nothing else
            what = error.message if isinstance(error, ZmflowError) else f"{type(error).__name__}: {error}"
            self._log(f"Files of {order.location} could not be deleted: {what}")
