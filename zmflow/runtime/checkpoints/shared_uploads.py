"""``SharedUploads``: the native files of a task's state backends, on their way to be shared.

Each is written once, under a name that nobody else ever writes. A later checkpoint only names it again, and
that only when the one that wrote it was complete, as far as the task knows: what an aborted checkpoint wrote
is deleted. The coordinator has the last word, which refuses a checkpoint that names what is gone.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import xxhash

from zmflow.errors import ZmflowError
from zmflow.protocol.checkpoints import SharedFile
from zmflow.state.checkpoint_storage import SHARED, CheckpointStorage, shared_location
from zmflow.state.native_files import READ_SIZE_BYTES, FrozenFiles, NativeManifest, StoredFile
from zmflow.state.state_file import PickledState

__all__ = ["SharedUploads", "take_back"]

UPLOADS_KEPT_MAX = 200
"""Checkpoints of unknown fate whose files are remembered: twice as many as may be under way at once."""

_File: TypeAlias = tuple[str, str]
"""The identity of a backend, and a name in it: one content for ever."""


class SharedUploads:
    """What the storage has of the backends of one task. Any thread may call any method.

    After a restore from another job's directory everything is written anew: those files may be deleted by
    somebody else.

    Args:
        prefix: what the names of the files begin with; no other task's do.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._lock = threading.Lock()
        self._safe: dict[_File, StoredFile] = {}  # of the newest checkpoint that is known to be complete
        self._safe_id = 0
        self._place = ""  # the location of the safe ones; those of another job's directory are not safe
        # Of checkpoints whose fate is not known, and the location.
        self._stored: dict[int, tuple[str, dict[_File, StoredFile]]] = {}

    # -- what may be named again --------------------------------------------------------------------

    def adopted(self, checkpoint_id: int, location: str, identity: str, manifest: NativeManifest) -> None:
        """A backend goes on with files of the checkpoint, complete, that the task was restored from."""
        with self._lock:
            self._safe_id, self._place = checkpoint_id, shared_location(location)
            self._safe.update({(identity, file.name): file for file in manifest.shared})

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete: its files may be named again, those that only older ones have may not."""
        with self._lock:
            stored = self._stored.pop(checkpoint_id, ("", {}))
            if checkpoint_id > self._safe_id:
                (self._place, self._safe), self._safe_id = stored, checkpoint_id
            self._stored = {number: of for number, of in self._stored.items() if number > checkpoint_id}

    def aborted(self, checkpoint_id: int) -> None:
        """A checkpoint was given up: what was written for it is deleted."""
        with self._lock:
            self._stored.pop(checkpoint_id, None)

    # -- writing ------------------------------------------------------------------------------------

    def store(self, checkpoint_id: int, state: PickledState, storage: CheckpointStorage) -> list[SharedFile]:
        """Have all native files of a snapshot in the storage; returns what they are called there.

        Raises:
            CheckpointStorageError: one cannot be written. Those that were are deleted.
        """
        place = shared_location(storage.location)
        with self._lock:
            safe = dict(self._safe) if place == self._place else {}
        found: dict[_File, StoredFile] = {}
        fresh: list[str] = []
        shared: list[SharedFile] = []
        try:
            for _, frozen in state.native:
                stored = []
                for name in frozen.shared:
                    file = (frozen.identity, name)
                    known = safe.get(file)
                    is_fresh = known is None
                    if known is None:
                        known = self._write(checkpoint_id, frozen, name, storage)
                        fresh.append(known.stored)
                    found[file] = known
                    stored.append(known)
                    shared.append(SharedFile(known.stored, known.size_bytes, is_fresh))
                frozen.described(stored)
        except BaseException:
            take_back(fresh, storage)
            raise
        with self._lock:
            self._stored[checkpoint_id] = (place, found)
            if len(self._stored) > UPLOADS_KEPT_MAX:
                del self._stored[min(self._stored)]
        return shared

    def _write(
        self, checkpoint_id: int, frozen: FrozenFiles, name: str, storage: CheckpointStorage
    ) -> StoredFile:
        stored = f"{self._prefix}-{checkpoint_id}-{frozen.identity}-{name}"
        digest = xxhash.xxh64()
        size = storage.write(SHARED + stored, _parts(frozen.directory / name, digest))
        return StoredFile(name, stored, size, digest.intdigest())


def take_back(names: Sequence[str], storage: CheckpointStorage) -> None:
    """Delete shared files that nobody will hear of; what cannot be deleted goes with the job."""
    with suppress(ZmflowError):
        storage.delete([SHARED + name for name in names])


def _parts(path: Path, digest: xxhash.xxh64) -> Iterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(READ_SIZE_BYTES):
            digest.update(data)
            yield data
