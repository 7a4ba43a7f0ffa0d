"""The operators around rows that are kept: batches become records on the way out, and batches again."""

from __future__ import annotations

from zmflow.api.cached_rows import PackRowsOperator, UnpackRowsOperator
from zmflow.execution.batches import Rows
from zmflow.execution.stream_operator import OperatorContext, StreamOperator, Timestamps

__all__ = ["PackingOperator", "UnpackingOperator"]


class PackingOperator(StreamOperator):
    """Makes one record of each batch."""

    def __init__(self, _specification: PackRowsOperator) -> None:
        pass

    def open(self, context: OperatorContext) -> None:
        self._output = context.output

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        self._output.emit([(rows, timestamps)], None)


class UnpackingOperator(StreamOperator):
    """Makes batches of such records."""

    def __init__(self, _specification: UnpackRowsOperator) -> None:
        pass

    def open(self, context: OperatorContext) -> None:
        self._output = context.output

    def process(self, rows: Rows, timestamps: Timestamps) -> None:  # noqa: ARG002 - packed records have none
        for batch, timestamps_of_batch in rows:
            self._output.emit(batch, timestamps_of_batch)
