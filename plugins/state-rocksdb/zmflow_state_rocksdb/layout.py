"""``StateLayout``: where one state is in the database, and what its records mean."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from zmflow.state.descriptors import StateKind
from zmflow_state_rocksdb.encoding import PREFIX, pack, part, read_part, recoverable, skip_part, unpack

__all__ = ["SEQUENCE_BYTES", "StateLayout"]

SEQUENCE_BYTES = 8
"""Size of the number of a piece of a list."""


@dataclass(frozen=True, slots=True)
class StateLayout:
    """One state of a backend.

    Args:
        number: stands for the state in keys of the database.
        name: of the state.
        kind: of the state.
        namespaced: whether it has namespaces.
    """

    number: int
    name: str
    kind: StateKind
    namespaced: bool

    def group(self, group: int) -> bytes:
        """What all keys of a key group begin with."""
        return PREFIX.pack(group, self.number)

    def place(self, group: int, key: Any, namespace: Any) -> bytes:
        """What all that a key and a namespace hold begins with."""
        begin = PREFIX.pack(group, self.number) + part(key)
        return begin + part(namespace) if self.namespaced else begin

    def place_end(self, record: bytes) -> int:
        """How long the place is that a record belongs to."""
        end = skip_part(record, PREFIX.size)
        return skip_part(record, end) if self.namespaced else end

    def owner(self, record: bytes, objects: tuple[Any, ...] | None) -> tuple[Any, Any]:
        """Key and namespace of a record."""
        if objects is not None:
            return objects[0], objects[1]
        key, end = read_part(record, PREFIX.size)
        return key, read_part(record, end)[0] if self.namespaced else None

    def objects(self, key: Any, namespace: Any, map_key: Any = None) -> tuple[Any, Any, Any] | None:
        """What has to be kept beside a value, because its record does not say it."""
        if recoverable(key) and recoverable(namespace) and recoverable(map_key):
            return None
        return key, namespace, map_key

    def map_key(self, record: bytes, end: int, objects: tuple[Any, ...] | None) -> Any:
        """The key of an entry of a map, behind the place."""
        return read_part(record, end)[0] if objects is None else objects[2]

    def entries(
        self, records: Iterable[tuple[bytes, bytes]], deadline: int | None = None
    ) -> Iterator[tuple[Any, Any, Any, int]]:
        """Key, namespace, what is held for the two, and its size in bytes.

        Args:
            records: of this state, in order.
            deadline: what was last touched then or before is left out.
        """
        if self.kind not in (StateKind.LIST, StateKind.MAP):
            for record, value in records:
                held, objects = unpack(value)
                if deadline is None or held[1] > deadline:
                    yield *self.owner(record, objects), held, len(record) + len(value)
            return
        place = b""
        content: Any = None
        owner: tuple[Any, Any] = (None, None)
        size = 0
        for record, value in records:
            held, objects = unpack(value)
            if not place or not record.startswith(place):
                if content:
                    yield *owner, content, size
                place, size = record[: self.place_end(record)], 0
                owner = self.owner(record, objects)
                content = [] if self.kind is StateKind.LIST else {}
            size += len(record) + len(value)
            if self.kind is StateKind.LIST:
                content += held if deadline is None else [pair for pair in held if pair[1] > deadline]
            elif deadline is None or held[1] > deadline:
                content[self.map_key(record, len(place), objects)] = held
        if content:
            yield *owner, content, size

    def records(
        self, group: int, key: Any, namespace: Any, held: Any, sequence: int
    ) -> Iterator[tuple[bytes, bytes]]:
        """The records of what a key and a namespace hold.

        Args:
            group: of the key.
            key: the key.
            namespace: None where the state has none.
            held: as it is in snapshots.
            sequence: the number of the piece that a list becomes.
        """
        place = self.place(group, key, namespace)
        if self.kind is StateKind.MAP:
            for map_key, value in held.items():
                yield place + part(map_key), pack(value, self.objects(key, namespace, map_key))
            return
        if self.kind is StateKind.LIST:
            place += sequence.to_bytes(SEQUENCE_BYTES, "big")
        yield place, pack(held, self.objects(key, namespace))
