"""File sinks: what is written, under which name, and when it becomes visible."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from source_drive import read_all, runtime_context

from zmflow.api.sinks import CommitRequest, Sink, SinkWriter, WriterContext
from zmflow.connectors import (
    BucketAssigner,
    CsvFileSink,
    CsvFileSource,
    DateTimeBucketAssigner,
    Encoder,
    FileSink,
    JsonLinesFileSink,
    JsonLinesSource,
    OutputFileConfig,
    RollingPolicy,
    TextFileSink,
    TextFileSource,
)
from zmflow.connectors.part_file_writer import PartFileWriter
from zmflow.errors import ConnectorError
from zmflow.testing.sink_run import SinkRun


@dataclass
class Sale:
    """A record with fields."""

    city: str
    amount: int


class Point(msgspec.Struct):
    """A record with fields."""

    x: int


def writer(sink: Sink[Any], subtask: int = 0, parallelism: int = 1, attempt: int = 0) -> SinkWriter[Any]:
    """The writer of an attempt of a subtask, made from a sink that has travelled."""

    def emit(accumulator: str, rows: Sequence[Any], finished: bool) -> None:
        raise AssertionError("A file sink sends nothing to the client.")

    travelled: Sink[Any] = pickle.loads(pickle.dumps(sink))
    return travelled.create_writer(WriterContext(runtime_context(subtask, parallelism, attempt), emit))


def write(
    sink: Sink[Any], *batches: Sequence[Any], subtask: int = 0, parallelism: int = 1, attempt: int = 0
) -> None:
    """Writes batches as a task that completes does."""
    target = writer(sink, subtask, parallelism, attempt)
    for batch in batches:
        target.write_batch(batch)
    finish(target, sink)


def finish(target: SinkWriter[Any], sink: Sink[Any]) -> None:
    """The end of the input, of a task without checkpoints."""
    target.flush(True)
    committer = sink.create_committer()
    assert committer is not None
    committer.commit([CommitRequest(part, 1) for part in target.prepare_commit()])
    target.close(True)


def names(directory: Path) -> list[str]:
    """What is in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_parts_appear_when_they_are_complete(tmp_path: Path) -> None:
    """Before that the file is hidden, so that a source reading the directory does not see it."""
    out = tmp_path / "deep" / "out"
    sink = TextFileSink[object](out)
    target = writer(sink, subtask=1, parallelism=2)
    target.write("a")
    target.write_batch(["b", 3])
    target.flush(False)
    (hidden,) = names(out)
    assert hidden.startswith(".part-1.inprogress")
    assert (out / hidden).read_text() == "a\nb\n3\n"
    finish(target, sink)
    assert names(out) == ["part-1"]
    assert read_all(TextFileSource(out)) == ["a", "b", "3"]


def test_a_failed_task_leaves_nothing(tmp_path: Path) -> None:
    """Neither a part nor a temporary file."""
    target = writer(TextFileSink(tmp_path))
    target.write("a")
    target.close(False)
    assert names(tmp_path) == []


def test_a_task_without_records_writes_an_empty_part(tmp_path: Path) -> None:
    """The parts of a job are always as many as the sink's parallelism."""
    write(CsvFileSink(tmp_path))
    assert (tmp_path / "part-0.csv").read_bytes() == b""


def test_existing_parts_are_refused(tmp_path: Path) -> None:
    """Other files do not matter; a path that is no directory is refused too."""
    (tmp_path / "notes").write_text("mine")
    TextFileSink(tmp_path).validate()
    TextFileSink(tmp_path / "new").validate()
    write(TextFileSink(tmp_path), ["a"], subtask=0, parallelism=2)
    write(TextFileSink(tmp_path), ["a"], subtask=1, parallelism=2)
    with pytest.raises(ConnectorError, match="holds part files already") as caught:
        JsonLinesFileSink(tmp_path).validate()
    assert caught.value.detail == f"{tmp_path}: part-0 and 1 more"
    with pytest.raises(ConnectorError, match="Not a directory"):
        TextFileSink(tmp_path / "notes").validate()


def killed(target: SinkWriter[Any], *values: Any) -> None:
    """What kill -9 leaves of a writer: its temporary file."""
    assert isinstance(target, PartFileWriter)
    target.write_batch(values)
    for part in target._parts.values():
        part._file.close()


