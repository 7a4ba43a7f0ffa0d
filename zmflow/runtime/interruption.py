"""Raising in another thread, between two of its bytecodes: how user code that does not return is ended."""

from __future__ import annotations

import ctypes
import sys

__all__ = ["is_importing", "raise_in_thread"]


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
