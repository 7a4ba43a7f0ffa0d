"""Things a program should be told once: a call that is accepted and has no effect."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

__all__ = ["forget_notices", "notice_once"]

_given: set[str] = set()
_OURS = str(Path(__file__).resolve().parents[1])


def notice_once(subject: str, message: str) -> None:
    """Warn at the program's own line, the first time in this process that the subject comes up."""
    if subject in _given:
        return
    _given.add(subject)
    depth, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OURS):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=depth + 1)


def forget_notices() -> None:
    """Give every notice again; for tests."""
    _given.clear()
