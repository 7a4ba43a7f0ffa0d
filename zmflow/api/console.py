"""The sink that prints records, with Flink's prefixes."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from typing import Any, TextIO

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
    def __init__(self, prefix: str, render: Renderer, std_err: bool) -> None:
        self._prefix = prefix
        self._render = render
        self._std_err = std_err

    def write(self, value: Any) -> None:
        self._stream.write(f"{self._prefix}{self._render(value)}\n")

    def write_batch(self, values: Sequence[Any]) -> None:
        # One write for the batch, so that lines of other subtasks never end up inside ours.
        prefix, render = self._prefix, self._render
        self._stream.write("".join([f"{prefix}{render(value)}\n" for value in values]))

    def flush(self, end_of_input: bool) -> None:  # noqa: ARG002
        self._stream.flush()

    @property
    def _stream(self) -> TextIO:
        # Looked up each time: the worker binds both streams to its log.
        return sys.stderr if self._std_err else sys.stdout


class PrintSink(Sink[Any]):
    """Writes each record to standard output or error, one a line; in Java's form where its type is declared.

    A line begins with ``2> `` when the sink is parallel (the subtask, counted from 1), with ``id> `` or
    ``id:2> `` when it has an identifier.
    """

    name = "Print to Std. Out"

    def __init__(
        self,
        identifier: str | None = None,
        type_info: TypeInformation | None = None,
        std_err: bool = False,
    ) -> None:
        self.identifier = identifier
        self.type_info = type_info
        self.std_err = std_err
        self.name = "Print to Std. Err" if std_err else "Print to Std. Out"

    def for_type(self, type_info: TypeInformation | None) -> PrintSink:
        """The sink for records of this declared type."""
        typed = copy.copy(self)
        typed.type_info = type_info
        return typed

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        prefix = _prefix(self.identifier, context.runtime_context)
        return _PrintWriter(prefix, renderer_for(self.type_info), self.std_err)
