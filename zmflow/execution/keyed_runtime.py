"""The keyed state of an operator, and the ``RuntimeContext`` through which its functions reach it."""

from __future__ import annotations

from dataclasses import replace

from zmflow.api.functions import RuntimeContext
from zmflow.execution.stream_operator import OperatorContext
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.keys import key_group_range

__all__ = ["keyed_runtime"]


def keyed_runtime(context: OperatorContext) -> tuple[RuntimeContext, KeyedStateBackend]:
    """The context for the functions of a keyed operator, and its state backend.

    A backend that the task has made for the operator is used; without one state lives on the heap.
    """
    runtime = context.runtime
    if runtime.keyed_state is not None:
        return runtime, runtime.keyed_state
    groups = key_group_range(runtime.subtask_index, runtime.max_parallelism, runtime.parallelism)
    backend = HeapKeyedStateBackend(runtime.max_parallelism, groups, context.processing_time)
    return replace(runtime, keyed_state=backend), backend
