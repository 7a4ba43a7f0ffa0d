"""``DataStreamSink``: the end of a stream."""

from __future__ import annotations

from zmflow.api.operator_properties import OperatorProperties
from zmflow.graph.transformations import Transformation

__all__ = ["DataStreamSink"]


class DataStreamSink(OperatorProperties):
    """A sink that was added to a stream."""

    def __init__(self, transformation: Transformation) -> None:
        self._transformation = transformation

    def _operator(self, call: str) -> Transformation:  # noqa: ARG002
        return self._transformation
