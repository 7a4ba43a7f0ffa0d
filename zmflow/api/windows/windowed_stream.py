"""``WindowedStream`` and ``AllWindowedStream``: records in windows, before a function is given."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, cast, overload

from zmflow.api.functions import AggregateFunction, ReduceFunction
from zmflow.api.output_tag import OutputTag
from zmflow.api.time import TimeAmount, whole_millis
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.api.windows.assigner import MergingWindowAssigner, WindowAssigner
from zmflow.api.windows.evictors import Evictor
from zmflow.api.windows.functions import (
    AllWindowFunction,
    ProcessAllWindowFunction,
    ProcessWindowFunction,
    WindowFunction,
)
from zmflow.api.windows.operators import (
    AggregateContents,
    Contents,
    FieldContents,
    FiredFunction,
    ListContents,
    ReduceContents,
    WindowOperator,
)
from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.window import Window
from zmflow.errors import JobGraphError
from zmflow.graph.partitioners import GlobalPartitioner
from zmflow.graph.transformations import Partitioned, Transformation

if TYPE_CHECKING:
    from zmflow.api.datastream import DataStream
    from zmflow.api.environment import StreamExecutionEnvironment
    from zmflow.api.keyed_stream import KeyedStream

__all__ = ["AllWindowedStream", "WindowedStream"]

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
W = TypeVar("W", bound=Window)
ACC = TypeVar("ACC")
V = TypeVar("V")

FieldKind = Literal["sum", "min", "max", "min_by", "max_by"]


class _Windows(Generic[T, W]):
    """What both kinds of windowed streams share."""

    def __init__(self, stream: DataStream[T], assigner: WindowAssigner[Any, W], call: str) -> None:
        if not isinstance(assigner, WindowAssigner):
            raise JobGraphError(
                f"{call} takes a WindowAssigner, not {assigner!r}.",
                hint="For example TumblingEventTimeWindows.of(Time.seconds(5)).",
            )
        self._stream = stream
        self._assigner = assigner
        self._trigger: Trigger[Any, Any] = assigner.get_default_trigger(stream._environment)
        self._evictor: Evictor[Any, Any] | None = None
        self._lateness_ms = 0
        self._late_tag: str | None = None
        self._panes = True

    def trigger(self, trigger: Trigger[Any, Any]) -> Self:
        """Fire when this trigger says, instead of the default of the windows.

        Raises:
            JobGraphError: the windows merge and the trigger cannot.
        """
        if not isinstance(trigger, Trigger):
            raise JobGraphError(f"trigger() takes a Trigger, not {trigger!r}.", hint="CountTrigger.of(100).")
        if isinstance(self._assigner, MergingWindowAssigner) and not trigger.can_merge():
            raise JobGraphError(
                f"A {type(trigger).__name__} cannot be used with windows that merge.",
                hint="Use a trigger whose can_merge() is true, or windows that do not merge.",
            )
        self._trigger = trigger
        return self

    def evictor(self, evictor: Evictor[Any, Any]) -> Self:
        """Take records out of the window before or after its function: it keeps all its records then."""
        if not isinstance(evictor, Evictor):
            raise JobGraphError(f"evictor() takes an Evictor, not {evictor!r}.", hint="CountEvictor.of(100).")
        self._evictor = evictor
        return self

    def allowed_lateness(self, time_ms: int | TimeAmount) -> Self:
        """Keep windows this long after their end; a late record fires its window once more.

        Args:
            time_ms: milliseconds, or an amount of time.
        """
        exact = isinstance(time_ms, int) and not isinstance(time_ms, bool)
        lateness_ms = (
            cast("int", time_ms) if exact else whole_millis(cast("Any", time_ms), "allowed_lateness()")
        )
        if lateness_ms < 0:
            raise JobGraphError(f"The allowed lateness is {lateness_ms} ms.", hint="It must not be negative.")
        self._lateness_ms = lateness_ms
        return self

    def side_output_late_data(self, output_tag: OutputTag[T]) -> Self:
        """Send records that are too late to this side output of the result, instead of dropping them."""
        if not isinstance(output_tag, OutputTag):
            raise JobGraphError(f"side_output_late_data() takes an OutputTag, not {output_tag!r}.")
        self._late_tag = output_tag.tag_id
        return self

    def without_panes(self) -> Self:
        """Aggregate each sliding window by itself.

        Sliding windows of event time share partial aggregates, which are merged when a window fires: in an
        order that is not that of arrival where records are out of order. Functions for which that matters
        (reducing to the latest record, say) need this.
        """
        self._panes = False
        return self

    def sum(self, position_to_sum: int | str = 0) -> DataStream[T]:
        """The sum of one field; other fields are those of the window's first record."""
        return self._field("sum", position_to_sum)

    def min(self, position_to_min: int | str = 0) -> DataStream[T]:
        """The least value of one field; other fields are those of the window's first record."""
        return self._field("min", position_to_min)

    def max(self, position_to_max: int | str = 0) -> DataStream[T]:
        """The greatest value of one field; other fields are those of the window's first record."""
        return self._field("max", position_to_max)

    def min_by(self, position_to_min_by: int | str = 0) -> DataStream[T]:
        """The record with the least value of one field, the first of equals."""
        return self._field("min_by", position_to_min_by)

    def max_by(self, position_to_max_by: int | str = 0) -> DataStream[T]:
        """The record with the greatest value of one field, the first of equals."""
        return self._field("max_by", position_to_max_by)

    def get_input_type(self) -> TypeInformation | None:
        """What was declared about the records."""
        return self._stream.get_type()

    def get_execution_environment(self) -> StreamExecutionEnvironment:
        """The environment this stream belongs to."""
        return self._stream._environment

    def _field(self, kind: FieldKind, field: int | str) -> DataStream[T]:
        wrong = isinstance(field, bool) or not isinstance(field, (int, str)) or field == ""
        if wrong or (isinstance(field, int) and field < 0):
            raise JobGraphError(
                f"{kind}() takes the position (from 0) or the name of a field, not {field!r}.",
                hint="To combine records with a function, use reduce().",
            )
        return self._build(FieldContents(kind, field), None, self._stream.get_type())

    def _checked_aggregate(self, function: AggregateFunction[T, ACC, V]) -> AggregateContents:
        if not isinstance(function, AggregateFunction):
            raise JobGraphError(f"aggregate() takes an AggregateFunction, not {function!r}.")
        return AggregateContents(function)

    def _key_selector(self) -> Any:
        return None

    def _build(
        self, contents: Contents, function: FiredFunction | None, output_type: TypeInformation | None
    ) -> DataStream[Any]:
        operator = WindowOperator(
            self._key_selector(),
            self._assigner,
            self._trigger,
            contents,
            function,
            self._evictor,
            self._lateness_ms,
            self._late_tag,
            self._panes,
        )
        return self._stream._then(type(self._assigner).__name__, cast("Any", operator), output_type)


