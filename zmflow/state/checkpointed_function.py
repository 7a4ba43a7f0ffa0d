"""``CheckpointedFunction``: what a function implements that keeps state which belongs to no key.

``CheckpointListener`` is for those that do something outside only when a checkpoint is complete.

>>> from zmflow.state.descriptors import ListStateDescriptor
>>> class Buffering:
...     def initialize_state(self, context):
...         self.saved = context.get_operator_state_store().get_list_state(ListStateDescriptor("buffer"))
...         self.buffer = list(self.saved.get())
...     def snapshot_state(self, context):
...         self.saved.update(self.buffer)
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from zmflow.errors import StateError
from zmflow.state.keyed_state_store import KeyedStateStore
from zmflow.state.operator_state import OperatorStateStore

__all__ = [
    "CheckpointListener",
    "CheckpointedFunction",
    "FunctionInitializationContext",
    "FunctionSnapshotContext",
]


@dataclass(frozen=True, slots=True)
class FunctionInitializationContext:
    """What ``initialize_state`` is given.

    Args:
        operator_state_store: state that belongs to no key.
        keyed_state_store: state of the current key; None where the stream has no keys.
        restored_checkpoint_id: the checkpoint that state comes from; None where the job begins anew.
    """

    operator_state_store: OperatorStateStore
    keyed_state_store: KeyedStateStore | None = None
    restored_checkpoint_id: int | None = None

    def is_restored(self) -> bool:
        """Whether state comes from a checkpoint."""
        return self.restored_checkpoint_id is not None

    def get_restored_checkpoint_id(self) -> int | None:
        """The checkpoint that state comes from; None where the job begins anew."""
        return self.restored_checkpoint_id

    def get_operator_state_store(self) -> OperatorStateStore:
        """State that belongs to no key."""
        return self.operator_state_store

    def get_keyed_state_store(self) -> KeyedStateStore:
        """State of the current key. It may be declared here, and used when there is a key.

        Raises:
            StateError: the stream has no keys.
        """
        if self.keyed_state_store is None:
            raise StateError(
                "Keyed state was asked for in a function whose stream has no keys.",
                hint="Call key_by() before the operator, or use the operator state store.",
            )
        return self.keyed_state_store


@dataclass(frozen=True, slots=True)
class FunctionSnapshotContext:
    """What ``snapshot_state`` is given."""

    checkpoint_id: int
    checkpoint_timestamp: int

    def get_checkpoint_id(self) -> int:
        """Which checkpoint this is; later ones have larger numbers."""
        return self.checkpoint_id

    def get_checkpoint_timestamp(self) -> int:
        """When it was triggered, in milliseconds since 1970."""
        return self.checkpoint_timestamp


@runtime_checkable
class CheckpointedFunction(Protocol):
    """A function with state of its own, which it puts into the store when it is asked to."""

    @abstractmethod
    def initialize_state(self, context: FunctionInitializationContext) -> None:
        """Called once, before ``open``, whether there is something to restore or not."""
        ...

    @abstractmethod
    def snapshot_state(self, context: FunctionSnapshotContext) -> None:
        """Called for each checkpoint: let the store hold what must not be lost."""
        ...


@runtime_checkable
class CheckpointListener(Protocol):
    """A function that wants to know when a checkpoint is complete.

    Notices may be missed: the next one covers all before it. A method ``notify_checkpoint_aborted``, where
    there is one, is told of checkpoints that were given up.

    >>> class Acknowledging:
    ...     def notify_checkpoint_complete(self, checkpoint_id):
    ...         self.acknowledge_until(checkpoint_id)
    """

    @abstractmethod
    def notify_checkpoint_complete(self, checkpoint_id: int) -> None:
        """All tasks have written this checkpoint: it will be restored, or a later one."""
        ...
