"""JSON log lines as a person reads them: time, level, where, what, then the other fields."""

from __future__ import annotations

import json

__all__ = ["readable"]

_PLACE = ("vertex", "subtask", "attempt")
_HEAD = frozenset({"timestamp", "level", "event", *_PLACE})


def readable(line: str) -> str:
    """A JSON log line in readable form; anything else as it is.

    >>> readable('{"timestamp": "12:00:01", "level": "info", "event": "Started.", "vertex": "v1", "pid": 7}')
    '12:00:01 INFO    [v1] Started. pid=7'
    >>> readable('not json')
    'not json'
    """
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    if not isinstance(fields, dict):
        return line
    place = "/".join(str(fields[name]) for name in _PLACE if fields.get(name) not in (None, ""))
    parts = [
        str(fields.get("timestamp", "")),
        str(fields.get("level", "")).upper().ljust(7),
        f"[{place}]" if place else "",
        str(fields.get("event", "")),
        *(f"{name}={value}" for name, value in fields.items() if name not in _HEAD),
    ]
    return " ".join(part for part in parts if part)
