"""Splits of files, and the enumerator that cuts and hands them out.

A split is a byte range. A file that cannot be entered in the middle (compressed, multi-line CSV) is one
split. Small files are handed out several at a time, so that a directory of thousands of sources costs a
few requests, and large ones in pieces, so that readers end at about the same time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmflow.api.sources import SplitEnumerator, SplitEnumeratorContext
from zmflow.connectors.file_listing import FileListing, FileStatus

__all__ = ["FileSplit", "FileSplitEnumerator", "cut_into_bundles", "split_size_for"]

SPLIT_SIZE_MIN_BYTES = 256 * 1024
"""Reading this takes about a millisecond, as long as asking for the next split does."""

SPLIT_SIZE_MAX_BYTES = 64 * 2**20
"""About a second of work: what a reader that got the last split lets the others wait at most."""

BUNDLES_PER_READER = 8
"""Pieces per reader when the input is small: readers end within an eighth of each other."""

SPLITS_PER_BUNDLE_MAX = 256
"""Empty and tiny files weigh nothing; this bounds the message that carries them."""


@dataclass(frozen=True, slots=True)
class FileSplit:
    """Bytes ``start`` up to ``end`` of a file; ``end`` is None for a file that is read as a whole.

    Of its records the first ``records_read`` are not to be read again: where a reader went on from a
    checkpoint and its format cannot be entered at a byte.
    """

    path: str
    start: int
    end: int | None
    records_read: int = 0
    first_of_bundle: bool = field(default=False, compare=False, repr=False)


def split_size_for(total_bytes: int, parallelism: int) -> int:
    """The size of splits for so many bytes and readers.

    >>> split_size_for(200 * 2**20, 2) // 2**20
    12
    """
    return max(
        SPLIT_SIZE_MIN_BYTES, min(SPLIT_SIZE_MAX_BYTES, total_bytes // (parallelism * BUNDLES_PER_READER))
    )


def cut_into_bundles(
    files: Sequence[FileStatus], split_size_bytes: int, splittable: Callable[[str], bool]
) -> list[list[FileSplit]]:
    """Splits in the order of the files, grouped into bundles of about ``split_size_bytes``.

    >>> bundles = cut_into_bundles([FileStatus("a", 5), FileStatus("b", 1)], 3, lambda path: True)
    >>> [[(split.path, split.start, split.end) for split in bundle] for bundle in bundles]
    [[('a', 0, 3)], [('a', 3, 5), ('b', 0, 1)]]
    """
    bundles: list[list[FileSplit]] = []
    bundle: list[FileSplit] = []
    filled = 0
    for file in files:
        whole = not splittable(file.path)
        # A file that is read as a whole is a split even when it is empty: it may be a record.
        stop = max(1, file.size_bytes) if whole else file.size_bytes
        step = stop if whole else split_size_bytes
        for start in range(0, stop, max(1, step)):
            end = min(start + step, stop)
            if bundle and (filled + end - start > split_size_bytes or len(bundle) >= SPLITS_PER_BUNDLE_MAX):
                bundles.append(bundle)
                bundle, filled = [], 0
            split = FileSplit(file.path, start, None if whole else end, first_of_bundle=not bundle)
            bundle.append(split)
            filled += end - start
    if bundle:
        bundles.append(bundle)
    return bundles


class FileSplitEnumerator(SplitEnumerator[FileSplit]):
    """Lists the files when the job starts and gives each reader that asks the next bundle of splits.

    Args:
        context: the engine's.
        listing: what to read.
        cut: makes bundles of splits of files, for so many readers.
        left: the splits of a checkpoint, which are read instead of what is listed now.
    """

    def __init__(
        self,
        context: SplitEnumeratorContext[FileSplit],
        listing: FileListing,
        cut: Callable[[Sequence[FileStatus], int], list[list[FileSplit]]],
        left: Iterable[FileSplit] | None = None,
    ) -> None:
        self._context = context
        self._listing = listing
        self._cut = cut
        self._restored = left is not None
        self._bundles = deque(_bundles_of(left or ()))

    def start(self) -> None:
        if not self._restored:
            self._bundles.extend(self._cut(self._listing.files(), self._context.parallelism))

    def handle_split_request(self, subtask: int) -> None:
        if self._bundles:
            self._context.assign_splits(self._bundles.popleft(), subtask)
        else:
            self._context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[FileSplit], subtask: int) -> None:  # noqa: ARG002 - of the interface
        """They are next, in the bundles they were: what they weigh and their order do not change."""
        self._bundles.extendleft(reversed(_bundles_of(splits)))

    def snapshot_state(self, checkpoint_id: int) -> Any:  # noqa: ARG002 - of the interface
        return self._left()

    def _left(self) -> list[FileSplit]:
        return [split for bundle in self._bundles for split in bundle]


def _bundles_of(splits: Iterable[FileSplit]) -> list[list[FileSplit]]:
    bundles: list[list[FileSplit]] = []
    for split in splits:
        if split.first_of_bundle or not bundles:
            bundles.append([])
        bundles[-1].append(split)
    return bundles
