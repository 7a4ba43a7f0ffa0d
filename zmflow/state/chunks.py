"""``KeyedChunk``: entries of keyed state in columns, as they are written to a checkpoint and read from it.

A chunk holds what some key groups have in one state: those of one group, or of all groups of a subtask where
sorting entries by group would cost more than they are worth. Readers that want other groups filter by key.

Beside states there are chunks of what operators keep by key themselves: timers, panes of windows, the
running values of ``reduce``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from zmflow.state.descriptors import StateKind
from zmflow.state.keys import key_group
from zmflow.state.operator_state import OperatorStateSnapshot
from zmflow.state.snapshots import KeyGroupSnapshot, StateSnapshot

if TYPE_CHECKING:
    from zmflow.state.pickled_chunks import PickledChunk

__all__ = [
    "BLOCK_ENTRIES",
    "STATE_KINDS",
    "KeyedChunk",
    "OperatorSnapshot",
    "chunks_of_group",
    "group_snapshots",
]

BLOCK_ENTRIES = 1024
"""Entries that are pickled at once. 500,000 pairs by text took 50 ms in blocks of 512 to 4096, a quarter more
in larger ones, which leave the cache of the processor; small ones cost more in Python."""

STATE_KINDS = frozenset(kind.value for kind in StateKind)
"""The kinds of chunks that are a state backend's."""


@dataclass(frozen=True, slots=True)
class KeyedChunk:
    """Entries of key groups ``first_group`` to ``last_group``, both included, as parallel columns.

    Args:
        name: of the state.
        kind: a value of ``StateKind``, or what an operator calls something of its own.
        namespaces: one for each key; None where the state has none.
        timed: whether values stand beside times: the state expires.
        watermark_ms: how far event time was, where what is kept depends on it.
    """

    name: str
    kind: str
    first_group: int
    last_group: int
    keys: list[Any]
    values: list[Any]
    namespaces: list[Any] | None = None
    timed: bool = False
    watermark_ms: int | None = None

    def within(self, groups: range, max_parallelism: int) -> KeyedChunk:
        """The part of it that is in these key groups.

        >>> KeyedChunk("n", "value", 0, 127, ["a", "b"], [1, 2]).within(range(0, 128), 128).keys
        ['a', 'b']
        """
        if self.first_group >= groups.start and self.last_group < groups.stop:
            return self
        kept = [at for at, key in enumerate(self.keys) if key_group(key, max_parallelism) in groups]
        return KeyedChunk(
            self.name,
            self.kind,
            max(self.first_group, groups.start),
            min(self.last_group, groups.stop - 1),
            [self.keys[at] for at in kept],
            [self.values[at] for at in kept],
            None if self.namespaces is None else [self.namespaces[at] for at in kept],
            self.timed,
            self.watermark_ms,
        )

    def is_like(self, other: KeyedChunk) -> bool:
        """Whether the two are parts of the same: one state, in the same key groups."""
        return (
            self.name == other.name
            and self.kind == other.kind
            and self.first_group == other.first_group
            and self.last_group == other.last_group
            and (self.namespaces is None) == (other.namespaces is None)
            and self.timed == other.timed
            and self.watermark_ms == other.watermark_ms
        )

    def blocks(self) -> Iterator[KeyedChunk]:
        """It in parts of at most ``BLOCK_ENTRIES``; none if it is empty."""
        if 0 < len(self.keys) <= BLOCK_ENTRIES:
            yield self
            return
        for begin in range(0, len(self.keys), BLOCK_ENTRIES):
            part = slice(begin, begin + BLOCK_ENTRIES)
            yield replace(
                self,
                keys=self.keys[part],
                values=self.values[part],
                namespaces=None if self.namespaces is None else self.namespaces[part],
            )

    def entries(self) -> Iterator[tuple[Any, Any, Any]]:
        """Key, namespace (None without) and value."""
        namespaces = [None] * len(self.keys) if self.namespaces is None else self.namespaces
        return zip(self.keys, namespaces, self.values, strict=True)


@dataclass(frozen=True, slots=True)
class OperatorSnapshot:
    """All state of one operator of a subtask. ``keyed`` is read once."""

    operator_id: str
    keyed: Iterable[KeyedChunk | PickledChunk]
    operator: list[OperatorStateSnapshot]


def chunks_of_group(snapshot: KeyGroupSnapshot) -> list[KeyedChunk]:
    """What a backend says a key group holds, as chunks."""
    chunks = []
    for state in snapshot.states:
        keys, namespaces, values = map(list, zip(*state.entries, strict=True))
        chunks.append(
            KeyedChunk(
                state.name,
                state.kind.value,
                snapshot.group,
                snapshot.group,
                keys,
                values,
                namespaces if state.namespaced else None,
                state.timed,
            )
        )
    return chunks


def group_snapshots(
    chunks: Iterable[KeyedChunk], groups: range, max_parallelism: int
) -> Iterator[KeyGroupSnapshot]:
    """What to restore each key group of a backend from; groups without state are left out.

    Chunks that are no backend's state are left out, too.
    """
    by_group: dict[int, dict[tuple[str, str, bool, bool], list[tuple[Any, Any, Any]]]] = {}
    for chunk in chunks:
        if chunk.kind not in STATE_KINDS:
            continue
        identity = (chunk.name, chunk.kind, chunk.namespaces is not None, chunk.timed)
        if chunk.first_group == chunk.last_group:
            if chunk.first_group in groups:
                of_group = by_group.setdefault(chunk.first_group, {})
                of_group.setdefault(identity, []).extend(chunk.entries())
            continue
        for entry in chunk.entries():
            group = key_group(entry[0], max_parallelism)
            if group in groups:
                by_group.setdefault(group, {}).setdefault(identity, []).append(entry)
    for group in sorted(by_group):
        states = tuple(
            StateSnapshot(name, StateKind(kind), namespaced, timed, entries)
            for (name, kind, namespaced, timed), entries in by_group[group].items()
        )
        yield KeyGroupSnapshot(group, states)
