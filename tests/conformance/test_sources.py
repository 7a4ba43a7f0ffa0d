"""The built-in sources pass the conformance kit of sources."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.sources import Source
from zmflow.api.time import Duration
from zmflow.connectors import (
    BinaryFileSource,
    CsvFileSource,
    DataGeneratorSource,
    FixedSizeRecordSource,
    JsonLinesSource,
    PositionedSource,
    RateLimiterStrategy,
    TextFileSource,
)
from zmflow.testing.source_tests import SourceTests

NUMBERS = 2000


class TestCollection(SourceTests):
    """Read by one reader."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        return CollectionSource(map(str, range(NUMBERS)))

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [str(number) for number in range(NUMBERS)]


class TestSequence(SourceTests):
    """Read by all of them."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        return SequenceSource(-5, 30_000)

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return range(-5, 30_001)


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    """A large file in several splits, small ones in bundles, compressed and empty ones; the last lines of
    some have no end."""
    text = "".join(f"{number},{'x' * (number % 37)}\n" for number in range(NUMBERS))
    (tmp_path / "large").write_text("number,text\n" + text)
    for number in range(5):
        (tmp_path / f"small{number}").write_text(f"number,text\n\n{number},é\r\n{number},last")
    (tmp_path / "empty").write_text("")
    (tmp_path / "t.gz").write_bytes(gzip.compress(b"number,text\n" + text.encode()))
    (tmp_path / "u.bz2").write_bytes(bz2.compress(b"number,text\n1,x"))
    return tmp_path


def content(path: Path) -> bytes:
    """What is in a file, decompressed."""
    return {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix, bytes)(path.read_bytes())


def lines_of(directory: Path) -> list[str]:
    """Every line of the files."""
    texts = [text for path in directory.iterdir() if (text := content(path).decode())]
    return [line for text in texts for line in text.replace("\r\n", "\n").removesuffix("\n").split("\n")]


class TestTextFiles(SourceTests):
    """Lines, entered again at the byte where the next one begins."""

    @pytest.fixture
    def source(self, lines: Path) -> Source[Any, Any]:
        return TextFileSource(lines, split_size_bytes=20_000)

    @pytest.fixture
    def expected(self, lines: Path) -> Sequence[Any]:
        return lines_of(lines)


class TestFilesThatAppear(TestTextFiles):
    """The same without an end."""

    @pytest.fixture
    def source(self, lines: Path) -> Source[Any, Any]:
        return TextFileSource(lines, split_size_bytes=20_000, monitor_interval=Duration.of_millis(1))


class TestFilesThatGrow(SourceTests):
    """Followed ones; what is compressed is passed over, and so is a line without an end."""

    @pytest.fixture
    def source(self, lines: Path) -> Source[Any, Any]:
        return TextFileSource(lines, monitor_interval=Duration.of_millis(1), follow=True)

    @pytest.fixture
    def expected(self, lines: Path) -> Sequence[Any]:
        texts = [path.read_text() for path in lines.iterdir() if not path.suffix]
        return [line for text in texts for line in text.split("\n")[:-1]]


class TestCsvFiles(SourceTests):
    """Rows; the header of each file is read whatever byte its reader goes on at."""

    @pytest.fixture
    def source(self, lines: Path) -> Source[Any, Any]:
        return CsvFileSource(lines, split_size_bytes=20_000)

    @pytest.fixture
    def expected(self, lines: Path) -> Sequence[Any]:
        rows = [line.split(",") for line in lines_of(lines) if line and line != "number,text"]
        return [{"number": number, "text": text} for number, text in rows]


class TestCsvFilesWithLineBreaks(SourceTests):
    """Rows that are counted, since a reader cannot go on at a byte."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source[Any, Any]:
        for file in range(3):
            rows = "".join(f'{file},"{number}\n{number}"\n' for number in range(NUMBERS))
            (tmp_path / str(file)).write_text("file,text\n" + rows)
        return CsvFileSource(tmp_path, tuple, multiline=True)

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [(str(file), f"{number}\n{number}") for file in range(3) for number in range(NUMBERS)]


class TestJsonLines(SourceTests):
    """Values, with blank lines between them."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source[Any, Any]:
        (tmp_path / "a").write_text("\n".join(f'{{"n": {number}}}\n' for number in range(NUMBERS)))
        (tmp_path / "b").write_bytes(b'\xef\xbb\xbf"first"\n"last"')
        return JsonLinesSource(tmp_path, split_size_bytes=10_000)

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [*({"n": number} for number in range(NUMBERS)), "first", "last"]


class TestWholeFiles(SourceTests):
    """Each file one record, the empty one too."""

    @pytest.fixture
    def source(self, lines: Path) -> Source[Any, Any]:
        return BinaryFileSource(lines, split_size_bytes=100)

    @pytest.fixture
    def expected(self, lines: Path) -> Sequence[Any]:
        return [(str(path), content(path)) for path in lines.iterdir()]


class TestRecordsOfFixedSize(SourceTests):
    """Records of 7 bytes, in plain and compressed files."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Source[Any, Any]:
        records = b"".join(b"%07d" % number for number in range(40_000))
        (tmp_path / "plain").write_bytes(records)
        (tmp_path / "packed.gz").write_bytes(gzip.compress(records, 1))
        return FixedSizeRecordSource(tmp_path, 7, split_size_bytes=90_000)

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [b"%07d" % number for number in range(40_000)] * 2


class TestGeneratedRecords(SourceTests):
    """Computed from their indices, which go round over the lanes."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        return DataGeneratorSource(lambda index: index * 3, count=10_007)

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return range(0, 30_021, 3)


class TestGeneratedRecordsAtARate(SourceTests):
    """The same, a few at a time."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        return DataGeneratorSource(str, 150, RateLimiterStrategy.per_second(20_000))

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [str(index) for index in range(150)]


def numbers(position: int) -> Iterator[tuple[int, int] | None]:
    """The numbers up to 5,000, with pauses."""
    while position < 5_000:
        if position % 700 == 0:
            yield None
        yield position + 1, position
        position += 1


class TestPositions(SourceTests):
    """A generator that goes on where it was."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        return PositionedSource(numbers, start=0, poll_interval=Duration.of_millis(1))

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return range(5_000)


class TestPartitions(SourceTests):
    """Several side by side; one is empty, and positions need not be numbers."""

    @pytest.fixture
    def source(self) -> Source[Any, Any]:
        def words(length: int, position: str | None) -> Iterator[tuple[str, tuple[int, str]]]:
            for number in range(len(position or ""), length):
                yield "x" * (number + 1), (length, "x" * number)

        return PositionedSource(words, partitions=[1500, 0, 20, 21, 1100])

    @pytest.fixture
    def expected(self) -> Sequence[Any]:
        return [(length, "x" * number) for length in (1500, 20, 21, 1100) for number in range(length)]
