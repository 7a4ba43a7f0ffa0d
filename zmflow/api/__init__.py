"""What users write: environments, streams, functions, sources and sinks."""

from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.configuration import Configuration
from zmflow.api.console import PrintSink
from zmflow.api.data_stream_sink import DataStreamSink
from zmflow.api.datastream import DataStream
from zmflow.api.environment import RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.api.execution import CloseableIterator, JobClient, JobExecutionResult
from zmflow.api.functions import (
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
from zmflow.api.keyed_stream import KeyedStream
from zmflow.api.row import Row
from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.api.slot_sharing_group import MemorySize, SlotSharingGroup
from zmflow.api.sources import (
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.api.types import TypeInformation, Types

__all__ = [
    "CloseableIterator",
    "CollectionSource",
    "Configuration",
    "DataStream",
    "DataStreamSink",
    "EndOfInput",
    "ExternalResourceInfo",
    "FilterFunction",
    "FlatMapFunction",
    "Function",
    "JobClient",
    "JobExecutionResult",
    "KeySelector",
    "KeyedStream",
    "MapFunction",
    "MemorySize",
    "Partitioner",
    "PrintSink",
    "ReduceFunction",
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
    "StreamExecutionEnvironment",
    "TypeInformation",
    "Types",
    "WriterContext",
]
