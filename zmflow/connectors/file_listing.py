"""Which files a path stands for: a file, a directory read recursively, or a glob; always in the same order.

Directories follow symbolic links; one that leads back to a directory above it is not followed again.
Names that begin with a dot are hidden and skipped, and so are sockets, pipes and devices found in a
directory. What is named explicitly is never skipped: it is read, or refused with a reason.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TypeAlias

from zmflow.errors import ConnectorError

__all__ = ["FileListing", "FileStatus", "Identity", "PathLike", "os_failure"]

PathLike = str | os.PathLike[str]

Identity: TypeAlias = tuple[int, int]
"""Device and inode: what stays the same when a file is renamed."""


@dataclass(frozen=True, slots=True)
class FileStatus:
    """A file to read, and its size and which one it was when it was listed."""

    path: str
    size_bytes: int
    identity: Identity = field(default=(0, 0), compare=False, repr=False)


def os_failure(what: str, path: str, error: OSError, hint: str | None = None) -> ConnectorError:
    """The ConnectorError for an operating system's refusal: what failed, on which path, why."""
    reason = error.strerror or str(error)
    return ConnectorError(f"{what}: {reason}.", detail=path, hint=hint)


class FileListing:
    """The files of some paths.

    Args:
        paths: files, directories or globs (``logs/2026-*/``, ``**`` for any depth). Relative ones are
            taken from the directory of the process that makes this object, not of the worker.
        pattern: which files of directories to read, matched from the right as ``PurePath.match`` does:
            ``*.csv``, or ``2026/*.csv`` for the last two parts.
        exclude: names of files and directories to pass over inside directories; globs.
        patient: what is missing, or goes while it is being listed, is not there yet, and no error.
    """

    def __init__(
        self,
        paths: PathLike | Sequence[PathLike],
        pattern: str | None,
        exclude: Sequence[str] = (),
        *,
        patient: bool = False,
    ) -> None:
        several = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
        if not several:
            raise ConnectorError("A file source needs at least one path.", hint="Give a file or a directory.")
        # Textual, not resolved: a symbolic link may mean another place on the worker's machine.
        self.paths = tuple(str(Path(path).absolute()) for path in several)
        self.pattern = pattern
        self.exclude = (exclude,) if isinstance(exclude, str) else tuple(exclude)
        self.patient = patient

    def files(self) -> list[FileStatus]:
        """Every file once, in the order of the paths and sorted by name inside directories.

        Raises:
            ConnectorError: a path is missing or unreadable, or nothing matches it.
        """
        found: dict[str, FileStatus] = {}
        for path in self.paths:
            for status in self._files_of(path):
                found.setdefault(status.path, status)
        return list(found.values())

    def _files_of(self, path: str) -> Iterator[FileStatus]:
        try:
            status = Path(path).stat()
        except FileNotFoundError as error:
            if glob.has_magic(path) and not Path(path).is_symlink():
                return self._files_of_glob(path)
            if self.patient:
                return iter(())
            hint = "The path must exist on every machine that reads it."
            raise os_failure("The input cannot be read", path, error, hint) from None
        except OSError as error:
            raise os_failure("The input cannot be read", path, error) from None
        if stat.S_ISREG(status.st_mode):
            return iter([FileStatus(path, status.st_size, _identity(status))])
        if not stat.S_ISDIR(status.st_mode):
            raise ConnectorError("The input is neither a file nor a directory.", detail=path)
        files = list(self._walk(path, (_identity(status),)))
        if not files and not self.patient:
            raise ConnectorError(
                "The input directory holds no file to read.",
                detail=path + (f" (pattern {self.pattern!r})" if self.pattern else ""),
                hint="Hidden files are skipped. Check the pattern.",
            )
        return iter(files)

    def _files_of_glob(self, path: str) -> Iterator[FileStatus]:
        found = False
        matches = glob.glob(path, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute pattern
        for match in sorted(str(Path(match)) for match in matches):  # without the slash of "dir/"
            try:
                status = Path(match).stat()
            except FileNotFoundError:
                if self.patient:
                    continue
                raise
            if stat.S_ISDIR(status.st_mode):
                files = self._walk(match, (_identity(status),))
            else:
                files = self._files_of(match)
            for file in files:
                found = True
                yield file
        if not found and not self.patient:
            raise ConnectorError("No file matches the input pattern.", detail=path)

    def _walk(self, directory: str, above: tuple[tuple[int, int], ...]) -> Iterator[FileStatus]:
        try:
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            if self.patient and isinstance(error, FileNotFoundError):
                return
            raise os_failure("The input directory cannot be read", directory, error) from None
        for name in names:
            if name.startswith(".") or any(fnmatch.fnmatchcase(name, glob_) for glob_ in self.exclude):
                continue
            path = f"{directory}/{name}"
            try:
                status = Path(path).stat()
            except OSError as error:
                if not self._matches(path) or (self.patient and isinstance(error, FileNotFoundError)):
                    continue
                hint = "It is a broken symbolic link." if Path(path).is_symlink() else None
                raise os_failure("A file of the input directory cannot be read", path, error, hint) from None
            if stat.S_ISDIR(status.st_mode):
                if _identity(status) not in above:
                    yield from self._walk(path, (*above, _identity(status)))
            elif stat.S_ISREG(status.st_mode) and self._matches(path):
                yield FileStatus(path, status.st_size, _identity(status))

    def _matches(self, path: str) -> bool:
        return self.pattern is None or PurePath(path).match(self.pattern)


def _identity(status: os.stat_result) -> Identity:
    return status.st_dev, status.st_ino