class WindowedStream(_Windows[T, W], Generic[T, K, W]):
    """Records of a keyed stream in windows: one window is of one key.

    ``words.key_by(word_of).window(TumblingEventTimeWindows.of(Time.minutes(1))).reduce(add)`` is the words of
    each minute added up.
    """

    def __init__(self, keyed_stream: KeyedStream[T, K], window_assigner: WindowAssigner[Any, W]) -> None:
        super().__init__(keyed_stream, window_assigner, "window()")
        self._selector = keyed_stream._key_selector

    def reduce(
        self,
        reduce_function: Callable[[T, T], T] | ReduceFunction[T],
        window_function: WindowFunction[T, R, K, W] | ProcessWindowFunction[T, R, K, W] | None = None,
        output_type: TypeInformation | None = None,
    ) -> DataStream[Any]:
        """Combine the records of a window as they arrive; the function, if any, gets the one result."""
        contents = ReduceContents(checked_function(reduce_function, ReduceFunction, "reduce()"))
        fired = None if window_function is None else _fired(window_function, "reduce()")
        return self._build(contents, fired, output_type or (None if fired else self._stream.get_type()))

    @overload
    def aggregate(
        self,
        aggregate_function: AggregateFunction[T, ACC, V],
        window_function: None = None,
        accumulator_type: TypeInformation | None = None,
        output_type: TypeInformation | None = None,
    ) -> DataStream[V]: ...
    @overload
    def aggregate(
        self,
        aggregate_function: AggregateFunction[T, ACC, V],
        window_function: WindowFunction[V, R, K, W] | ProcessWindowFunction[V, R, K, W],
        accumulator_type: TypeInformation | None = None,
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]: ...
    def aggregate(
        self,
        aggregate_function: AggregateFunction[T, ACC, V],
        window_function: Any = None,
        accumulator_type: TypeInformation | None = None,  # noqa: ARG002 - of PyFlink's interface
        output_type: TypeInformation | None = None,
    ) -> DataStream[Any]:
        """Aggregate the records of a window as they arrive; the function, if any, gets the one result."""
        fired = None if window_function is None else _fired(window_function, "aggregate()")
        return self._build(self._checked_aggregate(aggregate_function), fired, output_type)

    def apply(
        self,
        window_function: WindowFunction[T, R, K, W] | Callable[[K, W, Iterable[T]], Iterable[R] | None],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function with the key, the window and all its records."""
        function = checked_function(window_function, WindowFunction, "apply()")
        return self._build(ListContents(), FiredFunction("apply", function), output_type)

    def process(
        self,
        process_window_function: ProcessWindowFunction[T, R, K, W],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function with the key, a context and all records of the window."""
        function = checked_function(process_window_function, ProcessWindowFunction, "process()")
        return self._build(ListContents(), FiredFunction("process", function), output_type)

    def _key_selector(self) -> Any:
        return self._selector


class AllWindowedStream(_Windows[T, W], Generic[T, W]):
    """All records of a stream in windows, in one subtask."""

    def __init__(self, data_stream: DataStream[T], window_assigner: WindowAssigner[Any, W]) -> None:
        super().__init__(data_stream, window_assigner, "window_all()")

    def reduce(
        self,
        reduce_function: Callable[[T, T], T] | ReduceFunction[T],
        window_function: AllWindowFunction[T, R, W] | ProcessAllWindowFunction[T, R, W] | None = None,
        output_type: TypeInformation | None = None,
    ) -> DataStream[Any]:
        """Combine the records of a window as they arrive; the function, if any, gets the one result."""
        contents = ReduceContents(checked_function(reduce_function, ReduceFunction, "reduce()"))
        fired = None if window_function is None else _fired_all(window_function, "reduce()")
        return self._build(contents, fired, output_type or (None if fired else self._stream.get_type()))

    def aggregate(
        self,
        aggregate_function: AggregateFunction[T, ACC, V],
        window_function: AllWindowFunction[V, R, W] | ProcessAllWindowFunction[V, R, W] | None = None,
        accumulator_type: TypeInformation | None = None,  # noqa: ARG002 - of PyFlink's interface
        output_type: TypeInformation | None = None,
    ) -> DataStream[Any]:
        """Aggregate the records of a window as they arrive; the function, if any, gets the one result."""
        fired = None if window_function is None else _fired_all(window_function, "aggregate()")
        return self._build(self._checked_aggregate(aggregate_function), fired, output_type)

    def apply(
        self,
        window_function: AllWindowFunction[T, R, W] | Callable[[W, Iterable[T]], Iterable[R] | None],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function with the window and all its records."""
        function = checked_function(window_function, AllWindowFunction, "apply()")
        return self._build(ListContents(), FiredFunction("apply_all", function), output_type)

    def process(
        self,
        process_window_function: ProcessAllWindowFunction[T, R, W],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function with a context and all records of the window."""
        function = checked_function(process_window_function, ProcessAllWindowFunction, "process()")
        return self._build(ListContents(), FiredFunction("process_all", function), output_type)

    def _build(
        self, contents: Contents, function: FiredFunction | None, output_type: TypeInformation | None
    ) -> DataStream[Any]:
        from zmflow.api.datastream import DataStream

        origin = self._stream
        self._stream = DataStream(
            origin._environment, Partitioned(origin._node, GlobalPartitioner()), origin.get_type()
        )
        result = super()._build(contents, function, output_type)
        self._stream = origin
        node = result._node
        assert isinstance(node, Transformation)
        # All records meet in one subtask: there is no key that could tell a second one its part.
        node.parallelism = node.max_parallelism = 1
        node.non_parallel = True
        return result


def _fired(function: Any, call: str) -> FiredFunction:
    """The function that gets the result of an incremental one; a callable takes what ``apply`` does."""
    if isinstance(function, ProcessWindowFunction):
        return FiredFunction("process", function)
    return FiredFunction("apply", checked_function(function, WindowFunction, f"{call} as window_function"))


def _fired_all(function: Any, call: str) -> FiredFunction:
    if isinstance(function, ProcessAllWindowFunction):
        return FiredFunction("process_all", function)
    checked = checked_function(function, AllWindowFunction, f"{call} as window_function")
    return FiredFunction("apply_all", checked)
