"""Bad input: each failure is one ConnectorError that names the file, the place and what to do."""

from __future__ import annotations

import gzip
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from source_drive import read_all

from zmflow.connectors import (
    BinaryFileSource,
    CsvFileSource,
    FixedSizeRecordSource,
    JsonLinesSource,
    TextFileSource,
)
from zmflow.connectors import line_blocks as line_blocks_module
from zmflow.connectors.file_formats import TextLineFormat
from zmflow.connectors.file_splits import FileSplit
from zmflow.errors import ConnectorError


@dataclass
class Sale:
    """A row with types."""

    city: str
    amount: int


def refusal(source: object, parallelism: int = 1) -> ConnectorError:
    """The error with which reading ends."""
    with pytest.raises(ConnectorError) as caught:
        read_all(source, parallelism)  # type: ignore[arg-type]
    assert "\n\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("read", [read_all, lambda source: source.validate()])
def test_paths_that_cannot_be_read(tmp_path: Path, read: object) -> None:
    """On the client and in the enumerator: missing, not a directory, a loop, broken, empty."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "empty").mkdir()
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.txt").symlink_to(tmp_path / "nowhere")
    (tmp_path / "links" / "b.csv").write_text("x\n")
    wrong = {
        "missing": "No such file or directory",
        "file/inside": "Not a directory",
        "loop": "Too many levels of symbolic links",
        "links": "A file of the input directory cannot be read: No such file",
        "links/a.txt": "No such file or directory",
        "empty": "holds no file",
        "*.csv": "No file matches",
        "emp*": "No file matches",
    }
    for name, reason in wrong.items():
        with pytest.raises(ConnectorError) as caught:
            read(TextFileSource(tmp_path / name))  # type: ignore[operator]
        assert reason in caught.value.message
        assert str(tmp_path / name) in str(caught.value.detail)
    with pytest.raises(ConnectorError, match="holds no file") as caught:
        read(TextFileSource(tmp_path, pattern="*.json"))  # type: ignore[operator]
    assert "*.json" in str(caught.value.detail)
    # What the pattern leaves out may be broken.
    read(TextFileSource(tmp_path / "links", pattern="*.csv"))  # type: ignore[operator]


def test_a_directory_that_refuses_to_be_listed(tmp_path: Path) -> None:
    """The system's reason is passed on with the directory's name, at any depth."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    refused = PermissionError(13, os.strerror(13), str(tmp_path / "a" / "b"))
    real = os.scandir

    def scandir(path: str) -> object:
        if path == str(tmp_path / "a" / "b"):
            raise refused
        return real(path)

    # Tests may run as root, who is refused nothing.
    with mock.patch("os.scandir", scandir):
        error = refusal(TextFileSource(tmp_path))
    assert error.message == "The input directory cannot be read: Permission denied."
    assert error.detail == str(tmp_path / "a" / "b")


def test_a_socket_is_no_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named it is refused; in a directory it is passed over."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert "neither a file nor a directory" in refusal(TextFileSource("s")).message
        (tmp_path / "f").write_text("x\n")
        assert read_all(TextFileSource(".")) == ["x"]


def test_the_client_need_not_see_the_files(tmp_path: Path) -> None:
    """check_on_client=False leaves the check to the workers."""
    TextFileSource(tmp_path / "missing", check_on_client=False).validate()


def test_undecodable_bytes_name_file_byte_and_line(tmp_path: Path) -> None:
    """In any split the place is that in the file."""
    data = b"ok\n" * 1000 + b"a\xffb\n" + b"ok\n" * 1000
    (tmp_path / "f").write_bytes(data)
    for split_size in (64, 1000, 10**6):
        error = refusal(TextFileSource(tmp_path / "f", split_size_bytes=split_size))
        assert "not utf-8" in error.message
        assert error.detail == f"{tmp_path / 'f'}: byte 3001 (line 1001)"
        assert "replace" in str(error.hint)


def test_undecodable_bytes_after_a_mark_and_in_compressed_files(tmp_path: Path) -> None:
    """A byte order mark counts; for compressed files the byte is that of the text."""
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfab\xff")
    assert refusal(TextFileSource(tmp_path / "f")).detail == f"{tmp_path / 'f'}: byte 5 (line 1)"
    (tmp_path / "f.gz").write_bytes(gzip.compress(b"ab\xff"))
    assert "byte 2 of its decompressed text" in str(refusal(TextFileSource(tmp_path / "f.gz")).detail)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "1 fields where 2 were expected"),
        ("a,1,2", "3 fields where 2 were expected"),
        ('"a"x,1', "',' expected after '\"'"),
        ('"a', "a quoted field does not end on its line"),
        ("a\rb,1", "new-line character seen in unquoted field"),
    ],
)
def test_malformed_csv_lines(tmp_path: Path, line: str, reason: str) -> None:
    """File, byte, line and the line itself are named, wherever the file is cut."""
    text = "city,amount\n" + "ok,1\n" * 100 + line + "\n" + "ok,1\n" * 100
    (tmp_path / "f").write_text(text, newline="")
    for split_size in (50, 10**6):
        error = refusal(CsvFileSource(tmp_path / "f", split_size_bytes=split_size))
        assert reason in error.message
        assert error.detail == f"{tmp_path / 'f'}: byte 512 (line 102)\n{line}"


