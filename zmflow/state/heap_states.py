"""Keyed state on the heap: one dict per key group and state (design D10).

The dict of a group holds the functions' own objects by key, or by ``(key, namespace)`` in a state that has
namespaces. ``value`` and ``update`` are the hot path of most jobs: they are written out, not composed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from zmflow.errors import StateError
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import AggregatingStateDescriptor, ReducingStateDescriptor
from zmflow.state.keyed_states import (
    KeyedAggregatingState,
    KeyedListState,
    KeyedMapState,
    KeyedMergingState,
    KeyedReducingState,
    KeyedState,
    KeyedValueState,
)

__all__ = [
    "MISSING",
    "Groups",
    "HeapAggregatingState",
    "HeapListState",
    "HeapMapState",
    "HeapMergingState",
    "HeapReducingState",
    "HeapState",
    "HeapValueState",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
OUT = TypeVar("OUT")

MISSING: Final[Any] = object()
"""Stands for nothing where None may be something."""


class Groups(dict[int, dict[Any, Any]]):
    """The dicts of one state by key group; asked for a group it has not, it says what is wrong."""

    def __missing__(self, group: int) -> dict[Any, Any]:
        raise StateError(
            "Keyed state was used where no key is current.",
            hint="Use it while a record or a timer is processed; open() and close() have no key.",
        )


class HeapState(KeyedState):
    """What all kinds share: their place in the dicts.

    Args:
        backend: whose current key counts.
        groups: the dicts of the state.
        namespace: the first namespace; None for a state that has none.
    """

    def __init__(self, backend: KeyedStateBackend, groups: Groups, namespace: Any) -> None:
        self._backend = backend
        self._groups = groups
        self._namespace = namespace

    def set_current_namespace(self, namespace: Any) -> None:
        if namespace is None or self._namespace is None:
            raise StateError(
                "A state has namespaces from the beginning, or never.",
                detail=f"Namespace: {namespace!r}.",
                hint="Give the first namespace to get_state(); None is none.",
            )
        self._namespace = namespace

    def clear(self) -> None:
        table, entry = self._place()
        table.pop(entry, None)

    def _place(self) -> tuple[dict[Any, Any], Any]:
        """The dict of the current key group, and the entry of the current key and namespace in it."""
        backend = self._backend
        if self._namespace is None:
            return self._groups[backend.current_key_group], backend.current_key
        return self._groups[backend.current_key_group], (backend.current_key, self._namespace)


class HeapValueState(HeapState, KeyedValueState[T]):
    """One value."""

    def value(self) -> T | None:
        backend = self._backend
        if self._namespace is None:
            return self._groups[backend.current_key_group].get(backend.current_key)
        return self._groups[backend.current_key_group].get((backend.current_key, self._namespace))

    def update(self, value: T | None) -> None:
        backend = self._backend
        if value is None:
            self.clear()
        elif self._namespace is None:
            self._groups[backend.current_key_group][backend.current_key] = value
        else:
            self._groups[backend.current_key_group][backend.current_key, self._namespace] = value


class HeapMergingState(HeapState, KeyedMergingState):
    """What list, reducing and aggregating state share."""

    def merge_namespaces(self, target: Any, sources: Iterable[Any]) -> None:
        if self._namespace is None:
            raise StateError("A state without namespaces has none to merge.")
        backend = self._backend
        key = backend.current_key
        table = self._groups[backend.current_key_group]
        for source in sources:
            if source == target:
                continue
            held = table.pop((key, source), MISSING)
            if held is not MISSING:
                before = table.get((key, target), MISSING)
                table[key, target] = held if before is MISSING else self._merged(before, held)

    def _merged(self, before: Any, held: Any) -> Any:
        """What becomes of what two namespaces hold."""
        raise NotImplementedError


class HeapListState(HeapMergingState, KeyedListState[T]):
    """A list. ``get`` copies it, not its elements."""

    def get(self) -> list[T]:
        table, entry = self._place()
        return list(table.get(entry, ()))

    def add(self, value: T) -> None:
        table, entry = self._place()
        held = table.get(entry)
        if held is None:
            table[entry] = [value]
        else:
            held.append(value)

    def add_all(self, values: Iterable[T]) -> None:
        added = list(values)
        if added:
            table, entry = self._place()
            table.setdefault(entry, []).extend(added)

    def update(self, values: Iterable[T]) -> None:
        held = list(values)
        table, entry = self._place()
        if held:
            table[entry] = held
        else:
            table.pop(entry, None)

    def _merged(self, before: list[T], held: list[T]) -> list[T]:
        return before + held


class HeapMapState(HeapState, KeyedMapState[K, V]):
    """A dict. ``items``, ``keys`` and ``values`` copy it, so that it may change while they are read."""

    def get(self, key: K) -> V | None:
        return self._map().get(key)

    def put(self, key: K, value: V) -> None:
        table, entry = self._place()
        held = table.get(entry)
        if held is None:
            table[entry] = {key: value}
        else:
            held[key] = value

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        if dict_value:
            table, entry = self._place()
            table.setdefault(entry, {}).update(dict_value)

    def remove(self, key: K) -> None:
        table, entry = self._place()
        held = table.get(entry)
        if held is not None:
            held.pop(key, None)
            if not held:
                del table[entry]

    def contains(self, key: K) -> bool:
        return key in self._map()

    def items(self) -> list[tuple[K, V]]:
        return list(self._map().items())

    def keys(self) -> list[K]:
        return list(self._map())

    def values(self) -> list[V]:
        return list(self._map().values())

    def is_empty(self) -> bool:
        return not self._map()

    def _map(self) -> dict[K, V]:
        """What is held, only to be read."""
        table, entry = self._place()
        held: dict[K, V] | None = table.get(entry)
        return {} if held is None else held


class HeapReducingState(HeapMergingState, KeyedReducingState[T]):
    """The value that all added ones were reduced to."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        groups: Groups,
        namespace: Any,
        descriptor: ReducingStateDescriptor[T],
    ) -> None:
        super().__init__(backend, groups, namespace)
        self._reduce: Callable[[T, T], T] = descriptor.reduce

    def get(self) -> T | None:
        table, entry = self._place()
        return table.get(entry)

    def add(self, value: T) -> None:
        table, entry = self._place()
        held = table.get(entry, MISSING)
        table[entry] = value if held is MISSING else self._reduce(held, value)

    def _merged(self, before: T, held: T) -> T:
        return self._reduce(before, held)


class HeapAggregatingState(HeapMergingState, KeyedAggregatingState[IN, OUT]):
    """The accumulator that all added values went into."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        groups: Groups,
        namespace: Any,
        descriptor: AggregatingStateDescriptor[IN, Any, OUT],
    ) -> None:
        super().__init__(backend, groups, namespace)
        self._function = descriptor.get_agg_function()

    def get(self) -> OUT | None:
        table, entry = self._place()
        held = table.get(entry, MISSING)
        return None if held is MISSING else self._function.get_result(held)

    def add(self, value: IN) -> None:
        table, entry = self._place()
        held = table.get(entry, MISSING)
        if held is MISSING:
            held = self._function.create_accumulator()
        table[entry] = self._function.add(value, held)

    def _merged(self, before: Any, held: Any) -> Any:
        return self._function.merge(before, held)
