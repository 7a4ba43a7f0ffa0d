"""Broadcast state: maps that all subtasks of an operator hold alike, as Python objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from zmflow.errors import ZmflowError
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.state.descriptors import MapStateDescriptor
from zmflow.state.function_states import FunctionStates
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.states import BroadcastState, ReadOnlyBroadcastState

__all__ = ["BroadcastStates"]

K = TypeVar("K")
V = TypeVar("V")


class _ReadOnly(ReadOnlyBroadcastState[K, V]):
    """Shows a map; what ``items``, ``keys`` and ``values`` return stays as it is when the map changes."""

    def __init__(self, entries: dict[K, V]) -> None:
        self._entries = entries

    def get(self, key: K) -> V | None:
        return self._entries.get(key)

    def contains(self, key: K) -> bool:
        return key in self._entries

    def items(self) -> Iterable[tuple[K, V]]:
        return list(self._entries.items())

    def keys(self) -> Iterable[K]:
        return list(self._entries)

    def values(self) -> Iterable[V]:
        return list(self._entries.values())

    def is_empty(self) -> bool:
        return not self._entries

    def clear(self) -> None:
        raise ZmflowError(
            "Broadcast state can only be read here.",
            hint="Change it in process_broadcast_element(), which every subtask calls with the same records.",
        )


class _Changeable(_ReadOnly[K, V], BroadcastState[K, V]):
    def put(self, key: K, value: V) -> None:
        self._entries[key] = value

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        self._entries.update(dict_value)

    def remove(self, key: K) -> None:
        self._entries.pop(key, None)

    def clear(self) -> None:
        self._entries.clear()


class BroadcastStates:
    """The broadcast states of an operator, by name; each subtask has its own copy of them.

    Args:
        descriptors: those given to ``broadcast()``.
    """

    def __init__(self, descriptors: Sequence[MapStateDescriptor[Any, Any]]) -> None:
        self.entries: dict[str, dict[Any, Any]] = {descriptor.name: {} for descriptor in descriptors}
        self._changeable = {name: _Changeable(entries) for name, entries in self.entries.items()}
        self._read_only = {name: _ReadOnly(entries) for name, entries in self.entries.items()}

    def restore(self, functions: FunctionStates | None) -> None:
        """Go on with the entries of a checkpoint."""
        if functions is not None:
            for name, entries in self.entries.items():
                entries.update(functions.store.take(name, OperatorStateMode.BROADCAST))

    def snapshot_state(self, context: SnapshotContext) -> None:
        """Add all entries to a checkpoint."""
        for name, entries in self.entries.items():
            held = OperatorStateSnapshot(name, OperatorStateMode.BROADCAST, list(entries.items()))
            context.operator.append(held)

    def changeable(self, descriptor: MapStateDescriptor[K, V]) -> BroadcastState[K, V]:
        """The state of a descriptor, for the broadcast side.

        Raises:
            ZmflowError: ``broadcast()`` was not given the descriptor.
        """
        self._check(descriptor)
        return self._changeable[descriptor.name]

    def read_only(self, descriptor: MapStateDescriptor[K, V]) -> ReadOnlyBroadcastState[K, V]:
        """The state of a descriptor, for the other side.

        Raises:
            ZmflowError: ``broadcast()`` was not given the descriptor.
        """
        self._check(descriptor)
        return self._read_only[descriptor.name]

    def _check(self, descriptor: MapStateDescriptor[Any, Any]) -> None:
        if descriptor.name not in self.entries:
            raise ZmflowError(
                f"There is no broadcast state {descriptor.name!r}.",
                detail=f"There is: {', '.join(sorted(self.entries)) or 'none'}.",
                hint="Give the descriptor to broadcast(), or look for a typing error in its name.",
            )
