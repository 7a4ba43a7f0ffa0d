"""Function classes for user code with a life cycle, beside plain callables.

Wherever a stream takes a function it takes a plain callable, or an object of one of these classes
when the code needs ``open`` (connect, load a model), ``close`` and the ``RuntimeContext``. One object
exists per subtask: it is pickled with the job and unpickled in the worker.

>>> class Multiply(MapFunction[int, int]):
...     def open(self, runtime_context: RuntimeContext) -> None:
...         self.factor = runtime_context.get_index_of_this_subtask() + 2
...     def map(self, value: int) -> int:
...         return value * self.factor
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from zmflow.api.accumulators import Accumulator, DoubleCounter, Histogram, IntCounter, LongCounter
from zmflow.api.metric_group import MetricGroup
from zmflow.errors import ZmflowError

if TYPE_CHECKING:
    from zmflow.state.backend import KeyedStateBackend
    from zmflow.state.descriptors import (
        AggregatingStateDescriptor,
        ListStateDescriptor,
        MapStateDescriptor,
        ReducingStateDescriptor,
        ValueStateDescriptor,
    )
    from zmflow.state.function_states import FunctionStates
    from zmflow.state.states import AggregatingState, ListState, MapState, ReducingState, ValueState

__all__ = [
    "AggregateFunction",
    "CoFlatMapFunction",
    "CoMapFunction",
    "DistributedCache",
    "ExternalResourceInfo",
    "FilterFunction",
    "FlatMapFunction",
    "Function",
    "KeySelector",
    "MapFunction",
    "Partitioner",
    "ReduceFunction",
    "RuntimeContext",
    "SinkContext",
    "SinkFunction",
    "plain_callable",
]

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
A = TypeVar("A", bound=Accumulator[Any, Any])
ACC = TypeVar("ACC")
IN = TypeVar("IN", contravariant=True)
IN1 = TypeVar("IN1", contravariant=True)
IN2 = TypeVar("IN2", contravariant=True)
OUT = TypeVar("OUT", covariant=True)
KEY = TypeVar("KEY", covariant=True)


@dataclass(frozen=True, slots=True)
class ExternalResourceInfo:
    """One piece of an external resource: the GPU with this index.

    >>> ExternalResourceInfo("gpu", 1).get_property("index")
    '1'
    """

    name: str
    index: int

    def get_property(self, key: str) -> str | None:
        """A property as text, None where there is none: ``index`` is the one every piece has."""
        return str(self.index) if key == "index" else None

    def get_keys(self) -> list[str]:
        """The names of the properties."""
        return ["index"]


INTERNAL_FILE_PREFIX = "zmflow/"
"""How the names of files begin that jobs carry for the engine itself: kept rows of cached streams."""


@dataclass(frozen=True, slots=True)
class DistributedCache:
    """Files that came with the job, by name: see ``StreamExecutionEnvironment.register_cached_file``.

    >>> DistributedCache({"words": "/tmp/words.txt"}).get_file("words")
    '/tmp/words.txt'
    """

    paths: Mapping[str, str]

    def get_file(self, name: str) -> str:
        """The path on this machine of the file or directory that was registered under this name.

        Raises:
            ZmflowError: there is none; names those there are.
        """
        if name not in self.paths:
            registered = [path for path in sorted(self.paths) if not path.startswith(INTERNAL_FILE_PREFIX)]
            raise ZmflowError(
                f"The job has no cached file {name!r}.",
                detail=f"Registered: {', '.join(registered) or 'none'}.",
                hint="Register files with env.register_cached_file(path, name) before execute().",
            )
        return self.paths[name]


@dataclass(frozen=True, slots=True)
class RuntimeContext:
    """Where a function runs: which job, which task, which of how many subtasks; its state, its metrics.

    Numbers start at 0. The getters are PyFlink's.
    """

    job_id: str
    job_name: str
    task_name: str
    operator_name: str
    subtask_index: int
    parallelism: int
    max_parallelism: int
    attempt_number: int
    host: str
    managed_memory_bytes: Mapping[str, int] = field(default_factory=dict, hash=False)
    external_resources: Mapping[str, Sequence[int]] = field(default_factory=dict, hash=False)
    job_parameters: Mapping[str, str] = field(default_factory=dict, hash=False)
    cached_files: Mapping[str, str] = field(default_factory=dict, hash=False)
    accumulators: dict[str, Accumulator[Any, Any]] = field(default_factory=dict, hash=False, compare=False)
    keyed_state: KeyedStateBackend | None = field(default=None, hash=False, compare=False)
    function_states: FunctionStates | None = field(default=None, hash=False, compare=False)
    metric_group: MetricGroup = field(default_factory=MetricGroup, hash=False, compare=False)

    def get_job_id(self) -> str:
        """The job's id, 32 hexadecimal digits."""
        return self.job_id

    def get_job_name(self) -> str:
        """The name given to ``execute``."""
        return self.job_name

    def get_task_name(self) -> str:
        """The name of the chain this function runs in."""
        return self.task_name

    def get_task_name_with_subtasks(self) -> str:
        """The name of the chain with ``(2/4)``: the subtask, counted from 1, of how many."""
        return f"{self.task_name} ({self.subtask_index + 1}/{self.parallelism})"

    def get_index_of_this_subtask(self) -> int:
        """Which subtask this is, from 0."""
        return self.subtask_index

    def get_number_of_parallel_subtasks(self) -> int:
        """How many subtasks the operator has."""
        return self.parallelism

    def get_max_number_of_parallel_subtasks(self) -> int:
        """How many subtasks the operator can ever have: its number of key groups."""
        return self.max_parallelism

    def get_attempt_number(self) -> int:
        """Which try this is, from 0: 2 when the task was restarted twice."""
        return self.attempt_number

    def get_managed_memory_bytes(self, use_case: str = "OPERATOR") -> int:
        """How much of the slot's managed memory is this task's for a use case.

        ``OPERATOR`` is for what the operators of the task keep themselves, ``STATE_BACKEND`` for their state.
        The engine sets it aside by the weights operators declare; using no more is up to the function.

        >>> def open(self, runtime_context):
        ...     self.cache_bytes = runtime_context.get_managed_memory_bytes()
        """
        return self.managed_memory_bytes.get(use_case, 0)

    def get_external_resource_infos(self, name: str) -> tuple[ExternalResourceInfo, ...]:
        """The pieces of an external resource that belong to the slot this function runs in.

        All tasks of the slot see the same pieces, no other slot of the machine has them. There are as many as
        the ``SlotSharingGroup`` asks for; none when it does not.

        >>> def open(self, runtime_context):
        ...     gpus = runtime_context.get_external_resource_infos("gpu")
        ...     self.device = f"cuda:{gpus[0].index}"
        """
        return tuple(ExternalResourceInfo(name, index) for index in self.external_resources.get(name, ()))

    @overload
    def get_job_parameter(self, key: str, default_value: str) -> str: ...
    @overload
    def get_job_parameter(self, key: str, default_value: None = None) -> str | None: ...
    def get_job_parameter(self, key: str, default_value: str | None = None) -> str | None:
        """One of the job's global parameters, or the default."""
        return self.job_parameters.get(key, default_value)

    def get_distributed_cache(self) -> DistributedCache:
        """The files that were registered with the job."""
        return DistributedCache(self.cached_files)

    def get_metrics_group(self) -> MetricGroup:
        """Where this operator registers its metrics.

        >>> def open(self, runtime_context):
        ...     self.bad_lines = runtime_context.get_metrics_group().counter("bad_lines")
        """
        return self.metric_group

    # -- accumulators -----------------------------------------------------------------------------

    def add_accumulator(self, name: str, accumulator: A) -> A:
        """Register an accumulator of this task under a name; the job merges those of all subtasks.

        Raises:
            ZmflowError: a function of this task has registered one under this name.

        >>> def open(self, runtime_context):
        ...     self.rejected = runtime_context.add_accumulator("rejected", IntCounter())
        """
        if name in self.accumulators:
            raise ZmflowError(
                f"The accumulator {name!r} already exists and cannot be added.",
                hint="Use get_accumulator() to share it, or give this one another name.",
            )
        self.accumulators[name] = accumulator
        return accumulator

    def get_accumulator(self, name: str) -> Accumulator[Any, Any] | None:
        """The accumulator of this task with this name."""
        return self.accumulators.get(name)

    def get_int_counter(self, name: str) -> IntCounter:
        """The counter of this task with this name; made where there is none."""
        return self._accumulator(name, IntCounter)

    def get_long_counter(self, name: str) -> LongCounter:
        """The counter of this task with this name; made where there is none."""
        return self._accumulator(name, LongCounter)

    def get_double_counter(self, name: str) -> DoubleCounter:
        """The counter of this task with this name; made where there is none."""
        return self._accumulator(name, DoubleCounter)

    def get_histogram(self, name: str) -> Histogram:
        """The histogram of this task with this name; made where there is none."""
        return self._accumulator(name, Histogram)

    def _accumulator(self, name: str, kind: type[A]) -> A:
        known = self.accumulators.setdefault(name, kind())
        if not isinstance(known, kind):
            raise ZmflowError(
                f"The accumulator {name!r} is a {type(known).__name__}, not a {kind.__name__}.",
                hint="Give one of them another name.",
            )
        return known

    # -- keyed state ------------------------------------------------------------------------------

    def get_state(self, state_descriptor: ValueStateDescriptor[T]) -> ValueState[T]:
        """The state of the current key that is one value. Ask for it once, in ``open``."""
        return self._keyed_state("get_state()").get_state(state_descriptor)

    def get_list_state(self, state_descriptor: ListStateDescriptor[T]) -> ListState[T]:
        """The state of the current key that is a list."""
        return self._keyed_state("get_list_state()").get_state(state_descriptor)

    def get_map_state(self, state_descriptor: MapStateDescriptor[K, V]) -> MapState[K, V]:
        """The state of the current key that is a map."""
        return self._keyed_state("get_map_state()").get_state(state_descriptor)

    def get_reducing_state(self, state_descriptor: ReducingStateDescriptor[T]) -> ReducingState[T]:
        """The state of the current key that is what its values were reduced to."""
        return self._keyed_state("get_reducing_state()").get_state(state_descriptor)

    def get_aggregating_state(
        self, state_descriptor: AggregatingStateDescriptor[T, ACC, V]
    ) -> AggregatingState[T, V]:
        """The state of the current key that is what its values were aggregated to."""
        return self._keyed_state("get_aggregating_state()").get_state(state_descriptor)

    def _keyed_state(self, call: str) -> KeyedStateBackend:
        if self.keyed_state is None:
            raise ZmflowError(
                f"{call} was called in a function whose stream has no keys.",
                detail=f"Operator: {self.operator_name}." if self.operator_name else None,
                hint="Keyed state belongs to a key: call key_by() before the operator.",
            )
        return self.keyed_state


