"""File sources: which files, which records, how many at a time."""

from __future__ import annotations

import bz2
import gzip
import lzma
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from source_drive import Context, read_all, read_batches, runtime_context

from zmflow.connectors import (
    BinaryFileSource,
    CsvFileSource,
    FileSource,
    FixedSizeRecordSource,
    JsonLinesSource,
    StreamFormat,
    TextFileSource,
)
from zmflow.connectors.file_splits import FileSplit


@dataclass
class Sale:
    """A row with types."""

    city: str
    amount: int


class Point(msgspec.Struct):
    """A JSON value with types."""

    x: int
    y: float = 0.0


def tree(root: Path, **files: str) -> Path:
    """A directory of files; ``__`` in a name is a slash."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_directory_is_read_recursively_in_order(tmp_path: Path) -> None:
    """Names are sorted, hidden ones and excluded ones skipped, the pattern applied to files only."""
    tree(tmp_path, b="4\n", a__z="2\n3", a__c__y="1\n", skip__x="9\n", a__data="5\n")
    tree(tmp_path / ".hidden", x="8\n")
    (tmp_path / "a" / ".x").write_text("7\n")
    assert read_all(TextFileSource(tmp_path, exclude=["skip", "da*"])) == ["1", "2", "3", "4"]
    assert read_all(TextFileSource(tmp_path, pattern="*a")) == ["5"]
    assert read_all(TextFileSource(tmp_path, pattern="c/*")) == ["1"]


def test_several_paths_and_globs(tmp_path: Path) -> None:
    """Paths are read in the order given, a file named twice once, and globs name files or directories."""
    tree(tmp_path, one="1\n", d__two="2\n", e__three="3\n")
    paths = [tmp_path / "one", tmp_path / "d", tmp_path / "*" / "t*", str(tmp_path / "one")]
    assert read_all(TextFileSource(paths)) == ["1", "2", "3"]
    assert sorted(read_all(TextFileSource(tmp_path / "**"))) == ["1", "2", "3"]


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    """A link to a directory above is passed over; other links are read."""
    tree(tmp_path, d__a="1\n")
    (tmp_path / "d" / "loop").symlink_to(tmp_path)
    (tmp_path / "d" / "link").symlink_to(tmp_path / "d" / "a")
    assert read_all(TextFileSource(tmp_path)) == ["1", "1"]


@pytest.mark.parametrize("parallelism", [1, 2, 5])
def test_every_reader_takes_part_and_nothing_is_lost(tmp_path: Path, parallelism: int) -> None:
    """One large file is read by all readers; the union of what they read is the file."""
    lines = [f"line {i}" for i in range(5000)]
    tree(tmp_path, big="\n".join(lines))
    source = TextFileSource(tmp_path / "big", split_size_bytes=1000)
    readers = [source.create_reader(runtime_context(i, parallelism)) for i in range(parallelism)]
    context = Context(readers)
    enumerator = source.create_enumerator(context)
    enumerator.start()
    for subtask in range(parallelism):
        enumerator.handle_split_request(subtask)
    assert {subtask for subtask, _ in context.assigned} == set(range(parallelism))
    read = read_all(source, parallelism)
    assert read == lines if parallelism == 1 else sorted(read) == sorted(lines)


def test_small_files_are_handed_out_together(tmp_path: Path) -> None:
    """A thousand small files cost a few requests, not a thousand."""
    for i in range(1000):
        (tmp_path / f"{i:04}").write_text("x\n")
    source = TextFileSource(tmp_path)
    context = Context([source.create_reader(runtime_context())])
    enumerator = source.create_enumerator(context)
    enumerator.start()
    requests = 0
    while len(context.assigned) < 1000:
        enumerator.handle_split_request(0)
        requests += 1
    assert requests <= 4


def test_empty_files_yield_no_lines(tmp_path: Path) -> None:
    """Empty files are no error, alone or among others."""
    tree(tmp_path, a="", b="1\n", c="")
    assert read_all(TextFileSource(tmp_path)) == ["1"]
    assert read_all(TextFileSource(tmp_path / "a")) == []
    assert read_all(CsvFileSource(tmp_path / "a")) == []
    assert read_all(CsvFileSource(tmp_path / "a", multiline=True)) == []
    assert read_all(BinaryFileSource(tmp_path / "a")) == [(str(tmp_path / "a"), b"")]


def test_batches_stay_small_for_a_large_file(tmp_path: Path) -> None:
    """A batch holds about a block of text, whatever the size of the file or the split."""
    (tmp_path / "f").write_text("0123456789\n" * 200_000)
    batches = read_batches(TextFileSource(tmp_path / "f", split_size_bytes=2**30))
    assert sum(map(len, batches)) == 200_000
    assert max(sum(len(line) + 1 for line in batch) for batch in batches) <= 2 * 64 * 1024


@pytest.mark.parametrize(
    ("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_files_are_one_split(tmp_path: Path, suffix: str, pack: object) -> None:
    """They are found by suffix and read from their start by one reader, in every format."""
    text = b'{"x": 1}\n{"x": 2}'
    (tmp_path / f"f.{suffix}").write_bytes(pack(text))  # type: ignore[operator]
    options = {"split_size_bytes": 1}
    assert read_all(TextFileSource(tmp_path, **options), 2) == ['{"x": 1}', '{"x": 2}']
    assert read_all(JsonLinesSource(tmp_path, **options), 2) == [{"x": 1}, {"x": 2}]
    assert read_all(BinaryFileSource(tmp_path, **options), 2) == [(str(tmp_path / f"f.{suffix}"), text)]
    assert read_all(FixedSizeRecordSource(tmp_path, 17, **options)) == [text] or len(text) % 17


CSV = 'city,amount\r\nBern,1\r\n"Zug, ZG",2\r\n\r\n"say ""hi""",3'


