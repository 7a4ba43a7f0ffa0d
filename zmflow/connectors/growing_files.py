"""Files that grow while they are read, such as logs: ``FileSource`` with ``follow=True``.

A file is known by its device and inode, so it stays the same file when it is renamed:

- appended: what ends with a whole record is read, at most an interval later;
- renamed (rotation): the file under the old name is a new one, read from its start; the renamed one is read
  on, wherever it is in its directory, until nothing was appended to it for a minute;
- truncated: it is shorter than what was read of it, and is read from its start. A writer that truncates a
  file after copying it loses what was written in between; and one that grew beyond what was read before
  anybody looked cannot be told from one that was appended to;
- deleted: given up. What was appended since the last look is lost, and so is the end of a record whose rest
  never comes;
- compressed: passed over, for it is a copy of what was read.

A file system that gives the inode of a deleted file to a new one within an interval makes it look truncated.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from zmflow.api.sources import EndOfInput, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.connectors.file_formats import PositionedFormat
from zmflow.connectors.file_listing import FileListing, Identity, os_failure
from zmflow.connectors.file_splits import FileSplit
from zmflow.connectors.line_blocks import LINE_LENGTH_MAX_BYTES
from zmflow.errors import ConnectorError

__all__ = ["GrowingFile", "GrowingFileEnumerator", "GrowingFileReader"]

T = TypeVar("T")

BLOCK_SIZE_BYTES = 64 * 1024
"""What is read of one file before it is another's turn."""

QUIET_AFTER_RENAME_S = 60.0
"""A writer goes on with a renamed file until it opens a new one, which takes it seconds."""


@dataclass(frozen=True, slots=True)
class GrowingFile:
    """A file, where it was seen last, and how far it was read."""

    path: str
    identity: Identity
    position: int = 0
    renamed: bool = False


class GrowingFileEnumerator(SplitEnumerator[GrowingFile]):
    """Looks for files all the time and gives each to the reader that has waited longest, for good.

    What was found is remembered for as long as it is listed, so the state is as large as the listing. What
    is renamed while it is being listed may be missed, so only what is missing twice in a row is forgotten.

    Args:
        context: the engine's.
        listing: where to look.
        followed: whether a path is of a file that can be followed.
        interval_ms: how often to look.
        restored: the state of a checkpoint.
    """

    def __init__(
        self,
        context: SplitEnumeratorContext[GrowingFile],
        listing: FileListing,
        followed: Callable[[str], bool],
        interval_ms: int,
        restored: tuple[Iterable[GrowingFile], Iterable[Identity]] = ((), ()),
    ) -> None:
        self._context = context
        self._listing = listing
        self._followed = followed
        self._interval_ms = interval_ms
        self._left = deque(restored[0])
        self._seen = set(restored[1])
        self._listed_last = self._seen
        self._waiting: dict[int, None] = {}

    def start(self) -> None:
        self._discover()
        self._context.call_periodically(self._interval_ms, self._discover)

    def handle_split_request(self, subtask: int) -> None:
        self._waiting[subtask] = None
        self._serve()

    def add_splits_back(self, splits: Sequence[GrowingFile], subtask: int) -> None:  # noqa: ARG002
        self._left.extendleft(reversed(splits))

    def snapshot_state(
        self,
        checkpoint_id: int,  # noqa: ARG002 - of the interface
    ) -> tuple[list[GrowingFile], list[Identity]]:
        return list(self._left), sorted(self._seen)

    def _discover(self) -> None:
        listed = {file.identity: file.path for file in self._listing.files() if self._followed(file.path)}
        if not listed:
            return  # as for ContinuousFileEnumerator: nothing at all is nothing to go by
        self._left.extend(
            GrowingFile(path, identity) for identity, path in listed.items() if identity not in self._seen
        )
        self._seen = self._listed_last | listed.keys()
        self._listed_last = set(listed)
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._left:
            subtask = next(iter(self._waiting))
            del self._waiting[subtask]
            self._context.assign_splits([self._left.popleft()], subtask)


class _Followed:
    """A file that is followed, and when to look at it."""

    def __init__(self, file: GrowingFile, now: float) -> None:
        self.file = file
        self.look_at = now
        self.grew_at = now
        self.missing = False


