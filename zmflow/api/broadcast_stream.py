"""``BroadcastStream``: records that reach every subtask, to be kept in broadcast state there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zmflow.api.datastream import DataStream
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.process_functions import BroadcastProcessFunction, KeyedBroadcastProcessFunction
from zmflow.api.process_operators import BroadcastProcessOperator
from zmflow.api.two_inputs import two_input_stream
from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError
from zmflow.graph.partitioners import BroadcastPartitioner
from zmflow.graph.transformations import Partitioned

if TYPE_CHECKING:
    from zmflow.state.descriptors import MapStateDescriptor

__all__ = ["BroadcastConnectedStream", "BroadcastStream"]

T = TypeVar("T")
B = TypeVar("B")
R = TypeVar("R")


class BroadcastStream(Generic[B]):
    """A stream that every subtask of an operator gets whole; made by ``broadcast(descriptor, ...)``.

    Only ``connect`` of another stream takes it.
    """

    def __init__(
        self, stream: DataStream[B], state_descriptors: tuple[MapStateDescriptor[Any, Any], ...]
    ) -> None:
        names = [descriptor.name for descriptor in state_descriptors]
        if len(set(names)) != len(names):
            raise JobGraphError("broadcast() was given two descriptors of one name.", detail=", ".join(names))
        self._stream = stream
        self._state_descriptors = state_descriptors


class BroadcastConnectedStream(Generic[T, B]):
    """A stream, with keys or without, and a broadcast stream.

    ::

        rules = rule_stream.broadcast(MapStateDescriptor("rules"))
        events.key_by(user).connect(rules).process(MatchRules())
    """

    def __init__(self, stream: DataStream[T], broadcast_stream: BroadcastStream[B]) -> None:
        if stream._environment is not broadcast_stream._stream._environment:
            raise JobGraphError(
                "connect() was given a stream of another StreamExecutionEnvironment.",
                hint="Make all streams of a job from one environment.",
            )
        self._stream = stream
        self._broadcast = broadcast_stream

    def process(
        self,
        func: BroadcastProcessFunction[T, B, R] | KeyedBroadcastProcessFunction[Any, T, B, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Give the records of both streams to a process function.

        Raises:
            JobGraphError: the function is not the one for a stream with, or without, keys.
        """
        keyed = isinstance(self._stream, KeyedStream)
        wanted = KeyedBroadcastProcessFunction if keyed else BroadcastProcessFunction
        if not isinstance(func, wanted):
            raise JobGraphError(
                f"process() of a {'keyed' if keyed else 'plain'} stream connected with a broadcast one takes "
                f"a {wanted.__name__}, not a {type(func).__name__}.",
                hint="A KeyedBroadcastProcessFunction needs key_by() before connect(), the other one none.",
            )
        operator = BroadcastProcessOperator(
            func,
            self._broadcast._state_descriptors,
            self._stream._key_selector if isinstance(self._stream, KeyedStream) else None,
        )
        origin = self._broadcast._stream
        everywhere: DataStream[B] = DataStream(
            origin._environment, Partitioned(origin._node, BroadcastPartitioner()), origin._type
        )
        name = "Keyed Co-Process-Broadcast" if keyed else "Co-Process-Broadcast"
        return two_input_stream(self._stream, everywhere, name, operator, output_type)
