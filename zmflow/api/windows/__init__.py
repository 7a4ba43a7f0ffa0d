"""Windows: assigners, triggers, evictors, window functions and windowed streams."""

from zmflow.api.windows.assigner import MergingWindowAssigner, WindowAssigner
from zmflow.api.windows.count_assigners import (
    CountSlidingWindowAssigner,
    CountTumblingWindowAssigner,
    count_assigner,
)
from zmflow.api.windows.evictors import CountEvictor, DeltaEvictor, Evictor, TimeEvictor, TimestampedValue
from zmflow.api.windows.functions import (
    AllWindowFunction,
    MapPartitionFunction,
    ProcessAllWindowFunction,
    ProcessWindowFunction,
    WindowFunction,
)
from zmflow.api.windows.operators import Order, PartitionWindowOperator, WindowOperator
from zmflow.api.windows.partition_windows import PartitionWindowedStream
from zmflow.api.windows.session_assigners import (
    DynamicEventTimeSessionWindows,
    DynamicProcessingTimeSessionWindows,
    EventTimeSessionWindows,
    ProcessingTimeSessionWindows,
    SessionWindowTimeGapExtractor,
)
from zmflow.api.windows.time_assigners import (
    GlobalWindows,
    SlidingEventTimeWindows,
    SlidingProcessingTimeWindows,
    TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
    WindowStagger,
)
from zmflow.api.windows.time_triggers import (
    ContinuousEventTimeTrigger,
    ContinuousProcessingTimeTrigger,
    EndOfStreamTrigger,
    EventTimeTrigger,
    ProcessingTimeoutTrigger,
    ProcessingTimeTrigger,
)
from zmflow.api.windows.trigger import Trigger, TriggerResult
from zmflow.api.windows.triggers import CountTrigger, DeltaTrigger, NeverTrigger, PurgingTrigger
from zmflow.api.windows.window import CountWindow, GlobalWindow, TimeWindow, Window
from zmflow.api.windows.windowed_stream import AllWindowedStream, WindowedStream

__all__ = [
    "AllWindowFunction",
    "AllWindowedStream",
    "ContinuousEventTimeTrigger",
    "ContinuousProcessingTimeTrigger",
    "CountEvictor",
    "CountSlidingWindowAssigner",
    "CountTrigger",
    "CountTumblingWindowAssigner",
    "CountWindow",
    "DeltaEvictor",
    "DeltaTrigger",
    "DynamicEventTimeSessionWindows",
    "DynamicProcessingTimeSessionWindows",
    "EndOfStreamTrigger",
    "EventTimeSessionWindows",
    "EventTimeTrigger",
    "Evictor",
    "GlobalWindow",
    "GlobalWindows",
    "MapPartitionFunction",
    "MergingWindowAssigner",
    "NeverTrigger",
    "Order",
    "PartitionWindowOperator",
    "PartitionWindowedStream",
    "ProcessAllWindowFunction",
    "ProcessWindowFunction",
    "ProcessingTimeSessionWindows",
    "ProcessingTimeTrigger",
    "ProcessingTimeoutTrigger",
    "PurgingTrigger",
    "SessionWindowTimeGapExtractor",
    "SlidingEventTimeWindows",
    "SlidingProcessingTimeWindows",
    "TimeEvictor",
    "TimeWindow",
    "TimestampedValue",
    "Trigger",
    "TriggerResult",
    "TumblingEventTimeWindows",
    "TumblingProcessingTimeWindows",
    "Window",
    "WindowAssigner",
    "WindowFunction",
    "WindowOperator",
    "WindowStagger",
    "WindowedStream",
    "count_assigner",
]
