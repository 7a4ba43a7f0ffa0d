"""What goes into the brains of ``coordination`` and what comes out.

A brain has one shape (design D7)::

    handle(event, now_ms) -> list[Effect]     decide; effects are carried out in this order
    deadline_ms() -> int | None               when to call handle(DeadlinePassed(), now_ms)
    check() -> None                           assert every invariant
    story(*ids) -> list[Entry]                what happened to these, and why; bounded

Times are monotonic milliseconds given by the caller. ``Send`` effects are in the order in which
their messages must leave; nothing else in the list may be reordered around them.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

import msgspec

from zmflow.protocol.checkpoint_metadata import CheckpointMetadata
from zmflow.protocol.job_files import JobFile
from zmflow.protocol.messages import GetLogs, Message, Refused, ResourceProfile

__all__ = [
    "CheckpointLoaded",
    "CheckpointStored",
    "DeadlinePassed",
    "DiscardCheckpoint",
    "DropFiles",
    "Effect",
    "Entry",
    "Event",
    "FromJobManager",
    "FromWorker",
    "GiveUp",
    "JobManagerLost",
    "KillWorker",
    "LoadCheckpoint",
    "Log",
    "MemoryExceeded",
    "MessageReceived",
    "PeerGone",
    "ReadLogs",
    "Send",
    "SendToJobManager",
    "SendToWorker",
    "StartWorker",
    "StoreCheckpoint",
    "StoreFile",
    "Story",
    "WorkerExited",
]

STORY_ENTRIES_MAX = 10_000
"""Some minutes of a busy leader at about 200 bytes an entry: 2 MB."""


class _Struct(msgspec.Struct, frozen=True):
    pass


# -- events of every brain ------------------------------------------------------------------------


class DeadlinePassed(_Struct, frozen=True):
    """The instant ``deadline_ms`` named has come."""


# -- events and effects of the JobManager's brain -------------------------------------------------


class MessageReceived(_Struct, frozen=True):
    """A message from a connection. ``peer`` identifies the connection, not the sender."""

    peer: bytes
    message: Message
    wall_ms: int = 0  # wall clock, only for what people see


class PeerGone(_Struct, frozen=True):
    """A connection is closed; nothing can be sent to it any more."""

    peer: bytes


class Send(_Struct, frozen=True):
    """Send a message to a connection."""

    peer: bytes
    message: Message


class Log(_Struct, frozen=True):
    """A line for the log of this process: a sentence, and the ids it is about."""

    level: Literal["debug", "info", "warning", "error"]
    sentence: str
    fields: dict[str, str] = {}


class StoreCheckpoint(_Struct, frozen=True):
    """Write the metadata of a checkpoint into its location; ``CheckpointStored`` will follow.

    What a job asks of the storage is done in its order, beside the JobManager's own work.
    """

    job_id: str
    checkpoint_id: int
    location: str
    metadata: CheckpointMetadata


class CheckpointStored(_Struct, frozen=True):
    """The metadata of a checkpoint was written; or was not, for the reason in ``error``."""

    job_id: str
    checkpoint_id: int
    error: str = ""


class LoadCheckpoint(_Struct, frozen=True):
    """Read a snapshot that a job is to begin from; ``CheckpointLoaded`` will follow."""

    job_id: str
    location: str


class CheckpointLoaded(_Struct, frozen=True):
    """A snapshot was read; or cannot be, for the reason in ``error``, and then there is no metadata."""

    job_id: str
    location: str
    metadata: CheckpointMetadata | None
    stateful: frozenset[str] = frozenset()  # ids of the operators that have state in it
    error: str = ""
    hint: str = ""


class DiscardCheckpoint(_Struct, frozen=True):
    """Delete these files of a location, or the location with everything in it, but what is kept, when none
    are named.

    Nothing follows: files that cannot be deleted are told in the log.
    """

    job_id: str
    location: str
    names: tuple[str, ...] = ()
    kept: frozenset[str] = frozenset()


# -- events and effects of the TaskManager's brain ------------------------------------------------


class FromJobManager(_Struct, frozen=True):
    """A message from the JobManager this TaskManager is connected to."""

    message: Message


class JobManagerLost(_Struct, frozen=True):
    """The connection to the JobManager was given up by the shell (it will dial again)."""

    reason: str


class FromWorker(_Struct, frozen=True):
    """A message from the worker of an allocation."""

    allocation_id: str
    message: Message


class WorkerExited(_Struct, frozen=True):
    """The worker process of an allocation is gone. ``reason`` is a sentence about how it went."""

    allocation_id: str
    reason: str


class MemoryExceeded(_Struct, frozen=True):
    """The worker of an allocation uses more memory than its ``StartWorker`` allowed."""

    allocation_id: str
    used_bytes: int


class SendToJobManager(_Struct, frozen=True):
    """Send over the connection to the JobManager; kept while it is being dialled."""

    message: Message


class SendToWorker(_Struct, frozen=True):
    """Send to the worker of an allocation; dropped when its process is gone."""

    allocation_id: str
    message: Message


class StartWorker(_Struct, frozen=True):
    """Fork a worker for this allocation; ``WorkerReady`` or ``WorkerExited`` will follow.

    ``external`` are the pieces of named resources that are this slot's. With a ``memory_limit_bytes`` other
    than 0, ``MemoryExceeded`` follows when the worker is seen to use more.
    """

    allocation_id: str
    slot_index: int
    job_id: str
    resources: ResourceProfile = ResourceProfile()
    external: dict[str, list[int]] = {}
    memory_limit_bytes: int = 0


class KillWorker(_Struct, frozen=True):
    """SIGKILL the worker of this allocation; ``WorkerExited`` will follow."""

    allocation_id: str
    reason: str


class ReadLogs(_Struct, frozen=True):
    """Read the newest log lines of a job and send them to the JobManager as a ``LogChunk`` with this
    request's epoch, request id, job id and ``reply_to``; ``pending`` is the JobManager's to fill."""

    request: GetLogs


class StoreFile(_Struct, frozen=True):
    """Write a file of a job to this TaskManager's disk, for all of its workers of the job."""

    job_id: str
    file: JobFile


class DropFiles(_Struct, frozen=True):
    """Remove every file of a job, and all copies of its state; none of its tasks runs here any more."""

    job_id: str


class GiveUp(_Struct, frozen=True):
    """The JobManager refuses this TaskManager: end the process with this error."""

    refused: Refused


Event: TypeAlias = (
    DeadlinePassed
    | MessageReceived
    | PeerGone
    | CheckpointStored
    | CheckpointLoaded
    | FromJobManager
    | JobManagerLost
    | FromWorker
    | WorkerExited
    | MemoryExceeded
)
Effect: TypeAlias = (
    Send
    | Log
    | StoreCheckpoint
    | LoadCheckpoint
    | DiscardCheckpoint
    | SendToJobManager
    | SendToWorker
    | StartWorker
    | KillWorker
    | ReadLogs
    | StoreFile
    | DropFiles
    | GiveUp
)


class Entry(_Struct, frozen=True):
    """One line of a story: when, about what, what happened and what caused it."""

    at_ms: int
    subject: str
    sentence: str
    cause: str


class Story:
    """A bounded record of what a brain decided, newest last."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=STORY_ENTRIES_MAX)

    def tell(self, at_ms: int, subject: str, sentence: str, cause: str) -> None:
        """Add an entry."""
        self._entries.append(Entry(at_ms, subject, sentence, cause))

    def about(self, *subjects: str) -> list[Entry]:
        """The entries about these subjects; all entries when none is given."""
        return [entry for entry in self._entries if not subjects or entry.subject in subjects]