class GrowingFileReader(SourceReader[T, GrowingFile], Generic[T]):
    """Reads what is appended to its files, a block of one after a block of another.

    Args:
        stream_format: of the records.
        interval_s: how long a file that has not grown is left alone.
        clock: in seconds.
    """

    def __init__(
        self,
        stream_format: PositionedFormat[T],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._format = stream_format
        self._interval_s = interval_s
        self._clock = clock
        self._files: deque[_Followed] = deque()
        self._complete = False

    def add_splits(self, splits: Sequence[GrowingFile]) -> None:
        self._files.extend(_Followed(file, self._clock()) for file in splits)

    def notify_no_more_splits(self) -> None:
        self._complete = True

    def poll_next(self) -> Sequence[T] | EndOfInput | None:
        now = self._clock()
        for _ in range(len(self._files)):
            followed = self._files.popleft()
            if followed.look_at > now:
                self._files.append(followed)
                continue
            records = self._look(followed, now)
            if records is not None:
                self._files.append(followed)
            if records:
                return records
        return EndOfInput.END if self._complete and not self._files else None

    def poll_again_after_s(self) -> float | None:
        if not self._files:
            return None
        return max(0.0, min(followed.look_at for followed in self._files) - self._clock())

    def snapshot_state(self, checkpoint_id: int) -> list[GrowingFile]:  # noqa: ARG002 - of the interface
        return [followed.file for followed in self._files]

    def _look(self, followed: _Followed, now: float) -> Sequence[T] | None:
        """What was appended to a file; None where it is followed no longer."""
        found = _find(followed.file)
        if found is None:
            if followed.missing:
                return None
            followed.missing = True  # it may have been renamed while its directory was being read
            followed.look_at = now + self._interval_s
            return ()
        followed.missing = False
        path, size = found
        file = followed.file
        if path != file.path:
            followed.grew_at = now
            file = replace(file, path=path, renamed=True)
        if size < file.position:
            file = replace(file, position=0)
        followed.file = file
        end = self._whole_records_end(file)
        if end == file.position:
            followed.look_at = now + self._interval_s
            return None if file.renamed and now - followed.grew_at > QUIET_AFTER_RENAME_S else ()
        split = FileSplit(file.path, file.position, end)
        records = [record for batch, _ in self._format.batches(split) for record in batch]
        if _identity_at(file.path) != file.identity:
            return ()  # it was renamed meanwhile, and this may be of another file: look again
        followed.grew_at = now
        followed.file = replace(file, position=end)
        return records

    def _whole_records_end(self, file: GrowingFile) -> int:
        """Behind the last whole record of the next block, or of as much as the next record takes."""
        size = BLOCK_SIZE_BYTES
        try:
            with Path(file.path).open("rb", buffering=0) as opened:
                while True:
                    opened.seek(file.position)
                    block = opened.read(size)
                    whole = self._format.whole_records_size(block)
                    if whole or len(block) < size:
                        return file.position + whole
                    if size > LINE_LENGTH_MAX_BYTES:
                        raise ConnectorError(
                            f"A line of the input file is longer than {LINE_LENGTH_MAX_BYTES} bytes.",
                            detail=f"{file.path}: the line at byte {file.position}.",
                        )
                    size *= 2
        except FileNotFoundError:
            return file.position  # renamed this moment: it is found the next time
        except OSError as error:
            raise os_failure("The input file cannot be read", file.path, error) from None


def _identity_at(path: str) -> Identity | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _find(file: GrowingFile) -> tuple[str, int] | None:
    """Where the file is now and its size; None when it is nowhere in its directory."""
    path = Path(file.path)
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) == file.identity:
            return file.path, status.st_size
    except FileNotFoundError:
        pass
    except OSError as error:
        raise os_failure("The input file cannot be read", file.path, error) from None
    try:
        with os.scandir(path.parent) as entries:
            for entry in entries:
                if entry.inode() == file.identity[1] and _identity_at(entry.path) == file.identity:
                    return entry.path, Path(entry.path).stat().st_size
    except FileNotFoundError:
        pass
    return None
