"""A ``Plan`` as the operator's specification, and the functions that the plans name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from reference import Plan, Record

from zmflow.api.functions import AggregateFunction, RuntimeContext
from zmflow.api.output_tag import OutputTag
from zmflow.api.windows import (
    ContinuousEventTimeTrigger,
    ContinuousProcessingTimeTrigger,
    CountEvictor,
    CountSlidingWindowAssigner,
    CountTrigger,
    CountTumblingWindowAssigner,
    DeltaEvictor,
    DeltaTrigger,
    EventTimeSessionWindows,
    EventTimeTrigger,
    Evictor,
    GlobalWindows,
    NeverTrigger,
    ProcessingTimeoutTrigger,
    ProcessingTimeSessionWindows,
    ProcessingTimeTrigger,
    ProcessWindowFunction,
    PurgingTrigger,
    SlidingEventTimeWindows,
    SlidingProcessingTimeWindows,
    TimeEvictor,
    TimeWindow,
    Trigger,
    TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
    Window,
    WindowAssigner,
    WindowOperator,
)
from zmflow.api.windows.operators import (
    AggregateContents,
    Contents,
    FieldContents,
    FiredFunction,
    ListContents,
    ReduceContents,
)
from zmflow.state.descriptors import ValueStateDescriptor

LATE: OutputTag[Record] = OutputTag("late")
FIRINGS: OutputTag[tuple[str, int]] = OutputTag("firings")


class SumAndCount(AggregateFunction[Record, list[int], tuple[int, int]]):
    """Changes its accumulators in place, so that one that is shared by mistake is noticed."""

    def create_accumulator(self) -> list[int]:
        return [0, 0]

    def add(self, value: Record, accumulator: list[int]) -> list[int]:
        accumulator[0] += value[1]
        accumulator[1] += 1
        return accumulator

    def get_result(self, accumulator: list[int]) -> tuple[int, int]:
        return accumulator[0], accumulator[1]

    def merge(self, acc_a: list[int], acc_b: list[int]) -> list[int]:
        acc_b[0] += acc_a[0]
        acc_b[1] += acc_a[1]
        return acc_b


def bounds(window: Window) -> tuple[int, int]:
    """What the reference calls the start and the end of a window."""
    if isinstance(window, TimeWindow):
        return window.start, window.end
    return getattr(window, "id", 0), window.max_timestamp()


class Firings(ProcessWindowFunction[Any, Any, str, Any]):
    """Counts its firings, per window where windows do not merge, and per key."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def open(self, runtime_context: RuntimeContext) -> None:
        self.firings = ValueStateDescriptor("firings")
        self.of_key = runtime_context.get_state(ValueStateDescriptor("of-key"))

    def process(self, key: str, context: Any, elements: Iterable[Any]) -> Iterator[Any]:
        here = 0
        if not self.plan.merges:
            firings = context.window_state().get_state(self.firings)
            here = (firings.value() or 0) + 1
            firings.update(here)
        self.of_key.update((self.of_key.value() or 0) + 1)
        yield FIRINGS, (key, self.of_key.value())
        where = (key, *bounds(context.window()))
        if self.plan.function == "aggregate_process":
            (total,) = elements
            yield where, total, here
        else:
            yield where, serials_of(self.plan, elements), here

    def clear(self, context: Any) -> None:
        if not self.plan.merges:
            context.window_state().get_state(self.firings).clear()


def serials_of(plan: Plan, records: Iterable[Record]) -> tuple[int, ...]:
    """The serial numbers of records, in order of arrival where that is kept."""
    serials = [record[2] for record in records]
    return tuple(sorted(serials) if plan.merges else serials)


def specification_of(plan: Plan) -> WindowOperator:
    """The operator of a plan."""
    assigner = assigner_of(plan)
    contents, function = contents_of(plan)
    return WindowOperator(
        key_selector=lambda record: record[0],
        assigner=assigner,
        trigger=trigger_of(plan, assigner, plan.trigger),
        contents=contents,
        function=function,
        evictor=evictor_of(plan),
        allowed_lateness_ms=plan.lateness,
        late_tag=LATE.tag_id if plan.late_output else None,
    )


def assigner_of(plan: Plan) -> WindowAssigner[Any, Any]:
    """The assigner of a plan."""
    event = plan.event_time
    match plan.windows:
        case "tumbling":
            return (TumblingEventTimeWindows if event else TumblingProcessingTimeWindows)(
                plan.size, plan.offset
            )
        case "sliding":
            sliding = SlidingEventTimeWindows if event else SlidingProcessingTimeWindows
            return sliding(plan.size, plan.slide, plan.offset)
        case "session":
            return (EventTimeSessionWindows if event else ProcessingTimeSessionWindows)(plan.size)
        case "dynamic":
            sessions = EventTimeSessionWindows if event else ProcessingTimeSessionWindows
            return sessions.with_dynamic_gap(lambda record: plan.size + record[1] % 3)
        case "count":
            return CountTumblingWindowAssigner.of(plan.size)
        case "count_sliding":
            return CountSlidingWindowAssigner.of(plan.size, plan.slide)
    return GlobalWindows.create()


def trigger_of(plan: Plan, assigner: WindowAssigner[Any, Any], name: str) -> Trigger[Any, Any]:
    """The trigger of a plan, or the one inside it."""
    trigger: Trigger[Any, Any]
    match name:
        case "event":
            trigger = EventTimeTrigger.create()
        case "clock":
            trigger = ProcessingTimeTrigger.create()
        case "count":
            trigger = CountTrigger.of(plan.number)
        case "continuous_event":
            trigger = ContinuousEventTimeTrigger(plan.number)
        case "continuous_clock":
            trigger = ContinuousProcessingTimeTrigger(plan.number)
        case "delta":
            trigger = DeltaTrigger.of(plan.number, lambda old, new: abs(new[1] - old[1]))
        case "never":
            trigger = NeverTrigger()
        case "timeout":
            inner = trigger_of(plan, assigner, plan.inner)
            return ProcessingTimeoutTrigger(inner, plan.number, plan.resets, plan.clears)
        case _:
            trigger = assigner.get_default_trigger(None)
    return PurgingTrigger.of(trigger) if plan.purging else trigger


def evictor_of(plan: Plan) -> Evictor[Any, Any] | None:
    """The evictor of a plan."""
    match plan.evictor:
        case "count":
            return CountEvictor.of(plan.kept, plan.evicts_after)
        case "time":
            return TimeEvictor(plan.kept, plan.evicts_after)
        case "delta":
            return DeltaEvictor.of(plan.kept, lambda one, last: abs(one[1] - last[1]), plan.evicts_after)
    return None


def contents_of(plan: Plan) -> tuple[Contents, FiredFunction | None]:
    """What windows keep, and what is called with it."""

    def apply(key: str, window: Window, records: Iterable[Record]) -> list[Any]:
        return [((key, *bounds(window)), serials_of(plan, records))]

    match plan.function:
        case "reduce":
            return ReduceContents(lambda a, b: (a[0], a[1] + b[1], min(a[2], b[2]))), None
        case "aggregate":
            return AggregateContents(SumAndCount()), None
        case "process":
            return ListContents(), FiredFunction("process", Firings(plan))
        case "aggregate_process":
            return AggregateContents(SumAndCount()), FiredFunction("process", Firings(plan))
        case "sum":
            return FieldContents("sum", 1), None
        case "max_by":
            return FieldContents("max_by", 1), None
    return ListContents(), FiredFunction("apply", apply)
