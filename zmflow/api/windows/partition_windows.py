"""``PartitionWindowedStream``: everything a subtask, or a key, gets until the input ends, as one window."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from zmflow.api.functions import AggregateFunction, KeySelector, ReduceFunction
from zmflow.api.operators import UserFunction
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.api.windows.functions import MapPartitionFunction
from zmflow.api.windows.operators import Order, PartitionWindowOperator
from zmflow.errors import JobGraphError

if TYPE_CHECKING:
    from zmflow.api.datastream import DataStream

__all__ = ["PartitionWindowedStream"]

T = TypeVar("T")
R = TypeVar("R")
ACC = TypeVar("ACC")


class PartitionWindowedStream(Generic[T]):
    """The partitions of a bounded stream: of a keyed stream each key is one, else each subtask.

    ``map_partition`` and ``sort_partition`` hold all records of a subtask in memory until the input ends;
    ``reduce`` and ``aggregate`` only one value for each partition.
    """

    def __init__(self, stream: DataStream[T], key_selector: UserFunction | None = None) -> None:
        self._stream = stream
        self._key_selector = key_selector

    def map_partition(
        self,
        map_partition_function: Callable[[Iterable[T]], Iterable[R] | None] | MapPartitionFunction[T, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Call a function once with all records of a partition; it returns an iterable or is a generator."""
        function = checked_function(map_partition_function, MapPartitionFunction, "map_partition()")
        return self._then(
            "MapPartition", PartitionWindowOperator("map", function, self._key_selector), output_type
        )

    def sort_partition(
        self,
        field_or_key_selector: int | str | Callable[[T], Any] | KeySelector[T, Any],
        order: Order = Order.ASCENDING,
    ) -> DataStream[T]:
        """The records of a partition in order; equal ones stay in order of arrival.

        Args:
            field_or_key_selector: position or name of the field to sort by, or a function of the record.
            order: which comes first.
        """
        if not isinstance(order, Order):
            raise JobGraphError(f"sort_partition() takes an Order, not {order!r}.", hint="Order.DESCENDING")
        sort_key: Any = field_or_key_selector
        if isinstance(field_or_key_selector, (int, str)) and not isinstance(field_or_key_selector, bool):
            sort_key = _Field(field_or_key_selector)
        function = checked_function(sort_key, KeySelector, "sort_partition()")
        operator = PartitionWindowOperator("sort", function, self._key_selector, order)
        return self._then("SortPartition", operator, self._stream.get_type())

    def reduce(self, reduce_function: Callable[[T, T], T] | ReduceFunction[T]) -> DataStream[T]:
        """The records of a partition combined into one."""
        function = checked_function(reduce_function, ReduceFunction, "reduce()")
        operator = PartitionWindowOperator("reduce", function, self._key_selector)
        return self._then("PartitionReduce", operator, self._stream.get_type())

    def aggregate(
        self,
        aggregate_function: AggregateFunction[T, ACC, R],
        accumulator_type: TypeInformation | None = None,  # noqa: ARG002 - as in WindowedStream.aggregate
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """The aggregate of the records of a partition."""
        if not isinstance(aggregate_function, AggregateFunction):
            raise JobGraphError(f"aggregate() takes an AggregateFunction, not {aggregate_function!r}.")
        operator = PartitionWindowOperator("aggregate", aggregate_function, self._key_selector)
        return self._then("PartitionAggregate", operator, output_type)

    def _then(
        self, name: str, operator: PartitionWindowOperator, output_type: TypeInformation | None
    ) -> DataStream[Any]:
        return self._stream._then(name, cast("Any", operator), output_type)


class _Field:
    """Reads one field of a record; a number is its own first field, as in the aggregates."""

    __slots__ = ("_field",)

    def __init__(self, field: int | str) -> None:
        self._field = field

    def __call__(self, record: Any) -> Any:
        if isinstance(self._field, str) and not isinstance(record, dict):
            return getattr(record, self._field)
        return record[self._field] if hasattr(type(record), "__getitem__") else record