@pytest.mark.parametrize("multiline", [False, True])
@pytest.mark.parametrize("split_size", [1, 5, 13, 1000])
def test_csv_as_dicts_tuples_and_objects(tmp_path: Path, split_size: int, multiline: bool) -> None:
    """Every split knows the header; quoting and blank lines are handled."""
    (tmp_path / "f.csv").write_text(CSV, newline="", encoding="utf-8-sig")
    options = {"split_size_bytes": split_size, "multiline": multiline}
    names = ["Bern", "Zug, ZG", 'say "hi"']
    dicts = read_all(CsvFileSource(tmp_path, **options))
    assert dicts == [{"city": name, "amount": str(i + 1)} for i, name in enumerate(names)]
    assert read_all(CsvFileSource(tmp_path, tuple, **options)) == [
        (n, str(i + 1)) for i, n in enumerate(names)
    ]
    assert read_all(CsvFileSource(tmp_path, Sale, **options)) == [Sale(n, i + 1) for i, n in enumerate(names)]


@pytest.mark.parametrize("multiline", [False, True])
def test_csv_without_a_header(tmp_path: Path, multiline: bool) -> None:
    """Names are given, or rows are tuples."""
    (tmp_path / "f.csv").write_text("Bern;1\nZug;2\n")
    named = CsvFileSource(
        tmp_path, Sale, delimiter=";", has_header=False, fields=["city", "amount"], multiline=multiline
    )
    assert read_all(named) == [Sale("Bern", 1), Sale("Zug", 2)]
    tuples = CsvFileSource(tmp_path, tuple, delimiter=";", has_header=False, multiline=multiline)
    assert read_all(tuples) == [("Bern", "1"), ("Zug", "2")]


def test_csv_fields_with_line_breaks_need_multiline(tmp_path: Path) -> None:
    """With multiline the break is part of the field, also when rows follow in later batches."""
    rows = "".join(f'"a\n{i}",{i}\n' for i in range(3000))
    (tmp_path / "f.csv").write_text("city,amount\n" + rows)
    read = read_all(CsvFileSource(tmp_path, Sale, multiline=True, split_size_bytes=10), 2)
    assert read == [Sale(f"a\n{i}", i) for i in range(3000)]


def test_json_lines_with_a_type(tmp_path: Path) -> None:
    """Values are decoded into the type and checked against it."""
    (tmp_path / "f").write_text('{"x": 1}\n{"x": 2, "y": 0.5}\n')
    assert read_all(JsonLinesSource(tmp_path, Point)) == [Point(1), Point(2, 0.5)]


def test_records_of_a_fixed_size(tmp_path: Path) -> None:
    """Splits are cut at records, whatever size was asked for."""
    data = bytes(range(250)) * 4
    (tmp_path / "f").write_bytes(data)
    for split_size in (1, 7, 10, 33, 5000):
        read = read_all(FixedSizeRecordSource(tmp_path, 10, split_size_bytes=split_size))
        assert read == [data[i : i + 10] for i in range(0, 1000, 10)]


def test_undecodable_bytes_are_replaced_on_request(tmp_path: Path) -> None:
    """The policy replace reads U+FFFD and goes on."""
    (tmp_path / "f").write_bytes(b"a\xffb\nc\n")
    assert read_all(TextFileSource(tmp_path, errors="replace")) == ["a\ufffdb", "c"]
    assert read_all(TextFileSource(tmp_path, encoding="latin-1")) == ["aÿb", "c"]


def test_pyflinks_builder(tmp_path: Path) -> None:
    """The names a PyFlink program uses."""
    (tmp_path / "f").write_text("a\nb\n")
    source = (
        FileSource.for_record_stream_format(StreamFormat.text_line_format(), str(tmp_path))
        .process_static_file_set()
        .build()
    )
    assert read_all(source) == ["a", "b"]


def test_sources_and_splits_travel(tmp_path: Path) -> None:
    """Sources are pickled with the job, splits on their way to readers."""
    (tmp_path / "f").write_text("x\n")
    source = pickle.loads(pickle.dumps(TextFileSource(tmp_path)))
    assert read_all(source) == ["x"]
    split = FileSplit("a", 1, None)
    assert pickle.loads(pickle.dumps(split)) == split


def test_reading_lines_is_fast(tmp_path: Path) -> None:
    """Millions of short lines a second; the bound is loose, since test machines are busy."""
    (tmp_path / "f").write_text("short line\n" * 1_000_000)
    started = time.perf_counter()
    count = sum(map(len, read_batches(TextFileSource(tmp_path / "f"))))
    elapsed = time.perf_counter() - started
    assert count == 1_000_000
    assert elapsed < 1.0
