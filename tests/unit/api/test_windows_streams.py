"""WindowedStream, AllWindowedStream, PartitionWindowedStream: what they add to a job, what they refuse."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from submissions import new_environment, operators_of

from zmflow.api.datastream import DataStream
from zmflow.api.functions import AggregateFunction, MapFunction
from zmflow.api.output_tag import OutputTag
from zmflow.api.time import Time
from zmflow.api.windows import (
    AllWindowedStream,
    CountEvictor,
    CountTrigger,
    DeltaTrigger,
    EventTimeSessionWindows,
    EventTimeTrigger,
    NeverTrigger,
    Order,
    PartitionWindowedStream,
    PartitionWindowOperator,
    ProcessAllWindowFunction,
    ProcessWindowFunction,
    TimeWindow,
    TumblingEventTimeWindows,
    WindowedStream,
    WindowOperator,
)
from zmflow.api.windows.operators import (
    AggregateContents,
    FieldContents,
    FiredFunction,
    ListContents,
    ReduceContents,
)
from zmflow.errors import JobGraphError

WINDOWS = TumblingEventTimeWindows.of(Time.seconds(1))


class Count(AggregateFunction[int, int, int]):
    def create_accumulator(self) -> int:
        return 0

    def add(self, value: int, accumulator: int) -> int:
        return accumulator + 1

    def get_result(self, accumulator: int) -> int:
        return accumulator

    def merge(self, acc_a: int, acc_b: int) -> int:
        return acc_a + acc_b


class Collect(ProcessWindowFunction[int, Any, int, Any]):
    def process(self, key: int, context: Any, elements: Iterable[int]) -> Any:
        yield list(elements)


class CollectAll(ProcessAllWindowFunction[int, Any, Any]):
    def process(self, context: Any, elements: Iterable[int]) -> Any:
        yield list(elements)


class Same(MapFunction[int, int]):
    def map(self, value: int) -> int:
        return value


def numbers() -> DataStream[int]:
    env, _ = new_environment()
    return env.from_sequence(1, 9)


def windowed() -> WindowedStream[int, int, Any]:
    return WindowedStream(numbers().key_by(lambda number: number % 2), WINDOWS)


def windowed_all() -> AllWindowedStream[int, Any]:
    return AllWindowedStream(numbers(), WINDOWS)


def operator_of(stream: DataStream[Any]) -> Any:
    return stream._node.operator  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("call", "contents", "fired"),
    [
        (lambda s: s.reduce(max), ReduceContents(max), None),
        (lambda s: s.sum(1), FieldContents("sum", 1), None),
        (lambda s: s.max_by("x"), FieldContents("max_by", "x"), None),
        (lambda s: s.apply(max), ListContents(), "apply"),
        (lambda s: s.process(Collect()), ListContents(), "process"),
        (lambda s: s.reduce(max, Collect()), ReduceContents(max), "process"),
        (lambda s: s.reduce(max, min), ReduceContents(max), "apply"),
    ],
)
def test_a_windowed_stream_becomes_one_operator(call: Any, contents: Any, fired: str | None) -> None:
    """Its specification has what the windows keep and what is called when they fire."""
    operator = operator_of(call(windowed()))
    assert type(operator) is WindowOperator
    assert operator.contents == contents
    assert (operator.function.call if operator.function else None) == fired
    assert type(operator.trigger) is EventTimeTrigger
    assert operator.key_selector(5) == 1


def test_settings_reach_the_operator() -> None:
    """Trigger, evictor, lateness in milliseconds or as an amount, tag of late data, panes; and the name."""
    trigger, evictor, count = CountTrigger.of(3), CountEvictor.of(2), Count()
    stream = (
        windowed()
        .trigger(trigger)
        .evictor(evictor)
        .allowed_lateness(Time.seconds(2))
        .side_output_late_data(OutputTag("late"))
        .without_panes()
        .aggregate(count, Collect())
    )
    operator = operator_of(stream)
    assert (operator.trigger, operator.evictor, operator.late_tag) == (trigger, evictor, "late")
    assert (operator.allowed_lateness_ms, operator.panes) == (2000, False)
    assert operator.contents == AggregateContents(count)
    assert stream.get_name() == "TumblingEventTimeWindows"
    assert operator_of(windowed().allowed_lateness(7).sum()).allowed_lateness_ms == 7


def test_windows_over_all_records_run_in_one_subtask() -> None:
    """Without keys there is one place for all records, and it cannot be made parallel."""
    stream = windowed_all().process(CollectAll())
    assert operator_of(stream).key_selector is None
    assert operator_of(stream).function.call == "process_all"
    with pytest.raises(JobGraphError, match="not parallel"):
        stream.set_parallelism(2)
    fired = operator_of(windowed_all().reduce(max, lambda window, elements: elements)).function
    assert isinstance(fired, FiredFunction)
    assert fired.call == "apply_all"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.trigger(max), "takes a Trigger"),
        (lambda s: s.evictor(max), "takes an Evictor"),
        (lambda s: s.allowed_lateness(-1), "lateness is -1 ms"),
        (lambda s: s.allowed_lateness("1s"), "takes a Duration"),
        (lambda s: s.side_output_late_data("late"), "takes an OutputTag"),
        (lambda s: s.aggregate(max), "takes an AggregateFunction"),
        (lambda s: s.reduce(Same()), "takes a callable or a ReduceFunction"),
        (lambda s: s.process(Same()), "takes a callable or a Process"),
        (lambda s: s.sum(-1), "position"),
        (lambda s: s.max(True), "position"),
    ],
)
@pytest.mark.parametrize("stream", [windowed, windowed_all])
def test_misuse_is_refused(stream: Any, call: Any, message: str) -> None:
    """When the program is written."""
    with pytest.raises(JobGraphError, match=message):
        call(stream())


def test_window_takes_an_assigner() -> None:
    """Anything else is refused, with an example."""
    with pytest.raises(JobGraphError, match="takes a WindowAssigner"):
        WindowedStream(numbers().key_by(lambda number: number), 5000)  # type: ignore[arg-type]


@pytest.mark.parametrize("trigger", [NeverTrigger(), DeltaTrigger.of(1, lambda old, new: new - old)])
def test_windows_that_merge_need_triggers_that_can(trigger: Any) -> None:
    """Sessions with another trigger would lose its state."""
    sessions = WindowedStream(
        numbers().key_by(lambda n: n), EventTimeSessionWindows.with_gap(Time.seconds(1))
    )
    with pytest.raises(JobGraphError, match="merge"):
        sessions.trigger(trigger)
    assert operator_of(sessions.trigger(CountTrigger.of(2)).sum()).trigger.can_merge()


def test_partition_windows_become_one_operator() -> None:
    """Each call is one operator; fields are read from tuples, dicts, objects and numbers."""
    partitions = PartitionWindowedStream(numbers())
    assert operator_of(partitions.map_partition(sorted)) == PartitionWindowOperator("map", sorted)
    assert operator_of(partitions.reduce(max)) == PartitionWindowOperator("reduce", max)
    descending = operator_of(partitions.sort_partition("x", Order.DESCENDING))
    assert descending.order is Order.DESCENDING
    assert descending.function({"x": 4}) == 4
    assert operator_of(partitions.sort_partition(1)).function(("a", 5)) == 5
    assert operator_of(partitions.sort_partition(0)).function(7) == 7
    with pytest.raises(JobGraphError, match="takes an Order"):
        partitions.sort_partition(0, "down")  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="takes an AggregateFunction"):
        partitions.aggregate(max)  # type: ignore[arg-type]


def test_windows_are_shipped_with_the_job() -> None:
    """Assigner, trigger, evictor and functions are pickled into the chain and come out of it as they were."""
    env, executor = new_environment()
    keyed = env.from_sequence(1, 9).key_by(lambda number: number % 2)
    stream = WindowedStream(keyed, EventTimeSessionWindows.with_dynamic_gap(lambda number: number))
    stream.trigger(CountTrigger.of(2)).evictor(CountEvictor.of(2)).aggregate(Count(), Collect()).print()
    env.execute()
    shipped = [
        operator for operator in operators_of(executor.graphs[0]) if isinstance(operator, WindowOperator)
    ]
    assert len(shipped) == 1
    assert isinstance(shipped[0].trigger, CountTrigger)
    assert list(shipped[0].assigner.assign_windows(7, 1, None)) == [TimeWindow(1, 8)]
