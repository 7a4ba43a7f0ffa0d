"""Copies of snapshots on the TaskManager: written beside the checkpoint, read where they are whole."""

from __future__ import annotations

import time
from pathlib import Path
from queue import SimpleQueue
from random import Random

import msgspec
import pytest
import xxhash
from deployments import deployment

from zmflow.config import Settings
from zmflow.protocol.checkpoints import (
    CheckpointAcknowledged,
    CheckpointBarrier,
    CheckpointDeclined,
    CheckpointKind,
    NotifyCheckpoint,
    OperatorRestore,
    SnapshotMetrics,
    StateFile,
    SubtaskRestore,
)
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.checkpoints.local_copies import LocalCopies, remove_superseded
from zmflow.runtime.checkpoints.snapshot_reader import read_restored
from zmflow.runtime.checkpoints.snapshot_writer import SnapshotWriter
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.native_files import FrozenFiles, NativeManifest, StoredFile, file_checksum
from zmflow.state.state_file import pickle_state

WAIT_S = 60.0

BOTH = Settings().with_values(
    {"execution.checkpointing.local-backup.enabled": "true", "execution.state-recovery.from-local": "true"},
    "test",
)
CHUNK = KeyedChunk("timers", "timers", 0, 127, ["a"], [Random(7).randbytes(100_000)])
"""More than is kept in the metadata."""


def restored_from(file: StateFile, tmp_path: Path) -> TaskDeployment:
    return deployment(
        SubtaskRestore(1, str(tmp_path / "chk-1"), [OperatorRestore("o", 1, [file], [None], own=True)])
    )


class Written:
    """A snapshot that was written."""

    def __init__(
        self, tmp_path: Path, settings: Settings = BOTH, kind: CheckpointKind = "checkpoint"
    ) -> None:
        self.tmp_path = tmp_path
        copies = LocalCopies(str(tmp_path / "job"), deployment(), settings)
        said: SimpleQueue[CheckpointAcknowledged | CheckpointDeclined] = SimpleQueue()
        writer = SnapshotWriter(deployment(), settings, said.put, copies)
        barrier = CheckpointBarrier(1, 0, kind, str(tmp_path / "chk-1"))
        writer.write(barrier, pickle_state([OperatorSnapshot("o", [CHUNK], [])]), SnapshotMetrics())
        answer = said.get(timeout=WAIT_S)
        assert isinstance(answer, CheckpointAcknowledged), answer
        assert answer.state is not None
        self.file = answer.state
        self.stored = tmp_path / "chk-1" / self.file.path
        self.copy = tmp_path / "job" / "v1-0" / "chk-1" / self.file.path

    def read(self, settings: Settings = BOTH) -> list[KeyedChunk]:
        """What is restored from it."""
        task = restored_from(self.file, self.tmp_path)
        copies = LocalCopies(str(self.tmp_path / "job"), task, settings)
        restored = read_restored(task, "o", settings, copies=copies)
        assert restored is not None
        return restored.keyed


def test_a_snapshot_is_copied_and_the_copy_is_read(tmp_path: Path) -> None:
    """The checkpoint's own file is not even looked at."""
    written = Written(tmp_path)
    assert written.copy.read_bytes() == written.stored.read_bytes()
    assert written.file.checksum == file_checksum(written.stored)
    written.stored.unlink()
    assert written.read() == [CHUNK]


