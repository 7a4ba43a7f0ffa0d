"""File sources that are interrupted: whatever is in the files and wherever it happens, no record is lost or
read twice."""

from __future__ import annotations

import gzip
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.connectors import CsvFileSource, FileSource, TextFileSource, line_blocks
from zmflow.testing.source_run import SourceRun

texts = st.text(st.sampled_from("ab,é\n\n\r\n"), max_size=60)
files = st.lists(st.tuples(st.booleans(), texts), min_size=1, max_size=8)
interruptions = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 4)), max_size=6)
"""After how many polls of each reader, and with how many readers it goes on then."""


@pytest.fixture(autouse=True, scope="module")
def _small_blocks() -> Any:
    """A block of a few bytes, so that little text is read in many batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(line_blocks, "BLOCK_SIZE_BYTES", 5)
        yield


def interrupted(source: FileSource[Any], points: list[tuple[int, int]], parallelism: int) -> list[Any]:
    """What is read when it goes on from a checkpoint again and again."""
    run = SourceRun(source, parallelism)
    records: list[Any] = []
    for rounds, parallelism_then in points:
        for turn in range(rounds):
            # The first reader is ahead of the others, by one half.
            for subtask in range(run.parallelism if turn % 2 else 1):
                records += run.poll(subtask)
        checkpoint = run.snapshot()
        for subtask in range(run.parallelism):  # lost with the failure
            run.poll(subtask)
        run.close()
        run = SourceRun(source, parallelism_then, checkpoint)
    records += run.read_all()
    run.close()
    return records


@settings(max_examples=150, deadline=None)
@given(files, interruptions, st.integers(1, 30), st.integers(1, 3))
def test_lines(
    contents: list[tuple[bool, str]], points: list[tuple[int, int]], split_size: int, parallelism: int
) -> None:
    """Plain and compressed files, cut anywhere, read by changing numbers of readers."""
    with tempfile.TemporaryDirectory() as directory:
        for number, (packed, text) in enumerate(contents):
            path = Path(directory, f"{number}.gz" if packed else str(number))
            path.write_bytes(gzip.compress(text.encode(), 1) if packed else text.encode())
        source = TextFileSource(directory, split_size_bytes=split_size)
        whole = SourceRun(source, 1).read_all()
        assert Counter(interrupted(source, points, parallelism)) == Counter(whole)
        if {parallelism, *(readers for _, readers in points)} == {1}:
            assert interrupted(source, points, 1) == whole


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 40), st.booleans(), interruptions, st.integers(1, 40), st.integers(1, 3))
def test_rows(
    rows: int, multiline: bool, points: list[tuple[int, int]], split_size: int, parallelism: int
) -> None:
    """Behind a header, which is no record wherever a reader goes on."""
    with tempfile.TemporaryDirectory() as directory:
        for name in "ab":
            text = "".join(f'{name},"{row}"\n' + "\n" * (row % 3 == 0) for row in range(rows))
            Path(directory, name).write_text("file,row\n" + text)
        source: CsvFileSource[Any] = CsvFileSource(
            directory, tuple, multiline=multiline, split_size_bytes=split_size
        )
        expected = Counter((name, str(row)) for name in "ab" for row in range(rows))
        assert Counter(interrupted(source, points, parallelism)) == expected


def test_a_file_that_was_read_may_be_gone(tmp_path: Path) -> None:
    """What is left of a split that was read to its end is not part of a checkpoint."""
    (tmp_path / "a").write_text("1\n2\n")
    source = TextFileSource(tmp_path)
    run = SourceRun(source, 1)
    assert list(run.poll(0)) == []
    assert [*run.poll(0), *run.poll(0), *run.poll(0)] == ["1", "2"]
    checkpoint = run.snapshot()
    (tmp_path / "a").unlink()
    assert SourceRun(source, 1, checkpoint).read_all() == []
