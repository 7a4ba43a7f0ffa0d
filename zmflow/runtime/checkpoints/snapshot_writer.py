"""``SnapshotWriter``: compresses and writes the snapshots of a task beside it; says what became of them."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import chain
from typing import TypeAlias

import msgspec
import xxhash

from zmflow.config import Settings
from zmflow.config.checkpoint_options import CHECKPOINT_TIMEOUT, INLINE_THRESHOLD
from zmflow.errors import StateError, ZmflowError
from zmflow.protocol.checkpoints import (
    CheckpointAcknowledged,
    CheckpointBarrier,
    CheckpointDeclined,
    NotifyCheckpoint,
    SnapshotMetrics,
    StateFile,
)
from zmflow.protocol.messages import TaskDeployment
from zmflow.protocol.resources import size_text
from zmflow.runtime.checkpoints.local_copies import LocalCopies
from zmflow.runtime.checkpoints.shared_uploads import SharedUploads, take_back
from zmflow.runtime.checkpoints.snapshot_fork import ForkedSnapshot
from zmflow.state.checkpoint_storage import open_storage, written_names
from zmflow.state.native_files import NativeManifest
from zmflow.state.state_file import PickledState

__all__ = ["Reply", "SnapshotWriter"]

STATE = ".state"
OVERTAKEN = ".in-flight"
"""What the files of a snapshot end with: of the state of a task, and of what was on its way to it."""

JOBMANAGER_STATE_MAX_BYTES = 5 * 2**20
"""Most state of a subtask that may be kept in the JobManager's memory: Flink's number."""

WRITING_MAX = 4
"""Snapshots of a task that are being written at once. More mean that storage does not keep up, or hangs: each
holds a whole snapshot in memory, so the next ones are declined."""

Reply: TypeAlias = Callable[[CheckpointAcknowledged | CheckpointDeclined], None]
"""Sends a message; epoch and allocation are the receiver's to fill."""

Store: TypeAlias = Callable[[], tuple[StateFile | None, int]]
"""Stores a snapshot: its file, and how many bytes were written for it."""


