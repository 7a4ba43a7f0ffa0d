"""Snapshots with frozen state: read while they are written, joined with what a forked process pickles."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import pytest
from deployments import deployment

from zmflow.config import Settings
from zmflow.protocol.checkpoints import (
    CheckpointAcknowledged,
    CheckpointBarrier,
    CheckpointDeclined,
    OperatorRestore,
    SnapshotMetrics,
    SubtaskRestore,
)
from zmflow.runtime.checkpoints.snapshot_fork import fork_snapshot
from zmflow.runtime.checkpoints.snapshot_reader import read_restored
from zmflow.runtime.checkpoints.snapshot_writer import WRITING_MAX, SnapshotWriter
from zmflow.state.backend import FrozenState
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.keys import key_group
from zmflow.state.native_files import FrozenFiles
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.state_file import PickledState, StateFileReader, pickle_state

WAIT_S = 60.0

NOISE = random.Random(7).randbytes(100_000)
"""More than is kept in the metadata, however well it is compressed."""

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


class Frozen(FrozenState):
    """Yields chunks, after something has been waited for; says when it is closed."""

    def __init__(self, chunks: list[KeyedChunk], wait: Callable[[], object] = lambda: None) -> None:
        self._chunks = chunks
        self._wait = wait
        self.closed: SimpleQueue[bool] = SimpleQueue()

    def chunks(self) -> Iterator[KeyedChunk]:
        self._wait()
        yield from self._chunks

    def close(self) -> None:
        self.closed.put(True)


class Broken(Frozen):
    """Fails in the middle."""

    def chunks(self) -> Iterator[KeyedChunk]:
        yield from self._chunks
        raise OSError("no such block")


def chunk_of(name: str, key: object, value: object) -> KeyedChunk:
    group = key_group(key, 128)
    return KeyedChunk(name, "value", group, group, [key], [value])


class Written:
    """A writer, and what it says."""

    def __init__(self) -> None:
        self.said: SimpleQueue[CheckpointAcknowledged | CheckpointDeclined] = SimpleQueue()
        self.writer = SnapshotWriter(deployment(), Settings(), self.said.put)

    def acknowledged(self) -> CheckpointAcknowledged:
        said = self.said.get(timeout=WAIT_S)
        assert isinstance(said, CheckpointAcknowledged), said
        return said

    def declined(self) -> CheckpointDeclined:
        said = self.said.get(timeout=WAIT_S)
        assert isinstance(said, CheckpointDeclined), said
        return said


@pytest.fixture
def written() -> Written:
    return Written()


def read(data: bytes, operator_id: str) -> list[KeyedChunk]:
    reader = StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "x")
    return reader.keyed(operator_id, range(128), 128)


@pytest.mark.parametrize("forked", [False, True])
def test_frozen_state_stands_in_the_file_of_its_operator(
    written: Written, tmp_path: Path, forked: bool
) -> None:
    """Beside what was pickled before, whoever pickled it; large files are written piece by piece."""
    timers = KeyedChunk("timers", "timers", 0, 127, ["a"], [1])
    union = OperatorStateSnapshot("all", OperatorStateMode.UNION, ["everybody's"])
    pickled = [OperatorSnapshot("o1", [timers], [union]), OperatorSnapshot("o2", [timers], [])]
    large = chunk_of("large", "b", NOISE)
    frozen = Frozen([chunk_of("s", "a", 1), large])
    barrier = CheckpointBarrier(1, 0, location=str(tmp_path / "chk-1"))
    metrics = SnapshotMetrics()
    if forked:
        child = fork_snapshot(lambda: pickle_state(pickled), lambda _cpu_s: None)
        written.writer.write_forked(barrier, child, PickledState((), [("o1", frozen)]), metrics)
    else:
        written.writer.write(barrier, pickle_state(pickled, [("o1", frozen)]), metrics)
    said = written.acknowledged()
    assert said.state is not None
    assert said.state.has_union
    data = (tmp_path / "chk-1" / said.state.path).read_bytes()
    assert said.state.size_bytes == len(data)
    assert (read(data, "o1"), read(data, "o2")) == ([timers, chunk_of("s", "a", 1), large], [timers])
    assert frozen.closed.get(timeout=WAIT_S)


def test_little_frozen_state_is_kept_by_the_jobmanager(written: Written) -> None:
    """As other state."""
    frozen = Frozen([chunk_of("s", "a", 1)])
    written.writer.write(CheckpointBarrier(1, 0), PickledState((), [("o1", frozen)]), SnapshotMetrics())
    said = written.acknowledged()
    assert said.state is not None
    assert read(said.state.inline, "o1") == [chunk_of("s", "a", 1)]


def test_frozen_state_that_cannot_be_read_declines_the_checkpoint(written: Written, tmp_path: Path) -> None:
    """Nothing is published, and it is given back."""
    frozen = Broken([chunk_of("large", "a", NOISE)])
    barrier = CheckpointBarrier(1, 0, location=str(tmp_path))
    written.writer.write(barrier, PickledState((), [("o1", frozen)]), SnapshotMetrics())
    assert "no such block" in written.declined().reason
    assert frozen.closed.get(timeout=WAIT_S)
    assert list(tmp_path.rglob("*.state*")) == []


def test_frozen_state_of_a_snapshot_that_is_not_begun_is_given_back(written: Written) -> None:
    """Where too many are being written already."""
    gate: SimpleQueue[None] = SimpleQueue()
    for number in range(WRITING_MAX):
        slow = Frozen([], gate.get)
        written.writer.write(CheckpointBarrier(number, 0), PickledState((), [("o", slow)]), SnapshotMetrics())
    frozen = Frozen([])
    written.writer.write(CheckpointBarrier(9, 0), PickledState((), [("o", frozen)]), SnapshotMetrics())
    assert written.declined().checkpoint_id == 9
    assert frozen.closed.get(timeout=WAIT_S)
    for _ in range(WRITING_MAX):
        gate.put(None)
    for _ in range(WRITING_MAX):
        written.acknowledged()


def test_state_is_restored_one_key_group_at_a_time(written: Written, tmp_path: Path) -> None:
    """What a backend held may be more than memory: each group is read when it is asked for. All else is there
    at once."""
    keys = [f"k{number}" for number in range(50)]
    chunks = sorted((chunk_of("s", key, NOISE) for key in keys), key=lambda chunk: chunk.first_group)
    timers = KeyedChunk("timers", "timers", 0, 127, ["a"], [1])
    state = pickle_state([OperatorSnapshot("o", [*chunks, timers], [])])
    written.writer.write(CheckpointBarrier(1, 0, location=str(tmp_path)), state, SnapshotMetrics())
    file = written.acknowledged().state
    assert file is not None
    restore = SubtaskRestore(1, str(tmp_path), [OperatorRestore("o", 1, [file], [None])])
    restored = read_restored(deployment(restore), "o", Settings())
    assert restored is not None
    assert restored.keyed == [timers]
    groups = restored.backend_state(range(128), 128)
    found = [next(groups)]
    damaged = tmp_path / file.path
    content = damaged.read_bytes()
    damaged.write_bytes(bytes(len(content)))
    with pytest.raises(Exception, match="checksum"):
        next(groups)
    damaged.write_bytes(content)
    found = list(restored.backend_state(range(128), 128))
    assert [group.group for group in found] == sorted({key_group(key, 128) for key in keys})
    assert sorted(entry[0] for group in found for state in group.states for entry in state.entries) == sorted(
        keys
    )


def test_a_chunk_of_many_groups_makes_restoring_wait_for_all(tmp_path: Path, written: Written) -> None:
    """A group is restored once, so it has to be whole by then."""
    wide = KeyedChunk("s", "value", 0, 127, ["a", "b"], [1, 2])
    state = pickle_state([OperatorSnapshot("o", [wide, chunk_of("t", "a", 3)], [])])
    written.writer.write(CheckpointBarrier(1, 0), state, SnapshotMetrics())
    file = written.acknowledged().state
    assert file is not None
    restore = SubtaskRestore(1, "", [OperatorRestore("o", 1, [file], [None])])
    restored = read_restored(deployment(restore), "o", Settings())
    assert restored is not None
    groups = list(restored.backend_state(range(128), 128))
    assert len(groups) == len({key_group(key, 128) for key in "ab"})
    of_a = next(group for group in groups if group.group == key_group("a", 128))
    assert {state.name: state.entries for state in of_a.states} == {
        "s": [("a", None, 1)],
        "t": [("a", None, 3)],
    }


@pytest.mark.parametrize("fails", [".state", ".in-flight"])
def test_native_files_of_a_snapshot_that_fails_are_taken_back(
    written: Written, tmp_path: Path, fails: str
) -> None:
    """Nobody will hear of them: their checkpoint is given up, and others write them under other names."""
    frozen_in = tmp_path / "frozen"
    frozen_in.mkdir()
    (frozen_in / "7.sst").write_bytes(NOISE)
    frozen = FrozenFiles("rocksdb", "db", range(128), [], b"", frozen_in, [], ["7.sst"])
    (tmp_path / "job" / "chk-1" / f"v1-0-0{fails}").mkdir(parents=True)  # where the file would be
    pickled = [OperatorSnapshot("o", [chunk_of("large", "a", NOISE)], [])]
    barrier = CheckpointBarrier(1, 0, location=str(tmp_path / "job" / "chk-1"))
    state = pickle_state(pickled, [("o", frozen)])
    written.writer.write(barrier, state, SnapshotMetrics(), pickle_state(pickled))
    assert fails in written.declined().reason
    assert list((tmp_path / "job" / "shared").iterdir()) == []
    assert not frozen_in.exists()
