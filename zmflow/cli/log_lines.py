"""JSON log lines as a person reads them: time, level, where, what, then the other fields."""

from __future__ import annotations

import json

__all__ = ["readable"]

_HEAD = frozenset({"timestamp", "level", "event", "vertex", "subtask", "attempt", "job"})


def readable(line: str) -> str:
    """A JSON log line in readable form; anything else as it is.

    >>> readable('{"timestamp": "12:01", "level": "info", "event": "Started.", "vertex": "v", "subtask": 0}')
    '12:01 INFO    [v 1] Started.'
    >>> readable('not json')
    'not json'
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict):
        return line
    parts = [
        str(fields.get("timestamp", "")),
        str(fields.get("level", "")).upper().ljust(7),
        _place(fields),
        str(fields.get("event", "")),
        *(f"{name}={value}" for name, value in fields.items() if name not in _HEAD),
    ]
    return " ".join(part for part in parts if part)


def _place(fields: dict[str, object]) -> str:
    """Which task it was: the vertex and the subtask, counted from 1 as everywhere people read it."""
    vertex, subtask = fields.get("vertex"), fields.get("subtask")
    if not vertex:
        return ""
    return f"[{vertex} {subtask + 1}]" if isinstance(subtask, int) else f"[{vertex}]"
