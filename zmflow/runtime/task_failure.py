"""Why a task failed, for a person: the user's own frames first, ours after."""

from __future__ import annotations

import traceback
from pathlib import Path

import zmflow
from zmflow.config.options import SLOT_MEMORY_LIMIT
from zmflow.errors import ProtocolError, RestoreError, ZmflowError
from zmflow.protocol.messages import TaskFailure

__all__ = ["describe_failure"]

TRACEBACK_SIZE_MAX = 32_768
"""Characters of a traceback that travel: a thousand frames are a recursion, whose two ends say it all."""

_PACKAGE = str(Path(zmflow.__file__).parent)


def describe_failure(
    error: BaseException, *, host: str, vertex_name: str, operator_name: str, subtask_index: int
) -> TaskFailure:
    """The failure of a task.

    A ``ZmflowError`` (a line that is not JSON, a key that is a list) speaks for itself: people get its
    words, the log our frames. Any other exception is the user's when it passed through code that is not
    ours, and then ``user_traceback`` shows that code only; or when an operator raised it, with all frames.
    """
    where = f"operator '{operator_name}'" if operator_name else f"task '{vertex_name}'"
    user = _user_traceback(error)
    whole = "".join(traceback.format_exception(error))
    speaks = isinstance(error, ZmflowError) and not isinstance(error, ProtocolError)
    engine = not (speaks or user or operator_name) or isinstance(error, ProtocolError)
    if isinstance(error, ZmflowError):
        summary = f"{where} failed: {error.message}" + (f"\n{error.detail}" if error.detail else "")
    else:
        summary = f"{where} failed: {_last_line(error)}"
    return TaskFailure(
        kind="restore" if isinstance(error, RestoreError) else "engine" if engine else "user",
        summary=_clip(summary),
        host=host,
        vertex_name=vertex_name,
        operator_name=operator_name,
        subtask_index=subtask_index,
        user_traceback="" if speaks or engine else _clip(user or whole),
        traceback=_clip(whole),
        hint=_clip(_hint(error)),
    )


def _hint(error: BaseException) -> str:
    if isinstance(error, ZmflowError):
        return error.hint or ""
    if isinstance(error, MemoryError):
        return f"The machine has no more, or the slot may not have it: {SLOT_MEMORY_LIMIT.key}."
    return ""


def _last_line(error: BaseException) -> str:
    return traceback.format_exception_only(error)[-1].strip()


def _user_traceback(error: BaseException) -> str:
    """The traceback without our frames; "" when only ours remain."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not (frame.filename.startswith((_PACKAGE, "<zmflow")))
    ]
    if not frames:
        return ""
    lines = ["Traceback (most recent call last):\n", *traceback.format_list(frames)]
    lines += traceback.format_exception_only(error)
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and (inner := _user_traceback(cause)):
        link = "the direct cause of" if error.__cause__ else "handled when this happened, before"
        lines = [inner, f"\nThe above exception was {link} the following one:\n\n", *lines]
    return "".join(lines)


def _clip(text: str) -> str:
    """The text, no longer than may travel; what UTF-8 cannot say (parts of file names) as escapes."""
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) <= TRACEBACK_SIZE_MAX:
        return text
    half = TRACEBACK_SIZE_MAX // 2
    return f"{text[:half]}\n  ... {len(text) - 2 * half} characters ...\n{text[-half:]}"
