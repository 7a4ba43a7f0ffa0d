"""The storage that breaks on demand: each fault happens, and when it was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.errors import CheckpointStorageError, ConfigurationError
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage
from zmflow.testing.faulty_storage import hold, register_faulty_storage, waiting_calls

THEIRS = """
import sys
from zmflow.config import Settings
from zmflow.state.checkpoint_storage import open_storage
open_storage(sys.argv[1], Settings()).write("theirs", [b"x"])
"""

OpenFaulty = Callable[[str], CheckpointStorage]


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the plugin, which this process has in its path."""
    folder = tmp_path / "plugins"
    register_faulty_storage(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def faulty(tmp_path: Path, plugins: Path) -> OpenFaulty:
    """Opens a checkpoint with these faults, which no other test has counted."""
    return lambda faults: open_storage(f"faulty://{tmp_path}/chk-1?name={tmp_path.name}&{faults}", Settings())


def outcomes(call: Callable[[], object], times: int) -> Iterator[bool]:
    """Whether a call went well, so many times."""
    for _ in range(times):
        try:
            call()
            yield True
        except CheckpointStorageError:
            yield False


def test_each_third_call_fails(faulty: OpenFaulty) -> None:
    """Counted over all storages with the same faults, and only over the calls that are meant."""
    one, other = (faulty("fail_every=3&on=write") for _ in range(2))
    assert list(outcomes(lambda: (one.list(), one.write("a", [b"x"])), 2)) == [True, True]
    assert list(outcomes(lambda: other.write("b", [b"x"]), 6)) == [False, True, True, False, True, True]
    assert list(outcomes(lambda: other.read("b"), 5)) == [True] * 5
    with pytest.raises(CheckpointStorageError, match=r"chk-1.*: b: fails at each call number 3"):
        other.write("b", [b"x"])


def test_every_kind_of_call_fails(faulty: OpenFaulty) -> None:
    """If nothing is said, each does."""
    storage = faulty("fail_every=1")
    for call in (
        lambda: storage.write("a", [b"x"]),
        lambda: storage.read("a"),
        lambda: storage.size("a"),
        lambda: storage.delete(["a"]),
        storage.delete_all,
        storage.list,
    ):
        assert list(outcomes(call, 1)) == [False]


def test_files_are_damaged_unnoticed(faulty: OpenFaulty) -> None:
    """Who writes is told that all is well; who reads finds a byte too few or a bit too many."""
    short, flipped = faulty("truncate_every=2"), faulty("flip_every=2")
    for storage in (short, flipped):
        assert [storage.write(name, [b"ab", b"cde"]) for name in ("good", "bad")] == [5, 5]
        assert storage.read("good") == b"abcde"
        if storage is short:
            assert storage.read("bad") == b"abcd"
    assert flipped.read("bad") == b"abbde"


def test_calls_wait_while_they_are_held(tmp_path: Path, faulty: OpenFaulty) -> None:
    """And go on together, also those of another process."""
    held = tmp_path / "held"
    storage = faulty(f"hold={held}&on=write")
    path = ":".join(sys.path)
    with hold(held):
        process = subprocess.Popen([sys.executable, "-c", THEIRS, storage.location], env={"PYTHONPATH": path})
        thread = threading.Thread(target=storage.write, args=("ours", [b"x"]))
        thread.start()
        deadline = time.monotonic() + 30
        while len(waiting_calls(held)) < 2 and time.monotonic() < deadline:
            os.sched_yield()
        assert sorted(call.rpartition(" ")[2] for call in waiting_calls(held)) == ["ours", "theirs"]
        assert list(storage.list()) == []
        assert process.poll() is None and thread.is_alive()
    thread.join(30)
    assert process.wait(30) == 0
    assert list(storage.list()) == [("ours", 1), ("theirs", 1)]


@pytest.mark.parametrize("faults", ["explode_every=3", "on=nap"])
def test_faults_that_there_are_not_are_refused(faulty: OpenFaulty, faults: str) -> None:
    """A test with a slip in its faults would test nothing."""
    with pytest.raises(ConfigurationError, match="unknown fault"):
        faulty(faults)
