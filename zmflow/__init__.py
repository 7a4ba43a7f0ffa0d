"""zmflow: Flink's dataflow runtime for Python, on bare machines, over ZeroMQ.

Everything of ``zmflow.api`` is here. It is imported on first use, so that processes which never run a
program of the API, such as the JobManager, do not load it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zmflow.api import (
        CloseableIterator,
        CollectionSource,
        Configuration,
        DataStream,
        DataStreamSink,
        EndOfInput,
        ExternalResourceInfo,
        FilterFunction,
        FlatMapFunction,
        Function,
        JobClient,
        JobExecutionResult,
        KeyedStream,
        KeySelector,
        MapFunction,
        MemorySize,
        Partitioner,
        PrintSink,
        ReduceFunction,
        Row,
        RuntimeContext,
        RuntimeExecutionMode,
        SequenceSource,
        Sink,
        SinkContext,
        SinkFunction,
        SinkWriter,
        SlotSharingGroup,
        Source,
        SourceReader,
        SplitEnumerator,
        SplitEnumeratorContext,
        StreamExecutionEnvironment,
        TypeInformation,
        Types,
        WriterContext,
    )

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


def __getattr__(name: str) -> object:
    if name in __all__:
        from zmflow import api

        value: object = getattr(api, name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
