"""The sink that brings records back to the client that runs the job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from zmflow.api.sinks import Sink, SinkWriter, WriterContext

__all__ = ["CollectSink"]


class _CollectWriter(SinkWriter[Any]):
    def __init__(self, collect_id: str, emit: Callable[[str, Sequence[Any], bool], None]) -> None:
        self._collect_id = collect_id
        self._emit = emit

    def write(self, value: Any) -> None:
        self._emit(self._collect_id, [value], False)

    def write_batch(self, values: Sequence[Any]) -> None:
        self._emit(self._collect_id, values, False)

    def flush(self, end_of_input: bool) -> None:
        if end_of_input:
            self._emit(self._collect_id, [], True)


class CollectSink(Sink[Any]):
    """Sends every record to the client, which takes them at its own pace."""

    name = "Collect Sink"

    def __init__(self, collect_id: str) -> None:
        self.collect_id = collect_id

    def create_writer(self, context: WriterContext) -> SinkWriter[Any]:
        return _CollectWriter(self.collect_id, context.emit_to_client)
