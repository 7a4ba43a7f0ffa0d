"""``HotLists``: a state that holds a list for each key and namespace; the database has it in pieces.

What is added between two flushes becomes a piece, whose number is larger than those before: adding reads
nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmflow_state_rocksdb.encoding import unpack
from zmflow_state_rocksdb.layout import SEQUENCE_BYTES, StateLayout
from zmflow_state_rocksdb.table import StateTable, TableHome

__all__ = ["HotLists"]

PIECES_MAX = 16
"""A list in more pieces is written anew when it has been read, and changes."""


class _HotList:
    """What memory knows of one list."""

    __slots__ = ("complete", "elements", "pieces", "written")

    def __init__(self, *, complete: bool) -> None:
        self.elements: list[Any] = []
        self.complete = complete  # else elements are those behind the ones in the database
        self.written = 0  # so many of the elements are in the database
        self.pieces: list[bytes] | None = [] if complete else None  # their records; None: not known


class HotLists(StateTable):
    """Used as a dict of lists. What ``get`` returns must not be changed."""

    def __init__(self, layout: StateLayout, home: TableHome, key_groups: range) -> None:
        super().__init__(layout, home, key_groups)
        self._dirty: dict[Any, _HotList] = {}
        self._hot: dict[Any, _HotList] = {}  # those that were used lately; all that are dirty, too
        self._older: dict[Any, _HotList] = {}  # those that were hot before
        self._known = 0  # elements that came into memory since

    # -- as a dict ----------------------------------------------------------------------------------

    def append(self, entry: Any, values: Iterable[Any]) -> None:
        """Add elements at the end."""
        hot = self._of(entry)
        before = len(hot.elements)
        hot.elements.extend(values)
        added = len(hot.elements) - before
        if added:
            self._dirty[entry] = hot
            self._more(added, hot.elements[-1])

    def get(self, entry: Any, default: Any = None) -> Any:
        """The elements; the default where there are none."""
        return self._read(entry).elements or default

    def __setitem__(self, entry: Any, held: list[Any]) -> None:
        hot = self._of(entry)
        if hot.written or not hot.complete:
            self._unwrite(entry, hot)
        hot.elements, hot.complete = list(held), True
        self._dirty[entry] = hot
        self._more(len(held), held[-1] if held else None)

    def __delitem__(self, entry: Any) -> None:
        self[entry] = []

    def pop(self, entry: Any, default: Any = None) -> Any:
        """Forget the elements, and return them."""
        held = self._read(entry).elements
        if not held:
            return default
        self[entry] = []
        return held

    def _read(self, entry: Any) -> _HotList:
        """The list, all of it."""
        hot = self._of(entry)
        if not hot.complete:
            stored: list[Any] = []
            hot.pieces = []
            for record, value in self.home.database.scan(self._place(entry)[0]):
                stored += unpack(value)[0]
                hot.pieces.append(record)
            hot.elements = stored + hot.elements
            hot.written, hot.complete = len(stored), True
            if len(hot.pieces) > PIECES_MAX:
                hot.written = 0
            if stored:
                self._more(len(stored), stored[-1])
        return hot

    def _unwrite(self, entry: Any, hot: _HotList) -> None:
        """Nothing of the list in the database counts any more."""
        if hot.pieces is None:
            hot.pieces = [record for record, _ in self.home.database.scan(self._place(entry)[0])]
        hot.written = 0

    def _of(self, entry: Any) -> _HotList:
        hot = self._hot.get(entry)
        if hot is None:
            hot = self._older.pop(entry, None)
            if hot is None:
                hot = _HotList(complete=not self.stored)
            self._hot[entry] = hot
            self._known += 1
        return hot

    def _more(self, elements: int, newest: Any) -> None:
        """There are more elements in memory: make room when they are too many."""
        self._known += elements
        if self._known >= self._check and not self._has_room(self._known, newest):
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
            if not hot.written and hot.pieces:
                for piece in hot.pieces:
                    batch.delete(piece)
                hot.pieces = []
            added = hot.elements[hot.written :]
            if added:
                record = place + next(self.home.sequence).to_bytes(SEQUENCE_BYTES, "big")
                data = self._pack(added, key, self.layout.objects(key, namespace))
                count += len(added)
                size += len(record) + len(data)
                batch.put(record, data)
                if hot.pieces is not None:
                    hot.pieces.append(record)
            if hot.complete:
                hot.written = len(hot.elements)
            else:
                hot.elements = []
        self.home.database.write(batch)
        self._written(count, size)
        self._dirty = {}

    def forget(self) -> None:
        self._dirty, self._hot, self._older, self._known = {}, {}, {}, 0

    def waiting(self) -> list[Any]:
        return list(self._dirty)

    # -- what expires -------------------------------------------------------------------------------

    def expire_waiting(self, entry: Any, deadline: int) -> None:
        if entry in self._dirty:
            self._expire(entry, deadline)

    def expire_stored(self, records: list[tuple[bytes, bytes]], deadline: int) -> None:
        seen = b""
        for record, value in records:
            if seen and record.startswith(seen):
                continue
            pairs, objects = unpack(value)
            if any(pair[1] <= deadline for pair in pairs):
                seen = record[: self.layout.place_end(record)]
                self._expire(self._entry(*self.layout.owner(record, objects)), deadline)

    def _expire(self, entry: Any, deadline: int) -> None:
        elements = self._read(entry).elements
        living = [pair for pair in elements if pair[1] > deadline]
        if len(living) < len(elements):
            self[entry] = living
