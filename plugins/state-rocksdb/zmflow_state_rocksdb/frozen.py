"""``FrozenDatabase``: what a backend held at one moment, read beside the task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from zmflow.state.backend import FrozenState
from zmflow.state.chunks import KeyedChunk
from zmflow_state_rocksdb.database import Reader, scan
from zmflow_state_rocksdb.encoding import PREFIX
from zmflow_state_rocksdb.layout import StateLayout

__all__ = ["FrozenDatabase", "FrozenLayout"]

CHUNK_SIZE_BYTES = 4 * 2**20
"""A key group with more becomes several chunks: each is in memory as a whole while it is written."""

FrozenLayout = tuple[StateLayout, bool, int | None]
"""A state; whether it is timed; what was last touched then or before is left out."""


class FrozenDatabase(FrozenState):
    """The state of all key groups.

    Args:
        reader: a snapshot of the database; None: there is no state.
        layouts: the states by their numbers.
    """

    def __init__(self, reader: Reader | None, layouts: Mapping[int, FrozenLayout]) -> None:
        self._reader = reader
        self._layouts = layouts

    def chunks(self) -> Iterator[KeyedChunk]:
        reader = self._reader
        if reader is None:
            return
        by_state = groupby(scan(reader, b""), lambda item: item[0][: PREFIX.size])
        for prefix, records in by_state:
            group, number = PREFIX.unpack(prefix)
            layout, timed, deadline = self._layouts[number]
            keys: list[Any] = []
            namespaces: list[Any] = []
            values: list[Any] = []
            size = 0
            for key, namespace, held, held_bytes in layout.entries(records, deadline):
                keys.append(key)
                namespaces.append(namespace)
                values.append(held)
                size += held_bytes
                if size >= CHUNK_SIZE_BYTES:
                    yield _chunk(layout, group, keys, namespaces, values, timed=timed)
                    keys, namespaces, values, size = [], [], [], 0
            if keys:
                yield _chunk(layout, group, keys, namespaces, values, timed=timed)

    def close(self) -> None:
        self._reader = None


def _chunk(
    layout: StateLayout, group: int, keys: list[Any], namespaces: list[Any], values: list[Any], *, timed: bool
) -> KeyedChunk:
    columns = namespaces if layout.namespaced else None
    return KeyedChunk(layout.name, layout.kind.value, group, group, keys, values, columns, timed)
