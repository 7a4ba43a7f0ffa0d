"""Discovery of files that appear while a job runs: ``FileSource`` with ``monitor_interval``.

A file is known by its path, and read once, up to the size it has when it is found: a writer finishes it
under a hidden name or elsewhere and moves it in. An empty file is looked at again. What was found is
remembered as 12 bytes per file for as long as the file is there, so a checkpoint grows with the number of
files that lie there, not with those that ever did. When nothing at all is found, nothing is forgotten: that
is a file system that is not mounted rather than an order to read everything again when it comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import blake2b

from zmflow.api.sources import SplitEnumeratorContext
from zmflow.connectors.file_listing import FileListing, FileStatus
from zmflow.connectors.file_splits import FileSplit, FileSplitEnumerator

__all__ = ["ContinuousFileEnumerator", "SeenFiles"]

DIGEST_SIZE_BYTES = 12
"""Among a billion files, two have the same digest with a probability of one in 10**11."""


class SeenFiles:
    """Which files were found before.

    >>> seen = SeenFiles()
    >>> [file.path for file in seen.new([FileStatus("a", 1), FileStatus("b", 0)])]
    ['a']
    >>> [file.path for file in seen.new([FileStatus("a", 1), FileStatus("b", 2)])]
    ['b']
    """

    def __init__(self, packed: bytes = b"") -> None:
        size = DIGEST_SIZE_BYTES
        self._digests = {packed[start : start + size] for start in range(0, len(packed), size)}

    def new(self, listed: Sequence[FileStatus]) -> list[FileStatus]:
        """Those of a complete listing that were not there before; the others are forgotten that it lacks."""
        if not listed:
            return []
        digests = {_digest(file.path): file for file in listed}
        fresh = [
            digest for digest, file in digests.items() if file.size_bytes and digest not in self._digests
        ]
        self._digests &= digests.keys()
        self._digests.update(fresh)
        return [digests[digest] for digest in fresh]

    def packed(self) -> bytes:
        """What to make it from again."""
        return b"".join(sorted(self._digests))


class ContinuousFileEnumerator(FileSplitEnumerator):
    """Looks for new files all the time; readers that ask for splits wait until there are some.

    Args:
        context, listing, cut: as for every file source.
        interval_ms: how often to look.
        restored: the state of a checkpoint.
    """

    def __init__(
        self,
        context: SplitEnumeratorContext[FileSplit],
        listing: FileListing,
        cut: Callable[[Sequence[FileStatus], int], list[list[FileSplit]]],
        interval_ms: int,
        restored: tuple[list[FileSplit], bytes] | None = None,
    ) -> None:
        left, seen = restored if restored is not None else ([], b"")
        super().__init__(context, listing, cut, left)
        self._interval_ms = interval_ms
        self._seen = SeenFiles(seen)
        self._waiting: dict[int, None] = {}  # readers, who waits longest first

    def start(self) -> None:
        self._discover()
        self._context.call_periodically(self._interval_ms, self._discover)

    def handle_split_request(self, subtask: int) -> None:
        self._waiting[subtask] = None
        self._serve()

    def snapshot_state(self, checkpoint_id: int) -> tuple[list[FileSplit], bytes]:  # noqa: ARG002 - of the interface
        return self._left(), self._seen.packed()

    def _discover(self) -> None:
        fresh = self._seen.new(self._listing.files())
        if fresh:
            self._bundles.extend(self._cut(fresh, self._context.parallelism))
            self._serve()

    def _serve(self) -> None:
        while self._waiting and self._bundles:
            subtask = next(iter(self._waiting))
            del self._waiting[subtask]
            self._context.assign_splits(self._bundles.popleft(), subtask)


def _digest(path: str) -> bytes:
    return blake2b(path.encode("utf-8", "surrogateescape"), digest_size=DIGEST_SIZE_BYTES).digest()
