"""``HeapKeyedStateBackend``: keyed state as Python objects, one dict per key group and state (design D10).

Values are not copied: a function that changes in place what it has read changes the state. Do not rely on it,
call ``update`` or ``put``: other backends keep copies.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

from zmflow.errors import StateError
from zmflow.state.backend import API_VERSION, Capabilities, KeyedStateBackend
from zmflow.state.chunks import KeyedChunk
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ReducingStateDescriptor,
    StateDescriptor,
    StateKind,
)
from zmflow.state.expiry import Expiry
from zmflow.state.heap_states import (
    MISSING,
    Groups,
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
from zmflow.state.keys import key_group
from zmflow.state.snapshots import KeyGroupSnapshot, StateSnapshot, with_times, without_times

__all__ = ["HeapKeyedStateBackend"]

KNOWN_KEYS_MAX = 2**17
"""Keys whose group is remembered. Hashing a key takes over 1 us, finding it here 0.05 us; with short texts as
keys, 2**17 of them take some 20 MB. When there are more, all are forgotten: a job with so many keys seldom
meets one again soon."""


class HeapKeyedStateBackend(KeyedStateBackend):
    """Keeps state in this process."""

    api_version = API_VERSION
    capabilities = Capabilities(ttl=True, copies_values=False)

    def __init__(self, max_parallelism: int, key_groups: range, processing_time: Callable[[], int]) -> None:
        super().__init__(max_parallelism, key_groups, processing_time)
        self._known_keys: dict[Any, int] = {}
        self._tables: dict[tuple[str, bool], _Table] = {}
        self._cleaned_by_record: tuple[Expiry, ...] = ()

    # -- keys ---------------------------------------------------------------------------------------

    def set_current_key(self, key: Any) -> None:
        try:
            self.current_key_group = self._known_keys[key]
        except (KeyError, TypeError):  # a TypeError: it cannot even be hashed
            self.current_key_group = self._key_group(key)
        self.current_key = key
        if self._cleaned_by_record:
            for expiry in self._cleaned_by_record:
                expiry.clean_up()

    def _key_group(self, key: Any) -> int:
        group = key_group(key, self.max_parallelism)
        if group not in self.key_groups:
            raise _not_ours(group, self.key_groups, f"Key: {key!r:.80}.")
        if len(self._known_keys) >= KNOWN_KEYS_MAX:
            self._known_keys.clear()
        self._known_keys[key] = group
        return group

    def keys(self, state_name: str, namespace: Any = None) -> Iterator[Any]:
        table = self._tables.get((state_name, namespace is not None))
        if table is None:
            return
        for group in self.key_groups:
            entries = list(table.groups[group])
            if namespace is None:
                yield from entries
            else:
                yield from (key for key, of_key in entries if of_key == namespace)

    # -- states -------------------------------------------------------------------------------------

    def create_state(self, descriptor: StateDescriptor, namespace: Any) -> KeyedState:
        identity = (descriptor.name, namespace is not None)
        table = self._tables.get(identity)
        if table is None:
            table = self._tables[identity] = _Table(descriptor.kind, self.key_groups)
        table.declare(descriptor, self.processing_time)
        self._cleaned_by_record = tuple(
            table.expiry for table in self._tables.values() if table.expiry and table.expiry.for_every_record
        )
        if table.expiry is None:
            return _plain_state(self, table.groups, namespace, descriptor)
        return _expiring_state(self, table.groups, namespace, table.expiry, descriptor)

    def chunks(self, group: int) -> list[KeyedChunk]:
        found = (table.chunk(*identity, group) for identity, table in self._tables.items())
        return [chunk for chunk in found if chunk.keys]

    def entry_count(self) -> int:
        return sum(len(entries) for table in self._tables.values() for entries in table.groups.values())

    # -- snapshots ----------------------------------------------------------------------------------

    def snapshot(self, group: int) -> KeyGroupSnapshot:
        if group not in self.key_groups:
            raise _not_ours(group, self.key_groups)
        states = [table.snapshot(*identity, group) for identity, table in self._tables.items()]
        return KeyGroupSnapshot(group, tuple(state for state in states if state.entries))

    def restore(self, group: int, snapshot: KeyGroupSnapshot) -> None:
        if group not in self.key_groups:
            raise _not_ours(group, self.key_groups)
        if snapshot.group != group:
            raise StateError(f"A snapshot of key group {snapshot.group} is not one of group {group}.")
        for state in snapshot.states:
            known = self._tables.get((state.name, state.namespaced))
            if known is not None:
                known.check_kind(state.name, state.kind)
        for table in self._tables.values():
            table.groups[group] = {}
        for state in snapshot.states:
            identity = (state.name, state.namespaced)
            table = self._tables.get(identity) or _Table(state.kind, self.key_groups)
            table.restore(group, state, self.processing_time)
            self._tables[identity] = table


class _Table:
    """One state: its dicts, and how it expires. It may have been restored before anybody declares it."""

    def __init__(self, kind: StateKind, key_groups: range) -> None:
        self.kind = kind
        self.groups = Groups((group, {}) for group in key_groups)
        self.expiry: Expiry | None = None
        self._declared = False
        self._timed: bool | None = None  # not known before something is restored or declared

    def declare(self, descriptor: StateDescriptor, processing_time: Callable[[], int]) -> None:
        """A function declares the state."""
        self.check_kind(descriptor.name, descriptor.kind)
        config = descriptor.ttl_config
        if self._declared and config != (self.expiry and self.expiry.config):
            raise StateError(
                f"The state {descriptor.name!r} is declared twice, with different times to live.",
                hint="Use one descriptor, or give one of the two states another name.",
            )
        self._declared = True
        if config is not None and self.expiry is None:
            self.expiry = Expiry(config, self.kind, self.groups, processing_time)
            if config.cleanup_strategies.compact_filter is not None:
                warnings.warn(
                    f"The state {descriptor.name!r} is on the heap, which compacts no files: "
                    "cleanup_in_rocksdb_compact_filter() has no effect.",
                    UserWarning,
                    stacklevel=2,
                )
        self._set_timed(config is not None, processing_time)

    def check_kind(self, name: str, kind: StateKind) -> None:
        """Refuse another kind than the state has."""
        if kind is not self.kind:
            raise StateError(
                f"The state {name!r} is of kind {self.kind.value}, not {kind.value}.",
                hint="Give one of the two another name: a name stands for one state.",
            )

    def _set_timed(self, timed: bool, processing_time: Callable[[], int]) -> None:
        """What was restored had expiry where the state has none now, or the other way round: rewrite it."""
        if self._timed is not None and self._timed != timed:
            now = processing_time()
            for table in self.groups.values():
                for entry, held in table.items():
                    table[entry] = (
                        with_times(self.kind, held, now) if timed else without_times(self.kind, held)
                    )
        self._timed = timed

    def snapshot(self, name: str, namespaced: bool, group: int) -> StateSnapshot:
        """What a key group holds of this state."""
        entries = []
        leave_out = self.expiry if self.expiry is not None and self.expiry.in_snapshots else None
        for entry, held in self.groups[group].items():
            kept = held if leave_out is None else leave_out.living(held, leave_out.deadline())
            if kept is not MISSING:
                key, namespace = entry if namespaced else (entry, None)
                entries.append((key, namespace, self._copied(kept)))
        return StateSnapshot(name, self.kind, namespaced, bool(self._timed), entries)

    def chunk(self, name: str, namespaced: bool, group: int) -> KeyedChunk:
        """The same in columns, with the very objects that are held."""
        table = self.groups[group]
        leave_out = self.expiry if self.expiry is not None and self.expiry.in_snapshots else None
        if leave_out is not None:
            deadline = leave_out.deadline()
            kept = {entry: leave_out.living(held, deadline) for entry, held in table.items()}
            table = {entry: held for entry, held in kept.items() if held is not MISSING}
        keys, namespaces = list(table), None
        if namespaced:
            namespaces = [namespace for _, namespace in keys]
            keys = [key for key, _ in keys]
        return KeyedChunk(
            name, self.kind.value, group, group, keys, list(table.values()), namespaces, bool(self._timed)
        )

    def restore(self, group: int, state: StateSnapshot, processing_time: Callable[[], int]) -> None:
        """Let a key group hold this."""
        if self._timed is None:
            self._timed = state.timed
        table = self.groups[group]
        for key, namespace, held in state.entries:
            kept = self._copied(held)
            if state.timed and not self._timed:
                kept = without_times(self.kind, kept)
            elif self._timed and not state.timed:
                kept = with_times(self.kind, kept, processing_time())
            table[(key, namespace) if state.namespaced else key] = kept

    def _copied(self, held: Any) -> Any:
        if self.kind is StateKind.LIST:
            return list(held)
        if self.kind is StateKind.MAP:
            return dict(held)
        return held


def _not_ours(group: int, key_groups: range, detail: str | None = None) -> StateError:
    return StateError(
        f"Key group {group} is another subtask's: this one has {key_groups.start} to {key_groups.stop - 1}.",
        detail=detail,
        hint="The stream must be partitioned by the same key that state is kept by.",
    )


def _plain_state(
    backend: KeyedStateBackend, groups: Groups, namespace: Any, descriptor: StateDescriptor
) -> KeyedState:
    match descriptor.kind:
        case StateKind.VALUE:
            return HeapValueState[Any](backend, groups, namespace)
        case StateKind.LIST:
            return HeapListState[Any](backend, groups, namespace)
        case StateKind.MAP:
            return HeapMapState[Any, Any](backend, groups, namespace)
        case StateKind.REDUCING:
            reducing = cast("ReducingStateDescriptor[Any]", descriptor)
            return HeapReducingState(backend, groups, namespace, reducing)
        case StateKind.AGGREGATING:
            aggregating = cast("AggregatingStateDescriptor[Any, Any, Any]", descriptor)
            return HeapAggregatingState(backend, groups, namespace, aggregating)


def _expiring_state(
    backend: KeyedStateBackend, groups: Groups, namespace: Any, expiry: Expiry, descriptor: StateDescriptor
) -> KeyedState:
    match descriptor.kind:
        case StateKind.VALUE:
            return TtlValueState[Any](backend, groups, namespace, expiry)
        case StateKind.LIST:
            return TtlListState[Any](backend, groups, namespace, expiry)
        case StateKind.MAP:
            return TtlMapState[Any, Any](backend, groups, namespace, expiry)
        case StateKind.REDUCING:
            reducing = cast("ReducingStateDescriptor[Any]", descriptor)
            return TtlReducingState(backend, groups, namespace, expiry, reducing)
        case StateKind.AGGREGATING:
            aggregating = cast("AggregatingStateDescriptor[Any, Any, Any]", descriptor)
            return TtlAggregatingState(backend, groups, namespace, expiry, aggregating)
