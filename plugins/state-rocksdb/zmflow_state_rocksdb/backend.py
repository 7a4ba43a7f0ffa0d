"""``RocksDBKeyedStateBackend``: keyed state in a database on the disk of the worker.

What is used often is in memory, the rest is on disk: state may be larger than memory. The disk is a place to
put things, not a place to find them again: after a failure state comes from the checkpoint, and the database
goes with its backend.

As on the heap, do not change in place what was read without calling ``update`` or ``put``: whether such a
change is kept depends on what is in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from zmflow.errors import StateError
from zmflow.state.backend import API_VERSION, BackendContext, Capabilities, FrozenState, KeyedStateBackend
from zmflow.state.descriptors import StateDescriptor, StateKind
from zmflow.state.keyed_states import KeyedState
from zmflow.state.keys import key_group
from zmflow.state.native_files import FrozenFiles, NativeManifest, NativeRestore
from zmflow.state.snapshots import KeyGroupSnapshot, StateSnapshot
from zmflow_state_rocksdb.database import Database, open_files, scan
from zmflow_state_rocksdb.encoding import PREFIX
from zmflow_state_rocksdb.frozen import FrozenDatabase
from zmflow_state_rocksdb.hot_lists import HotLists
from zmflow_state_rocksdb.hot_maps import HotMaps
from zmflow_state_rocksdb.hot_values import HotValues
from zmflow_state_rocksdb.layout import StateLayout
from zmflow_state_rocksdb.memory import SlotMemory
from zmflow_state_rocksdb.native import described, frozen_files, layouts_of
from zmflow_state_rocksdb.states import state_of
from zmflow_state_rocksdb.sweep import SweptExpiry
from zmflow_state_rocksdb.table import StateTable, TableHome

__all__ = ["RocksDBKeyedStateBackend"]

KNOWN_KEYS_MAX = 2**15
"""Keys whose group is remembered: finding it takes a twentieth of the time of hashing the key. Twice the
entries of a state that may wait."""

BATCH_SIZE_BYTES = 2**20
"""State that is restored is written in pieces of this size."""

_TABLES: dict[StateKind, type[StateTable]] = {StateKind.LIST: HotLists, StateKind.MAP: HotMaps}


class RocksDBKeyedStateBackend(KeyedStateBackend):
    """Keeps state in RocksDB.

    Args:
        max_parallelism: how many key groups there are.
        key_groups: those of this subtask.
        processing_time: the clock.
        context: what the task has for it.
    """

    api_version = API_VERSION
    capabilities = Capabilities(ttl=True, copies_values=False, native_files=True)

    def __init__(
        self,
        max_parallelism: int,
        key_groups: range,
        processing_time: Callable[[], int],
        context: BackendContext | None = None,
    ) -> None:
        super().__init__(max_parallelism, key_groups, processing_time)
        context = context or BackendContext("")
        self._memory: SlotMemory | None = SlotMemory.acquire(self, context.memory_bytes)
        self._directory = context.directory
        self._database = Database(context.directory, self._memory)
        self._known_keys: dict[Any, int] = {}
        self._tables: dict[tuple[str, bool], StateTable] = {}
        self._cleaned_by_record: tuple[SweptExpiry, ...] = ()
        memory = self._memory
        self._home = TableHome(self._database, self._group_of, lambda: memory.objects_bytes)

    @classmethod
    def for_task(
        cls,
        max_parallelism: int,
        key_groups: range,
        processing_time: Callable[[], int],
        context: BackendContext,
    ) -> Self:
        return cls(max_parallelism, key_groups, processing_time, context)

    # -- keys ---------------------------------------------------------------------------------------

    def set_current_key(self, key: Any) -> None:
        try:
            self.current_key_group = self._known_keys[key]
        except (KeyError, TypeError):  # a TypeError: it cannot even be hashed
            self.current_key_group = self._learned(key)
        self.current_key = key
        if self._cleaned_by_record:
            for expiry in self._cleaned_by_record:
                expiry.clean_up()

    def _learned(self, key: Any) -> int:
        group = key_group(key, self.max_parallelism)
        if group not in self.key_groups:
            raise self._not_ours(group, f"Key: {key!r:.80}.")
        if len(self._known_keys) >= KNOWN_KEYS_MAX:
            self._known_keys.clear()
        self._known_keys[key] = group
        return group

    def _group_of(self, key: Any) -> int:
        group = self._known_keys.get(key)
        return key_group(key, self.max_parallelism) if group is None else group

    def keys(self, state_name: str, namespace: Any = None) -> Iterator[Any]:
        table = self._tables.get((state_name, namespace is not None))
        if table is None:
            return
        for group in self.key_groups:
            table.flush()
            yield from list(table.keys(group, namespace))

    # -- states -------------------------------------------------------------------------------------

    def create_state(self, descriptor: StateDescriptor, namespace: Any) -> KeyedState:
        table = self._table(descriptor.name, descriptor.kind, namespaced=namespace is not None)
        table.declare(descriptor, self.processing_time)
        expiries = (table.expiry for table in self._tables.values())
        self._cleaned_by_record = tuple(one for one in expiries if one is not None and one.for_every_record)
        return state_of(self, table, namespace, descriptor)

    def _table(self, name: str, kind: StateKind, *, namespaced: bool) -> StateTable:
        table = self._tables.get((name, namespaced))
        if table is None:
            layout = StateLayout(len(self._tables), name, kind, namespaced)
            table = _TABLES.get(kind, HotValues)(layout, self._home, self.key_groups)
            self._tables[name, namespaced] = table
        return table

    # -- snapshots ----------------------------------------------------------------------------------

    def snapshot(self, group: int) -> KeyGroupSnapshot:
        if group not in self.key_groups:
            raise self._not_ours(group)
        states = []
        for table in self._tables.values():
            table.flush()
            layout = table.layout
            records = self._database.scan(layout.group(group))
            entries = [
                (key, namespace, held)
                for key, namespace, held, _ in layout.entries(records, table.deadline_of_snapshots())
            ]
            if entries:
                states.append(
                    StateSnapshot(layout.name, layout.kind, layout.namespaced, bool(table.timed), entries)
                )
        return KeyGroupSnapshot(group, tuple(states))

    def freeze(self) -> FrozenState:
        for table in self._tables.values():
            table.flush()
        layouts = {
            table.layout.number: (table.layout, bool(table.timed), table.deadline_of_snapshots())
            for table in self._tables.values()
        }
        reader = self._database.snapshot() if self._database.is_open else None
        return FrozenDatabase(reader, layouts)

    def freeze_files(self) -> FrozenFiles | None:
        for table in self._tables.values():
            table.flush()
        if not self._database.is_open:
            return None
        states = [(table.layout, bool(table.timed)) for table in self._tables.values()]
        return frozen_files(self._database, self.key_groups, states, next(self._home.sequence))

    def restore_files(self, parts: Sequence[NativeRestore]) -> None:
        descriptions = [described(part.manifest) for part in parts]
        self._home.sequence = itertools.count(max(each.sequence for each in descriptions))
        if len(parts) == 1 and parts[0].manifest.key_groups == self.key_groups:
            (part,) = parts
            self._database.adopt(part.fetch)
            for layout, timed in layouts_of(part.manifest):
                table = self._table(layout.name, layout.kind, namespaced=layout.namespaced)
                table.timed, table.stored = timed, True
            part.adopted(self._database.identity)
            return
        assert self._memory is not None, "it is closed"
        for part in parts:
            with part.fetched(self._directory) as path:
                rocks = open_files(path, self._memory, only_read=True)
                try:
                    self._copy(rocks, part.manifest)
                finally:
                    rocks.close()

    def _copy(self, rocks: Any, manifest: NativeManifest) -> None:
        """Take over what another database has of the key groups of this one."""
        first, last = manifest.first_group, manifest.last_group
        groups = range(max(first, self.key_groups.start), min(last + 1, self.key_groups.stop))
        now = self.processing_time()
        batch = self._database.batch()
        for layout, timed in layouts_of(manifest):
            table = self._table(layout.name, layout.kind, namespaced=layout.namespaced)
            table.check_kind(layout.kind)
            for group in groups:
                for record in table.taken_over(layout, timed, group, scan(rocks, layout.group(group)), now):
                    batch.put(*record)
                    if batch.size_in_bytes() >= BATCH_SIZE_BYTES:
                        self._database.write(batch)
                        batch = self._database.batch()
        self._database.write(batch)

    def restore(self, group: int, snapshot: KeyGroupSnapshot) -> None:
        if group not in self.key_groups:
            raise self._not_ours(group)
        if snapshot.group != group:
            raise StateError(f"A snapshot of key group {snapshot.group} is not one of group {group}.")
        for state in snapshot.states:
            known = self._tables.get((state.name, state.namespaced))
            if known is not None:
                known.check_kind(state.kind)
        for table in self._tables.values():
            table.flush()
            table.forget()
        batch = self._database.batch()
        if next(self._database.scan(group.to_bytes(2, "big")), None) is not None:
            batch.delete_range(PREFIX.pack(group, 0), (group + 1).to_bytes(3, "big")[1:] + b"\0\0")
        now = self.processing_time()
        for state in snapshot.states:
            table = self._table(state.name, state.kind, namespaced=state.namespaced)
            for entry in state.entries:
                table.restore(batch, group, entry, state.timed, now)
                if batch.size_in_bytes() >= BATCH_SIZE_BYTES:
                    self._database.write(batch)
                    batch = self._database.batch()
        self._database.write(batch)

    def close(self) -> None:
        memory, self._memory = self._memory, None
        if memory is not None:
            for table in self._tables.values():
                table.forget()
            self._database.close()
            memory.release(self)

    def _not_ours(self, group: int, detail: str | None = None) -> StateError:
        groups = self.key_groups
        return StateError(
            f"Key group {group} is another subtask's: this one has {groups.start} to {groups.stop - 1}.",
            detail=detail,
            hint="The stream must be partitioned by the same key that state is kept by.",
        )
