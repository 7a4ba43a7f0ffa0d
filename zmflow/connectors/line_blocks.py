"""Blocks of whole lines out of a byte range of a file: what all line formats read.

A line belongs to the range in which its first byte is, so ranges that cover a file yield every line
exactly once, wherever they are cut. Only a line feed ends a line: not the other characters at which
``str.splitlines`` breaks, and for encodings in which no other character contains the byte 0x0A.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, cast

from zmflow.connectors.file_listing import os_failure
from zmflow.connectors.file_splits import FileSplit
from zmflow.errors import ConnectorError

__all__ = [
    "LINE_LENGTH_MAX_BYTES",
    "TextDecoder",
    "is_compressed",
    "line_blocks",
    "place_of",
    "reading",
]

BLOCK_SIZE_BYTES = 16 * 1024
"""Measured: decoding and splitting lines gain nothing above this, and what is made of the lines (dicts of
CSV rows) is made faster while all of a block's objects are in the cache."""

LINE_LENGTH_MAX_BYTES = 64 * 2**20
"""A longer line is a file that has no lines; reading it whole would take all memory."""

LINE_NUMBER_COUNT_MAX_BYTES = 64 * 2**20
"""An error names the line's number as well when counting line feeds up to it takes no longer than a blink."""

_OPENERS: dict[str, Callable[[str], object]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".lzma": lzma.open,
}


def is_compressed(path: str) -> bool:
    """Whether the name says that the file is compressed: read from its start, as one split.

    >>> is_compressed("a.csv.gz"), is_compressed("a.csv")
    (True, False)
    """
    return PurePath(path).suffix.lower() in _OPENERS


@contextmanager
def reading(path: str) -> Iterator[BinaryIO]:
    """The file, opened for reading, decompressed by its suffix. Failures become ConnectorErrors."""
    opener = _OPENERS.get(PurePath(path).suffix.lower())
    try:
        with cast(BinaryIO, opener(path)) if opener else Path(path).open("rb", buffering=0) as file:
            yield file
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise ConnectorError(f"The compressed input file is damaged: {error}.", detail=path) from None
    except OSError as error:
        if opener is not None and error.errno is None:  # bz2 reports bad data as a bare OSError
            raise ConnectorError(f"The compressed input file is damaged: {error}.", detail=path) from None
        raise os_failure("The input file cannot be read", path, error) from None


def line_blocks(file: BinaryIO, split: FileSplit) -> Iterator[tuple[int, bytes]]:
    """The lines that start in the split, as (offset of the first byte, bytes of whole lines).

    Each block ends with a line feed, except the last of a file that does not.

    Raises:
        ConnectorError: a line is longer than LINE_LENGTH_MAX_BYTES, or the file became shorter.
    """
    position = _first_line(file, split)
    end = split.end
    offset = position  # of the first byte in kept
    kept: list[bytes] = []  # the beginning of a line whose end was not read yet
    while end is None or position < end:
        block = file.read(BLOCK_SIZE_BYTES if end is None else min(BLOCK_SIZE_BYTES, end - position))
        if not block:
            if end is None:
                break
            raise ConnectorError(
                "The input file became shorter while it was read.", detail=f"{split.path}: {position} bytes."
            )
        position += len(block)
        cut = block.rfind(b"\n") + 1
        if cut:
            kept.append(block[:cut])
            yield offset, b"".join(kept)
            offset = position - len(block) + cut
            block = block[cut:]
            kept = []
        if block:
            kept.append(block)
            _check_length(split.path, offset, position)
    if kept:
        while block := file.read(BLOCK_SIZE_BYTES):
            cut = block.find(b"\n") + 1
            kept.append(block[:cut] if cut else block)
            position += len(block)
            if cut:
                break
            _check_length(split.path, offset, position)
        yield offset, b"".join(kept)


def _first_line(file: BinaryIO, split: FileSplit) -> int:
    """Where the first line starts that belongs to the split; the file is positioned there."""
    if split.start == 0:
        return 0
    # From the byte before: a line feed there means that a line starts with the split.
    position = split.start - 1
    file.seek(position)
    end = split.end
    while end is None or position < end:
        block = file.read(BLOCK_SIZE_BYTES)
        cut = block.find(b"\n") + 1
        position += cut or len(block)
        if cut or not block:
            break
    file.seek(position)
    return position


def _check_length(path: str, start: int, position: int) -> None:
    if position - start > LINE_LENGTH_MAX_BYTES:
        raise ConnectorError(
            f"A line of the input file is longer than {LINE_LENGTH_MAX_BYTES} bytes.",
            detail=f"{path}: the line at byte {start}.",
            hint="It may not be a text file; BinaryFileSource reads those.",
        )


def place_of(path: str, offset: int) -> str:
    """The file, the byte, and the line where counting is cheap: ``a.csv: byte 10 (line 2)``."""
    if is_compressed(path):
        return f"{path}: byte {offset} of its decompressed text"
    if offset > LINE_NUMBER_COUNT_MAX_BYTES:
        return f"{path}: byte {offset}"
    with reading(path) as file:
        line = file.read(offset).count(b"\n") + 1
    return f"{path}: byte {offset} (line {line})"


@dataclass(frozen=True, slots=True)
class TextDecoder:
    """Turns blocks of whole lines into lists of lines.

    Args:
        encoding: one in which a line feed is the byte 0x0A and no other character contains it.
        errors: ``strict`` refuses undecodable bytes with file and offset, ``replace`` puts U+FFFD.
    """

    encoding: str = "utf-8"
    errors: str = "strict"

    def __post_init__(self) -> None:
        try:
            name = codecs.lookup(self.encoding).name
            line_feed = "\n".encode(name)
        except LookupError:
            raise ConnectorError(
                f"There is no encoding {self.encoding!r}.", hint="UTF-8 is 'utf-8'."
            ) from None
        if line_feed != b"\n":
            raise ConnectorError(
                f"Files in {self.encoding} cannot be cut at lines.",
                hint="Convert them to UTF-8, or read them with BinaryFileSource.",
            )
        if self.errors not in ("strict", "replace"):
            raise ConnectorError(
                f"The policy for undecodable bytes is not one of its values: {self.errors!r}.",
                hint="Allowed: strict, replace.",
            )
        # The mark is cut off where a file starts; utf-8-sig would cut it off wherever a block starts.
        object.__setattr__(self, "encoding", "utf-8" if name == "utf-8-sig" else name)

    def text(self, path: str, offset: int, block: bytes) -> str:
        """The text of a block, without a byte order mark, its lines ended by ``\\n`` alone."""
        if offset == 0 and self.encoding == "utf-8" and block.startswith(codecs.BOM_UTF8):
            block = block[len(codecs.BOM_UTF8) :]
            offset = len(codecs.BOM_UTF8)
        try:
            text = block.decode(self.encoding, self.errors)
        except UnicodeDecodeError as error:
            raise ConnectorError(
                f"The input file is not {self.encoding}: {error.reason}.",
                detail=place_of(path, offset + error.start),
                hint='Give the file\'s encoding, or errors="replace" to read on.',
            ) from None
        return text.replace("\r\n", "\n") if "\r" in text else text

    def lines(self, path: str, offset: int, block: bytes) -> list[str]:
        """The lines of a block, without their line ends."""
        lines = self.text(path, offset, block).split("\n")
        if not lines[-1]:
            lines.pop()
        return lines
