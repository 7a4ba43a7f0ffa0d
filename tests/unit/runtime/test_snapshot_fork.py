"""Forked snapshots: as the state was at the fork, and an end to every child."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from zmflow.errors import StateError
from zmflow.runtime.checkpoints.snapshot_fork import fork_snapshot
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.state_file import PickledState, StateFileReader, pickle_state

WAIT_S = 60.0

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def pickled(values: dict[str, object]) -> PickledState:
    chunk = KeyedChunk("s", "value", 0, 127, list(values), list(values.values()))
    union = OperatorStateSnapshot("all", OperatorStateMode.UNION, [1])
    return pickle_state([OperatorSnapshot("o", [chunk], [union])])


def ignore(_cpu_s: float) -> None:
    """How long it took does not matter."""


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_the_file_holds_what_was_at_the_fork() -> None:
    """What the task does to its objects meanwhile is not in it."""
    values: dict[str, object] = {f"k{number}": [number] for number in range(2000)}
    took: list[float] = []
    forked = fork_snapshot(lambda: pickled(values), took.append)
    values["k0"].append("changed")  # type: ignore[attr-defined]
    values["new"] = [1]
    assert forked.wait(WAIT_S) is True
    assert 0 < took[0] < WAIT_S
    with forked.parts() as (part,):
        data = bytes(part)
    reader = StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "x")
    (chunk,) = reader.keyed("o", range(128), 128)
    found = dict(zip(chunk.keys, chunk.values, strict=True))
    assert found == {f"k{number}": [number] for number in range(2000)}
    pid = forked.pid
    forked.close()
    assert is_gone(pid)


def test_what_cannot_be_pickled_is_said_by_the_parent() -> None:
    """The child can only tell it through its pipe."""
    forked = fork_snapshot(lambda: pickled({"bad": lambda: 0}), ignore)
    with pytest.raises(StateError, match="for the key 'bad'"):
        forked.wait(WAIT_S)
    forked.close()


class Stuck:
    """Its pickling waits for a lock that a thread of the parent holds."""

    lock = threading.Lock()

    def __reduce__(self) -> tuple[type, tuple[()]]:
        with self.lock:
            return Stuck, ()


def test_a_child_that_hangs_is_ended() -> None:
    """A lock that another thread held at the fork is never released in the child."""
    with Stuck.lock:
        forked = fork_snapshot(lambda: pickled({"stuck": Stuck()}), ignore)
        with pytest.raises(StateError, match="did not end within"):
            forked.wait(0.2)
        pid = forked.pid
        forked.close()
    assert is_gone(pid)


def test_a_killed_child_is_noticed() -> None:
    """Its pipe closes without a word."""
    with Stuck.lock:
        forked = fork_snapshot(lambda: pickled({"stuck": Stuck()}), ignore)
        os.kill(forked.pid, 9)
        with pytest.raises(StateError, match="was killed"):
            forked.wait(WAIT_S)
        forked.close()


def test_a_child_keeps_nothing_open_that_others_wait_for() -> None:
    """A peer of a worker that dies must see its connection close, whether or not a child lives."""
    read, write = os.pipe()
    with Stuck.lock:
        forked = fork_snapshot(lambda: pickled({"stuck": Stuck()}), ignore)
        os.close(write)
        began = time.monotonic()
        assert os.read(read, 1) == b""  # hangs where the child has the other end
        assert time.monotonic() - began < WAIT_S
        forked.close()
    os.close(read)


def test_a_child_goes_with_the_thread_that_made_it() -> None:
    """And so with a worker that is killed."""
    made: list[int] = []

    def make() -> None:
        forked = fork_snapshot(lambda: pickled({"stuck": Stuck()}), ignore)
        made.append(forked.pid)
        os.read(go, 1)  # let the child come so far as to ask for it

    go, going = os.pipe()
    with Stuck.lock:
        thread = threading.Thread(target=make)
        thread.start()
        while not made or not _waits_for_lock(made[0]):
            time.sleep(0.001)
        os.write(going, b"x")
        thread.join()
        _, status = os.waitpid(made[0], 0)
    assert os.WIFSIGNALED(status)
    os.close(go)
    os.close(going)


def _waits_for_lock(pid: int) -> bool:
    """Whether the child has come to where it hangs: it closed what it inherited before that."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir())) <= 5 and "futex" in _wchan(pid)


def _wchan(pid: int) -> str:
    return Path(f"/proc/{pid}/wchan").read_text(encoding="ascii") or "futex"
