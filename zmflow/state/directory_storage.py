"""Checkpoints in a directory of the local file system, or of one that all machines mount.

A file is written under a name that ends in ``.unfinished``, flushed to the disk and renamed; then the
directory is flushed. A process that is killed leaves an unfinished file, which nobody lists and
``delete_all`` removes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from zmflow.config import Settings
from zmflow.errors import CheckpointStorageError, ConfigurationError
from zmflow.state.checkpoint_storage import (
    API_VERSION,
    UNFINISHED,
    CheckpointStorage,
    Operation,
    check_range,
    parse_name,
    storage_failure,
)

__all__ = ["DirectoryStorage"]

_READ_SIZE_BYTES = 1 << 30
"""Linux hands out at most 2 GiB at once."""

_HINTS = {
    errno.ENOSPC: "Free space there.",
    errno.EDQUOT: "Raise the quota, or free space there.",
    errno.EFBIG: "The file system or a limit of the process (ulimit -f) allows no file of this size.",
    errno.EROFS: "Mount the file system for writing.",
    errno.EACCES: "Give the user that zmflow runs as the right to it.",
    errno.EPERM: "Give the user that zmflow runs as the right to it.",
    errno.EEXIST: "Something on the way there is a file: name another directory.",
    errno.ENOTDIR: "Something on the way there is a file: name another directory.",
    errno.ENOTEMPTY: "Something that is no file of a checkpoint is in it, or it is still written into.",
    errno.ENOENT: "Every machine must reach the directory: is it mounted on this one?",
}
_NO_FLUSH_OF_DIRECTORIES = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EBADF})
"""What network file systems answer that flush the directory with the file."""


class DirectoryStorage(CheckpointStorage):
    """The files of one checkpoint, in a directory. It holds nothing itself: others may write there, too."""

    api_version: ClassVar[int] = API_VERSION

    def __init__(self, location: str, settings: Settings) -> None:
        super().__init__(location, settings)
        self._directory = Path(location)
        if self._directory.parent == self._directory:
            raise ConfigurationError(
                "The root directory cannot be a checkpoint.", detail=location, hint="Name a directory in it."
            )

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        path = self._path(name)
        unfinished = path.with_name(f"{path.name}.{os.urandom(8).hex()}{UNFINISHED}")
        with _failures_of("write", path):
            _make_directory(path.parent)
            # Not the mode of mkstemp: who restores may be another user, the umask decides.
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            try:
                size = _write_all(descriptor, path, parts)
            finally:
                os.close(descriptor)
            with _failures_of("write", path):
                unfinished.replace(path)
                _flush_directory(path.parent)
        except BaseException:
            with suppress(OSError):
                unfinished.unlink()
            raise
        return size

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        path = self._path(name)
        with _failures_of("read", path):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                found = os.fstat(descriptor).st_size
                return _read_all(descriptor, path, offset, check_range(str(path), found, offset, size))
            finally:
                os.close(descriptor)

    def fetch(self, name: str, path: Path) -> None:
        source = self._path(name)
        # A link costs nothing, but leads to another file system's files nowhere.
        with suppress(OSError):
            path.hardlink_to(source)
            return
        super().fetch(name, path)

    def size(self, name: str) -> int:
        path = self._path(name)
        with _failures_of("read", path):
            return path.stat().st_size

    def delete(self, names: Iterable[str]) -> None:
        failures = []
        for path in [self._path(name) for name in names]:
            try:
                with _failures_of("delete", path), suppress(FileNotFoundError, NotADirectoryError):
                    path.unlink()
            except CheckpointStorageError as failure:
                failures.append(failure)
        if failures:
            raise failures[0]

    def delete_all(self, kept: Container[str] = ()) -> None:
        # Only files, never a tree: what is not a checkpoint but was called one must survive this.
        with _failures_of("delete", self._directory), suppress(FileNotFoundError, NotADirectoryError):
            stay = False
            for entry in self._entries():
                if entry.name in kept:
                    stay = True
                elif not entry.is_dir(follow_symlinks=False):
                    Path(entry.path).unlink(missing_ok=True)
            if not stay:
                self._directory.rmdir()

    def list(self) -> Iterator[tuple[str, int]]:
        files = []
        with _failures_of("list", self._directory), suppress(FileNotFoundError, NotADirectoryError):
            for entry in self._entries():
                if entry.is_file() and not entry.name.endswith(UNFINISHED):
                    with suppress(FileNotFoundError):  # deleted meanwhile
                        files.append((entry.name, entry.stat().st_size))
        return iter(sorted(files))

    def locations_with(self, name: str, depth_max: int) -> Iterator[str]:
        found = []
        with _failures_of("list", self._directory):
            for at, below, names in os.walk(self._directory):
                if name in names:
                    found.append(at)
                    below.clear()
                elif len(Path(at).relative_to(self._directory).parts) >= depth_max:
                    below.clear()
        return iter(found)

    def _path(self, name: str) -> Path:
        shared, plain = parse_name(name)
        return (self._directory.parent / "shared" if shared else self._directory) / plain

    def _entries(self) -> tuple[os.DirEntry[str], ...]:
        with os.scandir(self._directory) as entries:
            return tuple(entries)


def _write_all(descriptor: int, path: Path, parts: Iterable[bytes | memoryview]) -> int:
    size = 0
    for part in parts:
        rest = memoryview(part).cast("B")
        size += len(rest)
        with _failures_of("write", path):
            while rest:
                rest = rest[os.write(descriptor, rest) :]
    with _failures_of("write", path):
        os.fsync(descriptor)
    return size


def _read_all(descriptor: int, path: Path, offset: int, size: int) -> bytes:
    parts = []
    end = offset + size
    while offset < end:
        part = os.pread(descriptor, min(end - offset, _READ_SIZE_BYTES), offset)
        if not part:  # cut meanwhile
            check_range(str(path), offset, offset, end - offset)
        parts.append(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _make_directory(directory: Path) -> None:
    """Make a directory and those above it, so that they outlive a loss of power like the file in it."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    _flush_directory(directory.parent)


def _flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH_OF_DIRECTORIES:
            raise
    finally:
        os.close(descriptor)


@contextmanager
def _failures_of(operation: Operation, path: Path) -> Iterator[None]:
    """Say of what the operating system refuses where it was, why, and what to do."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        missing = operation == "read" and error.errno in (errno.ENOENT, errno.ENOTDIR)
        hint = _HINTS.get(error.errno or 0)
        raise storage_failure(operation, str(path), reason, hint=hint, missing=missing) from error
