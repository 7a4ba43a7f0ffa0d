"""``StateTable``: one state of a backend: what of it is in memory, and how it gets into the database.

Python objects that are used stay in memory, and what is written reaches the database only when there is too
much of it, or when a snapshot is taken: a record that changes the state of a key that was used lately costs
no pickling and no call of the database. How much may stay follows from the memory there is and from what
entries were measured to take.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

from rocksdict import WriteBatch

from zmflow.errors import StateError
from zmflow.state.descriptors import StateDescriptor, StateKind
from zmflow.state.heap_states import Groups
from zmflow.state.snapshots import with_times, without_times
from zmflow_state_rocksdb.database import Database
from zmflow_state_rocksdb.encoding import pack, read_objects
from zmflow_state_rocksdb.layout import StateLayout
from zmflow_state_rocksdb.sweep import SweptExpiry

__all__ = ["UNKNOWN", "StateTable", "TableHome"]

UNKNOWN: Any = object()
"""Stands for what memory does not know; it may be in the database."""

ENTRIES_MAX = 2**14
"""Most entries of a state that wait to be written: writing them takes some 30 ms, and so long a checkpoint
may hold a task up."""

ENTRIES_MIN = 16

CHECKED_EVERY = 64
"""So many new entries wait between two looks at how large they are."""

GENERATIONS = 3
"""In memory are entries that wait, those used lately, and those used before: each as many as may wait."""

ENTRY_BYTES = 250
"""What a Python object, its key and their places in dicts take at least."""

OBJECT_FACTOR = 3
"""How much larger Python objects are than their bytes in the database."""


class TableHome:
    """What the tables of a backend share.

    Args:
        database: where they write.
        group_of: the key group of a key.
        objects_bytes: how much memory all of them may use.
    """

    def __init__(
        self, database: Database, group_of: Callable[[Any], int], objects_bytes: Callable[[], int]
    ) -> None:
        self.database = database
        self.group_of = group_of
        self.objects_bytes = objects_bytes
        self.tables = 0
        self.sequence = itertools.count()  # numbers the pieces of all lists: nobody must look for the last


class StateTable(ABC):
    """What the kinds of state share. State objects use it as they use a dict of the heap.

    Args:
        layout: the state.
        home: where it lives.
    """

    def __init__(self, layout: StateLayout, home: TableHome, key_groups: range) -> None:
        self.layout = layout
        self.expiry: SweptExpiry | None = None
        self.timed: bool | None = None  # not known before something is restored or declared
        self.stored = False  # whether any of it may be in the database
        self.home = home
        # A key has one entry, whatever its group: there is one table. What has no current key has no group.
        self.groups = Groups(dict.fromkeys(key_groups, self))  # type: ignore[arg-type]
        self._declared = False
        self._entry_bytes = ENTRY_BYTES
        self._limit = CHECKED_EVERY
        self._check = CHECKED_EVERY
        home.tables += 1

    # -- what a state is ----------------------------------------------------------------------------

    def declare(self, descriptor: StateDescriptor, processing_time: Callable[[], int]) -> None:
        """A function declares the state."""
        self.check_kind(descriptor.kind)
        config = descriptor.ttl_config
        if self._declared and config != (self.expiry and self.expiry.config):
            raise StateError(
                f"The state {descriptor.name!r} is declared twice, with different times to live.",
                hint="Use one descriptor, or give one of the two states another name.",
            )
        self._declared = True
        if config is not None and self.expiry is None:
            self.expiry = SweptExpiry(config, self, processing_time)
        timed = config is not None
        if self.timed is not None and self.timed != timed:
            self._rewrite(timed, processing_time())
        self.timed = timed

    def check_kind(self, kind: StateKind) -> None:
        """Refuse another kind than the state has."""
        if kind is not self.layout.kind:
            raise StateError(
                f"The state {self.layout.name!r} is of kind {self.layout.kind.value}, not {kind.value}.",
                hint="Give one of the two another name: a name stands for one state.",
            )

    def deadline_of_snapshots(self) -> int | None:
        """What was last touched then or before is not in snapshots; None: all is."""
        expiry = self.expiry
        return expiry.deadline() if expiry is not None and expiry.in_snapshots else None

    def restore(
        self, batch: WriteBatch, group: int, entry: tuple[Any, Any, Any], timed: bool, now: int
    ) -> None:
        """Write an entry of a snapshot."""
        for record, value in self._records(group, entry, timed, now):
            batch.put(record, value)

    def taken_over(
        self, layout: StateLayout, timed: bool, group: int, records: Iterator[tuple[bytes, bytes]], now: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """What records of the same state in another database are in this one.

        Args:
            layout: of the state there.
            timed: whether it expires there.
        """
        self.timed = timed if self.timed is None else self.timed
        if self.timed == timed:
            prefix = self.layout.group(group)
            for record, value in records:
                self.stored = True
                yield prefix + record[len(prefix) :], value
            return
        for key, namespace, held, _ in layout.entries(records):
            yield from self._records(group, (key, namespace, held), timed, now)

    def _records(
        self, group: int, entry: tuple[Any, Any, Any], timed: bool, now: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """The records of an entry of a snapshot."""
        key, namespace, held = entry
        if self.timed is None:
            self.timed = timed
        if timed and not self.timed:
            held = without_times(self.layout.kind, held)
        elif self.timed and not timed:
            held = with_times(self.layout.kind, held, now)
        self.stored = True
        yield from self.layout.records(group, key, namespace, held, next(self.home.sequence))

    def _rewrite(self, timed: bool, now: int) -> None:
        """What was restored had expiry where the state has none now, or the other way round."""
        self.flush()
        self.forget()
        layout, database = self.layout, self.home.database
        for group in self.groups:
            batch = database.batch()
            for key, namespace, held, _ in layout.entries(database.scan(layout.group(group))):
                changed = with_times(layout.kind, held, now) if timed else without_times(layout.kind, held)
                place = layout.place(group, key, namespace)
                for record, _ in database.scan(place) if layout.kind is StateKind.LIST else ():
                    batch.delete(record)
                for record, value in layout.records(group, key, namespace, changed, next(self.home.sequence)):
                    batch.put(record, value)
            database.write(batch)

    # -- what waits to be written -------------------------------------------------------------------

    @abstractmethod
    def flush(self) -> None:
        """Write what waits."""

    @abstractmethod
    def forget(self) -> None:
        """Forget what is in memory; nothing waits."""

    @abstractmethod
    def waiting(self) -> list[Any]:
        """The entries that wait."""

    @abstractmethod
    def expire_waiting(self, entry: Any, deadline: int) -> None:
        """Remove what has expired of an entry, if it still waits."""

    @abstractmethod
    def expire_stored(self, records: list[tuple[bytes, bytes]], deadline: int) -> None:
        """Remove what has expired of records, where nothing newer waits."""

    def _entry(self, key: Any, namespace: Any) -> Any:
        return (key, namespace) if self.layout.namespaced else key

    def _place(self, entry: Any) -> tuple[bytes, Any, Any]:
        """Where an entry is in the database, its key and its namespace."""
        key, namespace = entry if self.layout.namespaced else (entry, None)
        return self.layout.place(self.home.group_of(key), key, namespace), key, namespace

    def _pack(self, held: Any, key: Any, objects: tuple[Any, ...] | None) -> bytes:
        try:
            return pack(held, objects)
        except Exception as error:
            raise StateError(
                f"The state {self.layout.name!r} cannot be written for the key {key!r:.80}: {error}",
                hint="Keep plain data in state: numbers, text, tuples, lists, dicts, dataclasses.",
            ) from error

    def _has_room(self, waiting: int, newest: Any) -> bool:
        """Whether so many entries may wait, by what the newest takes. Decides when to ask next."""
        if waiting < self._limit:
            try:
                size = ENTRY_BYTES + OBJECT_FACTOR * len(pack(newest, None))
            except Exception:  # noqa: BLE001 - it is said with the key when it is written
                return False
            if waiting * size < self._share():
                self._check = min(waiting + CHECKED_EVERY, self._limit)
                return True
        return False

    def _written(self, entries: int, size_bytes: int) -> None:
        """So many entries were written: decide how many may be in memory from now on."""
        self.stored = True
        measured = ENTRY_BYTES + OBJECT_FACTOR * size_bytes // max(1, entries)
        self._entry_bytes = (self._entry_bytes + measured) // 2
        self._limit = max(ENTRIES_MIN, min(ENTRIES_MAX, self._share() // self._entry_bytes))
        self._check = min(CHECKED_EVERY, self._limit)

    def _share(self) -> int:
        """Bytes for one generation of this table."""
        return self.home.objects_bytes() // (self.home.tables * GENERATIONS)

    def keys(self, group: int, namespace: Any) -> Iterator[Any]:
        """The keys that hold something in a key group. Nothing waits."""
        layout = self.layout
        last = b""
        for record, value in self.home.database.scan(layout.group(group)):
            if last and record.startswith(last):
                continue
            last = record[: layout.place_end(record)]
            key, of_key = layout.owner(record, read_objects(value))
            if of_key == namespace:
                yield key