def test_a_restarted_task_replaces_its_part_and_what_a_killed_attempt_left(tmp_path: Path) -> None:
    """Files of other subtasks, of other sinks and of later attempts are not touched."""
    sink = TextFileSink[str](tmp_path, suffix=".txt")
    other = TextFileSink[str](tmp_path, suffix=".other")
    write(sink, ["first"], subtask=1, parallelism=2)
    killed(writer(sink, 1, 2, attempt=1), "half")
    killed(writer(sink, 0, 2, attempt=1), "of another subtask")
    killed(writer(other, 1, 2, attempt=1), "of another sink")
    again = writer(sink, 1, 2, attempt=2)
    assert [name.rpartition("inprogress.")[0] for name in names(tmp_path) if name.startswith(".")] == [
        ".part-0.txt.",
        ".part-1.other.",
    ]
    assert (tmp_path / "part-1.txt").read_text() == "first\n"
    again.write("second")
    finish(again, sink)
    assert (tmp_path / "part-1.txt").read_text() == "second\n"
    assert [name for name in names(tmp_path) if name.startswith(".part-1.txt")] == []


def test_an_attempt_that_begins_late_takes_nothing_from_the_one_after_it(tmp_path: Path) -> None:
    """A worker that was given up may still run, and open its sinks when the next attempt has."""
    sink = TextFileSink[str](tmp_path)
    second = writer(sink, attempt=2)
    second.write("a")
    writer(sink, attempt=1).close(False)
    finish(second, sink)
    assert names(tmp_path) == ["part-0"]


def test_fewer_subtasks_after_a_restart_leave_no_part_of_those_that_are_no_more(tmp_path: Path) -> None:
    """Neither a part nor what was left of one: subtask 0 looks after them. Live subtasks keep theirs."""
    sink = TextFileSink[str](tmp_path)
    for subtask in range(4):
        write(sink, ["wide"], subtask=subtask, parallelism=4)
    killed(writer(sink, 3, 4, attempt=1), "half")
    write(sink, ["narrow"], subtask=1, parallelism=2, attempt=2)
    write(sink, ["narrow"], subtask=0, parallelism=2, attempt=2)
    assert names(tmp_path) == ["part-0", "part-1"]
    assert read_all(TextFileSource(tmp_path)) == ["narrow", "narrow"]


def test_two_sinks_may_share_a_directory_when_their_suffixes_differ(tmp_path: Path) -> None:
    """Completing one does not remove what the other has completed."""
    write(TextFileSink(tmp_path), ["a"])
    write(JsonLinesFileSink(tmp_path), ["b"])
    write(TextFileSink(tmp_path), ["c"], attempt=1)
    assert names(tmp_path) == ["part-0", "part-0.jsonl"]


def test_overwriting_leaves_no_part_of_the_earlier_job(tmp_path: Path) -> None:
    """Parts that the new job has not, and parts with another suffix, are removed; other files stay."""
    for subtask in range(4):
        write(TextFileSink(tmp_path), ["old"], subtask=subtask, parallelism=4)
    (tmp_path / "notes").write_text("mine")
    sink = TextFileSink[str](tmp_path, overwrite=True, suffix=".txt")
    sink.validate()
    for subtask in range(2):
        write(sink, ["new"], subtask=subtask, parallelism=2)
    assert names(tmp_path) == ["notes", "part-0.txt", "part-1.txt"]


def test_text_lines_are_formatted(tmp_path: Path) -> None:
    """With a function of the record."""
    write(TextFileSink(tmp_path, "{0[0]}\t{0[1]}".format), [("a", 1), ("b", 2)], [("ü", 3)])
    assert (tmp_path / "part-0").read_text(encoding="utf-8") == "a\t1\nb\t2\nü\t3\n"


