"""Connected, broadcast and joined streams: what they add to a job, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from submissions import new_environment

from zmflow import DataStream, KeySelector
from zmflow.api.broadcast_stream import BroadcastConnectedStream, BroadcastStream
from zmflow.api.connected_streams import ConnectedStreams
from zmflow.api.functions import CoFlatMapFunction, CoMapFunction
from zmflow.api.interval_join import IntervalJoin, IntervalJoinOperator
from zmflow.api.join_functions import ProcessJoinFunction
from zmflow.api.output_tag import OutputTag
from zmflow.api.process_functions import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction,
)
from zmflow.api.process_operators import BroadcastProcessOperator, CoProcessOperator
from zmflow.api.time import Time
from zmflow.errors import JobGraphError
from zmflow.graph.transformations import Partitioned, Transformation
from zmflow.state.descriptors import MapStateDescriptor

RULES: MapStateDescriptor[str, int] = MapStateDescriptor("rules")


class CoMap(CoMapFunction[int, int, int]):
    def map1(self, value: int) -> int:
        return value

    def map2(self, value: int) -> int:
        return -value


class CoFlatMap(CoFlatMapFunction[int, int, int]):
    def flat_map1(self, value: int) -> list[int]:
        return [value]

    def flat_map2(self, value: int) -> None:
        return None


class CoProcess(CoProcessFunction[int, int, int]):
    def process_element1(self, value: int, ctx: Any) -> None: ...

    def process_element2(self, value: int, ctx: Any) -> None: ...


class KeyedCoProcess(KeyedCoProcessFunction[int, int, int, int]):
    def process_element1(self, value: int, ctx: Any) -> None: ...

    def process_element2(self, value: int, ctx: Any) -> None: ...


class Broadcast(BroadcastProcessFunction[int, int, int]):
    def process_element(self, value: int, ctx: Any) -> None: ...

    def process_broadcast_element(self, value: int, ctx: Any) -> None: ...


class KeyedBroadcast(KeyedBroadcastProcessFunction[int, int, int, int]):
    def process_element(self, value: int, ctx: Any) -> None: ...

    def process_broadcast_element(self, value: int, ctx: Any) -> None: ...


class PairOf(ProcessJoinFunction[int, int, tuple[int, int]]):
    def process_element(self, left: int, right: int, ctx: Any) -> Any:
        yield left, right


class Parity(KeySelector[int, int]):
    def get_key(self, value: int) -> int:
        return value % 2


def two_streams() -> tuple[DataStream[int], DataStream[int]]:
    env, _ = new_environment()
    return env.from_sequence(1, 9), env.from_sequence(10, 19)


def added(stream: DataStream[Any]) -> Transformation:
    node = stream._node
    assert isinstance(node, Transformation)
    return node


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda both: both.map(CoMap()), "Co-Map"),
        (lambda both: both.flat_map(CoFlatMap()), "Co-Flat Map"),
        (lambda both: both.process(CoProcess()), "Co-Process"),
    ],
)
def test_one_operator_with_two_inputs_is_added(
    call: Callable[[ConnectedStreams[int, int]], DataStream[int]], name: str
) -> None:
    """The first stream is its first input, the second its second; nothing has keys."""
    first, second = two_streams()
    operator = added(call(ConnectedStreams(first, second)))
    assert (operator.name, operator.inputs, operator.second_inputs) == (name, (first._node,), (second._node,))
    assert isinstance(operator.operator, CoProcessOperator)
    assert operator.operator.key_selectors is None


def test_keys_of_both_streams_go_with_the_operator() -> None:
    """key_by on the connected streams is key_by on each of them."""
    first, second = two_streams()
    parity = Parity()
    operator = added(ConnectedStreams(first, second).key_by(parity, abs).process(KeyedCoProcess()))
    assert operator.name == "Keyed Co-Process"
    assert isinstance(operator.operator, CoProcessOperator)
    assert operator.operator.key_selectors == (parity, abs)
    for node in (*operator.inputs, *operator.second_inputs):
        assert isinstance(node, Partitioned)
        assert node.partitioner.name == "HASH"


def test_connected_streams_refuse_what_cannot_run() -> None:
    """Wrong functions, keys on one side only, streams of two jobs."""
    first, second = two_streams()
    both = ConnectedStreams(first, second)
    with pytest.raises(JobGraphError, match="have no keys"):
        both.process(KeyedCoProcess())
    with pytest.raises(JobGraphError, match="takes a CoMapFunction"):
        both.map(len)  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="takes a CoProcessFunction or"):
        both.process(CoMap())  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="the other has none"):
        ConnectedStreams(first.key_by(abs), second).map(CoMap())
    with pytest.raises(JobGraphError, match="another StreamExecutionEnvironment"):
        ConnectedStreams(first, two_streams()[0])
    with pytest.raises(JobGraphError, match="not a list"):
        ConnectedStreams(first, [1])  # type: ignore[arg-type]


@pytest.mark.parametrize("keyed", [False, True])
def test_the_broadcast_stream_is_the_second_input_and_goes_everywhere(keyed: bool) -> None:
    """The operator knows its states and, with keys, the key; the second edge is a broadcast."""
    first, second = two_streams()
    stream: DataStream[int] = first.key_by(abs) if keyed else first
    function: Any = KeyedBroadcast() if keyed else Broadcast()
    connected = BroadcastConnectedStream(stream, BroadcastStream(second, (RULES,)))
    operator = added(connected.process(function))
    specification = operator.operator
    assert isinstance(specification, BroadcastProcessOperator)
    assert specification.state_descriptors == (RULES,)
    assert specification.key_selector is (abs if keyed else None)
    (node,) = operator.second_inputs
    assert isinstance(node, Partitioned)
    assert (node.input, node.partitioner.name) == (second._node, "BROADCAST")


def test_broadcast_streams_refuse_what_cannot_run() -> None:
    """The function must fit the stream; names of states are unique; both streams are of one job."""
    first, second = two_streams()
    rules = BroadcastStream(second, (RULES,))
    with pytest.raises(JobGraphError, match="takes a BroadcastProcessFunction, not a KeyedBroadcast"):
        BroadcastConnectedStream(first, rules).process(KeyedBroadcast())
    with pytest.raises(JobGraphError, match="takes a KeyedBroadcastProcessFunction, not a Broadcast"):
        BroadcastConnectedStream(first.key_by(abs), rules).process(Broadcast())
    with pytest.raises(JobGraphError, match="two descriptors of one name"):
        BroadcastStream(second, (RULES, MapStateDescriptor("rules")))
    with pytest.raises(JobGraphError, match="another StreamExecutionEnvironment"):
        BroadcastConnectedStream(two_streams()[0], rules)


def test_an_interval_join_knows_its_bounds_keys_and_late_outputs() -> None:
    """Bounds are milliseconds or amounts of time; leaving one out moves it by a millisecond."""
    first, second = two_streams()
    late: OutputTag[int] = OutputTag("late")
    function = PairOf()
    interval = IntervalJoin(first.key_by(abs), second.key_by(Parity())).between(-5, Time.seconds(1))
    interval.lower_bound_exclusive().upper_bound_exclusive().side_output_left_late_data(late)
    operator = added(interval.process(function))
    assert isinstance(operator.operator, IntervalJoinOperator)
    assert operator.operator.function is function
    assert (operator.operator.lower_ms, operator.operator.upper_ms) == (-4, 999)
    assert (operator.operator.left_late_tag, operator.operator.right_late_tag) == ("late", None)


def test_interval_joins_refuse_what_cannot_run() -> None:
    """Streams without keys, empty intervals, things that are no function and no tag."""
    first, second = two_streams()
    left, right = first.key_by(abs), second.key_by(abs)
    with pytest.raises(JobGraphError, match="keyed stream"):
        IntervalJoin(left, second)  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="another StreamExecutionEnvironment"):
        IntervalJoin(left, two_streams()[0].key_by(abs))
    with pytest.raises(JobGraphError, match="above the upper"):
        IntervalJoin(left, right).between(1, 0)
    with pytest.raises(JobGraphError, match="nothing is between 1 and 1"):
        IntervalJoin(left, right).between(1, 1).upper_bound_exclusive().process(PairOf())
    with pytest.raises(JobGraphError, match="ProcessJoinFunction or a callable"):
        IntervalJoin(left, right).between(1, 2).process(7)  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match="takes an OutputTag"):
        IntervalJoin(left, right).between(1, 2).side_output_right_late_data("late")  # type: ignore[arg-type]
