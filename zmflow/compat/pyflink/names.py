"""The names of PyFlink's modules, and where zmflow has each.

A name of PyFlink is the public name of zmflow that is called the same, or a class in this package that exists
only for programs of PyFlink. ``RENAMED`` lists the others.
"""

from __future__ import annotations

import importlib

from zmflow.compat.pyflink.refusals import REFUSED_NAMES, refusal_of_name

__all__ = ["MODULES", "RENAMED", "missing_names", "names_of", "value_of"]

_WINDOWS = """
    Window TimeWindow CountWindow GlobalWindow WindowAssigner MergingWindowAssigner TriggerResult Trigger
"""
_STATE_BACKENDS = (
    "StateBackend HashMapStateBackend EmbeddedRocksDBStateBackend CustomStateBackend PredefinedOptions"
)
_CHECKPOINT_STORAGES = """
    CheckpointStorage JobManagerCheckpointStorage FileSystemCheckpointStorage CustomCheckpointStorage
"""
_STREAMS = """
    CloseableIterator DataStream KeyedStream ConnectedStreams WindowedStream AllWindowedStream
    CachedDataStream DataStreamSink BroadcastStream BroadcastConnectedStream
"""
_FUNCTIONS = """
    Function RuntimeContext MapFunction CoMapFunction FlatMapFunction CoFlatMapFunction ReduceFunction
    AggregateFunction KeySelector FilterFunction Partitioner SourceFunction SinkFunction ProcessFunction
    CoProcessFunction KeyedProcessFunction KeyedCoProcessFunction TimerService WindowFunction
    AllWindowFunction ProcessWindowFunction ProcessAllWindowFunction BaseBroadcastProcessFunction
    BroadcastProcessFunction KeyedBroadcastProcessFunction AsyncFunction AsyncFunctionDescriptor
    AsyncRetryPredicate AsyncRetryStrategy
"""
_FILES = """
    FileCompactor FileCompactStrategy OutputFileConfig FileSource FileSourceBuilder FileSink StreamingFileSink
    StreamFormat BulkFormat FileEnumeratorProvider FileSplitAssignerProvider RollingPolicy BucketAssigner
"""
_METRICS = "MetricGroup Metric Counter Meter Distribution"

_TABLE: dict[str, str] = {
    "": "",
    "version": "__version__",
    "common": """
        Configuration ConfigOption ConfigOptions ExecutionConfig TypeInformation TypeSerializer Types
        SerializationSchema DeserializationSchema SimpleStringSchema ByteArraySchema Encoder CompletableFuture
        InputDependencyConstraint JobClient JobExecutionResult JobID JobStatus RestartStrategies
        RestartStrategyConfiguration Row RowKind WatermarkStrategy Duration Instant Time
        AssignerWithPeriodicWatermarksWrapper
    """,
    "common.completable_future": "CompletableFuture",
    "common.config_options": "ConfigOption ConfigOptions",
    "common.configuration": "Configuration",
    "common.constants": "MAX_LONG_VALUE MIN_LONG_VALUE DEFAULT_OUTPUT_TAG",
    "common.execution_config": "ExecutionConfig",
    "common.input_dependency_constraint": "InputDependencyConstraint",
    "common.io": "InputFormat",
    "common.job_client": "JobClient",
    "common.job_execution_result": "JobExecutionResult",
    "common.job_id": "JobID",
    "common.job_status": "JobStatus",
    "common.restart_strategy": "RestartStrategies RestartStrategyConfiguration",
    "common.serialization": """
        SerializationSchema DeserializationSchema SimpleStringSchema ByteArraySchema Encoder BulkWriterFactory
        RowFieldExtractorSchema
    """,
    "common.serializer": "TypeSerializer",
    "common.time": "Duration Instant Time",
    "common.typeinfo": """
        TypeInformation Types render BasicTypeInfo SqlTimeTypeInfo PickledBytesTypeInfo RowTypeInfo
        TupleTypeInfo PrimitiveArrayTypeInfo BasicArrayTypeInfo ObjectArrayTypeInfo MapTypeInfo ListTypeInfo
    """,
    "common.types": "Row RowKind",
    "common.utils": "JavaObjectWrapper",
    "common.watermark_strategy": "WatermarkStrategy TimestampAssigner AssignerWithPeriodicWatermarksWrapper",
    "datastream": f"""
        StreamExecutionEnvironment AsyncDataStream CheckpointingMode CheckpointConfig
        ExternalizedCheckpointRetention RuntimeExecutionMode TimeDomain SlotSharingGroup MemorySize OutputTag
        {_STREAMS} {_FUNCTIONS} {_WINDOWS} {_STATE_BACKENDS} {_CHECKPOINT_STORAGES}
    """,
    "datastream.async_data_stream": "AsyncDataStream",
    "datastream.async_retry_predicates": """
        empty_result_predicate has_exception_predicate exception_type_predicate
    """,
    "datastream.async_retry_strategies": """
        RetryPredicate NoRetryStrategy FixedDelayRetryStrategy ExponentialBackoffDelayRetryStrategy
    """,
    "datastream.checkpoint_config": "CheckpointConfig ExternalizedCheckpointRetention CheckpointingMode",
    "datastream.checkpoint_storage": _CHECKPOINT_STORAGES,
    "datastream.checkpointing_mode": "CheckpointingMode",
    "datastream.connectors": f"Sink Source DeliveryGuarantee {_FILES} NumberSequenceSource",
    "datastream.connectors.base": "Sink Source DeliveryGuarantee StreamTransformer SupportsPreprocessing",
    "datastream.connectors.file_system": _FILES,
    "datastream.connectors.number_seq": "NumberSequenceSource",
    "datastream.data_stream": _STREAMS,
    "datastream.execution_mode": "RuntimeExecutionMode",
    "datastream.externalized_checkpoint_retention": "ExternalizedCheckpointRetention",
    "datastream.formats": "",
    "datastream.formats.csv": """
        CsvSchema CsvSchemaBuilder CsvReaderFormat CsvBulkWriters CsvRowDeserializationSchema
        CsvRowSerializationSchema
    """,
    "datastream.formats.json": "JsonRowDeserializationSchema JsonRowSerializationSchema",
    "datastream.functions": _FUNCTIONS,
    "datastream.output_tag": "OutputTag",
    "datastream.slot_sharing_group": "MemorySize SlotSharingGroup",
    "datastream.state": """
        StateDescriptor ValueStateDescriptor ValueState ListStateDescriptor ListState MapStateDescriptor
        MapState ReducingStateDescriptor ReducingState AggregatingStateDescriptor AggregatingState
        ReadOnlyBroadcastState BroadcastState StateTtlConfig OperatorStateStore
    """,
    "datastream.state_backend": _STATE_BACKENDS,
    "datastream.stream_execution_environment": "StreamExecutionEnvironment",
    "datastream.time_domain": "TimeDomain",
    "datastream.timerservice": "TimerService",
    "datastream.utils": "",
    "datastream.window": f"""
        {_WINDOWS} TumblingProcessingTimeWindows TumblingEventTimeWindows SlidingProcessingTimeWindows
        SlidingEventTimeWindows ProcessingTimeSessionWindows EventTimeSessionWindows
        DynamicProcessingTimeSessionWindows DynamicEventTimeSessionWindows GlobalWindows
        CountTumblingWindowAssigner CountSlidingWindowAssigner EventTimeTrigger ProcessingTimeTrigger
        ContinuousEventTimeTrigger ContinuousProcessingTimeTrigger NeverTrigger PurgingTrigger CountTrigger
        TimeWindowSerializer CountWindowSerializer GlobalWindowSerializer SessionWindowTimeGapExtractor
    """,
    "java_gateway": "get_gateway is_launch_gateway_disabled",
    "metrics": _METRICS,
    "metrics.metricbase": _METRICS,
    "serializers": "",
    "util": "",
    "util.api_stability_decorators": "Deprecated Experimental Internal PublicEvolving Public",
    "util.exceptions": "JavaException TableException",
    "util.java_utils": """
        to_jarray to_j_duration from_j_duration load_java_class is_instance_of get_j_env_configuration
        get_field get_field_value invoke_method add_jars_to_context_class_loader
    """,
}

