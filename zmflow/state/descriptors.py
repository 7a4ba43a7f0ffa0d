"""Descriptors: how a function declares the state it wants, with PyFlink's names.

Types need not be declared. A type checker wants to know them all the same:
``ValueStateDescriptor[int]("count")``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from zmflow.errors import StateError
from zmflow.state.ttl import StateTtlConfig

__all__ = [
    "AggregatingStateDescriptor",
    "ListStateDescriptor",
    "MapStateDescriptor",
    "ReducingStateDescriptor",
    "StateDescriptor",
    "StateKind",
    "ValueStateDescriptor",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
IN = TypeVar("IN", contravariant=True)
ACC = TypeVar("ACC")
OUT = TypeVar("OUT", covariant=True)


class StateKind(Enum):
    """The five kinds of keyed state; the values stand in snapshots."""

    VALUE = "value"
    LIST = "list"
    MAP = "map"
    REDUCING = "reducing"
    AGGREGATING = "aggregating"


class StateDescriptor:
    """What all descriptors say: the name of the state, and whether it expires.

    Args:
        name: the state is found again by it, after a restart, too. One name is one state of its function.
        type_info: what it holds; need not be declared.
    """

    kind: ClassVar[StateKind]

    def __init__(self, name: str, type_info: Any = None) -> None:
        if not isinstance(name, str) or not name:
            raise StateError(
                f"The name of a state is {name!r}.", hint="Give a text: the state is found again by it."
            )
        self.name = name
        self.type_info = type_info
        self.ttl_config: StateTtlConfig | None = None

    def get_name(self) -> str:
        """The name of the state."""
        return self.name

    def enable_time_to_live(self, ttl_config: StateTtlConfig) -> None:
        """Let the state expire."""
        self.ttl_config = ttl_config if ttl_config.is_enabled() else None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"


class ValueStateDescriptor(StateDescriptor, Generic[T]):
    """Declares a ``ValueState``."""

    kind = StateKind.VALUE

    def __init__(self, name: str, value_type_info: type[T] | Any = None) -> None:
        super().__init__(name, value_type_info)


class ListStateDescriptor(StateDescriptor, Generic[T]):
    """Declares a ``ListState``."""

    kind = StateKind.LIST

    def __init__(self, name: str, elem_type_info: type[T] | Any = None) -> None:
        super().__init__(name, elem_type_info)


class MapStateDescriptor(StateDescriptor, Generic[K, V]):
    """Declares a ``MapState`` or a ``BroadcastState``."""

    kind = StateKind.MAP

    def __init__(
        self, name: str, key_type_info: type[K] | Any = None, value_type_info: type[V] | Any = None
    ) -> None:
        super().__init__(name, None if key_type_info is None else (key_type_info, value_type_info))


class ReducingStateDescriptor(StateDescriptor, Generic[T]):
    """Declares a ``ReducingState``.

    Args:
        name: of the state.
        reduce_function: a callable, or an object with a method ``reduce``, that combines two values.
        type_info: of the values.

    >>> import operator
    >>> ReducingStateDescriptor("sum", operator.add).reduce(1, 2)
    3
    """

    kind = StateKind.REDUCING

    def __init__(self, name: str, reduce_function: Any, type_info: type[T] | Any = None) -> None:
        super().__init__(name, type_info)
        reduce = getattr(reduce_function, "reduce", reduce_function)
        if not callable(reduce):
            raise StateError(
                f"The state {name!r} has no function to reduce with, but {reduce_function!r}.",
                hint="Give a function of two values, or a ReduceFunction.",
            )
        self._reduce_function = reduce_function

    @property
    def reduce(self) -> Callable[[T, T], T]:
        """What combines two values."""
        function = self._reduce_function
        reduce: Callable[[T, T], T] = getattr(function, "reduce", function)
        return reduce

    def get_reduce_function(self) -> Any:
        """The function as it was given."""
        return self._reduce_function


class _AggregateFunction(Protocol[IN, ACC, OUT]):
    """What aggregating state needs of an aggregate function."""

    def create_accumulator(self) -> ACC: ...
    def add(self, value: IN, accumulator: ACC) -> ACC: ...
    def get_result(self, accumulator: ACC) -> OUT: ...
    def merge(self, acc_a: ACC, acc_b: ACC) -> ACC: ...


class AggregatingStateDescriptor(StateDescriptor, Generic[IN, ACC, OUT]):
    """Declares an ``AggregatingState``.

    Args:
        name: of the state.
        agg_function: an ``AggregateFunction``: create_accumulator, add, get_result, merge.
        state_type_info: of the accumulator.
    """

    kind = StateKind.AGGREGATING

    def __init__(self, name: str, agg_function: Any, state_type_info: type[ACC] | Any = None) -> None:
        super().__init__(name, state_type_info)
        missing = [
            method
            for method in ("create_accumulator", "add", "get_result", "merge")
            if not callable(getattr(agg_function, method, None))
        ]
        if missing:
            raise StateError(
                f"The aggregate function of the state {name!r} has no method {', '.join(missing)}.",
                detail=repr(agg_function),
                hint="Give an object of a subclass of AggregateFunction.",
            )
        self._agg_function: _AggregateFunction[IN, ACC, OUT] = agg_function

    def get_agg_function(self) -> _AggregateFunction[IN, ACC, OUT]:
        """The function as it was given."""
        return self._agg_function
