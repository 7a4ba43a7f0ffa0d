"""Snapshots of much state by a forked process: the kernel keeps its memory as it was, the task goes on.

Pickling a gigabyte takes seconds, in which nothing in the worker could run. Forking takes some milliseconds:
the child has all of the worker's memory, copied page by page as either side writes to it. The child has one
thread; it touches nothing but the state, its file and its pipe, closes everything else it inherited, so that
peers of a worker that dies see their connections close, and dies with the thread that made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import mmap
import os
import pickle
import select
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from zmflow.errors import StateError, ZmflowError
from zmflow.state.state_file import PickledState

__all__ = ["ForkedSnapshot", "fork_snapshot"]

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

REPORT_SIZE_MAX_BYTES = 64 * 2**10
"""What a child says when it is done: a few words, or a sentence about what it could not do."""


@dataclass(frozen=True, slots=True)
class _Done:
    has_union: bool
    cpu_s: float


@dataclass(frozen=True, slots=True)
class _Failed:
    message: str
    detail: str


@dataclass(slots=True)
class ForkedSnapshot:
    """A child that makes the file of a snapshot. ``close`` must be called.

    Args:
        pid: of the child.
        pipe: where it says that it is done.
        file: an anonymous file in memory that it writes to.
        took: is told how many seconds of a processor pickling took.
    """

    pid: int
    pipe: int
    file: int
    took: Callable[[float], None]

    def wait(self, timeout_s: float) -> bool:
        """Wait for the child; whether some of the state goes to every subtask when it is restored.

        Raises:
            StateError: it could not do it, did not end in time, or was killed.
        """
        deadline = time.monotonic() + timeout_s
        said = b""
        while True:
            ready = select.select([self.pipe], [], [], max(0.0, deadline - time.monotonic()))[0]
            if not ready:
                raise StateError(
                    f"The process that writes a snapshot did not end within {timeout_s:g} s.",
                    hint="Pickling a value of the program may wait for something that is not there.",
                )
            part = os.read(self.pipe, REPORT_SIZE_MAX_BYTES)
            if not part:
                break
            said += part
        if not said:
            raise StateError("The process that writes a snapshot was killed.")
        outcome: _Done | _Failed = pickle.loads(said)
        if isinstance(outcome, _Failed):
            raise StateError(outcome.message, detail=outcome.detail)
        self.took(outcome.cpu_s)
        return outcome.has_union

    @contextlib.contextmanager
    def parts(self) -> Iterator[list[memoryview]]:
        """The bytes of the file, after ``wait``."""
        size = os.fstat(self.file).st_size
        with mmap.mmap(self.file, size, prot=mmap.PROT_READ) as mapped, memoryview(mapped) as view:
            yield [view]

    def close(self) -> None:
        """End the child, if it is still there, and give back what was held for it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)
        os.close(self.pipe)
        os.close(self.file)


def fork_snapshot(pickled: Callable[[], PickledState], took: Callable[[float], None]) -> ForkedSnapshot:
    """Let a child pickle the state as it is now.

    Args:
        pickled: called in the child.
        took: told by the thread that waits, how many seconds of a processor that took.
    """
    file = os.memfd_create("snapshot")
    read, write = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(parent, pickled, file, write)
    os.close(write)
    return ForkedSnapshot(pid, read, file, took)


def _be_child(parent: int, pickled: Callable[[], PickledState], file: int, write: int) -> None:
    """Never returns."""
    try:
        gc.disable()
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        low, high = sorted((file, write))
        os.closerange(3, low)
        os.closerange(low + 1, high)
        os.closerange(high + 1, os.sysconf("SC_OPEN_MAX"))
        outcome: _Done | _Failed
        try:
            state = pickled()
            cpu_s = time.process_time()  # of this process, which began with the fork
            for part in state.parts():
                _write_all(file, part)
            outcome = _Done(state.has_union, cpu_s)
        except ZmflowError as error:
            outcome = _Failed(error.message, error.detail or "")
        except BaseException as error:  # noqa: BLE001 - whatever pickling the program's objects raises
            outcome = _Failed(f"{type(error).__name__}: {error}"[:1000], "")
        _write_all(write, pickle.dumps(outcome))
    finally:
        os._exit(0)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
