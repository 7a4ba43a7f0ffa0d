"""``LocalCopies``: second copies of a task's newest snapshots, on the disk of its TaskManager.

Reading state back from there costs the network and the checkpoint storage nothing. The copies outlive the
worker and lie in a directory of the job: ``VERTEX-SUBTASK/chk-N/FILE``. What is in the checkpoint is what
counts: a copy that cannot be written is left out, and one that is missing or not whole is not read.

The TaskManager removes the directory of a job that has ended, or holds no slot there any more. A snapshot
that is still being written then finds no directory to be copied to.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from glob import glob
from pathlib import Path
from typing import IO

import xxhash

from zmflow.config import Settings
from zmflow.config.checkpoint_options import LOCAL_BACKUP, RECOVERY_FROM_LOCAL
from zmflow.protocol.checkpoints import CheckpointBarrier, NotifyCheckpoint, StateFile
from zmflow.protocol.messages import TaskDeployment
from zmflow.state.native_files import FrozenFiles, StoredFile, file_checksum
from zmflow.telemetry.logs import get_logger

__all__ = ["LocalCopies", "remove_superseded"]

CHECKPOINT = "chk-"


class LocalCopies:
    """The copies of one task. Snapshots are written by several threads, and read before the task runs.

    Args:
        job_directory: where the copies of its job are; empty: nowhere.
        settings: whether any are kept, and read.
    """

    def __init__(self, job_directory: str, deployment: TaskDeployment, settings: Settings) -> None:
        self._keeps = bool(job_directory) and settings[LOCAL_BACKUP]
        self._reads = bool(job_directory) and settings[RECOVERY_FROM_LOCAL]
        self._directory = Path(job_directory) / f"{deployment.vertex_id}-{deployment.subtask_index}"
        self._whole: dict[Path, bool] = {}  # copies that were looked at
        if self._keeps:
            try:
                self._directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                _not_kept(self._directory, error)

    # -- keeping ------------------------------------------------------------------------------------

    def keeps(self, barrier: CheckpointBarrier) -> bool:
        """Whether files of this checkpoint are copied. A savepoint is nobody's restart."""
        return self._keeps and barrier.kind == "checkpoint"

    def copied(
        self, checkpoint_id: int, name: str, parts: Iterator[bytes | memoryview], digest: xxhash.xxh64
    ) -> Iterator[bytes | memoryview]:
        """The parts of a state file, which go into a copy and into its checksum on their way."""
        path = self._directory / f"{CHECKPOINT}{checkpoint_id}" / name
        with closing(_Copy(path)) as copy:
            for part in parts:
                digest.update(part)
                copy.write(part)
                yield part

    def link(self, checkpoint_id: int, frozen: FrozenFiles) -> None:
        """Keep the native files of a state backend, which are stored; that costs no room."""
        assert frozen.manifest is not None, "its files are not stored"
        directory = self._directory / f"{CHECKPOINT}{checkpoint_id}"
        try:
            directory.mkdir(exist_ok=True)
            for file in frozen.manifest.shared:
                (directory / file.stored).hardlink_to(frozen.directory / file.name)
        except OSError as error:
            _not_kept(directory, error)

    # -- reading ------------------------------------------------------------------------------------

    def fetch(self, checkpoint_id: int, file: StoredFile, path: Path) -> bool:
        """Let ``path`` be a native file, if its copy is whole."""
        copy = self._directory / f"{CHECKPOINT}{checkpoint_id}" / file.stored
        if not self._reads or not copy.parent.is_dir():
            return False
        if not _is_whole(copy, file.size_bytes, file.checksum):
            return False
        try:
            path.hardlink_to(copy)
        except OSError as error:
            get_logger().warning("a copy of state cannot be linked", path=str(copy), why=str(error))
            return False
        return True

    def find(self, checkpoint_id: int, file: StateFile) -> Path | None:
        """The copy of a state file, if it is whole."""
        if not self._reads or not file.path or not file.checksum:
            return None
        path = self._directory / f"{CHECKPOINT}{checkpoint_id}" / file.path
        if not path.parent.is_dir():
            return None
        if path not in self._whole:  # each operator of the chain asks for it
            self._whole[path] = _is_whole(path, file.size_bytes, file.checksum)
        return path if self._whole[path] else None


class _Copy:
    """A file that is written as long as that works; else nothing of it is left."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None
        try:
            path.parent.mkdir(exist_ok=True)
            self._file = path.open("wb")
        except OSError as error:
            self._failed(error)

    def write(self, part: bytes | memoryview) -> None:
        """One more part."""
        if self._file is not None:
            try:
                self._file.write(part)
            except OSError as error:
                self._failed(error)

    def close(self) -> None:
        """There is no more; what is in buffers is written."""
        if self._file is not None:
            try:
                self._file.close()
            except OSError as error:
                self._failed(error)

    def _failed(self, error: OSError) -> None:
        file, self._file = self._file, None
        with suppress(OSError):
            if file is not None:
                file.close()
        with suppress(OSError):
            self._path.unlink()
        _not_kept(self._path, error)


def _not_kept(path: Path, error: OSError) -> None:
    get_logger().warning("a copy of state is not kept", path=str(path), why=str(error))


def _is_whole(path: Path, size_bytes: int, checksum: int) -> bool:
    try:
        why = "" if path.stat().st_size == size_bytes else "its size is wrong"
        why = why or ("" if file_checksum(path) == checksum else "its checksum is wrong")
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        get_logger().info("state is read from the checkpoint, not from a copy", copy=str(path), why=why)
    else:
        get_logger().info("state is read from its copy", copy=str(path), size_bytes=size_bytes)
    return not why


def remove_superseded(job_directory: str, notice: NotifyCheckpoint) -> None:
    """A checkpoint is complete: the copies of older ones go, also those of tasks that have moved away. Or it
    was given up: its own go."""
    kept = glob(f"*/{CHECKPOINT}*", root_dir=job_directory)  # noqa: PTH207 - Path.glob fails where files go
    gone = [
        Path(job_directory, name)
        for name in kept
        if _is_superseded(int(name.rpartition(CHECKPOINT)[2]), notice)
    ]
    if gone:
        threading.Thread(target=_remove, args=(gone,), name="local copies", daemon=True).start()


def _is_superseded(checkpoint_id: int, notice: NotifyCheckpoint) -> bool:
    if notice.completed:
        return checkpoint_id < notice.checkpoint_id
    return checkpoint_id == notice.checkpoint_id


def _remove(paths: list[Path]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)
