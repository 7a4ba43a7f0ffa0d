"""What users write: environments, streams, functions, state, sources and sinks.

Names are loaded on use: a program pays for the parts of the API it has.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from zmflow.api.names import MODULE_OF

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
    from zmflow.api.cached_data_stream import (
        CachedDataStream,
    )
    from zmflow.api.checkpoint_config import (
        CheckpointConfig,
        CheckpointingMode,
        ExternalizedCheckpointRetention,
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
    from zmflow.api.data_stream_utils import (
        DataStreamUtils,
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
    from zmflow.api.execution_config import (
        ExecutionConfig,
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
    from zmflow.api.job_listener import (
        JobListener,
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
    from zmflow.api.metric_group import (
        MetricGroup,
    )
    from zmflow.api.metrics import (
        Counter,
        Distribution,
        Meter,
        Metric,
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
        RowKind,
    )
    from zmflow.api.sinks import (
        CommitRequest,
        Committer,
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
    from zmflow.api.windows import (
        AllWindowedStream,
        AllWindowFunction,
        ContinuousEventTimeTrigger,
        ContinuousProcessingTimeTrigger,
        CountEvictor,
        CountSlidingWindowAssigner,
        CountTrigger,
        CountTumblingWindowAssigner,
        CountWindow,
        DeltaEvictor,
        DeltaTrigger,
        DynamicEventTimeSessionWindows,
        DynamicProcessingTimeSessionWindows,
        EndOfStreamTrigger,
        EventTimeSessionWindows,
        EventTimeTrigger,
        Evictor,
        GlobalWindow,
        GlobalWindows,
        MapPartitionFunction,
        MergingWindowAssigner,
        NeverTrigger,
        Order,
        PartitionWindowedStream,
        ProcessAllWindowFunction,
        ProcessingTimeoutTrigger,
        ProcessingTimeSessionWindows,
        ProcessingTimeTrigger,
        ProcessWindowFunction,
        PurgingTrigger,
        SessionWindowTimeGapExtractor,
        SlidingEventTimeWindows,
        SlidingProcessingTimeWindows,
        TimeEvictor,
        TimestampedValue,
        TimeWindow,
        Trigger,
        TriggerResult,
        TumblingEventTimeWindows,
        TumblingProcessingTimeWindows,
        Window,
        WindowAssigner,
        WindowedStream,
        WindowFunction,
        WindowStagger,
    )
    from zmflow.state.checkpointed_function import (
        CheckpointedFunction,
        CheckpointListener,
        FunctionInitializationContext,
        FunctionSnapshotContext,
    )
    from zmflow.state.descriptors import (
        AggregatingStateDescriptor,
        ListStateDescriptor,
        MapStateDescriptor,
        ReducingStateDescriptor,
        ValueStateDescriptor,
    )
    from zmflow.state.operator_state import OperatorStateStore
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
    "AllWindowFunction",
    "AllWindowedStream",
    "AsyncDataStream",
    "AsyncFunction",
    "AsyncRetryPredicate",
    "AsyncRetryStrategy",
    "AverageAccumulator",
    "BroadcastConnectedStream",
    "BroadcastProcessFunction",
    "BroadcastState",
    "BroadcastStream",
    "CachedDataStream",
    "CheckpointConfig",
    "CheckpointListener",
    "CheckpointedFunction",
    "CheckpointingMode",
    "CloseableIterator",
    "CoFlatMapFunction",
    "CoGroupFunction",
    "CoGroupedStreams",
    "CoMapFunction",
    "CoProcessFunction",
    "CollectionSource",
    "CommitRequest",
    "Committer",
    "Configuration",
    "ConnectedStreams",
    "ContinuousEventTimeTrigger",
    "ContinuousProcessingTimeTrigger",
    "CountEvictor",
    "CountSlidingWindowAssigner",
    "CountTrigger",
    "CountTumblingWindowAssigner",
    "CountWindow",
    "Counter",
    "DataStream",
    "DataStreamSink",
    "DataStreamUtils",
    "DeltaEvictor",
    "DeltaTrigger",
    "DistributedCache",
    "Distribution",
    "DoubleCounter",
    "DoubleMaximum",
    "DoubleMinimum",
    "Duration",
    "DynamicEventTimeSessionWindows",
    "DynamicProcessingTimeSessionWindows",
    "EndOfInput",
    "EndOfStreamTrigger",
    "EventTimeSessionWindows",
    "EventTimeTrigger",
    "Evictor",
    "ExecutionConfig",
    "ExternalResourceInfo",
    "ExternalizedCheckpointRetention",
    "FilterFunction",
    "FlatJoinFunction",
    "FlatMapFunction",
    "Function",
    "FunctionInitializationContext",
    "FunctionSnapshotContext",
    "GlobalWindow",
    "GlobalWindows",
    "Histogram",
    "Instant",
    "IntCounter",
    "IntMaximum",
    "IntMinimum",
    "IntervalJoin",
    "JobClient",
    "JobExecutionResult",
    "JobListener",
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
    "MapPartitionFunction",
    "MapState",
    "MapStateDescriptor",
    "MemorySize",
    "MergingWindowAssigner",
    "Meter",
    "Metric",
    "MetricGroup",
    "NeverTrigger",
    "OperatorStateStore",
    "Order",
    "OutputTag",
    "PartitionWindowedStream",
    "Partitioner",
    "PrintSink",
    "ProcessAllWindowFunction",
    "ProcessFunction",
    "ProcessJoinFunction",
    "ProcessWindowFunction",
    "ProcessingTimeSessionWindows",
    "ProcessingTimeTrigger",
    "ProcessingTimeoutTrigger",
    "PurgingTrigger",
    "ReadOnlyBroadcastState",
    "ReduceFunction",
    "ReducingState",
    "ReducingStateDescriptor",
    "Row",
    "RowKind",
    "RuntimeContext",
    "RuntimeExecutionMode",
    "SequenceSource",
    "SessionWindowTimeGapExtractor",
    "Sink",
    "SinkContext",
    "SinkFunction",
    "SinkWriter",
    "SlidingEventTimeWindows",
    "SlidingProcessingTimeWindows",
    "SlotSharingGroup",
    "Source",
    "SourceReader",
    "SplitEnumerator",
    "SplitEnumeratorContext",
    "StateTtlConfig",
    "StreamExecutionEnvironment",
    "Time",
    "TimeDomain",
    "TimeEvictor",
    "TimeWindow",
    "TimerService",
    "TimestampAssigner",
    "TimestampedValue",
    "Trigger",
    "TriggerResult",
    "TumblingEventTimeWindows",
    "TumblingProcessingTimeWindows",
    "TypeInformation",
    "Types",
    "ValueState",
    "ValueStateDescriptor",
    "WatermarkGenerator",
    "WatermarkOutput",
    "WatermarkStrategy",
    "Window",
    "WindowAssigner",
    "WindowFunction",
    "WindowStagger",
    "WindowedStream",
    "WriterContext",
    "empty_result_predicate",
    "exception_type_predicate",
    "has_exception_predicate",
]


def __getattr__(name: str) -> object:
    module = MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value
