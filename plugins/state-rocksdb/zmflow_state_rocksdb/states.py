"""The state objects of the backend. Those that hold one object are the heap's, on a table, not a dict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    StateKind,
)
from zmflow.state.heap_states import (
    MISSING,
    HeapAggregatingState,
    HeapListState,
    HeapMapState,
    HeapReducingState,
    HeapValueState,
)
from zmflow.state.heap_ttl_states import (
    TtlAggregatingState,
    TtlListState,
    TtlMapState,
    TtlReducingState,
    TtlValueState,
)
from zmflow.state.keyed_states import KeyedState
from zmflow_state_rocksdb.table import StateTable

__all__ = ["state_of"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


class _List(HeapListState[T]):
    """A list: adding does not read it."""

    def add(self, value: T) -> None:
        self.add_all((value,))

    def add_all(self, values: Iterable[T]) -> None:
        table, entry = cast("Any", self._place())
        table.append(entry, values)


class _TtlList(TtlListState[T]):
    """A list whose elements expire; written anew only where that changes something."""

    def get(self) -> list[T]:
        now = self._expiry.access()
        table, entry = self._place()
        pairs: list[tuple[T, int]] = table.get(entry, [])
        deadline = now - self._expiry.config.ttl_ms
        living = [pair for pair in pairs if pair[1] > deadline]
        if living and self._expiry.on_read:
            table[entry] = [(element, now) for element, _touched_ms in living]
        elif len(living) < len(pairs):
            table[entry] = living
        seen = pairs if self._expiry.returns_expired else living
        return [element for element, _touched_ms in seen]

    def add_all(self, values: Iterable[T]) -> None:
        now = self._expiry.access()
        table, entry = cast("Any", self._place())
        table.append(entry, [(value, now) for value in values])


class _Map(HeapMapState[K, V]):
    """A map whose entries are read and written one by one."""

    def get(self, key: K) -> V | None:
        table, entry = cast("Any", self._place())
        held: V = table.read(entry, key)
        return None if held is MISSING else held

    def contains(self, key: K) -> bool:
        table, entry = cast("Any", self._place())
        return table.read(entry, key) is not MISSING

    def put(self, key: K, value: V) -> None:
        table, entry = cast("Any", self._place())
        table.write(entry, key, value)

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        table, entry = cast("Any", self._place())
        for key, value in dict_value.items():
            table.write(entry, key, value)

    def remove(self, key: K) -> None:
        table, entry = cast("Any", self._place())
        table.write(entry, key, MISSING)

    def is_empty(self) -> bool:
        table, entry = cast("Any", self._place())
        return bool(table.is_empty(entry))


class _TtlMap(TtlMapState[K, V]):
    """A map whose entries expire one by one."""

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        now = self._expiry.access()
        table, entry = cast("Any", self._place())
        for key, value in dict_value.items():
            table.write(entry, key, (value, now))

    def remove(self, key: K) -> None:
        self._expiry.access()
        table, entry = cast("Any", self._place())
        table.write(entry, key, MISSING)

    def _read(self, key: K) -> Any:
        now = self._expiry.access()
        table, entry = cast("Any", self._place())
        pair = table.read(entry, key)
        if pair is MISSING:
            return MISSING
        held, touched_ms = pair
        if touched_ms <= now - self._expiry.config.ttl_ms:
            table.write(entry, key, MISSING)
            return held if self._expiry.returns_expired else MISSING
        if self._expiry.on_read:
            table.write(entry, key, (held, now))
        return held

    def _read_all(self) -> dict[K, tuple[V, int]]:
        now = self._expiry.access()
        table, entry = cast("Any", self._place())
        pairs: dict[K, tuple[V, int]] = table.get(entry, {})
        deadline = now - self._expiry.config.ttl_ms
        living = {}
        for key, pair in pairs.items():
            if pair[1] <= deadline:
                table.write(entry, key, MISSING)
            else:
                living[key] = pair
                if self._expiry.on_read:
                    table.write(entry, key, (pair[0], now))
        return pairs if self._expiry.returns_expired else living


def state_of(
    backend: KeyedStateBackend, table: StateTable, namespace: Any, descriptor: StateDescriptor
) -> KeyedState:
    """The state object for a descriptor."""
    groups, expiry = table.groups, table.expiry
    match descriptor.kind:
        case StateKind.VALUE:
            if expiry is not None:
                return TtlValueState[Any](backend, groups, namespace, expiry)
            return HeapValueState[Any](backend, groups, namespace)
        case StateKind.LIST:
            if expiry is not None:
                return _TtlList[Any](backend, groups, namespace, expiry)
            return _List[Any](backend, groups, namespace)
        case StateKind.MAP:
            if expiry is not None:
                return _TtlMap[Any, Any](backend, groups, namespace, expiry)
            return _Map[Any, Any](backend, groups, namespace)
        case StateKind.REDUCING:
            reducing = cast("ReducingStateDescriptor[Any]", descriptor)
            if expiry is not None:
                return TtlReducingState(backend, groups, namespace, expiry, reducing)
            return HeapReducingState(backend, groups, namespace, reducing)
        case StateKind.AGGREGATING:
            aggregating = cast("AggregatingStateDescriptor[Any, Any, Any]", descriptor)
            if expiry is not None:
                return TtlAggregatingState(backend, groups, namespace, expiry, aggregating)
            return HeapAggregatingState(backend, groups, namespace, aggregating)