def test_json_lines(tmp_path: Path) -> None:
    """Dataclasses, Structs and plain values; read back equal."""
    write(JsonLinesFileSink(tmp_path), [{"a": [1, "é"]}, Sale("Bern", 1)], range(2), (Point(3),))
    expected = [{"a": [1, "é"]}, {"city": "Bern", "amount": 1}, 0, 1, {"x": 3}]
    lines = (tmp_path / "part-0.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == expected
    assert read_all(JsonLinesSource(tmp_path)) == expected


@pytest.mark.parametrize("kind", [lambda c, a: {"city": c, "amount": a}, Sale])
def test_csv_of_mappings_and_objects(tmp_path: Path, kind: Any) -> None:
    """The header is written once per part and the fields are quoted where they must be."""
    write(CsvFileSink(tmp_path), [kind("Zug, ZG", 1)], [kind('"x"', 2)])
    assert (tmp_path / "part-0.csv").read_text() == 'city,amount\n"Zug, ZG",1\n"""x""",2\n'
    assert read_all(CsvFileSource(tmp_path, Sale)) == [Sale("Zug, ZG", 1), Sale('"x"', 2)]


def test_csv_of_tuples_and_chosen_columns(tmp_path: Path) -> None:
    """Tuples have no names unless they are given; objects may be written in part."""
    write(CsvFileSink(tmp_path / "a"), [("x", 1)], [("y", 2)])
    assert (tmp_path / "a" / "part-0.csv").read_text() == "x,1\ny,2\n"
    write(CsvFileSink(tmp_path / "b", ["c", "n"], delimiter=";"), [("x", 1)])
    assert (tmp_path / "b" / "part-0.csv").read_text() == "c;n\nx;1\n"
    write(CsvFileSink(tmp_path / "c", ["amount"], header=False), [Sale("x", 1)], [Sale("y", 2)])
    assert (tmp_path / "c" / "part-0.csv").read_text() == "1\n2\n"


def test_records_that_cannot_be_written(tmp_path: Path) -> None:
    """The reason is named, with what to do."""
    for sink, record, reason in [
        (JsonLinesFileSink[object](tmp_path), {1, object()}, "as JSON"),
        (CsvFileSink[object](tmp_path, ["b"]), {"a": 1}, "as CSV: KeyError: 'b'"),
        (TextFileSink[object](tmp_path, encoding="ascii"), "é", "in ascii"),
    ]:
        target = writer(sink)
        with pytest.raises(ConnectorError, match=reason) as caught:
            target.write(record)
        assert caught.value.hint
        target.close(False)
    assert names(tmp_path) == []


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """When it is met, at the latest when the part is completed; nothing is left that looks like output."""
    probe = writer(TextFileSink(tmp_path))
    probe.write("x")
    (hidden,) = names(tmp_path)
    probe.close(False)
    (tmp_path / hidden).symlink_to("/dev/full")
    target = writer(TextFileSink(tmp_path))
    with pytest.raises(ConnectorError, match="No space left on device"):
        target.write_batch(["x" * 2_000_000])
    target.close(False)
    assert names(tmp_path) == []
    (tmp_path / hidden).symlink_to("/dev/full")
    target = writer(TextFileSink(tmp_path))
    target.write("x")
    with pytest.raises(ConnectorError, match="No space left on device"):
        target.flush(True)
    target.close(False)
    assert names(tmp_path) == []


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """The system's reason is passed on."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConnectorError, match="Not a directory"):
        writer(TextFileSink(tmp_path / "file" / "out"))


def test_buckets_and_rolled_parts_without_checkpoints(tmp_path: Path) -> None:
    """Names are those of the first part and a number, in each directory; the next job's replace them."""
    sink = TextFileSink[str](tmp_path, overwrite=True).with_bucket_assigner(ByFirstLetter())
    rolled = sink.with_rolling_policy(RollingPolicy(part_size=1))
    for _ in range(2):
        write(rolled, ["a1", "b1"], ["a2"])
        assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("part*")} == {
            "a/part-0",
            "a/part-0-1",
            "b/part-0",
        }
    with pytest.raises(ConnectorError, match="holds part files already"):
        TextFileSink[str](tmp_path).with_bucket_assigner(ByFirstLetter()).validate()
    write(sink, ["a3"])
    assert [path.read_text() for path in tmp_path.rglob("part*")] == ["a3\n"]


class ByFirstLetter(BucketAssigner[str]):
    """A directory per letter."""

    def bucket_id(self, value: str, processing_time_ms: int) -> str:
        return value[0]


class ByValue(BucketAssigner[str]):
    """A directory per record."""

    def bucket_id(self, value: str, processing_time_ms: int) -> str:
        return value


@pytest.mark.parametrize("bucket", ["/etc", "..", "a/../b", ".hidden"])
def test_buckets_stay_below_the_directory(tmp_path: Path, bucket: str) -> None:
    """And are visible."""
    run = SinkRun(TextFileSink[str](tmp_path).with_bucket_assigner(ByValue()))
    with pytest.raises(ConnectorError, match="A bucket assigner chose"):
        run.write([bucket])


def test_buckets_of_the_clock() -> None:
    """Java's patterns and strftime's; a zone by its name. What is not understood is said."""
    java = BucketAssigner.date_time_bucket_assigner("yyyy-MM-dd'T'HH/mm", "Asia/Tokyo")
    assert java.bucket_id("x", 1_700_000_000_000) == "2023-11-15T07/13"
    assert BucketAssigner.base_path_bucket_assigner().bucket_id("x", 0) == ""
    with pytest.raises(ConnectorError, match="'EEE'"):
        BucketAssigner.date_time_bucket_assigner("EEE")
    with pytest.raises(ConnectorError, match="no time zone 'Mars/Olympus'"):
        DateTimeBucketAssigner(timezone="Mars/Olympus")