def test_csv_values_of_the_wrong_type(tmp_path: Path) -> None:
    """The field is named."""
    (tmp_path / "f").write_text("city,amount\nok,1\nno,x\n")
    error = refusal(CsvFileSource(tmp_path / "f", Sale))
    assert "int" in error.message
    assert "amount" in error.message
    assert error.detail == f"{tmp_path / 'f'}: byte 17 (line 3)\nno,x"
    (tmp_path / "f").write_text("city,price\nok,1\n")
    assert "missing required field `amount`" in refusal(CsvFileSource(tmp_path / "f", Sale)).message


def test_malformed_rows_of_multiline_files(tmp_path: Path) -> None:
    """The range of lines is named."""
    (tmp_path / "f").write_text('city,amount\n"a\nb",1\nc\n')
    error = refusal(CsvFileSource(tmp_path / "f", multiline=True))
    assert "1 fields where 2 were expected" in error.message
    assert error.detail == f"{tmp_path / 'f'}: between line 2 and line 4"
    (tmp_path / "f").write_bytes(b"city\n\xff\n")
    assert "not utf-8" in refusal(CsvFileSource(tmp_path / "f", multiline=True)).message
    (tmp_path / "f").write_text('city,amount\n"a,1\n')
    assert "unexpected end of data" in refusal(CsvFileSource(tmp_path / "f", multiline=True)).message


@pytest.mark.parametrize("line", [b'{"a":', b"{'a': 1}", b"1 2", b'"\xff"', b"nul"])
def test_malformed_json_lines(tmp_path: Path, line: bytes) -> None:
    """File, byte, line and the line itself are named."""
    (tmp_path / "f").write_bytes(b'{"a": 1}\n' * 10 + line + b"\n{}\n")
    error = refusal(JsonLinesSource(tmp_path / "f", split_size_bytes=20))
    assert error.message.startswith("A line of the input file is not JSON: ")
    assert f"{tmp_path / 'f'}: byte 90 (line 11)\n" in str(error.detail)


def test_json_of_another_shape(tmp_path: Path) -> None:
    """The type's complaint is passed on."""
    (tmp_path / "f").write_text('{"city": "Bern", "amount": "many"}\n')
    error = refusal(JsonLinesSource(tmp_path / "f", Sale))
    assert "another shape: Expected `int`, got `str` - at `$.amount`" in error.message


def test_damaged_and_truncated_compressed_files(tmp_path: Path) -> None:
    """They are refused as damaged, not read in part."""
    packed = gzip.compress(os.urandom(1000))
    for name, data in {
        "a.gz": packed[:-100],
        "b.gz": b"plain text",
        "c.bz2": b"plain",
        "d.xz": b"plain",
    }.items():
        (tmp_path / name).write_bytes(data)
        error = refusal(BinaryFileSource(tmp_path / name))
        assert "damaged" in error.message
        assert error.detail == str(tmp_path / name)


def test_lines_without_end(tmp_path: Path) -> None:
    """A line over the limit is refused before it fills the memory."""
    (tmp_path / "f").write_bytes(b"a\n" + b"x" * 300_000)
    with mock.patch.object(line_blocks_module, "LINE_LENGTH_MAX_BYTES", 200_000):
        error = refusal(TextFileSource(tmp_path / "f"))
    assert "longer than 200000 bytes" in error.message
    assert "the line at byte 2" in str(error.detail)


def test_files_that_change_under_the_reader(tmp_path: Path) -> None:
    """A file that was cut off or removed after listing fails the job; nothing is dropped in silence."""
    (tmp_path / "f").write_text("a\n")
    with pytest.raises(ConnectorError, match="became shorter"):
        list(TextLineFormat().read(FileSplit(str(tmp_path / "f"), 0, 100)))
    with pytest.raises(ConnectorError, match="No such file"):
        list(TextLineFormat().read(FileSplit(str(tmp_path / "gone"), 0, 100)))


def test_binary_limits(tmp_path: Path) -> None:
    """Files that are too large for a record, and files that end inside one."""
    (tmp_path / "f").write_bytes(b"12345")
    assert "larger than 4 bytes" in refusal(BinaryFileSource(tmp_path, size_max_bytes=4)).message
    error = refusal(FixedSizeRecordSource(tmp_path, 2, split_size_bytes=2))
    assert "does not end with a whole record of 2 bytes" in error.message
    assert "1 bytes at byte 4" in str(error.detail)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: TextFileSource([]), "at least one path"),
        (lambda: TextFileSource("f", encoding="utf-16"), "cannot be cut at lines"),
        (lambda: TextFileSource("f", encoding="klingon"), "no encoding"),
        (lambda: TextFileSource("f", errors="ignore"), "policy"),
        (lambda: TextFileSource("f", split_size_bytes=0), "Splits cannot"),
        (lambda: CsvFileSource("f", delimiter="::"), "one character"),
        (lambda: CsvFileSource("f", has_header=False), "does not know its columns"),
        (lambda: CsvFileSource("f", fields=["a"]), "header and field names"),
        (lambda: FixedSizeRecordSource("f", 0), "cannot have 0 bytes"),
    ],
)
def test_options_that_cannot_be(make: object, reason: str) -> None:
    """They are refused where they are written."""
    with pytest.raises(ConnectorError, match=reason):
        make()  # type: ignore[operator]
