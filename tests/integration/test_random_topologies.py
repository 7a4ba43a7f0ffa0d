"""Many shapes of dataflows on worker processes, each compared with the same work in plain Python."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import pytest

from zmflow import DataStream, RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.config import Settings

pytestmark = pytest.mark.integration

Numbers = Counter[int]
MODULUS = 7


@dataclass(frozen=True)
class Step:
    """What is done to a stream, and what it does to a multiset. Broadcasts depend on the parallelism."""

    name: str
    apply: Callable[[DataStream[int]], DataStream[int]]
    expect: Callable[[Numbers, int], Numbers]


def each(function: Callable[[int], Iterable[int]]) -> Callable[[Numbers, int], Numbers]:
    """A multiset of what a function makes of every member."""

    def expect(numbers: Numbers, parallelism: int) -> Numbers:
        result: Numbers = Counter()
        for number, times in numbers.items():
            for made in function(number):
                result[made] += times
        return result

    return expect


def times(factor: Callable[[int], int]) -> Callable[[Numbers, int], Numbers]:
    """Every member more often."""
    return lambda numbers, parallelism: Counter({n: t * factor(parallelism) for n, t in numbers.items()})


def same(number: int) -> list[int]:
    return [number]


def several(number: int) -> Iterator[int]:
    """None, one or two."""
    return (number + i for i in range(number % 3))


def fewer(stream: DataStream[int]) -> DataStream[int]:
    """To one subtask, and from there to all of them."""
    return stream.map(lambda n: n).set_parallelism(1).rescale().map(lambda n: n)


def custom(stream: DataStream[int]) -> DataStream[int]:
    """By a partitioner of its own."""
    return stream.partition_custom(lambda key, count: key % count, lambda n: n).map(lambda n: n)


def diamond(stream: DataStream[int]) -> DataStream[int]:
    """Two branches of one stream, united."""
    return stream.map(lambda n: n + 1).union(stream.rebalance().filter(lambda n: n % 3 == 0))


STEPS = [
    Step("map", lambda s: s.map(lambda n: n * 3 + 1), each(lambda n: [n * 3 + 1])),
    Step("filter", lambda s: s.filter(lambda n: n % 3), each(lambda n: [n] if n % 3 else [])),
    Step("flat_map", lambda s: s.flat_map(several), each(several)),
    Step("union with itself", lambda s: s.union(s), times(lambda parallelism: 2)),
    Step("diamond", diamond, each(lambda n: [n + 1, n] if n % 3 == 0 else [n + 1])),
    Step("rebalance", lambda s: s.rebalance().map(lambda n: n), each(same)),
    Step("rescale", lambda s: s.rescale().map(lambda n: n), each(same)),
    Step("rescale to fewer", fewer, each(same)),
    Step("shuffle", lambda s: s.shuffle().map(lambda n: n), each(same)),
    Step("global", lambda s: s.global_().map(lambda n: n), each(same)),
    Step("broadcast", lambda s: s.broadcast().map(lambda n: n), times(lambda parallelism: parallelism)),
    Step("custom", custom, each(same)),
    Step("key_by", lambda s: s.key_by(lambda n: n % 5).map(lambda n: n - 2), each(lambda n: [n - 2])),
]


@pytest.fixture
def env() -> Iterator[StreamExecutionEnvironment]:
    """An environment whose jobs run on an embedded cluster."""
    with environment_context(Settings().with_values({"execution.target": "embedded"}, "test")):
        yield StreamExecutionEnvironment.get_execution_environment()


@pytest.mark.parametrize("seed", range(12))
def test_any_pipeline_computes_what_python_does(env: StreamExecutionEnvironment, seed: int) -> None:
    """Four random steps and a keyed sum give the same multiset in both modes."""
    chance = random.Random(seed)
    parallelism = chance.choice([2, 3])
    steps = chance.sample(STEPS, 4)
    env.set_parallelism(parallelism)
    env.set_runtime_mode(chance.choice([RuntimeExecutionMode.STREAMING, RuntimeExecutionMode.BATCH]))
    if chance.random() < 0.3:
        env.disable_operator_chaining()
    stream: DataStream[int] = env.from_sequence(1, 400)
    expected: Numbers = Counter(range(1, 401))
    for step in steps:
        stream, expected = step.apply(stream), step.expect(expected, parallelism)
    assert Counter(stream.execute_and_collect()) == expected, [step.name for step in steps]

    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    keyed = stream.map(lambda n: (n % MODULUS, n)).key_by(lambda pair: pair[0])
    sums = keyed.reduce(lambda a, b: (a[0], a[1] + b[1]))
    totals: Counter[int] = Counter()
    for number, often in expected.items():
        totals[number % MODULUS] += number * often
    present = {number % MODULUS for number, often in expected.items() if often}
    assert dict(sums.execute_and_collect()) == {key: totals[key] for key in present}


@pytest.mark.parametrize("mode", list(RuntimeExecutionMode)[:2])
def test_records_of_a_key_keep_their_order(
    env: StreamExecutionEnvironment, mode: RuntimeExecutionMode
) -> None:
    """What one subtask sent of one key arrives in the order it was sent, however many subtasks there are."""
    env.set_parallelism(3)
    env.set_runtime_mode(mode)
    numbers = env.from_collection(range(6000))
    stamped = numbers.key_by(lambda n: n % 11).map(lambda n: (n % 11, n)).key_by(lambda pair: pair[0])
    folded = stamped.map(lambda pair: (pair[0], [pair[1]])).key_by(lambda pair: pair[0])
    rows = list(folded.reduce(lambda a, b: (a[0], a[1] + b[1])).execute_and_collect())
    longest = {key: max((row[1] for row in rows if row[0] == key), key=len) for key, _ in rows}
    assert longest == {key: list(range(key, 6000, 11)) for key in range(11)}
