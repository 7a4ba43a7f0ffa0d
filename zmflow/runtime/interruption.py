"""Raising in another thread, between two of its bytecodes: how user code that does not return is ended."""

from __future__ import annotations

import ctypes
import sys
import threading

__all__ = ["Interruptions", "is_importing", "raise_in_thread"]


def is_importing(ident: int) -> bool:
    """Whether a thread is inside an import at the moment."""
    frame = sys._current_frames().get(ident)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def raise_in_thread(ident: int, kind: type[BaseException] | None) -> None:
    """Let a thread raise at its next bytecode; None takes back what it has not raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(ident), ctypes.py_object(kind) if kind is not None else None
    )


class Interruptions:
    """When the user code of a task may be interrupted.

    Args:
        error: what is raised inside it.
    """

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error
        self._allowed = False
        self._lock = threading.Lock()

    def allow(self) -> None:
        """On the task's thread: from here on."""
        self._allowed = True

    def interrupt(self, ident: int | None) -> None:
        """Raise in the task's thread.

        Not while it imports: an interrupted import can leave a module's lock taken for ever, for all threads.
        """
        with self._lock:
            if self._allowed and ident is not None and not is_importing(ident):
                raise_in_thread(ident, self._error)

    def end(self) -> None:
        """On the task's thread: from here on it ends by itself; an interrupt under way must not hit the
        cleaning up."""
        ended = False
        while not ended:
            try:
                with self._lock:
                    self._allowed = False
                    raise_in_thread(threading.get_ident(), None)
                ended = True
            except self._error:
                continue  # it was under way already; there is none after it
