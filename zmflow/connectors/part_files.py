"""Part files on their way to being visible: being written, closed and waiting, committed."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar

from zmflow.api.sinks import CommitRequest, Committer
from zmflow.connectors.file_listing import os_failure

__all__ = ["OpenPart", "PartCommitter", "PartEncoder", "PartFile", "PendingPart", "sync_directories"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)

WRITE_BUFFER_SIZE_BYTES = 256 * 1024
"""Batches may be single records; this many bytes go to the system at a time."""

COPY_SIZE_BYTES = 1024 * 1024
"""What a restored part is copied in where the system cannot do it alone."""


class PartEncoder(ABC, Generic[T_contra]):
    """Writes the records of one part file in a format."""

    @abstractmethod
    def write(self, values: Sequence[T_contra]) -> None:
        """Write a batch."""

    def finish(self) -> None:
        """The part is complete: write what belongs at its end."""

    def abandon(self) -> None:
        """Nobody goes on with the part: write nothing any more."""


OpenEncoder = Callable[[BinaryIO], PartEncoder[Any]]
"""Begins a part in a format."""


@dataclass(frozen=True, slots=True)
class PendingPart:
    """The committable: a closed file to be given its final name. Paths are relative to the sink's directory.

    Without a final name the file is to be removed: a restored attempt has copied it.
    """

    hidden: str
    final: str | None


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part in a checkpoint that did not close it: what of it belongs to the checkpoint."""

    hidden: str
    final: str
    bucket: str
    length: int
    begun_ms: int


class PartFile(Generic[T]):
    """A part that is being written.

    Args:
        directory: the sink's.
        hidden, final: its names, relative to that.
        bucket: what it is the part of.
        now_ms: the time.
    """

    def __init__(self, directory: Path, hidden: str, final: str, bucket: str, now_ms: int) -> None:
        self.path = directory / hidden
        self.hidden, self.final, self.bucket = hidden, final, bucket
        self.begun_ms = self.written_ms = now_ms
        self._file = self.path.open("wb", buffering=WRITE_BUFFER_SIZE_BYTES)
        self._synced_bytes: int | None = None
        self._encoder: PartEncoder[T] | None = None

    def begin(self, open_encoder: OpenEncoder) -> None:
        """Records come."""
        self._encoder = open_encoder(self._file)

    def copy(self, source: Path, length: int) -> None:
        """Begin with the first bytes of another file."""
        with source.open("rb") as file:
            while length > 0:
                data = file.read(min(length, COPY_SIZE_BYTES))
                if not data:
                    raise EOFError
                self._file.write(data)
                length -= len(data)

    def write(self, values: Sequence[T], now_ms: int) -> None:
        """Write a batch."""
        assert self._encoder is not None
        try:
            self._encoder.write(values)
        except OSError as error:
            raise self._failure(error) from None
        self.written_ms = now_ms

    def size_bytes(self) -> int:
        """How much was written."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand everything to the system."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def sync(self) -> OpenPart:
        """Let everything reach the disk, and go on; what a checkpoint keeps of the part."""
        size_bytes = self.size_bytes()
        if size_bytes != self._synced_bytes:  # of many buckets, most have got nothing since
            self.flush()
            try:
                os.fsync(self._file.fileno())
            except OSError as error:
                raise self._failure(error) from None
            self._synced_bytes = size_bytes
        return OpenPart(self.hidden, self.final, self.bucket, size_bytes, self.begun_ms)

    def seal(self) -> PendingPart:
        """The part is complete and on the disk."""
        try:
            if self._encoder is not None:
                self._encoder.finish()
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise self._failure(error) from None
        return PendingPart(self.hidden, self.final)

    def abandon(self) -> None:
        """Nobody goes on with it."""
        if self._encoder is not None:
            self._encoder.abandon()
        with suppress(OSError):  # a full disk: what is in the buffer is not wanted
            self._file.close()

    def _failure(self, error: OSError) -> Exception:
        return os_failure("The output file cannot be written", str(self.path), error)


class PartCommitter(Committer[PendingPart]):
    """Gives closed parts their final names: from then on they are visible, whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def commit(self, requests: Sequence[CommitRequest[PendingPart]]) -> None:
        changed = set()
        for request in requests:
            pending = request.committable
            hidden = self._directory / pending.hidden
            try:
                if pending.final is None:
                    hidden.unlink(missing_ok=True)
                else:
                    hidden.replace(self._directory / pending.final)
            except FileNotFoundError:
                assert pending.final is not None
                if (self._directory / pending.final).exists():
                    request.signal_already_committed()
                else:
                    request.signal_failed(
                        f"There is neither {pending.final} nor {pending.hidden} in {self._directory}: "
                        "somebody has removed the file."
                    )
                continue
            except OSError as error:
                final = str(self._directory / (pending.final or pending.hidden))
                raise os_failure("The output file cannot be completed", final, error) from None
            changed.add(hidden.parent)
        # Else a machine that goes down could come back with the old names, and no checkpoint that knows them.
        sync_directories(changed)


def sync_directories(directories: Iterable[Path]) -> None:
    """Let the names in directories reach the disk."""
    for directory in sorted(directories):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno != errno.EINVAL:  # some file systems know no such thing, and need none
                raise os_failure("The output directory cannot be written", str(directory), error) from None
