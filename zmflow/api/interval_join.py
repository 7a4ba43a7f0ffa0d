"""``IntervalJoin``: pairs of records of two keyed streams whose timestamps are near each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeVar

from zmflow.api.datastream import DataStream
from zmflow.api.join_functions import ProcessJoinFunction
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.operators import UserFunction
from zmflow.api.output_tag import OutputTag
from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.two_inputs import two_input_stream
from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError

__all__ = ["IntervalJoin", "IntervalJoinOperator", "IntervalJoined"]

T1 = TypeVar("T1")
T2 = TypeVar("T2")
K = TypeVar("K")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class IntervalJoinOperator:
    """Pairs where ``left.timestamp + lower_ms <= right.timestamp <= left.timestamp + upper_ms``."""

    key_selectors: tuple[UserFunction, UserFunction]
    function: UserFunction
    lower_ms: int
    upper_ms: int
    left_late_tag: str | None = None
    right_late_tag: str | None = None


class IntervalJoin(Generic[T1, T2, K]):
    """Two keyed streams, before the interval is known; made by ``interval_join``.

    ::

        orders.key_by(order_id).interval_join(shipments.key_by(order_id)).between(
            Time.seconds(0), Time.hours(4)
        ).process(OrderAndShipment())
    """

    def __init__(self, left: KeyedStream[T1, K], right: KeyedStream[T2, K]) -> None:
        if not isinstance(right, KeyedStream):
            raise JobGraphError(
                f"interval_join() takes a keyed stream, not a {type(right).__name__}.",
                hint="Call key_by() on the other stream first.",
            )
        if left._environment is not right._environment:
            raise JobGraphError(
                "interval_join() was given a stream of another StreamExecutionEnvironment.",
                hint="Make all streams of a job from one environment.",
            )
        self._left = left
        self._right = right

    def between(
        self, lower_bound: int | TimeAmount, upper_bound: int | TimeAmount
    ) -> IntervalJoined[T1, T2, K]:
        """Pair each left record with the right ones that are this far from it, both bounds included.

        Args:
            lower_bound: the least time from the left to the right record; may be negative. Milliseconds,
                or an amount of time.
            upper_bound: the greatest time.
        """
        return IntervalJoined(self._left, self._right, _millis(lower_bound), _millis(upper_bound))


class IntervalJoined(Generic[T1, T2, K]):
    """Two keyed streams and an interval, before a function is given."""

    def __init__(
        self, left: KeyedStream[T1, K], right: KeyedStream[T2, K], lower_ms: int, upper_ms: int
    ) -> None:
        if lower_ms > upper_ms:
            raise JobGraphError(f"The lower bound, {lower_ms} ms, is above the upper one, {upper_ms} ms.")
        self._left = left
        self._right = right
        self._lower_ms = lower_ms
        self._upper_ms = upper_ms
        self._lower_included = True
        self._upper_included = True
        self._left_late: OutputTag[T1] | None = None
        self._right_late: OutputTag[T2] | None = None

    def lower_bound_exclusive(self) -> Self:
        """Leave out right records exactly at the lower bound."""
        self._lower_included = False
        return self

    def upper_bound_exclusive(self) -> Self:
        """Leave out right records exactly at the upper bound."""
        self._upper_included = False
        return self

    def side_output_left_late_data(self, output_tag: OutputTag[T1]) -> Self:
        """Send left records that event time has passed to this side output of the result."""
        self._left_late = _checked_tag(output_tag, "side_output_left_late_data()")
        return self

    def side_output_right_late_data(self, output_tag: OutputTag[T2]) -> Self:
        """Send right records that event time has passed to this side output of the result."""
        self._right_late = _checked_tag(output_tag, "side_output_right_late_data()")
        return self

    def process(
        self,
        process_join_function: ProcessJoinFunction[T1, T2, R] | Callable[[T1, T2], R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function for each pair.

        Args:
            process_join_function: a ``ProcessJoinFunction``; or a callable that makes one record of a pair.
            output_type: what the results are; optional.

        Raises:
            JobGraphError: it is neither, or the exclusive bounds leave no time between them.
        """
        if not isinstance(process_join_function, ProcessJoinFunction) and not callable(process_join_function):
            raise JobGraphError(
                "process() of an interval join takes a ProcessJoinFunction or a callable, "
                f"not a {type(process_join_function).__name__}."
            )
        # Milliseconds are whole, so leaving a bound out moves it by one.
        lower_ms = self._lower_ms + (0 if self._lower_included else 1)
        upper_ms = self._upper_ms - (0 if self._upper_included else 1)
        if lower_ms > upper_ms:
            raise JobGraphError(
                f"With these bounds left out nothing is between {self._lower_ms} and {self._upper_ms} ms.",
                hint="Include a bound, or make the interval larger.",
            )
        operator = IntervalJoinOperator(
            (self._left._key_selector, self._right._key_selector),
            process_join_function,
            lower_ms,
            upper_ms,
            None if self._left_late is None else self._left_late.tag_id,
            None if self._right_late is None else self._right_late.tag_id,
        )
        return two_input_stream(self._left, self._right, "Interval Join", operator, output_type)


def _millis(bound: int | TimeAmount) -> int:
    if isinstance(bound, int):
        return bound
    return whole_millis(bound, "between()")


def _checked_tag(tag: Any, call: str) -> Any:
    if not isinstance(tag, OutputTag):
        raise JobGraphError(f"{call} takes an OutputTag, not a {type(tag).__name__}.")
    return tag