MODULES: dict[str, tuple[str, ...]] = {
    path: tuple(sorted(set(text.split()))) for path, text in _TABLE.items()
}
"""Names by module path, without ``pyflink.``; the empty path is ``pyflink`` itself."""

RENAMED: dict[str, str] = {
    "BaseBroadcastProcessFunction": "zmflow.api:Function",
    "NumberSequenceSource": "zmflow.api:SequenceSource",
    "render": "zmflow.api.typeinfo:render",
}
"""Where zmflow has a name that is called otherwise, or is not public there."""

_PLACES = (
    "zmflow.compat.pyflink.environment",
    "zmflow.compat.pyflink.configuration",
    "zmflow.compat.pyflink.jobs",
    "zmflow.compat.pyflink.type_classes",
    "zmflow.compat.pyflink.file_sinks",
    "zmflow.compat.pyflink.schemas",
    "zmflow.compat.pyflink.java_stubs",
    "zmflow.compat.pyflink.state_backends",
    "zmflow.api",
    "zmflow.api.async_functions",
    "zmflow.api.checkpoint_config",
    "zmflow.api.execution_config",
    "zmflow.api.row",
    "zmflow.connectors",
    "zmflow.state",
    "zmflow.state.descriptors",
)
"""Where names are looked for, in this order: what differs from zmflow's own comes first."""


def names_of(module: str) -> tuple[str, ...]:
    """The names of a module that can be imported from it."""
    return tuple(name for name in MODULES[module] if name not in REFUSED_NAMES)


def value_of(module: str, name: str) -> object:
    """What a name of a module stands for.

    Raises:
        PyFlinkImportError: zmflow does not have it.
        AttributeError: PyFlink does not have it either.
    """
    if name not in MODULES[module]:
        raise AttributeError(f"module 'pyflink.{module}' has no attribute {name!r}")
    if name not in REFUSED_NAMES:
        for place in _PLACES if name not in RENAMED else (RENAMED[name].partition(":")[0],):
            found: object = importlib.import_module(place)
            renamed = RENAMED[name].partition(":")[2] if name in RENAMED else name
            if renamed in getattr(found, "__all__", ()):
                return getattr(found, renamed)
    raise refusal_of_name(module, name)


def missing_names() -> set[str]:
    """Names that are listed, not refused for a reason, and nowhere in zmflow."""
    missing = set()
    for module, names in MODULES.items():
        for name in names:
            try:
                value_of(module, name)
            except ImportError:
                missing.add(name)
    return missing - set(REFUSED_NAMES)
