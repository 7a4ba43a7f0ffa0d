"""``ChainState``: everything in a chain that is part of a checkpoint, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from zmflow.api.functions import RuntimeContext
from zmflow.execution.operator_snapshots import RestoredOperator, SnapshotContext
from zmflow.execution.stream_operator import StreamOperator
from zmflow.graph.job_graph import ChainSpec
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.function_states import FunctionStates
from zmflow.state.keys import key_group_range
from zmflow.state.pickled_chunks import GrowingChunks, PickledChunk

if TYPE_CHECKING:
    from zmflow.state.backend import Frozen, KeyedStateBackend

__all__ = ["VALUES", "ChainState", "PreparedSnapshot", "SnapshotPart"]

VALUES = "reduce"
"""The kind of chunk that holds the running value of each key of a ``reduce``, ``sum`` and the like."""

SnapshotPart = Callable[[SnapshotContext], None]
"""Adds to the snapshot of an operator."""


@dataclass(frozen=True, slots=True)
class PreparedSnapshot:
    """A snapshot without its data, by node; but with what is frozen of it."""

    contexts: dict[int, SnapshotContext]
    frozen: dict[int, list[Frozen]]
    unfrozen: list[tuple[int, KeyedStateBackend]]

    def close(self) -> None:
        """Give back what is frozen: there will be no snapshot."""
        for states in self.frozen.values():
            for state in states:
                state.close()


class ChainState:
    """The state of a chain's operators.

    Args:
        spec: the chain.
        context: where it runs.
        restored: what an operator goes on from, by its id.
    """

    def __init__(
        self, spec: ChainSpec, context: RuntimeContext, restored: Callable[[str], RestoredOperator | None]
    ) -> None:
        self._ids = [node.operator_id for node in spec.nodes]
        self._groups = key_group_range(context.subtask_index, context.max_parallelism, context.parallelism)
        self._find = restored
        self._restored: dict[int, RestoredOperator | None] = {}
        self._functions: dict[int, FunctionStates] = {}
        self._parts: dict[int, list[SnapshotPart]] = {}
        self._data: dict[int, list[SnapshotPart]] = {}
        self._counts: list[Callable[[], int]] = []
        self._backends: list[tuple[int, KeyedStateBackend]] = []
        self._values: list[tuple[int, GrowingChunks]] = []

    def restored(self, index: int) -> RestoredOperator | None:
        """What the operator of a node goes on from."""
        if index not in self._restored:
            self._restored[index] = self._find(self._ids[index])
        return self._restored[index]

    def functions(self, index: int) -> FunctionStates:
        """The operator state of a node, and its functions that take part in checkpoints."""
        functions = self._functions.get(index)
        if functions is None:
            restored = self.restored(index)
            functions = self._functions[index] = (
                FunctionStates()
                if restored is None
                else FunctionStates(restored.operator, restored.checkpoint_id)
            )
        return functions

    # -- what there is ------------------------------------------------------------------------------

    def add_part(self, index: int, part: SnapshotPart) -> None:
        """Something of a node that may do more than look when it is asked: always in the task."""
        self._parts.setdefault(index, []).append(part)

    def _add_data(self, index: int, part: SnapshotPart, entries: Callable[[], int]) -> None:
        """Data of a node: it is only looked at, so another process that has a copy of it can do that."""
        self._data.setdefault(index, []).append(part)
        self._counts.append(entries)

    def keep_operator(self, index: int, operator: StreamOperator) -> None:
        """A node is an operator with state of its own."""
        self._add_data(index, operator.snapshot_state, operator.state_entries)

    def keep_backend(self, index: int, backend: KeyedStateBackend) -> None:
        """A node has keyed state."""
        self._backends.append((index, backend))
        self._data.setdefault(index, [])
        self._counts.append(backend.entry_count)

    def keep_values(self, index: int, values: dict[Any, Any]) -> None:
        """A node keeps one value for each key, and never removes a key: fill in what was restored."""
        restored = self.restored(index)
        if restored is not None:
            for chunk in restored.of_kind(VALUES):
                values.update(zip(chunk.keys, chunk.values, strict=True))
        first, last = self._groups.start, self._groups.stop - 1
        # Not by key group: that would hash every key, which takes twenty times as long as writing it.
        of = KeyedChunk(VALUES, VALUES, first, last, [], [])
        self._values.append((index, GrowingChunks(of, values)))
        self._data.setdefault(index, [])
        self._counts.append(values.__len__)

    @property
    def has_listeners(self) -> bool:
        """Whether a function wants to know of complete checkpoints."""
        return any(functions.has_listeners for functions in self._functions.values())

    @property
    def entries(self) -> int:
        """About how many entries a snapshot has: how long it takes goes by that."""
        return sum(count() for count in self._counts)

    # -- checkpoints --------------------------------------------------------------------------------

    def prepare(self, checkpoint_id: int, triggered_wall_ms: int, *, files: bool = False) -> PreparedSnapshot:
        """Ask the functions and sinks for what they hold; the data is left for ``collect``.

        Args:
            files: state backends may freeze their state as files.
        """
        contexts = {}
        for index in sorted({*self._parts, *self._data, *self._functions}):
            context = contexts[index] = SnapshotContext(checkpoint_id, triggered_wall_ms)
            for part in self._parts.get(index, ()):
                part(context)
            if index in self._functions:
                context.operator.extend(self._functions[index].snapshot(checkpoint_id, triggered_wall_ms))
        prepared = PreparedSnapshot(contexts, {}, [])
        try:
            for index, backend in self._backends:
                frozen: Frozen | None = backend.freeze_files() if files else None
                frozen = frozen or backend.freeze()
                if frozen is None:
                    prepared.unfrozen.append((index, backend))
                else:
                    prepared.frozen.setdefault(index, []).append(frozen)
        except BaseException:
            prepared.close()
            raise
        return prepared

    def collect(self, prepared: PreparedSnapshot) -> Iterator[OperatorSnapshot]:
        """The state of all operators but what is frozen, as the program's own objects, each part when it is
        asked for: to be pickled before they change."""
        for index, context in prepared.contexts.items():
            for part in self._data.get(index, ()):
                part(context)
            keyed = chain(context.keyed, self._keyed(index, prepared.unfrozen))
            yield OperatorSnapshot(self._ids[index], keyed, context.operator)

    def _keyed(
        self, index: int, backends: list[tuple[int, KeyedStateBackend]]
    ) -> Iterator[KeyedChunk | PickledChunk]:
        """What a node has in its backend, and its running values."""
        for owner, backend in backends:
            if owner == index:
                for group in backend.key_groups:
                    yield from backend.chunks(group)
        for owner, values in self._values:
            if owner == index:
                yield from values.pickled()

    def frozen(self, prepared: PreparedSnapshot) -> list[tuple[str, Frozen]]:
        """What is frozen, by operator id."""
        return [(self._ids[index], state) for index, states in prepared.frozen.items() for state in states]

    def completed(self, checkpoint_id: int) -> None:
        """Tell the functions that want to know."""
        for functions in self._functions.values():
            functions.completed(checkpoint_id)

    def aborted(self, checkpoint_id: int) -> None:
        """Tell the functions that want to know."""
        for functions in self._functions.values():
            functions.aborted(checkpoint_id)
