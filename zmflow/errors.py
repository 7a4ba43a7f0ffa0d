"""The one tree of exceptions, and the exit code each branch gives the command line.

::

    ZmflowError                   1
    ├── ConfigurationError        2   a setting, an option or a file of settings is wrong
    ├── JobGraphError             2   the program describes a dataflow that cannot run
    │   └── SerializationError    2   something in it cannot be pickled
    ├── ConnectorError            1   a source or sink met bad data, a missing file, a full disk
    ├── StateError                1   a function asks for state that it cannot have
    │   └── RestoreError          1   a snapshot cannot be restored, however often it is tried
    ├── CheckpointStorageError    1   the files of a checkpoint cannot be written, read or deleted
    │   ├── CheckpointFileDamagedError
    │   └── CheckpointFileMissingError
    ├── JobError                  1   a job did not reach FINISHED
    │   ├── JobFailedError        1
    │   └── JobCanceledError      4
    ├── ClusterError              3   the cluster cannot be reached or refuses us
    │   ├── JobManagerUnreachableError
    │   ├── IncompatiblePeerError
    │   └── AddressInUseError
    └── ProtocolError             3   bytes that are not a frame or a message of ours

Every error says what failed (``message``), about which object (``detail``) and what to do next
(``hint``); the command line prints the three parts and, with ``--debug``, the traceback.
"""

from __future__ import annotations

__all__ = [
    "AddressInUseError",
    "CheckpointFileDamagedError",
    "CheckpointFileMissingError",
    "CheckpointStorageError",
    "ClusterError",
    "ConfigurationError",
    "ConnectorError",
    "IncompatiblePeerError",
    "JobCanceledError",
    "JobError",
    "JobFailedError",
    "JobGraphError",
    "JobManagerUnreachableError",
    "ProtocolError",
    "RestoreError",
    "SerializationError",
    "StateError",
    "ZmflowError",
]


class ZmflowError(Exception):
    """What failed, about which object, and what to do next.

    Args:
        message: one sentence saying what failed.
        detail: the object it is about, or the evidence; may have several lines.
        hint: what the reader can do next.

    >>> error = ZmflowError("The port is taken.", detail="tcp://127.0.0.1:6123", hint="Choose another.")
    >>> print(error)
    The port is taken.
    tcp://127.0.0.1:6123
    Hint: Choose another.
    """

    exit_code = 1

    def __init__(self, message: str, *, detail: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.detail:
            parts.append(self.detail)
        if self.hint:
            parts.append(f"Hint: {self.hint}")
        return "\n".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders; keyword-only arguments need a hand to be pickled.
        return _rebuild, (type(self), self.message, self.detail, self.hint)


def _rebuild(kind: type[ZmflowError], message: str, detail: str | None, hint: str | None) -> ZmflowError:
    return kind(message, detail=detail, hint=hint)


class ConfigurationError(ZmflowError):
    """A setting, an option or a settings file is wrong."""

    exit_code = 2


class JobGraphError(ZmflowError):
    """The program describes a dataflow that cannot run; the operator is named."""

    exit_code = 2


class SerializationError(JobGraphError):
    """A function, source or sink cannot be pickled; the offending variable is named."""


class ConnectorError(ZmflowError):
    """A source or sink met bad data, a missing file or a device that refused."""


class StateError(ZmflowError):
    """State was declared or used in a way that cannot work; the state is named."""


class RestoreError(StateError):
    """State of a snapshot is damaged, missing or cannot be read: trying again does not help."""


class CheckpointStorageError(ZmflowError):
    """A file of a checkpoint cannot be written, read or deleted; its place and the reason are named."""


class CheckpointFileDamagedError(CheckpointStorageError):
    """A file of a checkpoint is shorter than it should be. Trying again does not help."""


class CheckpointFileMissingError(CheckpointStorageError):
    """A file of a checkpoint is not there. Trying again does not help."""


class JobError(ZmflowError):
    """A job did not reach FINISHED."""


class JobFailedError(JobError):
    """A job failed. ``detail`` begins with the user's own traceback where user code raised."""


class JobCanceledError(JobError):
    """A job was cancelled while somebody waited for its result."""

    exit_code = 4


class ClusterError(ZmflowError):
    """The cluster cannot be reached, or refuses what was asked."""

    exit_code = 3


class JobManagerUnreachableError(ClusterError):
    """No JobManager answered at the configured address in time."""


class IncompatiblePeerError(ClusterError):
    """The other side speaks another protocol version or runs another Python minor version."""


class AddressInUseError(ClusterError):
    """The address a daemon was told to bind is taken."""


class ProtocolError(ZmflowError):
    """Received bytes are not a frame or message of this protocol version."""

    exit_code = 3
