"""File sources that go on: what is new, what is remembered, and who gets it."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from source_drive import Context, read_all, runtime_context

from zmflow.api.time import Duration
from zmflow.connectors import FileSource, StreamFormat, TextFileSource
from zmflow.connectors.file_discovery import DIGEST_SIZE_BYTES
from zmflow.errors import ConnectorError
from zmflow.testing.source_run import SourceRun

EVERY_MS = Duration.of_millis(1)


def test_files_are_read_when_they_appear_and_once(tmp_path: Path) -> None:
    """Whether there is a directory at first, or anything in it."""
    files = tmp_path / "later"
    run = SourceRun(TextFileSource(files, monitor_interval=EVERY_MS), 2)
    assert run.read_rounds(3) == []
    files.mkdir()
    assert run.read_rounds(3) == []
    for name in "abc":
        (files / name).write_text(f"{name}\n")
        assert run.read_rounds(5) == [name]
    run.close()


def test_an_empty_file_is_not_complete(tmp_path: Path) -> None:
    """Whoever writes in place has opened the file and written nothing yet."""
    run = SourceRun(TextFileSource(tmp_path, monitor_interval=EVERY_MS), 1)
    (tmp_path / "a").touch()
    assert run.read_rounds(3) == []
    (tmp_path / "a").write_text("1\n")
    assert run.read_rounds(5) == ["1"]
    run.close()


def test_what_waits_longest_is_served_first(tmp_path: Path) -> None:
    """And a reader that asks twice, since it restarted, is given one bundle."""
    source = TextFileSource(tmp_path, split_size_bytes=2, monitor_interval=Duration.of_seconds(3))
    context = Context([source.create_reader(runtime_context(i, 3)) for i in range(3)])
    enumerator = source.create_enumerator(context)
    enumerator.start()
    for subtask in (2, 0, 2, 1):
        enumerator.handle_split_request(subtask)
    assert context.assigned == []
    for name in "abcd":
        (tmp_path / name).write_text("1\n")
    [(interval_ms, discover)] = context.periodic
    assert interval_ms == 3000
    discover()
    assert [(subtask, Path(split.path).name) for subtask, split in context.assigned] == [
        (2, "a"),
        (0, "b"),
        (1, "c"),
    ]


def test_what_is_remembered_goes_with_the_files(tmp_path: Path) -> None:
    """A few bytes for each file that is there; those of deleted files are not kept."""
    run = SourceRun(TextFileSource(tmp_path, monitor_interval=EVERY_MS), 1)
    for number in range(50):
        (tmp_path / str(number)).write_text(f"{number}\n")
    assert len(run.read_rounds(60)) == 50
    for number in range(1, 50):
        (tmp_path / str(number)).unlink()
    run.tick()
    _, seen = pickle.loads(run.snapshot().enumerator)
    assert len(seen) == DIGEST_SIZE_BYTES
    (tmp_path / "1").write_text("again\n")
    assert run.read_rounds(5) == ["again"]
    run.close()


def test_a_place_without_anything_is_not_forgotten(tmp_path: Path) -> None:
    """As when a file system is mounted again: its files were read."""
    files = tmp_path / "mounted"
    files.mkdir()
    (files / "a").write_text("1\n")
    run = SourceRun(TextFileSource(files, monitor_interval=EVERY_MS), 1)
    assert run.read_rounds(5) == ["1"]
    files.rename(tmp_path / "elsewhere")
    assert run.read_rounds(5) == []
    (tmp_path / "elsewhere").rename(files)
    assert run.read_rounds(5) == []
    run.close()


def test_a_checkpoint_says_what_was_seen(tmp_path: Path) -> None:
    """What was found before it is not read again, what appeared while the job was down is."""
    source = TextFileSource(tmp_path, monitor_interval=EVERY_MS)
    (tmp_path / "a").write_text("1\n")
    run = SourceRun(source, 1)
    assert run.read_rounds(5) == ["1"]
    checkpoint = run.snapshot()
    run.close()
    (tmp_path / "b").write_text("2\n")
    again = SourceRun(source, 3, checkpoint)
    assert again.read_rounds(5) == ["2"]
    again.close()


def test_the_builder_has_flinks_names(tmp_path: Path) -> None:
    """``monitor_continuously`` and ``process_static_file_set``: the last one counts."""
    (tmp_path / "a").write_text("1\n")
    builder = FileSource.for_record_stream_format(StreamFormat.text_line_format(), str(tmp_path))
    assert builder.monitor_continuously(EVERY_MS).build().bounded is False
    static = builder.process_static_file_set().build()
    assert static.bounded is True
    assert read_all(static) == ["1"]


def test_an_interval_is_a_time(tmp_path: Path) -> None:
    """None at all would look without a pause."""
    with pytest.raises(ConnectorError, match="every 0 ms"):
        TextFileSource(tmp_path, monitor_interval=Duration.of_millis(0))


def test_the_client_does_not_miss_what_is_not_there_yet(tmp_path: Path) -> None:
    """A source that waits for files is submitted without any."""
    TextFileSource(tmp_path / "later", monitor_interval=EVERY_MS).validate()
    with pytest.raises(ConnectorError):
        TextFileSource(tmp_path / "later").validate()
