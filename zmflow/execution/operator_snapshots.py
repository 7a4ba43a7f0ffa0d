"""What an operator puts into a checkpoint beside its state backend, and what it goes on from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from zmflow.state.chunks import KeyedChunk, group_snapshots
from zmflow.state.native_files import NativeRestore
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.snapshots import KeyGroupSnapshot

__all__ = ["RestoredOperator", "SnapshotContext"]


@dataclass(frozen=True, slots=True)
class RestoredOperator:
    """The state of an operator in the checkpoint it goes on from.

    Args:
        checkpoint_id: the checkpoint.
        keyed: what it holds for the key groups of this subtask.
        operator: the share of this subtask of the operator state.
        by_group: more of what it holds for keys, one list for each key group; it may be too much to be in
            memory at once.
        native: more of it, in files of the state backend.
    """

    checkpoint_id: int
    keyed: list[KeyedChunk] = field(default_factory=list)
    operator: list[OperatorStateSnapshot] = field(default_factory=list)
    by_group: Iterable[list[KeyedChunk]] = ()
    native: Sequence[NativeRestore] = ()

    def backend_state(self, groups: range, max_parallelism: int) -> Iterator[KeyGroupSnapshot]:
        """What the state backend held, one key group after the other."""
        yield from group_snapshots(self.keyed, groups, max_parallelism)
        for chunks in self.by_group:
            yield from group_snapshots(chunks, groups, max_parallelism)

    def of_kind(self, kind: str) -> list[KeyedChunk]:
        """The chunks of one kind."""
        return [chunk for chunk in self.keyed if chunk.kind == kind]


@dataclass(frozen=True, slots=True)
class SnapshotContext:
    """What ``StreamOperator.snapshot_state`` is given.

    Args:
        checkpoint_id: the checkpoint; later ones have larger numbers.
        triggered_wall_ms: when it was triggered.
        keyed: add to it what belongs to keys.
        operator: add to it what does not.
    """

    checkpoint_id: int
    triggered_wall_ms: int
    keyed: list[KeyedChunk] = field(default_factory=list)
    operator: list[OperatorStateSnapshot] = field(default_factory=list)

    def add_list(self, name: str, elements: Iterable[Any]) -> None:
        """Add elements that are dealt out among the subtasks when they are restored."""
        self.operator.append(OperatorStateSnapshot(name, OperatorStateMode.SPLIT, list(elements)))
