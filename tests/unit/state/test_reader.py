"""Snapshots that are read and written without a job."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from msgspec import structs

from zmflow.errors import CheckpointFileMissingError, ConfigurationError, StateError
from zmflow.ids import operator_id_of
from zmflow.protocol.checkpoint_metadata import (
    CheckpointMetadata,
    InputRecord,
    OperatorRecord,
    VertexRecord,
    encode_metadata,
)
from zmflow.protocol.checkpoints import StateFile
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.descriptors import StateKind
from zmflow.state.keys import key_group, key_group_range
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.reader import SnapshotReader, SnapshotWriter
from zmflow.state.snapshot_files import open_state_file
from zmflow.state.state_file import pickle_state

COUNTS = {f"k{n}": n for n in range(300)}


def bootstrapped(path: Path, parallelism: int = 3) -> SnapshotReader:
    """A savepoint that is made from nothing."""
    writer = SnapshotWriter(parallelism=parallelism)
    writer.keyed_state("counts", "count", COUNTS.items())
    writer.keyed_state("counts", "seen", [("k1", [1, 2])], StateKind.LIST)
    writer.operator_state("reader", "offsets", [7, 8], OperatorStateMode.UNION)
    writer.write(str(path))
    return SnapshotReader(str(path))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """By uid, each key once, each in the file of its key groups."""
    reader = bootstrapped(tmp_path / "s")
    assert dict(reader.keyed_state("counts", "count")) == COUNTS
    assert list(reader.keyed_state("counts", "seen")) == [("k1", [1, 2])]
    assert reader.operator_state("reader", "offsets") == [7, 8]
    (vertex, other) = reader.files.metadata.vertices
    for subtask, file in enumerate(reader.files.files(vertex)):
        groups = key_group_range(subtask, 128, 3)
        for chunk in file.keyed(operator_id_of("counts"), range(128), 128):
            assert all(key_group(key, 128) in groups for key in chunk.keys)
    assert [file.has_union for file in other.subtasks if file] == [True]


def test_operators_and_states_are_listed(tmp_path: Path) -> None:
    """With sizes and key groups, from the indexes alone."""
    counts, reader = bootstrapped(tmp_path / "s").operators()
    assert (counts.uid, counts.parallelism, counts.max_parallelism) == ("counts", 3, 128)
    assert [(s.name, s.kind, s.entries) for s in counts.states] == [
        ("count", "value", 300),
        ("seen", "list", 1),
    ]
    assert counts.states[0].key_groups == 128
    assert [(s.kind, s.key_groups) for s in reader.states] == [("operator.union", 0)]


def test_key_groups_are_counted_once(tmp_path: Path) -> None:
    """Also where they hold so much of a state that it is in several chunks."""
    writer = SnapshotWriter(parallelism=1)
    writer.keyed_state("counts", "count", ((f"k{n}", "x" * 9000) for n in range(3000)))
    writer.write(str(tmp_path / "s"))
    reader = SnapshotReader(str(tmp_path / "s"))
    (vertex,) = reader.files.metadata.vertices
    (file,) = reader.files.files(vertex)
    assert len(file.operators[operator_id_of("counts")]) > 1
    (state,) = reader.operators()[0].states
    assert (state.entries, state.key_groups) == (3000, 128)


def test_a_state_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """Also those whose classes nobody knows: they are copied as they are."""
    reader = bootstrapped(tmp_path / "s")
    writer = SnapshotWriter(reader)
    writer.keyed_state("counts", "count", ((key, -n) for key, n in reader.keyed_state("counts", "count")))
    writer.remove("reader", "offsets")
    again = SnapshotReader(writer.write(str(tmp_path / "t")))
    assert dict(again.keyed_state("counts", "count")) == {key: -n for key, n in COUNTS.items()}
    assert list(again.keyed_state("counts", "seen")) == [("k1", [1, 2])]
    assert again.operators()[1].states == []
    copy = SnapshotReader(SnapshotWriter(reader).write(str(tmp_path / "u")))
    assert dict(copy.keyed_state("counts", "count")) == COUNTS, "what is compressed, too"
    assert dict(reader.keyed_state("counts", "count")) == COUNTS


def test_windows_and_times_are_told_apart(tmp_path: Path) -> None:
    """A state by window has namespaces; when a value was touched is left out."""
    chunks = [
        KeyedChunk("sum", "value", 0, 127, ["a", "a"], [1, 2], [(0, 10), (10, 20)]),
        KeyedChunk("last", "value", 0, 127, ["a"], [("x", 5)], None, timed=True),
    ]
    state = pickle_state(
        [OperatorSnapshot("op", chunks, [OperatorStateSnapshot("s", OperatorStateMode.SPLIT, [1])])]
    )
    data = b"".join(state.parts())
    record = VertexRecord(
        "v", "v", 1, 128, [OperatorRecord("op", "", "Op")], [StateFile("", len(data), data)]
    )
    tmp_path.joinpath("_metadata").write_bytes(
        encode_metadata(CheckpointMetadata("j", "job", 1, "checkpoint", 0, [record]))
    )
    reader = SnapshotReader(str(tmp_path / "_metadata"))
    assert [tuple(entry) for entry in reader.keyed_entries("Op", "sum")] == [
        ("a", (0, 10), 1),
        ("a", (10, 20), 2),
    ]
    assert list(reader.keyed_state("op", "last")) == [("a", "x")]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    """The error lists what is."""
    reader = bootstrapped(tmp_path / "s")
    with pytest.raises(StateError, match="no operator 'nobody'") as caught:
        reader.operator_state("nobody", "x")
    assert "counts" in str(caught.value)
    with pytest.raises(StateError, match="no such state 'offsets'"):
        list(reader.keyed_state("counts", "offsets"))
    with pytest.raises(CheckpointFileMissingError, match="no checkpoint or savepoint in"):
        SnapshotReader(str(tmp_path))
    with pytest.raises(StateError, match="is not empty"):
        SnapshotWriter(reader).write(str(tmp_path / "s"))


@pytest.mark.parametrize(("package", "method"), [("pyarrow", "to_arrow"), ("pandas", "to_pandas")])
def test_tables_need_a_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, method: str
) -> None:
    """Which is named when it is not installed."""
    reader = bootstrapped(tmp_path / "s")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigurationError, match=f"{package} is not installed"):
        getattr(reader, method)("counts", "count")
    monkeypatch.undo()
    table = getattr(reader, method)("counts", "count")
    assert sorted(zip(list(table["key"]), list(table["value"]), strict=True), key=lambda p: str(p[0]))[0]
    assert len(table) == 300


def test_what_was_on_its_way_is_kept_in_what_is_written(tmp_path: Path) -> None:
    """A checkpoint whose barriers overtook records is changed like any other; its files are checked and shown
    with it."""
    storage = bootstrapped(tmp_path / "s").files.storage
    metadata = bootstrapped(tmp_path / "t").files.metadata
    elements = [os.urandom(50_000)]
    overtaken = pickle_state(
        [OperatorSnapshot("in-flight", [], [OperatorStateSnapshot("0/1", OperatorStateMode.SPLIT, elements)])]
    )
    size = storage.write("0.overtaken", list(overtaken.parts()))
    vertex = structs.replace(
        metadata.vertices[0],
        in_flight=[None, StateFile("0.overtaken", size), None],
        inputs=[InputRecord("up", 0, 0, 2)],
    )
    changed = structs.replace(metadata, vertices=[vertex, *metadata.vertices[1:]])
    (tmp_path / "s" / "_metadata").write_bytes(encode_metadata(changed))
    reader = SnapshotReader(str(tmp_path / "s"))
    assert reader.operators()[0].in_flight_bytes == size
    writer = SnapshotWriter(reader)
    writer.remove("counts", "seen")
    writer.write(str(tmp_path / "u"))
    written = SnapshotReader(str(tmp_path / "u"))
    written.files.check_sizes()
    (_, file, _) = written.files.metadata.vertices[0].in_flight
    assert file is not None
    (state,) = open_state_file(file, written.files.storage).operator("in-flight", "0/1")
    assert state.elements == elements
    (tmp_path / "u" / file.path).unlink()
    with pytest.raises(CheckpointFileMissingError):
        written.files.check_sizes()
