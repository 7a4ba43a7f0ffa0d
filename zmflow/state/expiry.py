"""When entries of a state on the heap expire, and how those that nobody reads are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.state.descriptors import StateKind
from zmflow.state.heap_states import MISSING, Groups
from zmflow.state.ttl import StateTtlConfig

__all__ = ["Expiry"]


class Expiry:
    """The time to live of one state, for all objects that stand for it.

    Cleaning up walks over the entries of one key group after the other, for ever, a few entries at a time.
    The walk takes a list of a group's entries when it comes to it: that costs one reference for each entry of
    one group, and entries may come and go meanwhile.

    Args:
        config: as the descriptor has it.
        kind: of the state.
        groups: its dicts.
        processing_time: the clock.
    """

    def __init__(
        self, config: StateTtlConfig, kind: StateKind, groups: Groups, processing_time: Callable[[], int]
    ) -> None:
        self.config = config
        self.on_read = config.update_type is StateTtlConfig.UpdateType.OnReadAndWrite
        self.returns_expired = (
            config.state_visibility is StateTtlConfig.StateVisibility.ReturnExpiredIfNotCleanedUp
        )
        self.in_snapshots = config.cleanup_strategies.full_snapshot
        self.for_every_record = config.cleanup_strategies.for_every_record
        self.entries_per_access = config.cleanup_strategies.entries_per_access
        self._kind = kind
        self._is_single = kind not in (StateKind.LIST, StateKind.MAP)
        self._groups = groups
        self._processing_time = processing_time
        self._entries: list[Any] = []
        self._table: dict[Any, Any] = {}
        self._groups_ahead: list[int] = []

    def deadline(self) -> int:
        """What was last touched at this time or before has expired."""
        return self._processing_time() - self.config.ttl_ms

    def access(self) -> int:
        """The state is used: clean up a little; returns the time."""
        now = self._processing_time()
        if self.entries_per_access:
            self.sweep(now - self.config.ttl_ms)
        return now

    def clean_up(self) -> None:
        """Look at the next few entries, and remove what has expired in them."""
        self.sweep(self.deadline())

    def sweep(self, deadline: int) -> None:
        """Look at the next few entries for what was last touched then or before."""
        entries, table = self._entries, self._table
        for _ in range(self.entries_per_access):
            if not entries:
                # Coming to the next group counts as an entry, or a state of empty groups would be walked over
                # as a whole.
                self._groups_ahead = self._groups_ahead or sorted(self._groups, reverse=True)
                table = self._table = self._groups[self._groups_ahead.pop()]
                entries = self._entries = list(table)
                continue
            entry = entries.pop()
            held = table.get(entry, MISSING)
            if held is MISSING:
                continue
            living = self.living(held, deadline)
            if living is MISSING:
                del table[entry]
            elif living is not held:
                table[entry] = living

    def living(self, held: Any, deadline: int) -> Any:
        """What an entry holds without what has expired: the same object where nothing has, MISSING where
        all has."""
        if self._is_single:
            return held if held[1] > deadline else MISSING
        if self._kind is StateKind.LIST:
            elements = [pair for pair in held if pair[1] > deadline]
            return held if len(elements) == len(held) else elements or MISSING
        entries = {key: pair for key, pair in held.items() if pair[1] > deadline}
        return held if len(entries) == len(held) else entries or MISSING
