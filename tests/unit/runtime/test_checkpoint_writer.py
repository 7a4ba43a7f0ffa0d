"""The JobManager's storage threads: what a job orders is done in its order, and no job waits for another."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.coordination.effects import CheckpointStored, DiscardCheckpoint, StoreCheckpoint
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata, decode_metadata
from zmflow.runtime.checkpoints.metadata_writer import CheckpointWriter
from zmflow.testing.faulty_storage import hold, register_faulty_storage

METADATA = CheckpointMetadata("j1", "job", 1, "checkpoint", 0, [])

WAIT_S = 20.0


class Desk:
    """A writer, what it has done, and a way to wait for the next answer."""

    def __init__(self) -> None:
        self.logs: list[str] = []
        self._news = threading.Semaphore(0)
        self.writer = CheckpointWriter(Settings(), self._news.release, self.logs.append)

    def store(self, location: str, job: str = "j1") -> None:
        """Order metadata to be written."""
        self.writer.order(StoreCheckpoint(job, 1, location, METADATA))

    def answers(self) -> list[CheckpointStored]:
        """Wait for an answer."""
        assert self._news.acquire(timeout=WAIT_S)
        return self.writer.take()


def test_metadata_is_there_when_it_is_reported(tmp_path: Path) -> None:
    """And can be read back."""
    desk = Desk()
    desk.store(str(tmp_path / "chk-1"))
    assert desk.answers() == [CheckpointStored("j1", 1)]
    where = tmp_path / "chk-1" / "_metadata"
    assert decode_metadata(where.read_bytes(), str(where)) == METADATA
    desk.writer.close(WAIT_S)


def test_what_cannot_be_written_is_reported_with_its_reason(tmp_path: Path) -> None:
    """A directory that is a file, and a storage that is not installed."""
    desk = Desk()
    (tmp_path / "file").write_text("")
    desk.store(str(tmp_path / "file" / "chk-1"))
    (answer,) = desk.answers()
    assert "A checkpoint file cannot be written." in answer.error
    desk.store("nowhere://bucket/chk-1")
    (answer,) = desk.answers()
    assert "nowhere" in answer.error
    desk.writer.close(WAIT_S)


def test_a_job_does_not_wait_for_the_storage_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within a job a deletion that was ordered after the writing comes after it."""
    register_faulty_storage(tmp_path / "plugins")
    monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
    desk = Desk()
    lock = tmp_path / "lock"
    slow = tmp_path / "slow"
    with hold(lock):
        desk.store(f"faulty://{slow}?hold={lock}&on=write", "slow")
        desk.writer.order(DiscardCheckpoint("slow", str(slow)))
        desk.store(str(tmp_path / "chk-1"), "fast")
        assert desk.answers() == [CheckpointStored("fast", 1)]
    assert desk.answers() == [CheckpointStored("slow", 1)]
    desk.writer.close(WAIT_S)
    assert not slow.exists()


def test_files_that_cannot_be_deleted_are_told(tmp_path: Path) -> None:
    """They cost space and nothing else."""
    desk = Desk()
    (tmp_path / "kept" / "inside").mkdir(parents=True)
    desk.writer.order(DiscardCheckpoint("j1", str(tmp_path / "kept")))
    desk.writer.order(DiscardCheckpoint("j1", str(tmp_path / "absent")))
    desk.writer.close(WAIT_S)
    (line,) = desk.logs
    assert line.startswith(f"Files of {tmp_path / 'kept'} could not be deleted: ")


def test_some_files_can_be_deleted_and_others_stay(tmp_path: Path) -> None:
    """Those that are named."""
    desk = Desk()
    for name in ("a", "b"):
        (tmp_path / name).write_text("")
    desk.writer.order(DiscardCheckpoint("j1", str(tmp_path), ("a",)))
    desk.writer.close(WAIT_S)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_is_kept_stays_when_the_rest_goes(tmp_path: Path) -> None:
    """A job that has ended leaves what its checkpoints need."""
    desk = Desk()
    for name in ("a", "b"):
        (tmp_path / name).write_text("")
    desk.writer.order(DiscardCheckpoint("j1", str(tmp_path), kept=frozenset(("b", "gone"))))
    desk.writer.close(WAIT_S)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
