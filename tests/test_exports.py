"""The public names of zmflow, as a list: a name that comes or goes is a decision, not an accident."""

from __future__ import annotations

import importlib

import pytest

import zmflow

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    """zmflow.api offers exactly this list, sorted as it is written there."""
    assert sorted(PUBLIC) == sorted(importlib.import_module("zmflow.api").__all__)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_found_at_the_top(name: str) -> None:
    """What zmflow.api offers, ``from zmflow import ...`` finds; both are one object."""
    assert getattr(zmflow, name) is getattr(importlib.import_module("zmflow.api"), name)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_public_name_is_documented(name: str) -> None:
    """A public class says what it is."""
    assert getattr(zmflow, name).__doc__