def test_parts_are_rolled_by_size_and_by_the_clock(tmp_path: Path) -> None:
    """The clock is looked at from time to time, while a part is open."""
    policy = RollingPolicy.default_rolling_policy(
        part_size=10, rollover_interval=1_000, inactivity_interval=300
    )
    run = SinkRun(TextFileSink[str](tmp_path).with_rolling_policy(policy).with_bucket_check_interval(100))

    def parts() -> list[str]:
        run.checkpoint()
        return [path.read_text() for path in sorted(tmp_path.iterdir()) if path.name[0] == "p"]

    run.write(["123456789"])
    assert parts() == ["123456789\n"]
    run.write(["a"])
    run.tick(250)
    run.write(["b"])
    run.tick(250)
    assert len(parts()) == 1
    run.tick(100)
    assert parts() == ["123456789\n", "a\nb\n"]
    for _ in range(9):
        run.write(["c"])
        run.tick(100)
    assert len(parts()) == 3  # by size: five of them
    run.finish()
    assert "".join(path.read_text() for path in tmp_path.iterdir()).count("c") == 9


def test_overwriting_with_checkpoints_happens_once_and_at_the_beginning(tmp_path: Path) -> None:
    """What the job itself has committed stays, and so do files that are no parts."""
    (tmp_path / "part-0").write_text("old")
    (tmp_path / ".part-9.inprogress.abcdef01-9-0-0").write_text("left by another job")
    (tmp_path / "notes").write_text("mine")
    sink = TextFileSink[str](tmp_path, overwrite=True)
    run = SinkRun(sink, 2)
    run.write(["a"], 1)
    checkpoint = run.barrier()
    assert "part-0" not in names(tmp_path)
    run.kill()
    run = SinkRun(sink, 2, checkpoint, attempt=1)
    run.write(["b"])
    run.finish()
    assert "notes" in names(tmp_path)
    assert [path.read_text() for path in tmp_path.glob("part*")] == ["a\nb\n"]
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


def test_a_part_that_was_tampered_with_is_not_gone_on_with(tmp_path: Path) -> None:
    """Records would be lost without a word: it is shorter than in the checkpoint, or gone."""
    sink = TextFileSink[str](tmp_path)
    run = SinkRun(sink)
    run.write(["a", "b"])
    checkpoint = run.checkpoint()
    run.kill()
    (hidden,) = tmp_path.iterdir()
    hidden.write_text("a")
    with pytest.raises(ConnectorError, match="has lost records"):
        SinkRun(sink, restored=checkpoint, attempt=1)
    hidden.unlink()
    with pytest.raises(ConnectorError, match="is gone"):
        SinkRun(sink, restored=checkpoint, attempt=2)


def test_a_committed_part_that_somebody_has_taken_fails_the_job(tmp_path: Path) -> None:
    """Where the checkpoint that committed it is restored, nobody can tell that from a loss."""
    sink = TextFileSink[str](tmp_path).with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
    run = SinkRun(sink)
    run.write(["a"])
    checkpoint = run.checkpoint()
    run.kill()
    SinkRun(sink, restored=checkpoint, attempt=1).kill()
    (part,) = tmp_path.iterdir()
    part.unlink()
    with pytest.raises(ConnectorError, match="could not commit") as caught:
        SinkRun(sink, restored=checkpoint, attempt=2)
    assert "somebody has removed the file" in str(caught.value.detail)


def test_a_loss_of_power_takes_nothing_that_a_checkpoint_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it is acknowledged, what was written since the last one is on the disk, names included; after
    the commit the final names are."""
    synced: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name.partition("-")[0])
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)

    def synced_by(step: Callable[[], object]) -> list[str]:
        synced.clear()
        step()
        return sorted(synced)

    run = SinkRun(TextFileSink[str](tmp_path / "out" / "below"))
    run.write(["a"])
    assert synced_by(run.barrier) == [".part", "below", "out", tmp_path.name]
    run.write(["b"])
    assert synced_by(run.barrier) == [".part"]
    assert synced_by(run.barrier) == []
    run.tick(70_000)  # the part is closed
    checkpoint = run.barrier()
    assert synced_by(lambda: run.complete(checkpoint)) == ["below"]
    run.finish()


def test_names_of_parts_may_be_chosen(tmp_path: Path) -> None:
    """With PyFlink's builder."""
    config = OutputFileConfig.builder().with_part_prefix("sales").with_part_suffix(".txt").build()
    builder = FileSink.for_row_format(tmp_path, Encoder.simple_string_encoder())
    builder = builder.with_output_file_config(config).with_bucket_check_interval(1_000)
    builder = builder.with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
    write(builder.with_rolling_policy(RollingPolicy()).build(), ["a"])
    assert names(tmp_path) == ["sales-0.txt"]
    for wrong in ("a/b", ".a", ""):
        with pytest.raises(ConnectorError, match="prefix of part files"):
            OutputFileConfig(wrong)
    with pytest.raises(ConnectorError, match="part_size"):
        RollingPolicy(part_size=0)


def test_pyflinks_builder(tmp_path: Path) -> None:
    """The names a PyFlink program uses."""
    write(FileSink.for_row_format(str(tmp_path), Encoder.simple_string_encoder()).build(), ["a", 1])
    assert (tmp_path / "part-0").read_text() == "a\n1\n"