@pytest.mark.parametrize("damage", ["a bit", "the end", "all of it", "the directory"])
def test_a_copy_that_is_not_whole_is_not_read(tmp_path: Path, damage: str) -> None:
    """The checkpoint is what counts."""
    written = Written(tmp_path)
    content = bytearray(written.copy.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "a bit":
        written.copy.write_bytes(content)
    elif damage == "the end":
        written.copy.write_bytes(content[:-1])
    else:
        written.copy.unlink()
    if damage == "the directory":
        written.copy.parent.rmdir()
    assert written.read() == [CHUNK]


def test_copies_are_kept_and_read_where_the_settings_say_so(tmp_path: Path) -> None:
    """Each by a setting of its own; and a savepoint is never copied, because no restart begins from it."""
    only_kept = BOTH.with_values({"execution.state-recovery.from-local": "false"}, "test")
    written = Written(tmp_path / "a", only_kept)
    assert written.copy.exists()
    written.stored.unlink()
    with pytest.raises(Exception, match="cannot be read"):
        written.read(only_kept)
    assert not Written(tmp_path / "b", Settings()).copy.exists()
    savepoint = Written(tmp_path / "c", kind="savepoint")
    assert not savepoint.copy.exists()
    assert savepoint.file.checksum == 0


def test_a_copy_that_cannot_be_written_is_left_out(tmp_path: Path) -> None:
    """The checkpoint is complete without it."""
    tmp_path.joinpath("job").write_text("no directory")
    written = Written(tmp_path)
    assert written.stored.exists()
    assert written.read() == [CHUNK]


def test_a_full_disk_leaves_no_part_of_a_copy(tmp_path: Path) -> None:
    """Whoever reads it would have to find out that it is not whole."""
    copies = LocalCopies(str(tmp_path / "job"), deployment(), BOTH)
    directory = tmp_path / "job" / "v1-0" / "chk-1"
    directory.mkdir()
    (directory / "v1-0-0.state").symlink_to("/dev/full")
    digest = xxhash.xxh64()
    parts = copies.copied(1, "v1-0-0.state", iter([b"x" * 100_000, b"y"]), digest)
    assert b"".join(parts) == b"x" * 100_000 + b"y"
    assert digest.intdigest() == xxhash.xxh64_intdigest(b"x" * 100_000 + b"y")
    assert list(directory.iterdir()) == []


def test_native_files_are_linked_and_checked(tmp_path: Path) -> None:
    """A link needs no room. One that is not what it was is not used."""
    frozen = tmp_path / "frozen"
    frozen.mkdir()
    (frozen / "7.sst").write_bytes(b"content")
    stored = StoredFile("7.sst", "v1-0-0-1-db-7.sst", 7, file_checksum(frozen / "7.sst"))
    manifest = NativeManifest("rocksdb", 0, 127, [], b"", {}, [stored])
    files = FrozenFiles("rocksdb", "db", range(128), [], b"", frozen, [], ["7.sst"], manifest)
    copies = LocalCopies(str(tmp_path / "job"), deployment(), BOTH)
    copies.link(1, files)
    files.close()
    target = tmp_path / "restored.sst"
    assert not copies.fetch(2, stored, target)
    assert not copies.fetch(1, msgspec.structs.replace(stored, checksum=1), target)
    assert not target.exists()
    assert copies.fetch(1, stored, target)
    assert target.read_bytes() == b"content"
    assert target.stat().st_nlink == 2


def test_what_is_superseded_or_given_up_is_removed(tmp_path: Path) -> None:
    """Of all tasks of the job, also of those that have moved away."""

    def remain(wanted: set[str]) -> None:
        deadline = time.monotonic() + WAIT_S
        while (found := {str(path.relative_to(tmp_path)) for path in tmp_path.glob("*/*")}) != wanted:
            assert time.monotonic() < deadline, found

    for task in ("v1-0", "v1-1"):
        for number in (8, 9, 10, 11):
            (tmp_path / task / f"chk-{number}").mkdir(parents=True)
            (tmp_path / task / f"chk-{number}" / "file").touch()
    remove_superseded(str(tmp_path), NotifyCheckpoint(1, "a", 10, True))
    remain({f"{task}/chk-{number}" for task in ("v1-0", "v1-1") for number in (10, 11)})
    remove_superseded(str(tmp_path), NotifyCheckpoint(1, "a", 11, False))
    remain({"v1-0/chk-10", "v1-1/chk-10"})
    remove_superseded(str(tmp_path / "elsewhere"), NotifyCheckpoint(1, "a", 12, True))
