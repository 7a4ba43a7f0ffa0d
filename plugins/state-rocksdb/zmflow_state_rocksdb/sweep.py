"""``SweptExpiry``: finds what has expired and nobody reads, in the database."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from zmflow.state.expiry import Expiry
from zmflow.state.heap_states import Groups
from zmflow.state.ttl import StateTtlConfig
from zmflow_state_rocksdb.encoding import PREFIX

if TYPE_CHECKING:
    from zmflow_state_rocksdb.table import StateTable

__all__ = ["SweptExpiry"]

ENTRIES_AT_ONCE = 64
"""Finding the place to go on from costs as much as reading some ten entries: accesses are saved up for it."""

ENTRIES_PER_ACCESS = 5
"""Where cleaning up is left to the compaction filter, which this database cannot be given: Flink's number for
the heap."""


class SweptExpiry(Expiry):
    """When entries of a state in the database expire.

    It walks over what waits to be written, then over the database, key group by key group, for ever.

    Args:
        config: as the descriptor has it.
        table: the state.
        processing_time: the clock.
    """

    def __init__(self, config: StateTtlConfig, table: StateTable, processing_time: Callable[[], int]) -> None:
        super().__init__(config, table.layout.kind, Groups(), processing_time)
        if config.cleanup_strategies.get_rocksdb_compact_filter_cleanup_strategy() is not None:
            self.entries_per_access = self.entries_per_access or ENTRIES_PER_ACCESS
        self._swept = table
        self._saved_up = 0
        self._waiting: list[Any] = []
        self._position: bytes | None = None  # None: with what waits

    def sweep(self, deadline: int) -> None:
        self._saved_up += self.entries_per_access
        if self._saved_up < ENTRIES_AT_ONCE:
            return
        ahead, self._saved_up = self._saved_up, 0
        while ahead > 0:
            ahead -= 1 + (
                self._sweep_waiting(ahead, deadline)
                if self._position is None
                else self._sweep_stored(self._position, ahead, deadline)
            )

    def _sweep_waiting(self, most: int, deadline: int) -> int:
        table = self._swept
        waiting = self._waiting = self._waiting or table.waiting()
        seen, self._waiting = waiting[:most], waiting[most:]
        for entry in seen:
            table.expire_waiting(entry, deadline)
        if not self._waiting and table.stored:
            self._position = b""
        return len(seen)

    def _sweep_stored(self, position: bytes, most: int, deadline: int) -> int:
        """Look at records from a position on, in one key group."""
        table = self._swept
        number = table.layout.number
        first = next(table.home.database.scan(b"", position or PREFIX.pack(0, number)), None)
        if first is None:
            self._position = None  # the end: begin anew
            return 0
        group, state = PREFIX.unpack_from(first[0])
        if state != number:
            # The first record of this state is in this group at the earliest, or in the next one.
            group += state > number
            self._position = None if group >= 2**16 else PREFIX.pack(group, number)
            return 0
        found = list(islice(table.home.database.scan(PREFIX.pack(group, number), first[0]), most))
        table.expire_stored(found, deadline)
        self._position = found[-1][0] + b"\0"
        return len(found)
