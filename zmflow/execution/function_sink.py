"""A ``SinkFunction``, or a plain callable, as a sink: one call for each record, nothing to commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.api.functions import SinkContext, SinkFunction
from zmflow.api.sinks import Sink, SinkWriter, WriterContext

__all__ = ["FunctionSink"]


class _Writer(SinkWriter[Any]):
    def __init__(self, function: SinkFunction[Any] | Callable[[Any], object], context: SinkContext):
        self._function = function
        self._context = context

    def write(self, value: object) -> None:
        if isinstance(self._function, SinkFunction):
            self._function.invoke(value, self._context)
        else:
            self._function(value)


class FunctionSink(Sink[Any]):
    """Calls a function.

    Args:
        function: what to call with each record, and, of a ``SinkFunction``, a context.
    """

    def __init__(self, function: SinkFunction[Any] | Callable[[Any], object]) -> None:
        self._function = function

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        return _Writer(self._function, SinkContext(context.runtime_context))
