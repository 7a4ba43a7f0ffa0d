"""Keyed state on the heap that expires: what is held stands beside when it was last touched.

Reading finds expired state and removes it at once; where the configuration allows it to be seen, it is seen
this last time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import AggregatingStateDescriptor, ReducingStateDescriptor
from zmflow.state.expiry import Expiry
from zmflow.state.heap_states import MISSING, Groups, HeapMergingState, HeapState
from zmflow.state.keyed_states import (
    KeyedAggregatingState,
    KeyedListState,
    KeyedMapState,
    KeyedReducingState,
    KeyedValueState,
)

__all__ = ["TtlAggregatingState", "TtlListState", "TtlMapState", "TtlReducingState", "TtlValueState"]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN")
OUT = TypeVar("OUT")


class _TtlState(HeapState):
    """State that expires."""

    def __init__(self, backend: KeyedStateBackend, groups: Groups, namespace: Any, expiry: Expiry) -> None:
        super().__init__(backend, groups, namespace)
        self._expiry = expiry

    def clear(self) -> None:
        self._expiry.access()
        super().clear()


class _SingleState(_TtlState):
    """State that is one object, which expires as a whole."""

    def _read(self) -> Any:
        """The object, or MISSING."""
        now = self._expiry.access()
        table, entry = self._place()
        pair = table.get(entry)
        if pair is None:
            return MISSING
        held, touched_ms = pair
        if touched_ms <= now - self._expiry.config.ttl_ms:
            del table[entry]
            return held if self._expiry.returns_expired else MISSING
        if self._expiry.on_read:
            table[entry] = (held, now)
        return held

    def _write(self, held: Any) -> None:
        now = self._expiry.access()
        table, entry = self._place()
        table[entry] = (held, now)


class TtlValueState(_SingleState, KeyedValueState[T]):
    """One value."""

    def value(self) -> T | None:
        held: T = self._read()
        return None if held is MISSING else held

    def update(self, value: T | None) -> None:
        if value is None:
            self.clear()
        else:
            self._write(value)


class _MergingSingleState(_SingleState, HeapMergingState):
    """Reducing and aggregating state."""

    def _merged(self, before: tuple[Any, int], held: tuple[Any, int]) -> tuple[Any, int]:
        now = self._expiry.access()
        deadline = now - self._expiry.config.ttl_ms
        if not self._expiry.returns_expired:
            if before[1] <= deadline:
                return held
            if held[1] <= deadline:
                return before
        return self._combined(before[0], held[0]), now

    def _combined(self, before: Any, held: Any) -> Any:
        raise NotImplementedError


class TtlReducingState(_MergingSingleState, KeyedReducingState[T]):
    """The value that all added ones were reduced to; adding to an expired one begins anew."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        groups: Groups,
        namespace: Any,
        expiry: Expiry,
        descriptor: ReducingStateDescriptor[T],
    ) -> None:
        super().__init__(backend, groups, namespace, expiry)
        self._reduce: Callable[[T, T], T] = descriptor.reduce

    def get(self) -> T | None:
        held: T = self._read()
        return None if held is MISSING else held

    def add(self, value: T) -> None:
        held = self._read()
        self._write(value if held is MISSING else self._reduce(held, value))

    def _combined(self, before: T, held: T) -> T:
        return self._reduce(before, held)


class TtlAggregatingState(_MergingSingleState, KeyedAggregatingState[IN, OUT]):
    """The accumulator that all added values went into; adding to an expired one begins anew."""

    def __init__(
        self,
        backend: KeyedStateBackend,
        groups: Groups,
        namespace: Any,
        expiry: Expiry,
        descriptor: AggregatingStateDescriptor[IN, Any, OUT],
    ) -> None:
        super().__init__(backend, groups, namespace, expiry)
        self._function = descriptor.get_agg_function()

    def get(self) -> OUT | None:
        held = self._read()
        return None if held is MISSING else self._function.get_result(held)

    def add(self, value: IN) -> None:
        held = self._read()
        if held is MISSING:
            held = self._function.create_accumulator()
        self._write(self._function.add(value, held))

    def _combined(self, before: Any, held: Any) -> Any:
        return self._function.merge(before, held)


