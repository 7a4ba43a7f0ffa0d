"""What a type checker infers through streams. Nothing here runs: mypy reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, assert_type

from zmflow import (
    CloseableIterator,
    DataStream,
    DataStreamSink,
    FilterFunction,
    FlatMapFunction,
    KeyedStream,
    KeySelector,
    MapFunction,
    Partitioner,
    PrintSink,
    ReduceFunction,
    SinkContext,
    SinkFunction,
    StreamExecutionEnvironment,
    Types,
)


class Length(MapFunction[str, int]):
    def map(self, value: str) -> int:
        return len(value)


class Split(FlatMapFunction[str, str]):
    def flat_map(self, value: str) -> Iterable[str]:
        return value.split()


class Short(FilterFunction[str]):
    def filter(self, value: str) -> bool:
        return len(value) < 3


class First(KeySelector[str, str]):
    def get_key(self, value: str) -> str:
        return value[0]


class Longer(ReduceFunction[str]):
    def reduce(self, value1: str, value2: str) -> str:
        return max(value1, value2, key=len)


class ByHash(Partitioner[str]):
    def partition(self, key: str, num_partitions: int) -> int:
        return hash(key) % num_partitions


class Write(SinkFunction[str]):
    def invoke(self, value: str, context: SinkContext) -> None:
        del value


def words(line: str) -> Iterator[str]:
    yield from line.split()


def lambdas(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_collection([1, 2])
    assert_type(numbers, DataStream[int])
    assert_type(numbers.map(lambda x: x + 1), DataStream[int])
    assert_type(numbers.map(lambda x: str(x)), DataStream[str])
    assert_type(numbers.map(lambda x: (x, "a")), DataStream[tuple[int, str]])
    assert_type(numbers.map(str, Types.STRING()), DataStream[str])
    assert_type(numbers.filter(lambda x: x > 1), DataStream[int])
    assert_type(numbers.flat_map(lambda x: [str(x)]), DataStream[str])
    assert_type(numbers.flat_map(range), DataStream[int])
    assert_type(env.from_sequence(1, 5), DataStream[int])


def functions(env: StreamExecutionEnvironment) -> None:
    lines = env.from_collection(["a b"])
    assert_type(lines.flat_map(words), DataStream[str])
    assert_type(lines.flat_map(Split()), DataStream[str])
    assert_type(lines.map(Length()), DataStream[int])
    assert_type(lines.map(len), DataStream[int])
    assert_type(lines.filter(Short()), DataStream[str])
    assert_type(lines.key_by(First()), KeyedStream[str, str])
    assert_type(lines.key_by(First()).reduce(Longer()), DataStream[str])
    assert_type(lines.partition_custom(ByHash(), First()), DataStream[str])
    assert_type(lines.add_sink(Write()), DataStreamSink)


def keyed(env: StreamExecutionEnvironment) -> None:
    pairs = env.from_collection(["a b"]).flat_map(words).map(lambda word: (word, 1))
    counts = pairs.key_by(lambda pair: pair[0])
    assert_type(counts, KeyedStream[tuple[str, int], str])
    assert_type(counts.sum(1), DataStream[tuple[str, int]])
    assert_type(counts.max_by("f"), DataStream[tuple[str, int]])
    assert_type(counts.reduce(lambda a, b: (a[0], a[1] + b[1])), DataStream[tuple[str, int]])
    assert_type(counts.map(lambda pair: pair[1]), DataStream[int])
    assert_type(counts.key_by(lambda pair: pair[1]), KeyedStream[tuple[str, int], int])
    assert_type(counts.union(pairs), DataStream[tuple[str, int]])


def ends(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_sequence(1, 2)
    assert_type(numbers.print(), DataStreamSink)
    assert_type(numbers.sink_to(PrintSink()).name("x").uid("y"), DataStreamSink)
    assert_type(numbers.execute_and_collect(), CloseableIterator[int])
    assert_type(numbers.execute_and_collect("job"), CloseableIterator[int])
    assert_type(numbers.execute_and_collect(limit=3), list[int])
    assert_type(numbers.execute_and_collect("job", 3), list[int])
    assert_type(numbers.project(0), DataStream[Any])


def properties(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_sequence(1, 2).name("n").uid("u").set_parallelism(2).set_max_parallelism(4)
    assert_type(numbers.start_new_chain().disable_chaining().slot_sharing_group("g"), DataStream[int])
    assert_type(numbers.rebalance().union(numbers.shuffle()).global_(), DataStream[int])
