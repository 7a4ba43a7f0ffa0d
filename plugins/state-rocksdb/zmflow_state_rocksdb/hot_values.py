"""``HotValues``: a state that holds one object for each key and namespace: value, reducing, aggregating."""

from __future__ import annotations

from typing import Any

from zmflow.state.heap_states import MISSING
from zmflow_state_rocksdb.encoding import unpack
from zmflow_state_rocksdb.layout import StateLayout
from zmflow_state_rocksdb.table import UNKNOWN, StateTable, TableHome

__all__ = ["HotValues"]


class HotValues(StateTable):
    """Used as a dict of objects by key, or by key and namespace. MISSING stands for what is not there."""

    def __init__(self, layout: StateLayout, home: TableHome, key_groups: range) -> None:
        super().__init__(layout, home, key_groups)
        self._dirty: dict[Any, Any] = {}
        self._clean: dict[Any, Any] = {}  # read, or written to the database, lately
        self._older: dict[Any, Any] = {}  # what was clean before that

    # -- as a dict ----------------------------------------------------------------------------------

    def get(self, entry: Any, default: Any = None) -> Any:
        """What is held, or the default."""
        held = self._dirty.get(entry, UNKNOWN)
        if held is UNKNOWN:
            held = self._clean.get(entry, UNKNOWN)
            if held is UNKNOWN:
                held = self._fetched(entry)
        return default if held is MISSING else held

    def __setitem__(self, entry: Any, held: Any) -> None:
        self._dirty[entry] = held
        if len(self._dirty) >= self._check:
            self._make_room(held)

    def __delitem__(self, entry: Any) -> None:
        self[entry] = MISSING

    def pop(self, entry: Any, default: Any = None) -> Any:
        """Forget what is held, and return it."""
        held = self.get(entry, MISSING)
        if held is MISSING:
            return default
        self[entry] = MISSING
        return held

    def _fetched(self, entry: Any) -> Any:
        held = self._older.pop(entry, UNKNOWN)
        if held is UNKNOWN:
            held = MISSING
            if self.stored:
                value = self.home.database.get(self._place(entry)[0])
                if value is not None:
                    held = unpack(value)[0]
        self._clean[entry] = held
        if len(self._clean) >= self._limit:
            self._clean, self._older = {}, self._clean
        return held

    def _make_room(self, newest: Any) -> None:
        if not self._has_room(len(self._dirty), None if newest is MISSING else newest):
            self.flush()

    # -- what waits ---------------------------------------------------------------------------------

    def flush(self) -> None:
        dirty = self._dirty
        if not dirty:
            return
        batch = self.home.database.batch()
        size = 0
        for entry, held in dirty.items():
            place, key, namespace = self._place(entry)
            if held is not MISSING:
                value = self._pack(held, key, self.layout.objects(key, namespace))
                size += len(place) + len(value)
                batch.put(place, value)
            elif self.stored:
                batch.delete(place)
        self.home.database.write(batch)
        self._written(len(dirty), size)
        self._dirty = {}
        self._clean.update(dirty)
        if len(self._clean) >= self._limit:
            self._clean, self._older = {}, self._clean

    def forget(self) -> None:
        self._dirty, self._clean, self._older = {}, {}, {}

    def waiting(self) -> list[Any]:
        return list(self._dirty)

    # -- what expires -------------------------------------------------------------------------------

    def expire_waiting(self, entry: Any, deadline: int) -> None:
        held = self._dirty.get(entry, MISSING)
        if held is not MISSING and held[1] <= deadline:
            self[entry] = MISSING

    def expire_stored(self, records: list[tuple[bytes, bytes]], deadline: int) -> None:
        for record, value in records:
            held, objects = unpack(value)
            if held[1] <= deadline:
                entry = self._entry(*self.layout.owner(record, objects))
                if entry not in self._dirty:
                    self[entry] = MISSING
