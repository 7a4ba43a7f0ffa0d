"""The files of jobs on a TaskManager's disk: written once, read by all its workers of the job.

A file lies under its digest: ``<job>/<digest>/<file name>``. It appears there complete or not at all.
"""

from __future__ import annotations

import io
import re
import shutil
import zipfile
from pathlib import Path

from zmflow.errors import ProtocolError
from zmflow.protocol.job_files import JobFile

__all__ = ["JobFileStore", "stored_path"]

_DIGEST = re.compile(r"[0-9a-f]{32}")

ZIP_MODE_SHIFT = 16
"""Where a zip entry made on Unix keeps the mode of its file: in the upper half of its attributes."""

ANY_EXECUTE = 0o111


def stored_path(directory: Path, file: JobFile) -> Path:
    """Where a file is in its job's directory.

    Raises:
        ProtocolError: its names are not plain names.
    """
    name = file.file_name
    if Path(name).name != name or name in ("", ".", "..") or _DIGEST.fullmatch(file.digest) is None:
        raise ProtocolError("A job ships a file with a path for a name.", detail=repr(name))
    return directory / file.digest / name


class JobFileStore:
    """The files of all jobs of one TaskManager, below one directory, which is made when it is needed."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def directory_of(self, job_id: str) -> Path:
        """Where the files of a job are."""
        return self._directory / job_id

    def store(self, job_id: str, file: JobFile) -> None:
        """Write a file, or unpack a directory. One that is there is left alone.

        Raises:
            OSError: it cannot be written; nothing of it is left.
            ProtocolError: its name is not a plain name, or it is not what it says it is.
        """
        path = stored_path(self.directory_of(job_id), file)
        if path.parent.exists():
            return
        unfinished = path.parent.with_suffix(".part")
        try:
            unfinished.mkdir(mode=0o700, parents=True)
            if file.kind == "directory":
                _unpack(file, unfinished / path.name)
            else:
                _write(unfinished / path.name, file.content, executable=file.executable)
            unfinished.rename(path.parent)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise

    def drop(self, job_id: str) -> None:
        """Remove the files of a job."""
        shutil.rmtree(self.directory_of(job_id), ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _write(path: Path, content: bytes, *, executable: bool) -> None:
    path.write_bytes(content)
    # Nobody's to change: other workers read the same file.
    path.chmod(0o555 if executable else 0o444)


def _unpack(file: JobFile, directory: Path) -> None:
    directory.mkdir()
    try:
        with zipfile.ZipFile(io.BytesIO(file.content)) as archive:
            for entry in archive.infolist():
                if entry.is_dir():
                    archive.extract(entry, directory)  # which keeps it inside the directory
                    continue
                path = Path(archive.extract(entry, directory))
                mode = entry.external_attr >> ZIP_MODE_SHIFT
                path.chmod(0o555 if file.executable or mode & ANY_EXECUTE else 0o444)
    except zipfile.BadZipFile as error:
        raise ProtocolError(f"The directory {file.name!r} of a job is damaged.", detail=str(error)) from None
