"""Operator state: what a subtask holds that belongs to no key, and how it is shared out anew.

Three modes, Flink's. SPLIT: elements of a list, dealt out among the subtasks. UNION: elements of a list, of
which each subtask gets all. BROADCAST: a map that all subtasks hold alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from zmflow.errors import StateError
from zmflow.state.descriptors import ListStateDescriptor, MapStateDescriptor, StateDescriptor
from zmflow.state.states import BroadcastState, ListState

__all__ = [
    "HeapBroadcastState",
    "OperatorListState",
    "OperatorStateMode",
    "OperatorStateSnapshot",
    "OperatorStateStore",
    "redistribute",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class OperatorStateMode(Enum):
    """How a state is shared out when subtasks are restored; the values stand in snapshots."""

    SPLIT = "split"
    UNION = "union"
    BROADCAST = "broadcast"


@dataclass(frozen=True, slots=True)
class OperatorStateSnapshot:
    """One operator state of one subtask: a list of elements, or of the pairs of a map. Not copied deeper."""

    name: str
    mode: OperatorStateMode
    elements: list[Any]


class OperatorListState(ListState[T]):
    """A list that belongs to no key."""

    def __init__(self) -> None:
        self._elements: list[T] = []

    def get(self) -> list[T]:
        return list(self._elements)

    def add(self, value: T) -> None:
        self._elements.append(value)

    def add_all(self, values: Iterable[T]) -> None:
        self._elements.extend(list(values))

    def update(self, values: Iterable[T]) -> None:
        self._elements = list(values)

    def clear(self) -> None:
        self._elements = []


class HeapBroadcastState(BroadcastState[K, V]):
    """A dict. ``items``, ``keys`` and ``values`` copy it, so that it may change while they are read."""

    def __init__(self) -> None:
        self._entries: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def put(self, key: K, value: V) -> None:
        self._entries[key] = value

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        self._entries.update(dict_value)

    def remove(self, key: K) -> None:
        self._entries.pop(key, None)

    def contains(self, key: K) -> bool:
        return key in self._entries

    def items(self) -> list[tuple[K, V]]:
        return list(self._entries.items())

    def keys(self) -> list[K]:
        return list(self._entries)

    def values(self) -> list[V]:
        return list(self._entries.values())

    def is_empty(self) -> bool:
        return not self._entries

    def clear(self) -> None:
        self._entries.clear()


class OperatorStateStore:
    """The operator state of one subtask, by name. A state is made once, and found again.

    Args:
        restored: what the subtask got at its start; ``redistribute`` says what that is.
    """

    def __init__(self, restored: Iterable[OperatorStateSnapshot] = ()) -> None:
        self._restored = {snapshot.name: snapshot for snapshot in restored}
        self._lists: dict[str, tuple[OperatorStateMode, OperatorListState[Any]]] = {}
        self._maps: dict[str, HeapBroadcastState[Any, Any]] = {}

    def get_list_state(self, state_descriptor: ListStateDescriptor[T]) -> ListState[T]:
        """A list whose elements are dealt out among the subtasks when they are restored."""
        return self._list(state_descriptor, OperatorStateMode.SPLIT)

    def get_union_list_state(self, state_descriptor: ListStateDescriptor[T]) -> ListState[T]:
        """A list of which every subtask gets all elements of all subtasks when it is restored."""
        return self._list(state_descriptor, OperatorStateMode.UNION)

    def get_broadcast_state(self, state_descriptor: MapStateDescriptor[K, V]) -> BroadcastState[K, V]:
        """A map that all subtasks hold alike."""
        name = state_descriptor.name
        known = self._maps.get(name)
        if known is None:
            if name in self._lists:
                raise _other_mode(name, self._lists[name][0], OperatorStateMode.BROADCAST)
            known = HeapBroadcastState()
            known.put_all(dict(self._take_restored(state_descriptor, OperatorStateMode.BROADCAST)))
            self._maps[name] = known
        return known

    def get_registered_state_names(self) -> set[str]:
        """The names of the lists."""
        return set(self._lists)

    def get_registered_broadcast_state_names(self) -> set[str]:
        """The names of the maps."""
        return set(self._maps)

    def snapshot(self) -> list[OperatorStateSnapshot]:
        """What the subtask holds now; what was restored and not asked for yet is kept."""
        return [
            *(OperatorStateSnapshot(name, mode, state.get()) for name, (mode, state) in self._lists.items()),
            *(
                OperatorStateSnapshot(name, OperatorStateMode.BROADCAST, state.items())
                for name, state in self._maps.items()
            ),
            *self._restored.values(),
        ]

    def take(self, name: str, mode: OperatorStateMode) -> list[Any]:
        """For operators that keep something by themselves: what was restored under this name, once."""
        return self._take_restored(StateDescriptor(name), mode)

    def _list(self, descriptor: ListStateDescriptor[T], mode: OperatorStateMode) -> OperatorListState[T]:
        name = descriptor.name
        known_mode = OperatorStateMode.BROADCAST if name in self._maps else mode
        state: OperatorListState[T]
        if name in self._lists:
            known_mode, state = self._lists[name]
        if known_mode is not mode:
            raise _other_mode(name, known_mode, mode)
        if name not in self._lists:
            state = OperatorListState()
            state.update(self._take_restored(descriptor, mode))
            self._lists[name] = mode, state
        return state

    def _take_restored(self, descriptor: StateDescriptor, mode: OperatorStateMode) -> list[Any]:
        if descriptor.ttl_config is not None:
            raise StateError(
                f"The operator state {descriptor.name!r} cannot expire.",
                hint="Only keyed state has a time to live.",
            )
        snapshot = self._restored.get(descriptor.name)
        if snapshot is None:
            return []
        if snapshot.mode is not mode:
            raise _other_mode(descriptor.name, snapshot.mode, mode)
        del self._restored[descriptor.name]
        return snapshot.elements


def redistribute(
    subtasks: Sequence[Iterable[OperatorStateSnapshot]], parallelism: int
) -> list[list[OperatorStateSnapshot]]:
    """What each subtask of the new ``parallelism`` gets of what the old ``subtasks`` held.

    >>> split = OperatorStateSnapshot("offsets", OperatorStateMode.SPLIT, [1, 2, 3])
    >>> [state.elements for (state,) in redistribute([[split], [split]], 3)]
    [[1, 1], [2, 2], [3, 3]]
    """
    held: dict[tuple[str, OperatorStateMode], list[list[Any]]] = {}
    for subtask in subtasks:
        for snapshot in subtask:
            held.setdefault((snapshot.name, snapshot.mode), []).append(snapshot.elements)
    shares: list[list[OperatorStateSnapshot]] = [[] for _ in range(parallelism)]
    for (name, mode), lists in held.items():
        elements = [element for part in lists for element in part]
        for index, share in enumerate(shares):
            match mode:
                case OperatorStateMode.SPLIT:
                    part = elements[index::parallelism]
                case OperatorStateMode.UNION:
                    part = list(elements)
                case OperatorStateMode.BROADCAST:
                    # They are alike; should they not be, a subtask that stays gets its own again.
                    part = list(lists[index % len(lists)])
            share.append(OperatorStateSnapshot(name, mode, part))
    return shares


def _other_mode(name: str, known: OperatorStateMode, wanted: OperatorStateMode) -> StateError:
    return StateError(
        f"The operator state {name!r} is of mode {known.value}, not {wanted.value}.",
        hint="Give one of the two another name: a name stands for one state.",
    )
