"""``ConnectedStreams``: two streams of different records for one function, which can share state."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from zmflow.api.datastream import DataStream
from zmflow.api.functions import CoFlatMapFunction, CoMapFunction, Function, KeySelector
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.operators import UserFunction
from zmflow.api.process_functions import CoProcessFunction, KeyedCoProcessFunction
from zmflow.api.process_operators import CoProcessOperator
from zmflow.api.two_inputs import two_input_stream
from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError

if TYPE_CHECKING:
    from zmflow.api.environment import StreamExecutionEnvironment

__all__ = ["ConnectedStreams"]

T1 = TypeVar("T1")
T2 = TypeVar("T2")
R = TypeVar("R")
K = TypeVar("K")


class ConnectedStreams(Generic[T1, T2]):
    """Two streams that one function takes, each by a method of its own.

    Where both streams have keys, records of one key meet in one subtask and share its state.

    ::

        rules.key_by(rule_user).connect(events.key_by(event_user)).process(MatchRules())
    """

    def __init__(self, first: DataStream[T1], second: DataStream[T2]) -> None:
        if not isinstance(second, DataStream):
            raise JobGraphError(f"connect() takes a stream, not a {type(second).__name__}.")
        if first._environment is not second._environment:
            raise JobGraphError(
                "connect() was given a stream of another StreamExecutionEnvironment.",
                hint="Make all streams of a job from one environment.",
            )
        self._first = first
        self._second = second

    def key_by(
        self,
        key_selector1: Callable[[T1], K] | KeySelector[T1, K],
        key_selector2: Callable[[T2], K] | KeySelector[T2, K],
        key_type: TypeInformation | None = None,
    ) -> ConnectedStreams[T1, T2]:
        """Bring records of one key, of both streams, to one subtask."""
        return ConnectedStreams(
            self._first.key_by(key_selector1, key_type), self._second.key_by(key_selector2, key_type)
        )

    def map(
        self, func: CoMapFunction[T1, T2, R], output_type: TypeInformation | None = None
    ) -> DataStream[R]:
        """One record out for each record of either stream."""
        return self._then("Co-Map", _checked(func, CoMapFunction, "map()"), output_type)

    def flat_map(
        self, func: CoFlatMapFunction[T1, T2, R], output_type: TypeInformation | None = None
    ) -> DataStream[R]:
        """Any number of records out for each record of either stream."""
        return self._then("Co-Flat Map", _checked(func, CoFlatMapFunction, "flat_map()"), output_type)

    def process(
        self,
        func: CoProcessFunction[T1, T2, R] | KeyedCoProcessFunction[Any, T1, T2, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Give the records of both streams to a process function.

        Raises:
            JobGraphError: the function needs keys and the streams have none, or it is another function.
        """
        if isinstance(func, KeyedCoProcessFunction):
            if self._key_selectors() is None:
                raise JobGraphError(
                    f"{type(func).__name__} is a KeyedCoProcessFunction; the streams have no keys.",
                    hint="Call key_by() on the connected streams, or use a CoProcessFunction.",
                )
        elif not isinstance(func, CoProcessFunction):
            raise JobGraphError(
                "process() of connected streams takes a CoProcessFunction or a KeyedCoProcessFunction, "
                f"not a {type(func).__name__}."
            )
        keyed = "" if self._key_selectors() is None else "Keyed "
        return self._then(f"{keyed}Co-Process", func, output_type)

    def get_execution_environment(self) -> StreamExecutionEnvironment:
        """The environment these streams belong to."""
        return self._first._environment

    # -- inside ---------------------------------------------------------------------------------

    def _key_selectors(self) -> tuple[UserFunction, UserFunction] | None:
        first, second = self._first, self._second
        if isinstance(first, KeyedStream) and isinstance(second, KeyedStream):
            return first._key_selector, second._key_selector
        if isinstance(first, KeyedStream) or isinstance(second, KeyedStream):
            raise JobGraphError(
                "One of two connected streams has keys, the other has none.",
                hint="Call key_by() on both or on none; to bring records to every subtask use broadcast().",
            )
        return None

    def _then(self, name: str, function: Any, output_type: TypeInformation | None) -> DataStream[Any]:
        operator = CoProcessOperator(function, self._key_selectors())
        return two_input_stream(self._first, self._second, name, operator, output_type)


def _checked(function: object, kind: type[Function], call: str) -> object:
    """The function, if it is one of this kind; a plain callable could not tell the streams apart."""
    if not isinstance(function, kind):
        raise JobGraphError(
            f"{call} of connected streams takes a {kind.__name__}, not a {type(function).__name__}.",
            hint="It needs a method for each stream.",
        )
    return function
