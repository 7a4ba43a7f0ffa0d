"""The keyed state of an operator, and the ``RuntimeContext`` through which its functions reach it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from zmflow.api.functions import RuntimeContext
from zmflow.execution.records_by_key import HELD_BYTES_DEFAULT, RecordsByKey
from zmflow.execution.stream_operator import OperatorContext
from zmflow.graph.managed_memory import STATE_BACKEND
from zmflow.state.backend import BUILT_IN, BackendContext, KeyedStateBackend, load_state_backend
from zmflow.state.keys import key_group_range
from zmflow.state.snapshots import KeyGroupSnapshot

__all__ = ["BUILT_IN", "backend_for", "forget_key", "keyed_runtime", "records_by_key"]


def keyed_runtime(context: OperatorContext) -> tuple[RuntimeContext, KeyedStateBackend]:
    """The context for the functions of a keyed operator, and its state backend.

    A backend that the task has made for the operator is used; without one state lives on the heap.
    """
    runtime = context.runtime
    if runtime.keyed_state is not None:
        return runtime, runtime.keyed_state
    make = context.make_keyed_state
    backend = backend_for(BUILT_IN, runtime, context.processing_time) if make is None else make(runtime)
    if context.restored is not None:
        if context.restored.native:
            backend.restore_files(context.restored.native)
        groups = backend.key_groups
        for snapshot in context.restored.backend_state(groups, backend.max_parallelism):
            backend.restore(snapshot.group, snapshot)
    return replace(runtime, keyed_state=backend), backend


def records_by_key(context: OperatorContext) -> RecordsByKey:
    """What holds an operator's input in BATCH mode, in the memory that is the operator's."""
    limit_bytes = context.runtime.get_managed_memory_bytes() or HELD_BYTES_DEFAULT
    return RecordsByKey(limit_bytes, context.make_spill)


def forget_key(backend: KeyedStateBackend) -> None:
    """In BATCH mode, when the last record of the current key has been processed: nobody will read its state.

    There was no other key since the last one was forgotten, so the key's group holds nothing else.
    """
    group = backend.current_key_group
    backend.restore(group, KeyGroupSnapshot(group, ()))


def backend_for(
    name: str, runtime: RuntimeContext, processing_time: Callable[[], int], directory: str = ""
) -> KeyedStateBackend:
    """A new backend of this kind, with the key groups of a subtask.

    Args:
        name: of the kind.
        runtime: of the subtask.
        processing_time: the clock.
        directory: for files; without one the backend finds a place itself.

    Raises:
        ConfigurationError: there is no such backend.
    """
    groups = key_group_range(runtime.subtask_index, runtime.max_parallelism, runtime.parallelism)
    context = BackendContext(directory, runtime.get_managed_memory_bytes(STATE_BACKEND))
    return load_state_backend(name).for_task(runtime.max_parallelism, groups, processing_time, context)
