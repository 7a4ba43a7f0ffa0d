"""Files that are followed: appended to, rotated, truncated, deleted; the clock is the test's."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from source_drive import Context

from zmflow.api.time import Duration
from zmflow.connectors import (
    BinaryFileSource,
    CsvFileSource,
    FixedSizeRecordSource,
    JsonLinesSource,
    TextFileSource,
)
from zmflow.connectors.file_formats import TextLineFormat
from zmflow.connectors.growing_files import GrowingFile, GrowingFileReader
from zmflow.errors import ConnectorError
from zmflow.testing.source_run import SourceRun

EVERY_MS = Duration.of_millis(1)
SECOND = Duration.of_seconds(1)


class Following:
    """A source and one reader, which is polled at instants that the test chooses."""

    def __init__(self, directory: Path, checkpoint: tuple[Any, list[GrowingFile]] | None = None) -> None:
        source = TextFileSource(directory, monitor_interval=SECOND, follow=True)
        self.now = 0.0
        self.reader = GrowingFileReader(TextLineFormat(), 1.0, lambda: self.now)
        self.context = Context([self.reader])
        if checkpoint is None:
            self.enumerator = source.create_enumerator(self.context)
        else:
            state, splits = pickle.loads(pickle.dumps(checkpoint))
            self.enumerator = source.restore_enumerator(self.context, state)
            self.reader.add_splits(splits)
        self.enumerator.start()
        [(self.interval_ms, self.discover)] = self.context.periodic

    def look(self, after_s: float = 1.0) -> list[Any]:
        """What there is to read so many seconds later."""
        self.now += after_s
        self.discover()
        records: list[Any] = []
        for _ in range(10):
            batch = self.reader.poll_next()
            assert batch is None or isinstance(batch, Sequence)
            if batch is None:
                self.enumerator.handle_split_request(0)
            records += batch or ()
        return records

    def snapshot(self) -> tuple[Any, list[GrowingFile]]:
        """A checkpoint."""
        return self.enumerator.snapshot_state(1), self.reader.snapshot_state(1)

    @property
    def files(self) -> list[str]:
        """Which files are followed."""
        return sorted(Path(file.path).name for file in self.reader.snapshot_state(0))


def append(path: Path, text: str) -> None:
    """Write at the end of a file."""
    with path.open("a") as file:
        file.write(text)


def test_what_is_appended_is_read_when_it_is_whole(tmp_path: Path) -> None:
    """A line at a time, from files that are there and from such as come."""
    following = Following(tmp_path)
    assert following.look() == []
    append(tmp_path / "a", "1\n2")
    assert following.look() == ["1"]
    append(tmp_path / "a", "2\n3\n")
    append(tmp_path / "b", "4\n")
    assert sorted(following.look()) == ["22", "3", "4"]
    assert following.look() == []
    assert following.reader.poll_again_after_s() == 1.0
    assert following.files == ["a", "b"]


def test_rotation(tmp_path: Path) -> None:
    """The renamed file is read to its end, also what comes late; the new one from its start; none twice."""
    log = tmp_path / "log"
    append(log, "1\n")
    following = Following(tmp_path)
    assert following.look() == ["1"]
    append(log, "2\n")
    log.rename(tmp_path / "log.1")
    append(log, "3\n")
    append(tmp_path / "log.1", "late\n")
    assert sorted(following.look()) == ["2", "3", "late"]
    assert following.files == ["log", "log.1"]
    assert following.look(61) == []
    assert following.files == ["log"]
    assert following.look() == []
    append(log, "4\n")
    assert following.look() == ["4"]


def test_rotation_while_the_job_is_down(tmp_path: Path) -> None:
    """A checkpoint knows its files by what they are, not by what they are called."""
    log = tmp_path / "log"
    append(log, "1\n")
    following = Following(tmp_path)
    assert following.look() == ["1"]
    checkpoint = following.snapshot()
    append(log, "2\n")
    log.rename(tmp_path / "log.1")
    append(log, "3\n")
    again = Following(tmp_path, checkpoint)
    assert sorted(again.look()) == ["2", "3"]
    then = Following(tmp_path, again.snapshot())
    assert then.look() == []
    assert then.look(61) == []
    assert then.files == ["log"], "it is still known that the other one was renamed"


def test_rotation_out_of_the_pattern(tmp_path: Path) -> None:
    """Where the renamed file is not one to look for, it is read on nevertheless."""
    append(tmp_path / "a.log", "1\n")
    run = SourceRun(TextFileSource(tmp_path, pattern="*.log", monitor_interval=EVERY_MS, follow=True), 1)
    assert run.read_all(wanted=1) == ["1"]
    append(tmp_path / "a.log", "2\n")
    (tmp_path / "a.log").rename(tmp_path / "a.old")
    append(tmp_path / "a.log", "3\n")
    assert sorted(run.read_all(wanted=2)) == ["2", "3"]
    run.close()


def test_truncation(tmp_path: Path) -> None:
    """A file that is shorter than it was begins anew."""
    append(tmp_path / "a", "1\n2\n3\n")
    following = Following(tmp_path)
    assert following.look() == ["1", "2", "3"]
    (tmp_path / "a").write_text("4\n")
    assert following.look() == ["4"]


def test_deletion(tmp_path: Path) -> None:
    """A deleted file is given up, when it is missing twice."""
    append(tmp_path / "a", "1\n")
    append(tmp_path / "b", "2\n")
    following = Following(tmp_path)
    assert sorted(following.look()) == ["1", "2"]
    (tmp_path / "a").unlink()
    assert following.look() == []
    assert following.files == ["a", "b"]
    assert following.look() == []
    assert following.files == ["b"]


def test_a_file_that_is_missed_once_is_not_read_again(tmp_path: Path) -> None:
    """As when it is renamed while its directory is listed."""
    for name in "ab":
        append(tmp_path / name, f"{name}\n")
    following = Following(tmp_path)
    assert sorted(following.look()) == ["a", "b"]
    (tmp_path / "a").rename(tmp_path / ".hidden")
    assert following.look() == []
    (tmp_path / ".hidden").rename(tmp_path / "a")
    assert following.look() == []
    (tmp_path / "b").rename(tmp_path.parent / "gone")
    for _ in range(3):
        following.look()
    assert len(following.snapshot()[0][1]) == 1, "what is remembered goes with the files"


def test_a_long_line_is_waited_for(tmp_path: Path) -> None:
    """Longer than a block; until its end comes, nothing is returned."""
    append(tmp_path / "a", "x" * 200_000)
    following = Following(tmp_path)
    assert following.look() == []
    append(tmp_path / "a", "y\nz\n")
    assert following.look() == ["x" * 200_000 + "y", "z"]


def test_other_formats(tmp_path: Path) -> None:
    """Rows behind their header, JSON among blank lines, records of a size."""
    append(tmp_path / "a.csv", "n,t\n")
    append(tmp_path / "a.json", "\n\n\n")
    append(tmp_path / "a.bin", "1234")
    csv_rows: CsvFileSource[Any] = CsvFileSource(tmp_path / "a.csv", monitor_interval=EVERY_MS, follow=True)
    json_values: JsonLinesSource[Any] = JsonLinesSource(
        tmp_path / "a.json", monitor_interval=EVERY_MS, follow=True
    )
    records = FixedSizeRecordSource(tmp_path / "a.bin", 3, monitor_interval=EVERY_MS, follow=True)
    runs = [SourceRun(source, 1) for source in (csv_rows, json_values, records)]
    assert runs[2].read_all(wanted=1) == [b"123"]
    append(tmp_path / "a.csv", "1,x\n2,")
    append(tmp_path / "a.json", '{"n": 1}\n{"n"')
    append(tmp_path / "a.bin", "567")
    assert runs[0].read_all(wanted=1) == [{"n": "1", "t": "x"}]
    assert runs[1].read_all(wanted=1) == [{"n": 1}]
    assert runs[2].read_all(wanted=1) == [b"456"]
    for run in runs:
        run.close()


@pytest.mark.parametrize(
    "make",
    [
        lambda path: TextFileSource(path, follow=True),
        lambda path: BinaryFileSource(path, follow=True, monitor_interval=SECOND),
        lambda path: CsvFileSource(path, multiline=True, follow=True, monitor_interval=SECOND),
    ],
)
def test_misuse_is_refused(make: Any, tmp_path: Path) -> None:
    """Without an interval, or where the end of a record cannot be told."""
    with pytest.raises(ConnectorError) as refused:
        make(tmp_path)
    assert refused.value.hint
