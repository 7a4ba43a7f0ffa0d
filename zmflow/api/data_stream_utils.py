"""``DataStreamUtils``: what can be done with a stream when more is known of it than the program shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zmflow.api.datastream import DataStream
from zmflow.api.functions import KeySelector
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.errors import JobGraphError
from zmflow.graph.partitioners import KeptKeysPartitioner

__all__ = ["DataStreamUtils"]

T = TypeVar("T")
K = TypeVar("K")


class DataStreamUtils:
    """Functions of Flink's that are not methods of a stream."""

    @staticmethod
    def reinterpret_as_keyed_stream(
        stream: DataStream[T],
        key_selector: Callable[[T], K] | KeySelector[T, K],
        key_type: TypeInformation | None = None,
    ) -> KeyedStream[T, K]:
        """A keyed stream without an exchange: each record stays in the subtask where it is.

        It must be the one that ``key_by`` would bring it to: the stream was keyed by the same key before,
        and nothing moved its records since. A record in a wrong subtask fails the job. The operators on both
        sides must have the same parallelism and the same max parallelism.
        """
        if not isinstance(stream, DataStream) or isinstance(stream, KeyedStream):
            raise JobGraphError(
                "reinterpret_as_keyed_stream() takes a stream that is not keyed, "
                f"not a {type(stream).__name__}."
            )
        selector = checked_function(key_selector, KeySelector, "reinterpret_as_keyed_stream()")
        return KeyedStream(stream, selector, key_type, KeptKeysPartitioner())
