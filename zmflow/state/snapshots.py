"""What a key group holds at one moment, in a form that any backend can take back.

Keys, namespaces and values are the program's own objects, not bytes: whoever writes a snapshot down encodes
them, and does so before the task goes on, because a value that is changed in place is changed in the
snapshot, too. Lists and maps of the backend itself are copied.

What an entry holds, by the kind of its state: VALUE and REDUCING the value, AGGREGATING the accumulator, LIST
a list of elements, MAP a dict. In a state that expires each value, element and map value is a pair: the
object, and when it was last touched, in milliseconds since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zmflow.state.descriptors import StateKind

__all__ = ["KeyGroupSnapshot", "StateSnapshot", "with_times", "without_times"]


@dataclass(frozen=True, slots=True)
class StateSnapshot:
    """One state of one key group.

    Args:
        name: of the state.
        kind: of the state.
        namespaced: whether there is an entry for each namespace of a key; else the namespaces are None.
        timed: whether the state expires, so that values stand beside times.
        entries: key, namespace, and what is held for the two.
    """

    name: str
    kind: StateKind
    namespaced: bool
    timed: bool
    entries: list[tuple[Any, Any, Any]]


@dataclass(frozen=True, slots=True)
class KeyGroupSnapshot:
    """All states of one key group; states without entries are left out."""

    group: int
    states: tuple[StateSnapshot, ...]


def with_times(kind: StateKind, held: Any, now_ms: int) -> Any:
    """What a state without expiry held, as one with expiry holds it: touched now.

    >>> with_times(StateKind.LIST, ["a", "b"], 7)
    [('a', 7), ('b', 7)]
    """
    if kind is StateKind.LIST:
        return [(element, now_ms) for element in held]
    if kind is StateKind.MAP:
        return {key: (value, now_ms) for key, value in held.items()}
    return held, now_ms


def without_times(kind: StateKind, held: Any) -> Any:
    """The other way round: nothing expires any more.

    >>> without_times(StateKind.MAP, {"a": (1, 7)})
    {'a': 1}
    """
    if kind is StateKind.LIST:
        return [element for element, _touched_ms in held]
    if kind is StateKind.MAP:
        return {key: value for key, (value, _touched_ms) in held.items()}
    return held[0]
