"""``HotMaps``: a map for each key and namespace; the database has a record for each entry."""

from __future__ import annotations

from typing import Any

from zmflow.state.heap_states import MISSING
from zmflow_state_rocksdb.database import after
from zmflow_state_rocksdb.encoding import part, read_objects, unpack
from zmflow_state_rocksdb.layout import StateLayout
from zmflow_state_rocksdb.table import UNKNOWN, StateTable, TableHome

__all__ = ["HotMaps"]

REMOVED_ONE_BY_ONE_MAX = 1000
"""Larger maps are removed as a range. Many such ranges slow down every search near them, so small ones are
not."""


class _HotMap:
    """What memory knows of one map. MISSING stands for an entry that is known to be absent."""

    __slots__ = ("changed", "complete", "entries")

    def __init__(self, *, complete: bool) -> None:
        self.entries: dict[Any, Any] = {}
        self.changed: set[Any] = set()
        self.complete = complete  # whether what is not in entries is in the database neither

    def present(self) -> dict[Any, Any]:
        """The entries that are there, of those that memory knows."""
        return {key: value for key, value in self.entries.items() if value is not MISSING}


class HotMaps(StateTable):
    """Used as a dict of dicts, whose entries are read and written one by one."""

    def __init__(self, layout: StateLayout, home: TableHome, key_groups: range) -> None:
        super().__init__(layout, home, key_groups)
        self._dirty: dict[Any, _HotMap] = {}
        self._hot: dict[Any, _HotMap] = {}  # those that were used lately; all that are dirty, too
        self._older: dict[Any, _HotMap] = {}  # those that were hot before
        self._known = 0  # entries that came into memory since

    # -- one entry ----------------------------------------------------------------------------------

    def read(self, entry: Any, map_key: Any) -> Any:
        """The value of an entry, or MISSING."""
        hot = self._of(entry)
        value = hot.entries.get(map_key, UNKNOWN)
        if value is UNKNOWN:
            value = MISSING
            if not hot.complete:
                stored = self.home.database.get(self._place(entry)[0] + part(map_key))
                if stored is not None:
                    value = unpack(stored)[0]
                hot.entries[map_key] = value
                self._more(1, value)
        return value

    def write(self, entry: Any, map_key: Any, value: Any) -> None:
        """Set an entry, or remove it with MISSING."""
        hot = self._of(entry)
        new = map_key not in hot.entries
        if new and value is MISSING and hot.complete:
            return
        hot.entries[map_key] = value
        hot.changed.add(map_key)
        self._dirty[entry] = hot
        if new:
            self._more(1, value)

    # -- a whole map --------------------------------------------------------------------------------

    def get(self, entry: Any, default: Any = None) -> Any:
        """All entries, as a new dict; the default where there is none."""
        hot = self._of(entry)
        found = hot.entries
        if not hot.complete:
            stored = self._stored(entry)
            found = stored | found
            if len(found) <= self._limit:  # a larger one stays where it is
                hot.entries, hot.complete = found, True
                self._more(len(stored), None)
        return {key: value for key, value in found.items() if value is not MISSING} or default

    def pop(self, entry: Any, default: Any = None) -> Any:
        """Remove all entries."""
        hot = self._of(entry)
        if not hot.complete:
            self._know_keys(entry, hot)
        for map_key, value in hot.entries.items():
            if value is not MISSING:
                hot.entries[map_key] = MISSING
                hot.changed.add(map_key)
        if hot.changed:
            self._dirty[entry] = hot
            self._more(0, None)
        return default

    def _know_keys(self, entry: Any, hot: _HotMap) -> None:
        """Let memory know which entries the database has, to be removed; or remove them there."""
        place, _, _ = self._place(entry)
        for number, (record, value) in enumerate(self.home.database.scan(place)):
            if number >= REMOVED_ONE_BY_ONE_MAX:
                batch = self.home.database.batch()
                batch.delete_range(place, after(place))
                self.home.database.write(batch)
                hot.entries.clear()
                hot.changed.clear()
                break
            map_key = self.layout.map_key(record, len(place), read_objects(value))
            hot.entries.setdefault(map_key, None)
        hot.complete = True

    def is_empty(self, entry: Any) -> bool:
        """Whether there is no entry."""
        hot = self._of(entry)
        if hot.complete or any(value is not MISSING for value in hot.entries.values()):
            return all(value is MISSING for value in hot.entries.values())
        place, _, _ = self._place(entry)
        return all(
            hot.entries.get(self.layout.map_key(record, len(place), read_objects(value))) is MISSING
            for record, value in self.home.database.scan(place)
        )

    def _stored(self, entry: Any) -> dict[Any, Any]:
        place, _, _ = self._place(entry)
        stored = {}
        for record, value in self.home.database.scan(place):
            held, objects = unpack(value)
            stored[self.layout.map_key(record, len(place), objects)] = held
        return stored

    def _of(self, entry: Any) -> _HotMap:
        hot = self._hot.get(entry)
        if hot is None:
            hot = self._older.pop(entry, None)
            if hot is None:
                hot = _HotMap(complete=not self.stored)
            self._hot[entry] = hot
            self._known += 1
        return hot

    def _more(self, entries: int, newest: Any) -> None:
        """There are more entries in memory: make room when they are too many."""
        self._known += entries
        if self._known >= self._check and not self._has_room(
            self._known, None if newest is MISSING else newest
        ):
            self.flush()
            self._hot, self._older, self._known = {}, self._hot, 0

    # -- what waits ---------------------------------------------------------------------------------

    def flush(self) -> None:
        if not self._dirty:
            return
        batch = self.home.database.batch()
        count = size = 0
        for entry, hot in self._dirty.items():
            place, key, namespace = self._place(entry)
            count += len(hot.changed)
            for map_key in hot.changed:
                value = hot.entries[map_key]
                record = place + part(map_key)
                if value is not MISSING:
                    data = self._pack(value, key, self.layout.objects(key, namespace, map_key))
                    size += len(record) + len(data)
                    batch.put(record, data)
                elif self.stored:
                    batch.delete(record)
        self.home.database.write(batch)
        self._written(count, size)
        for hot in self._dirty.values():
            hot.changed.clear()
            if hot.complete:
                hot.entries = hot.present()
        self._dirty = {}

    def forget(self) -> None:
        self._dirty, self._hot, self._older, self._known = {}, {}, {}, 0

    def waiting(self) -> list[Any]:
        return list(self._dirty)

    # -- what expires -------------------------------------------------------------------------------

    def expire_waiting(self, entry: Any, deadline: int) -> None:
        hot = self._dirty.get(entry)
        if hot is not None:
            for map_key in [key for key in hot.changed if _expired(hot.entries[key], deadline)]:
                hot.entries[map_key] = MISSING

    def expire_stored(self, records: list[tuple[bytes, bytes]], deadline: int) -> None:
        for record, value in records:
            held, objects = unpack(value)
            if held[1] > deadline:
                continue
            entry = self._entry(*self.layout.owner(record, objects))
            map_key = self.layout.map_key(record, self.layout.place_end(record), objects)
            hot = self._dirty.get(entry)
            if hot is None or map_key not in hot.changed:
                self.write(entry, map_key, MISSING)


def _expired(pair: Any, deadline: int) -> bool:
    return pair is not MISSING and pair[1] <= deadline
