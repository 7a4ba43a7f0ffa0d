"""``FunctionStates``: the operator state of one operator, and its functions that take part in checkpoints."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zmflow.state.backend import KeyedStateBackend
from zmflow.state.checkpointed_function import (
    CheckpointedFunction,
    CheckpointListener,
    FunctionInitializationContext,
    FunctionSnapshotContext,
)
from zmflow.state.keyed_state_store import KeyedStateStore
from zmflow.state.operator_state import OperatorStateSnapshot, OperatorStateStore

__all__ = ["FunctionStates"]


class FunctionStates:
    """One per operator and subtask.

    Args:
        restored: the operator state this subtask got.
        restored_checkpoint_id: of which checkpoint; None where the job begins anew.
    """

    def __init__(
        self, restored: Iterable[OperatorStateSnapshot] = (), restored_checkpoint_id: int | None = None
    ) -> None:
        self.store = OperatorStateStore(restored)
        self.restored_checkpoint_id = restored_checkpoint_id
        self._functions: list[CheckpointedFunction] = []
        self._listeners: list[CheckpointListener] = []

    def initialize(self, function: object, keyed_state: KeyedStateBackend | None) -> None:
        """A function is about to be opened: give it its state, and remember it."""
        if isinstance(function, CheckpointedFunction):
            self._functions.append(function)
            keyed = None if keyed_state is None else KeyedStateStore(keyed_state)
            function.initialize_state(
                FunctionInitializationContext(self.store, keyed, self.restored_checkpoint_id)
            )
        if isinstance(function, CheckpointListener):
            self._listeners.append(function)

    def snapshot(self, checkpoint_id: int, triggered_wall_ms: int) -> list[OperatorStateSnapshot]:
        """Let the functions put what they hold into the store; what the store holds."""
        context = FunctionSnapshotContext(checkpoint_id, triggered_wall_ms)
        for function in self._functions:
            function.snapshot_state(context)
        return self.store.snapshot()

    @property
    def has_listeners(self) -> bool:
        """Whether a function wants to know of complete checkpoints."""
        return bool(self._listeners)

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        for listener in self._listeners:
            listener.notify_checkpoint_complete(checkpoint_id)

    def aborted(self, checkpoint_id: int) -> None:
        """A checkpoint will never be complete."""
        for listener in self._listeners:
            aborted: Any = getattr(listener, "notify_checkpoint_aborted", None)
            if aborted is not None:
                aborted(checkpoint_id)
