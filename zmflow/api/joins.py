"""Window joins: two streams, a key of each, windows, and a function for what meets in a window.

Both are one keyed stream of tagged records underneath, in one kind of window: what holds for windows
(triggers, lateness, event time) holds for them.

::

    rides.join(fares).where(ride_id).equal_to(ride_id).window(
        TumblingEventTimeWindows.of(Time.hours(1))
    ).apply(lambda ride, fare: (ride, fare))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from zmflow.api.datastream import DataStream
from zmflow.api.functions import Function, KeySelector, RuntimeContext, plain_callable
from zmflow.api.join_functions import CoGroupFunction, FlatJoinFunction, JoinFunction
from zmflow.api.operators import UserFunction
from zmflow.api.time import TimeAmount
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.api.windows.assigner import WindowAssigner
from zmflow.api.windows.functions import WindowFunction
from zmflow.api.windows.windowed_stream import WindowedStream
from zmflow.errors import JobGraphError

if TYPE_CHECKING:
    from zmflow.api.windows.evictors import Evictor
    from zmflow.api.windows.trigger import Trigger

__all__ = ["CoGroupedStreams", "JoinedStreams", "WindowedCoGroup", "WindowedJoin"]

T1 = TypeVar("T1")
T2 = TypeVar("T2")
K = TypeVar("K")
R = TypeVar("R")

Tagged = tuple[bool, Any]
"""A record of the first stream (True) or of the second (False): small in a frame, and quick to make."""


def _first(value: Any) -> Tagged:
    return True, value


def _second(value: Any) -> Tagged:
    return False, value


class _KeyOfTagged(KeySelector[Tagged, Any]):
    """The key of a tagged record: that of the stream it came from."""

    def __init__(self, of_first: UserFunction, of_second: UserFunction) -> None:
        self._selectors = (of_second, of_first)  # indexed by the tag

    def open(self, runtime_context: RuntimeContext) -> None:
        for selector in self._selectors:
            if isinstance(selector, Function):
                selector.open(runtime_context)
        self._calls = [plain_callable(selector) for selector in self._selectors]

    def close(self) -> None:
        for selector in self._selectors:
            if isinstance(selector, Function):
                selector.close()

    def get_key(self, value: Tagged) -> Any:
        return self._calls[value[0]](value[1])


class _OfBoth(WindowFunction[Tagged, Any, Any, Any]):
    """Parts the records of a window by stream, for a function that takes both parts."""

    def __init__(self, function: UserFunction) -> None:
        self.function = function

    def open(self, runtime_context: RuntimeContext) -> None:
        if isinstance(self.function, Function):
            self.function.open(runtime_context)

    def close(self) -> None:
        if isinstance(self.function, Function):
            self.function.close()

    def apply(self, key: Any, window: Any, inputs: Iterable[Tagged]) -> Iterable[Any] | None:  # noqa: ARG002
        parts: tuple[list[Any], list[Any]] = ([], [])
        for is_first, value in inputs:
            parts[not is_first].append(value)
        return self.combine(*parts)

    def combine(self, first: list[Any], second: list[Any]) -> Iterable[Any] | None:
        """What the function makes of the two parts."""
        function = self.function
        call = function.co_group if isinstance(function, CoGroupFunction) else plain_callable(function)
        results: Iterable[Any] | None = call(first, second)
        return results


class _OfPairs(_OfBoth):
    """Calls a function for each pair of records, one of each stream."""

    def combine(self, first: list[Any], second: list[Any]) -> Iterator[Any]:
        function = self.function
        if isinstance(function, FlatJoinFunction):
            for left in first:
                for right in second:
                    yield from function.join(left, right) or ()
            return
        join = function.join if isinstance(function, JoinFunction) else plain_callable(function)
        for left in first:
            for right in second:
                yield join(left, right)


class _TwoStreams(Generic[T1, T2]):
    """Two streams before their keys are known."""

    def __init__(self, first: DataStream[T1], second: DataStream[T2], call: str) -> None:
        if not isinstance(second, DataStream):
            raise JobGraphError(f"{call} takes a stream, not a {type(second).__name__}.")
        if first._environment is not second._environment:
            raise JobGraphError(
                f"{call} was given a stream of another StreamExecutionEnvironment.",
                hint="Make all streams of a job from one environment.",
            )
        self._first = first
        self._second = second
        self._of_first: UserFunction | None = None
        self._of_second: UserFunction | None = None

    def where(self, key_selector: Callable[[T1], K] | KeySelector[T1, K], key_type: object = None) -> Self:  # noqa: ARG002
        """The key of a record of the first stream."""
        self._of_first = checked_function(key_selector, KeySelector, "where()")
        return self

    def equal_to(self, key_selector: Callable[[T2], K] | KeySelector[T2, K], key_type: object = None) -> Self:  # noqa: ARG002
        """The key of a record of the second stream."""
        self._of_second = checked_function(key_selector, KeySelector, "equal_to()")
        return self

    def _windowed(self, assigner: WindowAssigner[Any, Any]) -> WindowedStream[Tagged, Any, Any]:
        if self._of_first is None or self._of_second is None:
            missing = "where()" if self._of_first is None else "equal_to()"
            raise JobGraphError(
                f"window() was called before {missing}.",
                hint="Say the keys of both streams: where(key).equal_to(key).window(...).",
            )
        tagged = self._first.map(_first).union(self._second.map(_second))
        keyed = tagged.key_by(_KeyOfTagged(self._of_first, self._of_second))
        return WindowedStream(keyed, assigner)


class _TwoWindowed(Generic[T1, T2]):
    """Two streams in windows, before a function is given."""

    def __init__(self, windowed: WindowedStream[Tagged, Any, Any]) -> None:
        self._windowed = windowed

    def trigger(self, trigger: Trigger[Any, Any]) -> Self:
        """Fire when this trigger says, instead of the default of the windows. It sees tagged records."""
        self._windowed.trigger(trigger)
        return self

    def evictor(self, evictor: Evictor[Any, Any]) -> Self:
        """Take records out of the window before the function gets them. It sees tagged records."""
        self._windowed.evictor(evictor)
        return self

    def allowed_lateness(self, time_ms: int | TimeAmount) -> Self:
        """Keep windows this long after their end; a late record fires its window once more."""
        self._windowed.allowed_lateness(time_ms)
        return self


class JoinedStreams(_TwoStreams[T1, T2]):
    """Two streams whose records are to be paired; made by ``join``."""

    def __init__(self, first: DataStream[T1], second: DataStream[T2]) -> None:
        super().__init__(first, second, "join()")

    def window(self, assigner: WindowAssigner[Any, Any]) -> WindowedJoin[T1, T2]:
        """Pair records of one key within these windows."""
        return WindowedJoin(self._windowed(assigner))


class WindowedJoin(_TwoWindowed[T1, T2]):
    """Two streams in windows, whose records of one key and window are paired."""

    def apply(
        self,
        function: Callable[[T1, T2], R] | JoinFunction[T1, T2, R] | FlatJoinFunction[T1, T2, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function for each pair. A record without a partner has no result.

        Args:
            function: a callable or ``JoinFunction`` that makes one record; or a ``FlatJoinFunction``.
            output_type: what the results are; optional.
        """
        if not isinstance(function, FlatJoinFunction):
            checked_function(function, JoinFunction, "apply() of a join")
        return self._windowed.apply(_OfPairs(function), output_type).name("Join")


class CoGroupedStreams(_TwoStreams[T1, T2]):
    """Two streams whose records are to be grouped together; made by ``co_group``."""

    def __init__(self, first: DataStream[T1], second: DataStream[T2]) -> None:
        super().__init__(first, second, "co_group()")

    def window(self, assigner: WindowAssigner[Any, Any]) -> WindowedCoGroup[T1, T2]:
        """Group records of one key within these windows."""
        return WindowedCoGroup(self._windowed(assigner))


class WindowedCoGroup(_TwoWindowed[T1, T2]):
    """Two streams in windows, whose records of one key and window are grouped together."""

    def apply(
        self,
        function: Callable[[Iterable[T1], Iterable[T2]], Iterable[R] | None] | CoGroupFunction[T1, T2, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function with the records of both streams; one of the two may have none."""
        checked_function(function, CoGroupFunction, "apply() of a coGroup")
        return self._windowed.apply(_OfBoth(function), output_type).name("CoGroup")
