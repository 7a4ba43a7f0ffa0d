"""Which operator runs a process function: with keys or without."""

from __future__ import annotations

from typing import cast

from zmflow.api.process_functions import BroadcastProcessFunction, KeyedBroadcastProcessFunction
from zmflow.api.process_operators import BroadcastProcessOperator, CoProcessOperator, ProcessOperator
from zmflow.execution.broadcast_operator import KeyedBroadcastProcess, UnkeyedBroadcastProcess
from zmflow.execution.keyed_process_operator import KeyedProcess
from zmflow.execution.process_operator import UnkeyedProcess
from zmflow.execution.stream_operator import StreamOperator

__all__ = ["broadcast_process", "co_process", "process"]


def process(specification: ProcessOperator) -> StreamOperator:
    """The operator of a function with one input."""
    if specification.key_selector is None:
        return UnkeyedProcess(specification.function)
    return KeyedProcess(specification.function, (specification.key_selector,))


def co_process(specification: CoProcessOperator) -> StreamOperator:
    """The operator of a function with two inputs."""
    if specification.key_selectors is None:
        return UnkeyedProcess(specification.function)
    return KeyedProcess(specification.function, specification.key_selectors)


def broadcast_process(specification: BroadcastProcessOperator) -> StreamOperator:
    """The operator of a function with a broadcast side."""
    function, descriptors = specification.function, specification.state_descriptors
    if specification.key_selector is None:
        return UnkeyedBroadcastProcess(
            cast("BroadcastProcessFunction[object, object, object]", function), descriptors
        )
    keyed = cast("KeyedBroadcastProcessFunction[object, object, object, object]", function)
    return KeyedBroadcastProcess(keyed, specification.key_selector, descriptors)
