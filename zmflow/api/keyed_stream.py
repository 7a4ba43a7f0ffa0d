"""``KeyedStream``: records that reach one subtask by their key."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, NoReturn, TypeVar, cast

from zmflow.api.datastream import DataStream
from zmflow.api.functions import (
    FilterFunction,
    FlatMapFunction,
    Function,
    KeySelector,
    MapFunction,
    ReduceFunction,
)
from zmflow.api.operators import KeyedAggregateOperator, KeyedReduceOperator, UserFunction
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.errors import JobGraphError
from zmflow.graph.partitioners import HashPartitioner, KeptKeysPartitioner
from zmflow.graph.transformations import Partitioned

if TYPE_CHECKING:
    from zmflow.api.interval_join import IntervalJoin
    from zmflow.api.process_functions import KeyedProcessFunction, ProcessFunction
    from zmflow.api.windows import (
        AllWindowedStream,
        CountWindow,
        PartitionWindowedStream,
        Window,
        WindowAssigner,
        WindowedStream,
    )

__all__ = ["KeyedStream"]

T = TypeVar("T")
K = TypeVar("K")
K2 = TypeVar("K2")
R = TypeVar("R")
W = TypeVar("W", bound="Window")


class KeyedStream(DataStream[T], Generic[T, K]):
    """A stream whose records of one key of type ``K`` meet in one subtask.

    Aggregates emit the key's new value for each record in STREAMING mode and the last value of each
    key at the end of the input in BATCH mode. What would spread records differently, or is about an
    operator, is refused: call it on the stream before ``key_by`` or on the result.
    """

    def __init__(
        self,
        origin: DataStream[T],
        key_selector: UserFunction,
        key_type: TypeInformation | None = None,
        kept: KeptKeysPartitioner | None = None,
    ) -> None:
        # A KeySelector goes as it is: the worker opens it before it calls it.
        by_key = kept or HashPartitioner(cast("Callable[[Any], object]", key_selector))
        super().__init__(origin._environment, Partitioned(origin._node, by_key), origin._type)
        self._origin = origin
        self._key_selector = key_selector
        self._key_type = key_type

    def key_by(
        self, key_selector: Callable[[T], K2] | KeySelector[T, K2], key_type: TypeInformation | None = None
    ) -> KeyedStream[T, K2]:
        """Key the original stream by something else."""
        return self._origin.key_by(key_selector, key_type)

    def map(
        self, func: Callable[[T], R] | MapFunction[T, R], output_type: TypeInformation | None = None
    ) -> DataStream[R]:
        """One record out for each record in. A ``MapFunction`` has the state of the record's key."""
        return self._with_state("Map", checked_function(func, MapFunction, "map()"), output_type) or (
            super().map(func, output_type)
        )

    def flat_map(
        self,
        func: Callable[[T], Iterable[R]] | FlatMapFunction[T, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Any number of records out. A ``FlatMapFunction`` has the state of the record's key."""
        checked = checked_function(func, FlatMapFunction, "flat_map()")
        return self._with_state("Flat Map", checked, output_type) or super().flat_map(func, output_type)

    def filter(self, func: Callable[[T], object] | FilterFunction[T]) -> DataStream[T]:
        """Keep the records it returns a true value for. A ``FilterFunction`` has the state of their key."""
        checked = checked_function(func, FilterFunction, "filter()")
        return self._with_state("Filter", checked, self._type) or super().filter(func)

    def _with_state(
        self, name: str, function: Any, output_type: TypeInformation | None
    ) -> DataStream[Any] | None:
        """The operator of a function object, which may ask for keyed state; plain callables cannot."""
        if not isinstance(function, Function):
            return None
        from zmflow.api.process_operators import ProcessOperator

        return self._then(name, ProcessOperator(cast("Any", function), self._key_selector), output_type)

    def process(
        self,
        func: KeyedProcessFunction[K, T, R] | ProcessFunction[T, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Any number of records out for each record in, with the state and timers of its key."""
        from zmflow.api.process_functions import KeyedProcessFunction, ProcessFunction
        from zmflow.api.process_operators import ProcessOperator

        if not isinstance(func, (KeyedProcessFunction, ProcessFunction)):
            raise JobGraphError(
                f"process() takes a KeyedProcessFunction, not {func!r}.",
                hint="Derive a class from KeyedProcessFunction and define process_element().",
            )
        return self._then("Keyed Process", ProcessOperator(func, self._key_selector), output_type)

    def window(self, window_assigner: WindowAssigner[Any, W]) -> WindowedStream[T, K, W]:
        """The records of each key in windows."""
        from zmflow.api.windows import WindowedStream

        return WindowedStream(self, window_assigner)

    def count_window(self, size: int, slide: int = 0) -> WindowedStream[T, K, CountWindow]:
        """Windows of so many records of a key.

        Args:
            size: records of a window.
            slide: records between the begins of two windows; 0: as many as a window has.
        """
        from zmflow.api.windows import WindowedStream, count_assigner

        return WindowedStream(self, count_assigner(size, slide))

    def full_window_partition(self) -> PartitionWindowedStream[T]:
        """All records of each key as one window, which closes at the end of the input."""
        from zmflow.api.windows import PartitionWindowedStream

        return PartitionWindowedStream(self, self._key_selector)

    def window_all(self, window_assigner: WindowAssigner[Any, W]) -> AllWindowedStream[T, W]:
        """Windows over all records, whatever their key, in one subtask."""
        return self._origin.window_all(window_assigner)

    def count_window_all(self, size: int, slide: int = 0) -> AllWindowedStream[T, CountWindow]:
        """Windows of so many records, whatever their key, in one subtask."""
        return self._origin.count_window_all(size, slide)

    def interval_join(self, other: KeyedStream[Any, K]) -> IntervalJoin[Any, Any, K]:
        """Pairs of records of two streams with one key, whose timestamps lie within an interval."""
        from zmflow.api.interval_join import IntervalJoin

        return IntervalJoin(self, other)

    def reduce(self, func: Callable[[T, T], T] | ReduceFunction[T]) -> DataStream[T]:
        """Combine each record with what the key's records before it were combined to."""
        function = checked_function(func, ReduceFunction, "reduce()")
        operator = KeyedReduceOperator(self._key_selector, function, final_only=False)
        return self._then("Keyed Reduce", operator, self._type)

    def sum(self, position_to_sum: int | str = 0) -> DataStream[T]:
        """The key's running sum of one field; other fields stay those of the key's first record.

        Args:
            position_to_sum: position or name of the field. Records that are numbers sum themselves.
        """
        return self._aggregate("sum", position_to_sum)

    def min(self, position_to_min: int | str = 0) -> DataStream[T]:
        """The key's least value of one field; other fields stay those of the key's first record."""
        return self._aggregate("min", position_to_min)

    def max(self, position_to_max: int | str = 0) -> DataStream[T]:
        """The key's greatest value of one field; other fields stay those of the key's first record."""
        return self._aggregate("max", position_to_max)

    def min_by(self, position_to_min_by: int | str = 0) -> DataStream[T]:
        """The key's record with the least value of one field, the first of equals."""
        return self._aggregate("min_by", position_to_min_by)

    def max_by(self, position_to_max_by: int | str = 0) -> DataStream[T]:
        """The key's record with the greatest value of one field, the first of equals."""
        return self._aggregate("max_by", position_to_max_by)

    def _aggregate(
        self, kind: Literal["sum", "min", "max", "min_by", "max_by"], field: int | str
    ) -> DataStream[T]:
        if isinstance(field, bool) or not isinstance(field, (int, str)):
            raise _not_a_field(kind, field)
        if field == "" or (isinstance(field, int) and field < 0):
            raise _not_a_field(kind, field)
        operator = KeyedAggregateOperator(self._key_selector, kind, field, final_only=False)
        return self._then(kind.replace("_", " ").title(), operator, self._type)

    # -- what a keyed stream refuses ------------------------------------------------------------

    def shuffle(self) -> NoReturn:
        """Refused: records already go where their key says."""
        _refuse_partitioning("shuffle()")

    def rebalance(self) -> NoReturn:
        """Refused: records already go where their key says."""
        _refuse_partitioning("rebalance()")

    def rescale(self) -> NoReturn:
        """Refused: records already go where their key says."""
        _refuse_partitioning("rescale()")

    def forward(self) -> NoReturn:
        """Refused: records already go where their key says."""
        _refuse_partitioning("forward()")

    def broadcast(self, *descriptors: Any) -> NoReturn:  # noqa: ARG002 - of the interface
        """Refused: records already go where their key says."""
        _refuse_partitioning("broadcast()")

    def global_(self) -> NoReturn:
        """Refused: records already go where their key says."""
        _refuse_partitioning("global_()")

    def partition_custom(self, partitioner: Any, key_selector: Any) -> NoReturn:  # noqa: ARG002
        """Refused: records already go where their key says."""
        _refuse_partitioning("partition_custom()")

    def _operator(self, call: str) -> NoReturn:
        raise JobGraphError(
            f"{call} is called on a keyed stream, which is not an operator.",
            hint=f"Call {call} before key_by(), or on the result of the keyed operation.",
        )


def _refuse_partitioning(call: str) -> NoReturn:
    raise JobGraphError(
        f"{call} would spread a keyed stream differently from its keys.",
        hint=f"Call {call} before key_by(), or on the result of the keyed operation.",
    )


def _not_a_field(kind: str, field: object) -> JobGraphError:
    return JobGraphError(
        f"{kind}() takes the position (from 0) or the name of a field, not {field!r}.",
        hint="To combine records with a function, use reduce().",
    )
