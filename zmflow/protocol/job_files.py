"""Files that travel with a job: to each TaskManager that runs some of it once, and never with its tasks.

The JobGraph carries them, the JobManager sends each to a TaskManager before the first tasks that may need it,
and a ``TaskDeployment`` only names them.

=============  ========  ====================================================================
Message        From → to  Meaning
=============  ========  ====================================================================
StoreJobFile   JM → TM    keep this file of a job until it is dropped
DropJobFiles   JM → TM    nothing of the job is left there: remove its files and copies of state
=============  ========  ====================================================================
"""

from __future__ import annotations

import hashlib
from typing import Literal, TypeAlias

import msgspec

from zmflow.protocol.control_message import ControlMessage

__all__ = [
    "DropJobFiles",
    "JobFile",
    "JobFileKind",
    "JobFileMessage",
    "StoreJobFile",
    "named",
    "new_job_file",
]

JobFileKind: TypeAlias = Literal["python", "file", "directory"]


class JobFile(msgspec.Struct, frozen=True, array_like=True):
    """One file. Files of one ``digest`` are one file on a TaskManager, whatever they are called."""

    name: str  # what the job calls it
    kind: JobFileKind  # a module or archive to import; a file; a directory, as a zip archive
    file_name: str  # what it is called on disk
    digest: str  # of everything but the name
    size_bytes: int  # of the content
    executable: bool = False
    content: bytes = b""  # empty where the file is only named


def new_job_file(
    name: str, kind: JobFileKind, content: bytes, *, file_name: str = "", executable: bool = False
) -> JobFile:
    """A file with its digest.

    >>> one, other = (new_job_file(name, "file", b"x", file_name="x.txt") for name in ("one", "other"))
    >>> one.digest == other.digest
    True
    """
    file_name = file_name or name
    digest = hashlib.blake2b(digest_size=16)
    for part in (kind.encode(), file_name.encode(), b"x" if executable else b""):
        digest.update(len(part).to_bytes(4, "big") + part)
    digest.update(content)
    return JobFile(name, kind, file_name, digest.hexdigest(), len(content), executable, content)


def named(file: JobFile) -> JobFile:
    """The file without what is in it."""
    return msgspec.structs.replace(file, content=b"")


class StoreJobFile(ControlMessage, frozen=True):
    job_id: str
    file: JobFile


class DropJobFiles(ControlMessage, frozen=True):
    job_id: str


JobFileMessage: TypeAlias = StoreJobFile | DropJobFiles