class SnapshotWriter:
    """One per task. Each snapshot is written by a thread of its own, so that one that hangs stops no other.

    Args:
        deployment: of the task.
        settings: of the TaskManager under those of the job.
        reply: sends what became of a snapshot.
        copies: second ones, kept on this machine; None: there are none.
    """

    def __init__(
        self,
        deployment: TaskDeployment,
        settings: Settings,
        reply: Reply,
        copies: LocalCopies | None = None,
    ) -> None:
        self._deployment = deployment
        self._settings = settings
        self._reply = reply
        self._copies = copies or LocalCopies("", deployment, settings)
        self._writing = 0
        self._closed = False
        self._lock = threading.Lock()
        self._shared = SharedUploads(
            f"{deployment.vertex_id}-{deployment.subtask_index}-{deployment.attempt_number}"
        )

    def write(
        self,
        barrier: CheckpointBarrier,
        state: PickledState,
        metrics: SnapshotMetrics,
        in_flight: PickledState | None = None,
    ) -> None:
        """Write a snapshot, and what it has overtaken; returns at once."""
        if state.empty and in_flight is None:
            self._acknowledge(barrier.checkpoint_id, None, metrics)
            return
        if not self._begin(barrier, lambda: self._store(barrier, state), metrics, in_flight):
            state.close()

    def write_forked(
        self,
        barrier: CheckpointBarrier,
        forked: ForkedSnapshot,
        state: PickledState,
        metrics: SnapshotMetrics,
        in_flight: PickledState | None = None,
    ) -> None:
        """Write a snapshot that a forked process makes, but for what ``state`` has; returns at once."""
        store = lambda: self._store_forked(barrier, forked, state)  # noqa: E731
        if not self._begin(barrier, store, metrics, in_flight):
            forked.close()
            state.close()

    def decline(self, checkpoint_id: int, reason: str) -> None:
        """Say that there is no snapshot."""
        self._send(CheckpointDeclined(0, "", self._deployment.attempt_id, checkpoint_id, reason))

    def notified(self, notice: NotifyCheckpoint) -> None:
        """A checkpoint is complete, or was given up: what that means for files that are shared."""
        if notice.completed:
            self._shared.completed(notice.checkpoint_id)
        else:
            self._shared.aborted(notice.checkpoint_id)

    def adopted(self, identity: str, manifest: NativeManifest) -> None:
        """A state backend goes on with native files of the checkpoint that the task was restored from."""
        restore = self._deployment.restore
        assert restore is not None
        self._shared.adopted(restore.checkpoint_id, restore.location, identity, manifest)

    def close(self) -> None:
        """Say nothing more."""
        self._closed = True

    def _begin(
        self,
        barrier: CheckpointBarrier,
        store: Store,
        metrics: SnapshotMetrics,
        in_flight: PickledState | None,
    ) -> bool:
        """Store aside; False when too much is under way already."""
        with self._lock:
            full = self._writing >= WRITING_MAX
            self._writing += not full
        if full:
            reason = f"{WRITING_MAX} earlier snapshots of this task are still being written."
            self.decline(barrier.checkpoint_id, reason)
            return False
        context = contextvars.copy_context()  # what is logged is the task's
        threading.Thread(
            target=context.run,
            args=(self._write, barrier, store, metrics, in_flight),
            name=f"snapshot-{barrier.checkpoint_id}-{self._deployment.vertex_id}",
            daemon=True,
        ).start()
        return True

    # -- aside --------------------------------------------------------------------------------------

    def _write(
        self,
        barrier: CheckpointBarrier,
        store: Store,
        metrics: SnapshotMetrics,
        in_flight: PickledState | None,
    ) -> None:
        try:
            began = time.perf_counter()
            file, written = store()
            overtaken = None
            if in_flight is not None:
                overtaken, more = self._put_overtaken(barrier, in_flight, file)
                written += more
            metrics = msgspec.structs.replace(
                metrics,
                async_us=int((time.perf_counter() - began) * 1e6),
                state_bytes=sum(one.state_bytes for one in (file, overtaken) if one is not None),
                written_bytes=written,
            )
            if self._closed:
                self._take_back(barrier, file, overtaken)  # the task is over, and nobody will hear of them
            self._acknowledge(barrier.checkpoint_id, file, metrics, overtaken)
        except ZmflowError as error:
            self.decline(
                barrier.checkpoint_id, " ".join(filter(None, (error.message, error.detail, error.hint)))
            )
        except Exception as error:  # noqa: BLE001 - a storage plugin may raise anything
            self.decline(barrier.checkpoint_id, f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._writing -= 1

    def _store(self, barrier: CheckpointBarrier, state: PickledState) -> tuple[StateFile | None, int]:
        if state.empty:
            return None, 0
        try:
            return self._put_all(barrier, state, state.parts(), has_union=state.has_union)
        finally:
            state.close()

    def _store_forked(
        self, barrier: CheckpointBarrier, forked: ForkedSnapshot, state: PickledState
    ) -> tuple[StateFile, int]:
        try:
            has_union = forked.wait(self._settings[CHECKPOINT_TIMEOUT] / 1000)
            with forked.parts() as parts:
                pieces = parts if state.empty else state.with_file(parts[0]).parts()
                return self._put_all(barrier, state, pieces, has_union=has_union)
        finally:
            forked.close()
            state.close()

    def _put_overtaken(
        self, barrier: CheckpointBarrier, in_flight: PickledState, file: StateFile | None
    ) -> tuple[StateFile, int]:
        try:
            return self._put(barrier, in_flight.parts(), OVERTAKEN)
        except BaseException:
            self._take_back(barrier, file)
            raise

    def _take_back(self, barrier: CheckpointBarrier, *files: StateFile | None) -> None:
        """Delete what was written."""
        if names := written_names(*files):
            with suppress(ZmflowError):  # it goes with the checkpoint, or with the job
                open_storage(barrier.location, self._settings).delete(names)

    def _put_all(
        self,
        barrier: CheckpointBarrier,
        state: PickledState,
        parts: Iterable[bytes | memoryview],
        *,
        has_union: bool,
    ) -> tuple[StateFile, int]:
        """The file, the native files of backends before it, and how many bytes were written for it."""
        if not state.native:
            return self._put(barrier, parts, has_union=has_union)
        storage = open_storage(barrier.location, self._settings)
        shared = self._shared.store(barrier.checkpoint_id, state, storage)
        if self._copies.keeps(barrier):
            for _, frozen in state.native:
                self._copies.link(barrier.checkpoint_id, frozen)
        try:
            file, written = self._put(barrier, parts, has_union=has_union)
        except BaseException:
            take_back([one.name for one in shared if one.fresh], storage)
            raise
        written += sum(one.size_bytes for one in shared if one.fresh)
        return msgspec.structs.replace(file, shared=shared, format=state.native[0][1].format), written

    def _put(
        self,
        barrier: CheckpointBarrier,
        parts: Iterable[bytes | memoryview],
        suffix: str = STATE,
        *,
        has_union: bool = False,
    ) -> tuple[StateFile, int]:
        """The file, and how many bytes were written for it."""
        most = self._settings[INLINE_THRESHOLD] if barrier.location else JOBMANAGER_STATE_MAX_BYTES
        if suffix == OVERTAKEN and barrier.location:
            most = -1  # every producer reads it, so it is told where it is instead of what it is
        rest = iter(parts)
        head, size = _taken(rest, most)
        if size <= most:
            return StateFile("", size, b"".join(head), has_union), size
        if not barrier.location:
            raise StateError(
                f"State of {size_text(size)} or more is too much for the memory of the JobManager.",
                detail=f"A subtask may have {size_text(JOBMANAGER_STATE_MAX_BYTES)} there. "
                "Set execution.checkpointing.dir to a directory that all machines reach.",
            )
        deployment = self._deployment
        name = f"{deployment.vertex_id}-{deployment.subtask_index}-{deployment.attempt_number}{suffix}"
        pieces: Iterator[bytes | memoryview] = chain(head, rest)
        digest = xxhash.xxh64()
        copied = suffix == STATE and self._copies.keeps(barrier)
        if copied:
            pieces = self._copies.copied(barrier.checkpoint_id, name, pieces, digest)
        size = open_storage(barrier.location, self._settings).write(name, pieces)
        checksum = digest.intdigest() if copied else 0
        return StateFile(name, size, b"", has_union, checksum=checksum), size

    def _acknowledge(
        self,
        checkpoint_id: int,
        file: StateFile | None,
        metrics: SnapshotMetrics,
        overtaken: StateFile | None = None,
    ) -> None:
        attempt = self._deployment.attempt_id
        self._send(CheckpointAcknowledged(0, "", attempt, checkpoint_id, file, metrics, overtaken))

    def _send(self, message: CheckpointAcknowledged | CheckpointDeclined) -> None:
        if not self._closed:
            self._reply(message)


def _taken(parts: Iterator[bytes | memoryview], most_bytes: int) -> tuple[list[bytes | memoryview], int]:
    """The first parts, until they have more bytes than so many, and how many they have."""
    taken = []
    size = 0
    while size <= most_bytes and (part := next(parts, None)) is not None:
        taken.append(part)
        size += len(part)
    return taken, size
