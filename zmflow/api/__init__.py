"""What users write: environments, streams, functions, state, sources and sinks.

Names are loaded on use: a program pays for the parts of the API it has.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmflow.api.accumulators import (
        Accumulator,
        AverageAccumulator,
        DoubleCounter,
        DoubleMaximum,
        DoubleMinimum,
        Histogram,
        IntCounter,
        IntMaximum,
        IntMinimum,
        ListAccumulator,
        LongCounter,
        LongMaximum,
        LongMinimum,
    )
    from zmflow.api.async_functions import (
        AsyncFunction,
        AsyncRetryPredicate,
        AsyncRetryStrategy,
        empty_result_predicate,
        exception_type_predicate,
        has_exception_predicate,
    )
    from zmflow.api.async_stream import (
        AsyncDataStream,
    )
    from zmflow.api.broadcast_stream import (
        BroadcastConnectedStream,
        BroadcastStream,
    )
    from zmflow.api.collections import (
        CollectionSource,
        SequenceSource,
    )
    from zmflow.api.configuration import (
        Configuration,
    )
    from zmflow.api.connected_streams import (
        ConnectedStreams,
    )
    from zmflow.api.console import (
        PrintSink,
    )
    from zmflow.api.data_stream_sink import (
        DataStreamSink,
    )
    from zmflow.api.datastream import (
        DataStream,
    )
    from zmflow.api.environment import (
        RuntimeExecutionMode,
        StreamExecutionEnvironment,
    )
    from zmflow.api.execution import (
        CloseableIterator,
        JobClient,
        JobExecutionResult,
    )
    from zmflow.api.functions import (
        AggregateFunction,
        CoFlatMapFunction,
        CoMapFunction,
        DistributedCache,
        ExternalResourceInfo,
        FilterFunction,
        FlatMapFunction,
        Function,
        KeySelector,
        MapFunction,
        Partitioner,
        ReduceFunction,
        RuntimeContext,
        SinkContext,
        SinkFunction,
    )
    from zmflow.api.interval_join import (
        IntervalJoin,
    )
    from zmflow.api.join_functions import (
        CoGroupFunction,
        FlatJoinFunction,
        JoinFunction,
        ProcessJoinFunction,
    )
    from zmflow.api.joins import (
        CoGroupedStreams,
        JoinedStreams,
    )
    from zmflow.api.keyed_stream import (
        KeyedStream,
    )
    from zmflow.api.output_tag import (
        DEAD_LETTERS,
        OutputTag,
    )
    from zmflow.api.process_functions import (
        BroadcastProcessFunction,
        CoProcessFunction,
        KeyedBroadcastProcessFunction,
        KeyedCoProcessFunction,
        KeyedProcessFunction,
        ProcessFunction,
    )
    from zmflow.api.row import (
        Row,
    )
    from zmflow.api.sinks import (
        Sink,
        SinkWriter,
        WriterContext,
    )
    from zmflow.api.slot_sharing_group import (
        MemorySize,
        SlotSharingGroup,
    )
    from zmflow.api.sources import (
        EndOfInput,
        Source,
        SourceReader,
        SplitEnumerator,
        SplitEnumeratorContext,
    )
    from zmflow.api.time import (
        Duration,
        Instant,
        Time,
    )
    from zmflow.api.timer_service import (
        TimeDomain,
        TimerService,
    )
    from zmflow.api.types import (
        TypeInformation,
        Types,
    )
    from zmflow.api.watermark_strategy import (
        TimestampAssigner,
        WatermarkGenerator,
        WatermarkOutput,
        WatermarkStrategy,
    )
    from zmflow.state.descriptors import (
        AggregatingStateDescriptor,
        ListStateDescriptor,
        MapStateDescriptor,
        ReducingStateDescriptor,
        ValueStateDescriptor,
    )
    from zmflow.state.states import (
        AggregatingState,
        BroadcastState,
        ListState,
        MapState,
        ReadOnlyBroadcastState,
        ReducingState,
        ValueState,
    )
    from zmflow.state.ttl import (
        StateTtlConfig,
    )

__all__ = [
    "DEAD_LETTERS",
    "Accumulator",
    "AggregateFunction",
    "AggregatingState",
    "AggregatingStateDescriptor",
    "AsyncDataStream",
    "AsyncFunction",
    "AsyncRetryPredicate",
    "AsyncRetryStrategy",
    "AverageAccumulator",
    "BroadcastConnectedStream",
    "BroadcastProcessFunction",
    "BroadcastState",
    "BroadcastStream",
    "CloseableIterator",
    "CoFlatMapFunction",
    "CoGroupFunction",
    "CoGroupedStreams",
    "CoMapFunction",
    "CoProcessFunction",
    "CollectionSource",
    "Configuration",
    "ConnectedStreams",
    "DataStream",
    "DataStreamSink",
    "DistributedCache",
    "DoubleCounter",
    "DoubleMaximum",
    "DoubleMinimum",
    "Duration",
    "EndOfInput",
    "ExternalResourceInfo",
    "FilterFunction",
    "FlatJoinFunction",
    "FlatMapFunction",
    "Function",
    "Histogram",
    "Instant",
    "IntCounter",
    "IntMaximum",
    "IntMinimum",
    "IntervalJoin",
    "JobClient",
    "JobExecutionResult",
    "JoinFunction",
    "JoinedStreams",
    "KeySelector",
    "KeyedBroadcastProcessFunction",
    "KeyedCoProcessFunction",
    "KeyedProcessFunction",
    "KeyedStream",
    "ListAccumulator",
    "ListState",
    "ListStateDescriptor",
    "LongCounter",
    "LongMaximum",
    "LongMinimum",
    "MapFunction",
    "MapState",
    "MapStateDescriptor",
    "MemorySize",
    "OutputTag",
    "Partitioner",
    "PrintSink",
    "ProcessFunction",
    "ProcessJoinFunction",
    "ReadOnlyBroadcastState",
    "ReduceFunction",
    "ReducingState",
    "ReducingStateDescriptor",
    "Row",
    "RuntimeContext",
    "RuntimeExecutionMode",
    "SequenceSource",
    "Sink",
    "SinkContext",
    "SinkFunction",
    "SinkWriter",
    "SlotSharingGroup",
    "Source",
    "SourceReader",
    "SplitEnumerator",
    "SplitEnumeratorContext",
    "StateTtlConfig",
    "StreamExecutionEnvironment",
    "Time",
    "TimeDomain",
    "TimerService",
    "TimestampAssigner",
    "TypeInformation",
    "Types",
    "ValueState",
    "ValueStateDescriptor",
    "WatermarkGenerator",
    "WatermarkOutput",
    "WatermarkStrategy",
    "WriterContext",
    "empty_result_predicate",
    "exception_type_predicate",
    "has_exception_predicate",
]

_MODULES = {
    "zmflow.api.accumulators": (
        "Accumulator",
        "AverageAccumulator",
        "DoubleCounter",
        "DoubleMaximum",
        "DoubleMinimum",
        "Histogram",
        "IntCounter",
        "IntMaximum",
        "IntMinimum",
        "ListAccumulator",
        "LongCounter",
        "LongMaximum",
        "LongMinimum",
    ),
    "zmflow.api.async_functions": (
        "AsyncFunction",
        "AsyncRetryPredicate",
        "AsyncRetryStrategy",
        "empty_result_predicate",
        "exception_type_predicate",
        "has_exception_predicate",
    ),
    "zmflow.api.async_stream": ("AsyncDataStream",),
    "zmflow.api.broadcast_stream": (
        "BroadcastConnectedStream",
        "BroadcastStream",
    ),
    "zmflow.api.collections": (
        "CollectionSource",
        "SequenceSource",
    ),
    "zmflow.api.configuration": ("Configuration",),
    "zmflow.api.connected_streams": ("ConnectedStreams",),
    "zmflow.api.console": ("PrintSink",),
    "zmflow.api.data_stream_sink": ("DataStreamSink",),
    "zmflow.api.datastream": ("DataStream",),
    "zmflow.api.environment": (
        "RuntimeExecutionMode",
        "StreamExecutionEnvironment",
    ),
    "zmflow.api.execution": (
        "CloseableIterator",
        "JobClient",
        "JobExecutionResult",
    ),
    "zmflow.api.functions": (
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
    ),
    "zmflow.api.interval_join": ("IntervalJoin",),
    "zmflow.api.join_functions": (
        "CoGroupFunction",
        "FlatJoinFunction",
        "JoinFunction",
        "ProcessJoinFunction",
    ),
    "zmflow.api.joins": (
        "CoGroupedStreams",
        "JoinedStreams",
    ),
    "zmflow.api.keyed_stream": ("KeyedStream",),
    "zmflow.api.output_tag": (
        "DEAD_LETTERS",
        "OutputTag",
    ),
    "zmflow.api.process_functions": (
        "BroadcastProcessFunction",
        "CoProcessFunction",
        "KeyedBroadcastProcessFunction",
        "KeyedCoProcessFunction",
        "KeyedProcessFunction",
        "ProcessFunction",
    ),
    "zmflow.api.row": ("Row",),
    "zmflow.api.sinks": (
        "Sink",
        "SinkWriter",
        "WriterContext",
    ),
    "zmflow.api.slot_sharing_group": (
        "MemorySize",
        "SlotSharingGroup",
    ),
    "zmflow.api.sources": (
        "EndOfInput",
        "Source",
        "SourceReader",
        "SplitEnumerator",
        "SplitEnumeratorContext",
    ),
    "zmflow.api.time": (
        "Duration",
        "Instant",
        "Time",
    ),
    "zmflow.api.timer_service": (
        "TimeDomain",
        "TimerService",
    ),
    "zmflow.api.types": (
        "TypeInformation",
        "Types",
    ),
    "zmflow.api.watermark_strategy": (
        "TimestampAssigner",
        "WatermarkGenerator",
        "WatermarkOutput",
        "WatermarkStrategy",
    ),
    "zmflow.state.descriptors": (
        "AggregatingStateDescriptor",
        "ListStateDescriptor",
        "MapStateDescriptor",
        "ReducingStateDescriptor",
        "ValueStateDescriptor",
    ),
    "zmflow.state.states": (
        "AggregatingState",
        "BroadcastState",
        "ListState",
        "MapState",
        "ReadOnlyBroadcastState",
        "ReducingState",
        "ValueState",
    ),
    "zmflow.state.ttl": ("StateTtlConfig",),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value
