"""``DataStream``: records on their way, and what can be done with them. Names and order are PyFlink's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from zmflow.api.console import PrintSink
from zmflow.api.data_stream_sink import DataStreamSink
from zmflow.api.execution import CloseableIterator
from zmflow.api.functions import (
    FilterFunction,
    FlatMapFunction,
    KeySelector,
    MapFunction,
    Partitioner,
    SinkFunction,
)
from zmflow.api.operator_properties import OperatorProperties
from zmflow.api.operators import (
    FilterOperator,
    FlatMapOperator,
    MapOperator,
    ProjectOperator,
    SinkFunctionOperator,
    SinkOperator,
)
from zmflow.api.sinks import Sink
from zmflow.api.types import TypeInformation
from zmflow.api.user_functions import checked_function
from zmflow.api.watermark_strategy import WatermarksOperator, WatermarkStrategy
from zmflow.errors import JobGraphError
from zmflow.graph import partitioners
from zmflow.graph.transformations import (
    ChainingStrategy,
    Node,
    OperatorKind,
    Partitioned,
    SideOutput,
    Transformation,
    Union,
)

if TYPE_CHECKING:
    from zmflow.api.broadcast_stream import BroadcastConnectedStream, BroadcastStream
    from zmflow.api.cached_data_stream import CachedDataStream
    from zmflow.api.connected_streams import ConnectedStreams
    from zmflow.api.environment import StreamExecutionEnvironment
    from zmflow.api.execution_config import ExecutionConfig
    from zmflow.api.joins import CoGroupedStreams, JoinedStreams
    from zmflow.api.keyed_stream import KeyedStream
    from zmflow.api.output_tag import OutputTag
    from zmflow.api.process_functions import ProcessFunction
    from zmflow.api.windows import (
        AllWindowedStream,
        CountWindow,
        PartitionWindowedStream,
        Window,
        WindowAssigner,
    )
    from zmflow.state.descriptors import MapStateDescriptor

__all__ = ["DataStream"]

T = TypeVar("T")
R = TypeVar("R")
K = TypeVar("K")
W = TypeVar("W", bound="Window")


class DataStream(OperatorProperties, Generic[T]):
    """A stream of records of type ``T``. Methods add operators; nothing runs before ``execute``.

    Wherever a function is taken, a plain callable will do, or an object of the function class when it
    needs ``open``, ``close`` or the ``RuntimeContext``. ``output_type`` declares what records are and is
    optional.
    """

    def __init__(
        self,
        environment: StreamExecutionEnvironment,
        node: Node,
        type_info: TypeInformation | None = None,
    ) -> None:
        self._environment = environment
        self._node = node
        self._type = type_info

    # -- records --------------------------------------------------------------------------------

    def map(
        self, func: Callable[[T], R] | MapFunction[T, R], output_type: TypeInformation | None = None
    ) -> DataStream[R]:
        """One record out for each record in."""
        operator = MapOperator(checked_function(func, MapFunction, "map()"))
        return self._then("Map", operator, output_type)

    def flat_map(
        self,
        func: Callable[[T], Iterable[R]] | FlatMapFunction[T, R],
        output_type: TypeInformation | None = None,
    ) -> DataStream[R]:
        """Any number of records out for each record in: the function returns an iterable or yields."""
        operator = FlatMapOperator(checked_function(func, FlatMapFunction, "flat_map()"))
        return self._then("Flat Map", operator, output_type)

    def filter(self, func: Callable[[T], object] | FilterFunction[T]) -> DataStream[T]:
        """Keep the records that the function returns a true value for."""
        operator = FilterOperator(checked_function(func, FilterFunction, "filter()"))
        return self._then("Filter", operator, self._type)

    def project(self, *field_indexes: int) -> DataStream[Any]:
        """Keep these fields of each tuple, list or Row, in this order."""
        if not field_indexes or not all(
            isinstance(index, int) and not isinstance(index, bool) and index >= 0 for index in field_indexes
        ):
            raise JobGraphError(f"project() takes the positions of fields, from 0, not {field_indexes!r}.")
        return self._then("Projection", ProjectOperator(field_indexes), None)

    def key_by(
        self, key_selector: Callable[[T], K] | KeySelector[T, K], key_type: TypeInformation | None = None
    ) -> KeyedStream[T, K]:
        """Bring records of one key to one subtask."""
        from zmflow.api.keyed_stream import KeyedStream

        selector = checked_function(key_selector, KeySelector, "key_by()")
        return KeyedStream(self, selector, key_type)

    def union(self, *streams: DataStream[T]) -> DataStream[T]:
        """The records of this and the other streams, in no particular order between them."""
        for stream in streams:
            if not isinstance(stream, DataStream):
                raise JobGraphError(f"union() takes streams, not a {type(stream).__name__}.")
            if stream._environment is not self._environment:
                raise JobGraphError(
                    "union() was given a stream of another StreamExecutionEnvironment.",
                    hint="Make all streams of a job from one environment.",
                )
        if not streams:
            raise JobGraphError("union() was given no stream.", hint="Pass the streams to unite with.")
        inputs: list[Node] = []
        for stream in (self, *streams):
            node = stream._node
            inputs.extend(node.inputs if isinstance(node, Union) else [node])
        return DataStream(self._environment, Union(tuple(inputs)), self._type)

    # -- other streams ------------------------------------------------------------------------

    def process(
        self, func: ProcessFunction[T, R], output_type: TypeInformation | None = None
    ) -> DataStream[R]:
        """Any number of records out for each record in, with its timestamp, timers and side outputs."""
        from zmflow.api.process_functions import ProcessFunction
        from zmflow.api.process_operators import ProcessOperator

        if not isinstance(func, ProcessFunction):
            raise JobGraphError(
                f"process() takes a ProcessFunction, not {func!r}.",
                hint="A KeyedProcessFunction belongs behind key_by(); a plain function into flat_map().",
            )
        return self._then("Process", ProcessOperator(func), output_type)

    def get_side_output(self, output_tag: OutputTag[R]) -> DataStream[R]:
        """The records that this operator gave a tag."""
        operator = self._operator("get_side_output()")
        side = SideOutput(operator, output_tag.tag_id, output_tag.type_info)
        return DataStream(self._environment, side, output_tag.type_info)

    @overload
    def connect(self, ds: BroadcastStream[R]) -> BroadcastConnectedStream[T, R]: ...
    @overload
    def connect(self, ds: DataStream[R]) -> ConnectedStreams[T, R]: ...
    def connect(
        self, ds: DataStream[R] | BroadcastStream[R]
    ) -> ConnectedStreams[T, R] | BroadcastConnectedStream[T, R]:
        """This stream and another one, for functions that tell them apart and share state."""
        from zmflow.api.broadcast_stream import BroadcastConnectedStream, BroadcastStream
        from zmflow.api.connected_streams import ConnectedStreams

        if isinstance(ds, BroadcastStream):
            return BroadcastConnectedStream(self, ds)
        return ConnectedStreams(self, ds)

    def join(self, other: DataStream[R]) -> JoinedStreams[T, R]:
        """Pairs of records of two streams with one key, in one window."""
        from zmflow.api.joins import JoinedStreams

        return JoinedStreams(self, other)

    def co_group(self, other: DataStream[R]) -> CoGroupedStreams[T, R]:
        """All records of two streams with one key, in one window."""
        from zmflow.api.joins import CoGroupedStreams

        return CoGroupedStreams(self, other)

    # -- windows ------------------------------------------------------------------------------

    def window_all(self, window_assigner: WindowAssigner[Any, W]) -> AllWindowedStream[T, W]:
        """Windows over all records, in one subtask."""
        from zmflow.api.windows import AllWindowedStream

        return AllWindowedStream(self, window_assigner)

    def count_window_all(self, size: int, slide: int = 0) -> AllWindowedStream[T, CountWindow]:
        """Windows of so many records, in one subtask.

        Args:
            size: records of a window.
            slide: records between the begins of two windows; 0: as many as a window has.
        """
        from zmflow.api.windows import AllWindowedStream, count_assigner

        return AllWindowedStream(self, count_assigner(size, slide))

    def full_window_partition(self) -> PartitionWindowedStream[T]:
        """All records of each subtask as one window, which closes at the end of the input."""
        from zmflow.api.windows import PartitionWindowedStream

        return PartitionWindowedStream(self)

    # -- time ---------------------------------------------------------------------------------

    def assign_timestamps_and_watermarks(self, watermark_strategy: WatermarkStrategy[T]) -> DataStream[T]:
        """Give records timestamps, and say how far event time is."""
        if not isinstance(watermark_strategy, WatermarkStrategy):
            raise JobGraphError(
                f"assign_timestamps_and_watermarks() takes a WatermarkStrategy, not {watermark_strategy!r}.",
                hint="WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(5)) is one.",
            )
        return self._then("Timestamps/Watermarks", WatermarksOperator(watermark_strategy), self._type)

    # -- which subtask --------------------------------------------------------------------------

    def shuffle(self) -> DataStream[T]:
        """Send each record to a random subtask."""
        return self._partitioned(partitioners.ShufflePartitioner())

    def rebalance(self) -> DataStream[T]:
        """Send records to all subtasks in turn."""
        return self._partitioned(partitioners.RebalancePartitioner())

    def rescale(self) -> DataStream[T]:
        """Send records in turn to a fixed group of subtasks, so that most stay on their machine."""
        return self._partitioned(partitioners.RescalePartitioner())

    def forward(self) -> DataStream[T]:
        """Send records of subtask i to subtask i; both sides must have the same parallelism."""
        return self._partitioned(partitioners.ForwardPartitioner())

    @overload
    def broadcast(self) -> DataStream[T]: ...
    @overload
    def broadcast(self, *descriptors: MapStateDescriptor[Any, Any]) -> BroadcastStream[T]: ...
    def broadcast(self, *descriptors: MapStateDescriptor[Any, Any]) -> DataStream[T] | BroadcastStream[T]:
        """Send each record to every subtask.

        Args:
            descriptors: the broadcast state that a stream connected to this one keeps of it.
        """
        if descriptors:
            from zmflow.api.broadcast_stream import BroadcastStream

            return BroadcastStream(self, descriptors)
        return self._partitioned(partitioners.BroadcastPartitioner())

    def global_(self) -> DataStream[T]:
        """Send every record to the first subtask."""
        return self._partitioned(partitioners.GlobalPartitioner())

    def partition_custom(
        self,
        partitioner: Callable[[K, int], int] | Partitioner[K],
        key_selector: Callable[[T], K] | KeySelector[T, K],
    ) -> DataStream[T]:
        """Send each record to the subtask that ``partitioner(key, number of subtasks)`` returns."""
        choose = checked_function(partitioner, Partitioner, "partition_custom()")
        selector = checked_function(key_selector, KeySelector, "partition_custom()")
        return self._partitioned(partitioners.CustomPartitioner(choose, selector))

    # -- once for several jobs ------------------------------------------------------------------

    def cache(self) -> CachedDataStream[T]:
        """Keep the records of this operator: one job computes them, and the jobs after it read them.

        In BATCH mode only. The records come to this program's disk and go along with each job that uses them,
        so they should not be many. What is lost, or of a job that did not finish, is computed again. They are
        kept until ``invalidate()`` or until the environment is closed. The job that computes them does not
        outlive this program.

        >>> cached = stream.map(expensive).cache()  # doctest: +SKIP
        """
        from zmflow.api.cached_data_stream import CachedDataStream

        return CachedDataStream(self)

    # -- sinks ----------------------------------------------------------------------------------

    def print(self, sink_identifier: str | None = None) -> DataStreamSink:
        """Print each record; lines begin with the identifier and, in parallel, the subtask from 1."""
        return self.sink_to(PrintSink(sink_identifier))

    def print_to_err(self, sink_identifier: str | None = None) -> DataStreamSink:
        """Print each record to standard error, in the form of ``print``."""
        return self.sink_to(PrintSink(sink_identifier, std_err=True))

    def sink_to(self, sink: Sink[T]) -> DataStreamSink:
        """Write the records to a sink."""
        if not isinstance(sink, Sink):
            hint = "add_sink() takes SinkFunctions and callables." if callable(sink) else None
            raise JobGraphError(f"sink_to() takes a Sink, not a {type(sink).__name__}.", hint=hint)
        typed = sink.for_type(self._type)
        return DataStreamSink(self._add("sink", sink.name, SinkOperator(typed)))

    def add_sink(self, sink_func: SinkFunction[T] | Callable[[T], object]) -> DataStreamSink:
        """Call a function for each record."""
        function = checked_function(sink_func, SinkFunction, "add_sink()")
        named = type(function) if isinstance(function, SinkFunction) else function
        name = getattr(named, "__name__", type(function).__name__)
        return DataStreamSink(
            self._add("sink", "Unnamed" if name == "<lambda>" else name, SinkFunctionOperator(function))
        )

    @overload
    def execute_and_collect(self, job_execution_name: str | None = None) -> CloseableIterator[T]: ...
    @overload
    def execute_and_collect(
        self, job_execution_name: str | None = None, *, limit: None
    ) -> CloseableIterator[T]: ...
    @overload
    def execute_and_collect(self, job_execution_name: str | None = None, *, limit: int) -> list[T]: ...
    @overload
    def execute_and_collect(self, job_execution_name: str | None, limit: int) -> list[T]: ...
    def execute_and_collect(
        self, job_execution_name: str | None = None, limit: int | None = None
    ) -> CloseableIterator[T] | list[T]:
        """Run the job and bring this stream's records back.

        Args:
            job_execution_name: the job's name.
            limit: take at most this many, cancel the rest of the job and return them as a list.

        Returns:
            The records as they arrive; with ``limit``, a list.
        """
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise JobGraphError(f"execute_and_collect() takes a limit of at least 1, not {limit!r}.")
        client = self._environment._execute_collecting(self, job_execution_name)
        if limit is None:
            return CloseableIterator(client)
        with CloseableIterator[T](client, limit) as rows:
            return list(rows)

    # -- properties -----------------------------------------------------------------------------

    def force_non_parallel(self) -> Self:
        """Run the operator in one subtask, for good: parallelism and max parallelism cannot be changed."""
        operator = self._operator("force_non_parallel()")
        operator.parallelism, operator.max_parallelism, operator.non_parallel = 1, 1, True
        return self

    def returns(self, type_info: TypeInformation) -> Self:
        """Declare what the operator's records are, as ``output_type`` of the operation does.

        Operators that were added behind it before keep what they knew.
        """
        if not isinstance(type_info, TypeInformation):
            raise JobGraphError(f"returns() takes a type, not {type_info!r}.", hint="Types.STRING() is one.")
        self._operator("returns()").output_type = type_info
        self._type = type_info
        return self

    def start_new_chain(self) -> Self:
        """Begin a chain with this operator: it is not chained with what precedes it."""
        self._operator("start_new_chain()").chaining = ChainingStrategy.HEAD
        return self

    def set_buffer_timeout(self, timeout_millis: int) -> Self:
        """Longest time a record of this operator waits in a frame that is not full.

        Args:
            timeout_millis: milliseconds; 0 sends each record at once, -1 only full frames.
        """
        if isinstance(timeout_millis, bool) or not isinstance(timeout_millis, int) or timeout_millis < -1:
            raise JobGraphError(
                f"The buffer timeout is {timeout_millis!r}.",
                hint="Allowed: milliseconds, 0 for each record at once, -1 for full frames only.",
            )
        self._operator("set_buffer_timeout()").buffer_timeout_ms = timeout_millis
        return self

    def get_type(self) -> TypeInformation | None:
        """What was declared about this stream's records, or None."""
        return self._type

    def get_execution_environment(self) -> StreamExecutionEnvironment:
        """The environment this stream belongs to."""
        return self._environment

    def get_execution_config(self) -> ExecutionConfig:
        """How the jobs of the stream's environment run."""
        return self._environment.get_config()

    # -- inside ---------------------------------------------------------------------------------

    def _operator(self, call: str) -> Transformation:
        if isinstance(self._node, Transformation):
            return self._node
        what = "a union" if isinstance(self._node, Union) else "a partitioning"
        raise JobGraphError(
            f"{call} is called on {what}, which is not an operator.",
            hint=f"Call {call} on an operator before or behind it.",
        )

    def _then(self, name: str, operator: object, output_type: TypeInformation | None) -> DataStream[Any]:
        added = self._add("operator", name, operator)
        added.output_type = output_type
        return DataStream(self._environment, added, output_type)

    def _add(self, kind: OperatorKind, name: str, operator: object) -> Transformation:
        return self._environment._add(kind, name, operator, (self._node,))

    def _partitioned(self, partitioner: partitioners.Partitioner) -> DataStream[T]:
        return DataStream(self._environment, Partitioned(self._node, partitioner), self._type)