class Function:
    """Base of the function classes. Both hooks are optional."""

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called once in the worker, on the task's thread, before the first record."""

    def close(self) -> None:
        """Called once after the last record, and when the task fails or is cancelled."""


class MapFunction(Function, ABC, Generic[IN, OUT]):
    """One record in, one record out."""

    @abstractmethod
    def map(self, value: IN) -> OUT: ...


class FlatMapFunction(Function, ABC, Generic[IN, OUT]):
    """One record in, any number out: return an iterable or be a generator."""

    @abstractmethod
    def flat_map(self, value: IN) -> Iterable[OUT]: ...


class FilterFunction(Function, ABC, Generic[IN]):
    """Keeps the records it returns a true value for."""

    @abstractmethod
    def filter(self, value: IN) -> bool: ...


class ReduceFunction(Function, ABC, Generic[T]):
    """Combines two records of one key into one. Must be associative."""

    @abstractmethod
    def reduce(self, value1: T, value2: T) -> T: ...


class AggregateFunction(Function, ABC, Generic[T, ACC, V]):
    """Aggregates values of type ``T`` in an accumulator of type ``ACC`` to a result of type ``V``.

    An accumulator may be changed in place; what ``add`` and ``merge`` return is the accumulator from then on.
    """

    @abstractmethod
    def create_accumulator(self) -> ACC: ...

    @abstractmethod
    def add(self, value: T, accumulator: ACC) -> ACC: ...

    @abstractmethod
    def get_result(self, accumulator: ACC) -> V: ...

    @abstractmethod
    def merge(self, acc_a: ACC, acc_b: ACC) -> ACC: ...


class CoMapFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """One record out for each record of either of two connected streams."""

    @abstractmethod
    def map1(self, value: IN1) -> OUT: ...

    @abstractmethod
    def map2(self, value: IN2) -> OUT: ...


class CoFlatMapFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Any number of records out for each record of either of two connected streams."""

    @abstractmethod
    def flat_map1(self, value: IN1) -> Iterable[OUT] | None: ...

    @abstractmethod
    def flat_map2(self, value: IN2) -> Iterable[OUT] | None: ...


class KeySelector(Function, ABC, Generic[IN, KEY]):
    """The key of a record. Must return the same key for the same record, everywhere."""

    @abstractmethod
    def get_key(self, value: IN) -> KEY: ...


class Partitioner(Function, ABC, Generic[IN]):
    """The subtask (from 0, below ``num_partitions``) for a key."""

    @abstractmethod
    def partition(self, key: IN, num_partitions: int) -> int: ...


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a ``SinkFunction`` is told beside the record."""

    runtime_context: RuntimeContext


class SinkFunction(Function, ABC, Generic[IN]):
    """A sink that is one method: called for every record."""

    @abstractmethod
    def invoke(self, value: IN, context: SinkContext) -> None: ...


_METHODS: dict[type[Function], str] = {
    MapFunction: "map",
    FlatMapFunction: "flat_map",
    FilterFunction: "filter",
    ReduceFunction: "reduce",
    KeySelector: "get_key",
    Partitioner: "partition",
}


def plain_callable(function: Callable[..., T] | Function) -> Callable[..., T]:
    """What to call per record: the function itself, or the one method of a function class.

    >>> plain_callable(str.upper)("a")
    'A'
    """
    if isinstance(function, Function):
        for kind, method in _METHODS.items():
            if isinstance(function, kind):
                bound: Callable[..., T] = getattr(function, method)
                return bound
        raise TypeError(f"{type(function).__name__} is none of the function classes.")
    return function