class TtlListState(_TtlState, HeapMergingState, KeyedListState[T]):
    """A list whose elements expire one by one."""

    def get(self) -> list[T]:
        now = self._expiry.access()
        table, entry = self._place()
        pairs: list[tuple[T, int]] = table.get(entry, [])
        if not pairs:
            return []
        living = self._expiry.living(pairs, now - self._expiry.config.ttl_ms)
        if living is MISSING:
            del table[entry]
        elif self._expiry.on_read:
            table[entry] = [(element, now) for element, _touched_ms in living]
        else:
            table[entry] = living
        if living is MISSING or self._expiry.returns_expired:
            living = pairs if self._expiry.returns_expired else []
        return [element for element, _touched_ms in living]

    def add(self, value: T) -> None:
        self.add_all((value,))

    def add_all(self, values: Iterable[T]) -> None:
        now = self._expiry.access()
        added = [(value, now) for value in values]
        if added:
            table, entry = self._place()
            table.setdefault(entry, []).extend(added)

    def update(self, values: Iterable[T]) -> None:
        now = self._expiry.access()
        held = [(value, now) for value in values]
        table, entry = self._place()
        if held:
            table[entry] = held
        else:
            table.pop(entry, None)

    def _merged(self, before: list[tuple[T, int]], held: list[tuple[T, int]]) -> list[tuple[T, int]]:
        return before + held


class TtlMapState(_TtlState, KeyedMapState[K, V]):
    """A map whose entries expire one by one."""

    def get(self, key: K) -> V | None:
        held: V = self._read(key)
        return None if held is MISSING else held

    def contains(self, key: K) -> bool:
        return self._read(key) is not MISSING

    def put(self, key: K, value: V) -> None:
        self.put_all({key: value})

    def put_all(self, dict_value: Mapping[K, V]) -> None:
        now = self._expiry.access()
        if dict_value:
            table, entry = self._place()
            table.setdefault(entry, {}).update({key: (value, now) for key, value in dict_value.items()})

    def remove(self, key: K) -> None:
        self._expiry.access()
        table, entry = self._place()
        pairs = table.get(entry)
        if pairs is not None:
            pairs.pop(key, None)
            if not pairs:
                del table[entry]

    def items(self) -> list[tuple[K, V]]:
        return [(key, pair[0]) for key, pair in self._read_all().items()]

    def keys(self) -> list[K]:
        return list(self._read_all())

    def values(self) -> list[V]:
        return [pair[0] for pair in self._read_all().values()]

    def is_empty(self) -> bool:
        return not self._read_all()

    def _read(self, key: K) -> Any:
        """The value of a key, or MISSING."""
        now = self._expiry.access()
        table, entry = self._place()
        pairs = table.get(entry)
        if pairs is None or key not in pairs:
            return MISSING
        held, touched_ms = pairs[key]
        if touched_ms <= now - self._expiry.config.ttl_ms:
            del pairs[key]
            if not pairs:
                del table[entry]
            return held if self._expiry.returns_expired else MISSING
        if self._expiry.on_read:
            pairs[key] = (held, now)
        return held

    def _read_all(self) -> dict[K, tuple[V, int]]:
        now = self._expiry.access()
        table, entry = self._place()
        pairs: dict[K, tuple[V, int]] = table.get(entry, {})
        if not pairs:
            return {}
        living = self._expiry.living(pairs, now - self._expiry.config.ttl_ms)
        if living is MISSING:
            del table[entry]
        elif self._expiry.on_read:
            table[entry] = {key: (pair[0], now) for key, pair in living.items()}
        else:
            table[entry] = living
        if self._expiry.returns_expired:
            return pairs
        return {} if living is MISSING else living
