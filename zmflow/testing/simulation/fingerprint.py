"""What a brain holds, as a text: two equal texts mean that nothing changed."""

from __future__ import annotations

from collections import deque

import msgspec

from zmflow.config import Settings
from zmflow.coordination.effects import Story

__all__ = ["fingerprint"]

PASSING = frozenset({"_story", "_now_ms", "_wall_offset_ms", "_effects"})
"""Attributes that follow every event: the story of what was dropped, and the instant of the last event."""


def fingerprint(brain: object) -> str:
    """All state that can be reached from this object.

    >>> class Brain:
    ...     def __init__(self):
    ...         self.jobs, self._now_ms = {"a": [1]}, 7
    >>> fingerprint(Brain())
    "Brain(jobs={'a': [1]})"
    """
    return _text(brain, {})


def _text(value: object, seen: dict[int, int]) -> str:
    if value is None or isinstance(value, (str, int, float, bytes, msgspec.Struct)):
        return repr(value)
    if isinstance(value, (Story, Settings)) or callable(value):
        return type(value).__name__
    if id(value) in seen:
        return f"<{seen[id(value)]}>"
    seen[id(value)] = len(seen)
    if isinstance(value, dict):
        items = [f"{_text(key, seen)}: {_text(item, seen)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"
    if isinstance(value, (list, tuple, deque)):
        return f"[{', '.join(_text(item, seen) for item in value)}]"
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(_text(item, seen) for item in value))}}}"
    fields = [
        f"{name}={_text(getattr(value, name), seen)}"
        for name in _names(value)
        if name not in PASSING and hasattr(value, name)
    ]
    return f"{type(value).__name__}({', '.join(fields)})"


def _names(value: object) -> list[str]:
    names: dict[str, None] = {}
    for kind in type(value).__mro__:
        slots: str | tuple[str, ...] = getattr(kind, "__slots__", ())
        names.update(dict.fromkeys([slots] if isinstance(slots, str) else slots))
    names.update(dict.fromkeys(getattr(value, "__dict__", {})))
    return [name for name in names if name not in ("__dict__", "__weakref__")]
