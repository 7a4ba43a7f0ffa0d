"""A line is read by exactly one split, wherever a file is cut."""

from __future__ import annotations

import codecs
import itertools
import tempfile
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.connectors import line_blocks as module
from zmflow.connectors.file_formats import JsonLinesFormat, TextLineFormat
from zmflow.connectors.file_splits import FileSplit
from zmflow.connectors.line_blocks import TextDecoder, line_blocks, reading

PIECES = st.lists(
    st.sampled_from(
        [
            "\n",
            "\r\n",
            "\r",
            "a",
            "bb",
            "é",
            "€",
            "😀",
            "\x0b",
            "\x0c",
            "\x1c",
            "\x85",
            "\u2028",
            "\ufeff",
            "x" * 9,
        ]
    ),
    max_size=24,
).map("".join)


def expected_lines(text: str) -> list[str]:
    """Lines of a text by the definition: ended by \\n, without \\n or \\r\\n."""
    ended = text.split("\n")
    last = ended.pop()
    return [line.removesuffix("\r") for line in ended] + ([last] if last else [])


def read_splits(path: Path, split_size: int, decoder: TextDecoder) -> list[str]:
    """The lines of all splits of one size, in order."""
    size = path.stat().st_size
    lines: list[str] = []
    for start in range(0, size, split_size):
        for batch in TextLineFormat(decoder).read(FileSplit(str(path), start, min(start + split_size, size))):
            assert batch
            lines += batch
    return lines


@settings(max_examples=150, deadline=None)
@given(text=PIECES, marked=st.booleans(), block_size=st.sampled_from([1, 2, 3, 7, 65536]))
def test_every_split_size_yields_the_lines_of_the_file(text: str, marked: bool, block_size: int) -> None:
    """For any text, with and without a byte order mark, and every split size up to the whole file."""
    text = text.lstrip("\ufeff")
    data = (codecs.BOM_UTF8 if marked else b"") + text.encode()
    with (
        tempfile.TemporaryDirectory() as directory,
        mock.patch.object(module, "BLOCK_SIZE_BYTES", block_size),
    ):
        path = Path(directory) / "file"
        path.write_bytes(data)
        for split_size in range(1, len(data) + 2):
            assert read_splits(path, split_size, TextDecoder()) == expected_lines(text)


@settings(max_examples=100, deadline=None)
@given(
    data=st.lists(st.sampled_from([b"\n", b"a", b"\r\n", b"\xff", b"\xc3"]), max_size=20).map(b"".join),
    cuts=st.sets(st.integers(0, 40)),
)
def test_blocks_of_any_cuts_make_the_file(data: bytes, cuts: set[int]) -> None:
    """The blocks of splits cut anywhere, joined, are the file's bytes, and their offsets are right."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        path.write_bytes(data)
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        joined = b""
        for start, end in itertools.pairwise(edges):
            with reading(str(path)) as file:
                for offset, block in line_blocks(file, FileSplit(str(path), start, end)):
                    assert offset == len(joined)
                    assert start <= offset < end
                    joined += block
        assert joined == data


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "shift_jis", "gbk", "ascii"])
def test_other_encodings_split_at_line_feeds_too(tmp_path: Path, encoding: str) -> None:
    """Encodings whose other characters never hold the byte 0x0A are read at every split size."""
    text = (
        "abc\nd\r\n\nlast"
        if encoding == "ascii"
        else "a\n" + "表é"[encoding in ("latin-1", "cp1252")] * 3 + "\nz"
    )
    data = text.encode(encoding)
    (tmp_path / "file").write_bytes(data)
    for split_size in range(1, len(data) + 1):
        assert read_splits(tmp_path / "file", split_size, TextDecoder(encoding)) == expected_lines(text)


def test_lines_longer_than_a_block_and_a_split(tmp_path: Path) -> None:
    """A line of several blocks is read whole by the split it starts in and by no other."""
    long = "y" * 300_000
    (tmp_path / "file").write_text(f"a\n{long}\nb\n")
    assert read_splits(tmp_path / "file", 10_000, TextDecoder()) == ["a", long, "b"]
    assert read_splits(tmp_path / "file", 10**9, TextDecoder()) == ["a", long, "b"]


def test_json_lines_at_every_split_size(tmp_path: Path) -> None:
    """JSON values come once each, a byte order mark and blank lines aside."""
    data = codecs.BOM_UTF8 + '{"a":1}\r\n\n"é"\n  \n[2,3]'.encode()
    (tmp_path / "file").write_bytes(data)
    for split_size in range(1, len(data) + 1):
        values: list[object] = []
        for start in range(0, len(data), split_size):
            split = FileSplit(str(tmp_path / "file"), start, min(start + split_size, len(data)))
            for batch in JsonLinesFormat[object]().read(split):
                values += batch
        assert values == [{"a": 1}, "é", [2, 3]]
