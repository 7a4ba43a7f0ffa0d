"""Which operator a job would run for a function, for the harness."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zmflow.api.functions import CoFlatMapFunction, CoMapFunction, Function
from zmflow.api.operators import UserFunction
from zmflow.api.process_functions import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
)
from zmflow.errors import JobGraphError
from zmflow.execution.broadcast_operator import KeyedBroadcastProcess, UnkeyedBroadcastProcess
from zmflow.execution.keyed_process_operator import KeyedProcess
from zmflow.execution.operator_factory import is_stream_operator, stream_operator
from zmflow.execution.process_operator import UnkeyedProcess
from zmflow.execution.stream_operator import StreamOperator
from zmflow.state.descriptors import MapStateDescriptor

__all__ = ["operator_for"]

_NEED_KEYS = (KeyedProcessFunction, KeyedCoProcessFunction, KeyedBroadcastProcessFunction)
_HAVE_TWO_INPUTS = (CoProcessFunction, KeyedCoProcessFunction, CoMapFunction, CoFlatMapFunction)


def operator_for(
    what: object,
    key_selector: UserFunction | None,
    second_key_selector: UserFunction | None,
    broadcast_state: Sequence[MapStateDescriptor[Any, Any]],
) -> StreamOperator:
    """The operator itself, that of a specification, or that of a function.

    Raises:
        JobGraphError: it is none of them, or a function of keyed streams without a key selector.
    """
    if isinstance(what, StreamOperator):
        return what
    if is_stream_operator(what):
        return stream_operator(what)
    if not isinstance(what, Function):
        raise JobGraphError(
            f"The harness drives operators and function objects, not {what!r}.",
            hint="Call a plain function yourself, or make it an object of a function class.",
        )
    if isinstance(what, _NEED_KEYS) and key_selector is None:
        raise JobGraphError(
            f"{type(what).__name__} is a function of keyed streams.", hint="Give the harness a key_selector."
        )
    if isinstance(what, BroadcastProcessFunction):
        return UnkeyedBroadcastProcess(what, broadcast_state)
    if isinstance(what, KeyedBroadcastProcessFunction):
        assert key_selector is not None
        return KeyedBroadcastProcess(what, key_selector, broadcast_state)
    if key_selector is None:
        return UnkeyedProcess(what)
    if isinstance(what, _HAVE_TWO_INPUTS):
        return KeyedProcess(what, (key_selector, second_key_selector or key_selector))
    return KeyedProcess(what, (key_selector,))
