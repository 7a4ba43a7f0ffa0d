"""Window joins and coGroups: two streams as one of tagged records, and the parting of a window."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from submissions import new_environment

from zmflow import DataStream, KeySelector
from zmflow.api.join_functions import CoGroupFunction, FlatJoinFunction, JoinFunction
from zmflow.api.joins import CoGroupedStreams, JoinedStreams
from zmflow.api.time import Time
from zmflow.api.windows import CountTrigger, TumblingEventTimeWindows
from zmflow.api.windows.operators import WindowOperator
from zmflow.errors import JobGraphError
from zmflow.graph.transformations import Partitioned, Transformation, Union

WINDOWS = TumblingEventTimeWindows.of(Time.seconds(1))


def two_streams() -> tuple[DataStream[int], DataStream[int]]:
    env, _ = new_environment()
    return env.from_sequence(1, 9), env.from_sequence(10, 19)


def operator_of(stream: DataStream[Any]) -> WindowOperator:
    node = stream._node
    assert isinstance(node, Transformation)
    assert isinstance(node.operator, WindowOperator)
    return node.operator


def fired(stream: DataStream[Any], first: Iterable[Any], second: Iterable[Any]) -> list[Any] | None:
    """What the window function makes of a window with these records of the two streams."""
    function = operator_of(stream).function
    assert function is not None
    tagged = [(True, value) for value in first] + [(False, value) for value in second]
    function.function.open(None)  # type: ignore[union-attr, arg-type]
    results = function.function.apply("key", None, tagged)  # type: ignore[union-attr]
    function.function.close()  # type: ignore[union-attr]
    return None if results is None else list(results)


def test_a_join_pairs_every_record_of_one_side_with_every_one_of_the_other() -> None:
    """A callable or a JoinFunction makes one record of a pair; without partners there is none."""

    class Minus(JoinFunction[int, int, int]):
        def join(self, first: int, second: int) -> int:
            return first - second

    for function in (Minus(), lambda first, second: first - second):
        first, second = two_streams()
        joined = JoinedStreams(first, second).where(abs).equal_to(abs).window(WINDOWS).apply(function)
        assert fired(joined, [1, 2], [10, 20]) == [-9, -19, -8, -18]
        assert fired(joined, [1, 2], []) == []


def test_a_flat_join_makes_any_number_of_records() -> None:
    """None and nothing are no record."""

    class Unequal(FlatJoinFunction[int, int, str]):
        def join(self, first: int, second: int) -> list[str] | None:
            return None if first == second else [f"{first}", f"{second}"]

    first, second = two_streams()
    joined = JoinedStreams(first, second).where(abs).equal_to(abs).window(WINDOWS).apply(Unequal())
    assert fired(joined, [1], [1, 2]) == ["1", "2"]


def test_a_co_group_gets_both_parts_even_when_one_is_empty() -> None:
    """That is what outer joins are made of."""

    class Missing(CoGroupFunction[int, int, str]):
        opened = False

        def open(self, runtime_context: Any) -> None:
            self.opened = True

        def co_group(self, first: Iterable[int], second: Iterable[int]) -> Any:
            assert self.opened
            if not list(second):
                yield from (f"alone {value}" for value in first)

    def both(first: Iterable[int], second: Iterable[int]) -> list[int]:
        return [*first, *second]

    first, second = two_streams()
    grouped = CoGroupedStreams(first, second).where(abs).equal_to(abs).window(WINDOWS).apply(Missing())
    assert fired(grouped, [1, 2], []) == ["alone 1", "alone 2"]
    first, second = two_streams()
    listed = CoGroupedStreams(first, second).where(abs).equal_to(abs).window(WINDOWS).apply(both)
    assert fired(listed, [1], [2]) == [1, 2]


def test_both_streams_become_one_of_tagged_records_with_the_key_of_their_own() -> None:
    """A union of two maps, keyed by the selector of the stream that a record came from."""

    class Tens(KeySelector[int, int]):
        factor = 0

        def open(self, runtime_context: Any) -> None:
            self.factor = 10

        def get_key(self, value: int) -> int:
            return value * self.factor

    first, second = two_streams()
    windowed = JoinedStreams(first, second).where(lambda value: -value).equal_to(Tens()).window(WINDOWS)
    trigger = CountTrigger.of(2)
    joined = windowed.trigger(trigger).allowed_lateness(5).apply(max)
    specification = operator_of(joined)
    assert (specification.trigger, specification.allowed_lateness_ms) == (trigger, 5)
    selector: Any = specification.key_selector
    selector.open(None)
    assert (selector.get_key((True, 3)), selector.get_key((False, 3))) == (-3, 30)
    (keyed,) = joined._node.inputs  # type: ignore[union-attr]
    assert isinstance(keyed, Partitioned)
    assert isinstance(keyed.input, Union)
    taggers = [node.operator.function for node in keyed.input.inputs]  # type: ignore[union-attr]
    assert [tag("x") for tag in taggers] == [(True, "x"), (False, "x")]


def test_joins_refuse_what_cannot_run() -> None:
    """Missing keys, streams of two jobs, functions of another kind."""
    first, second = two_streams()
    with pytest.raises(JobGraphError, match=r"before where\(\)"):
        JoinedStreams(first, second).window(WINDOWS)
    with pytest.raises(JobGraphError, match=r"before equal_to\(\)"):
        CoGroupedStreams(first, second).where(abs).window(WINDOWS)
    with pytest.raises(JobGraphError, match="another StreamExecutionEnvironment"):
        JoinedStreams(first, two_streams()[0])
    with pytest.raises(JobGraphError, match="takes a stream"):
        CoGroupedStreams(first, [1])  # type: ignore[arg-type]
    with pytest.raises(JobGraphError, match=r"apply\(\) of a join takes"):
        JoinedStreams(first, second).where(abs).equal_to(abs).window(WINDOWS).apply(1)  # type: ignore[arg-type]
