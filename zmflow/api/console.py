"""The sink that prints records, with Flink's prefixes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.api.typeinfo import Renderer, renderer_for
from zmflow.api.types import TypeInformation

__all__ = ["PrintSink"]


def _prefix(identifier: str | None, context: RuntimeContext) -> str:
    subtask = str(context.subtask_index + 1) if context.parallelism > 1 else ""
    text = ":".join(part for part in (identifier or "", subtask) if part)
    return f"{text}> " if text else ""


class _PrintWriter(SinkWriter[Any]):
    def __init__(self, prefix: str, render: Renderer) -> None:
        self._prefix = prefix
        self._render = render

    def write(self, value: Any) -> None:
        sys.stdout.write(f"{self._prefix}{self._render(value)}\n")

    def write_batch(self, values: Sequence[Any]) -> None:
        # One write for the batch, so that lines of other subtasks never end up inside ours. The stream
        # is looked up each time: the worker binds it to its log.
        prefix, render = self._prefix, self._render
        sys.stdout.write("".join([f"{prefix}{render(value)}\n" for value in values]))

    def flush(self, end_of_input: bool) -> None:  # noqa: ARG002
        sys.stdout.flush()


class PrintSink(Sink[Any]):
    """Writes each record to standard output, one a line; in Java's form where its type is declared.

    A line begins with ``2> `` when the sink is parallel (the subtask, counted from 1), with ``id> `` or
    ``id:2> `` when it has an identifier.
    """

    name = "Print to Std. Out"

    def __init__(self, identifier: str | None = None, type_info: TypeInformation | None = None) -> None:
        self.identifier = identifier
        self.type_info = type_info

    def for_type(self, type_info: TypeInformation | None) -> PrintSink:
        """The sink for records of this declared type."""
        typed = copy.copy(self)
        typed.type_info = type_info
        return typed

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        prefix = _prefix(self.identifier, context.runtime_context)
        return _PrintWriter(prefix, renderer_for(self.type_info))
