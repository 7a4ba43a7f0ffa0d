"""Misuse that a type checker must see: each marked line is an error of the code named there."""

from __future__ import annotations

from zmflow import FilterFunction, MapFunction, SinkContext, SinkFunction, StreamExecutionEnvironment


class Length(MapFunction[str, int]):
    def map(self, value: str) -> int:
        return len(value)


class Short(FilterFunction[str]):
    def filter(self, value: str) -> bool:
        return len(value) < 3


class Write(SinkFunction[str]):
    def invoke(self, value: str, context: SinkContext) -> None:
        del value


def records(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_sequence(1, 5)
    numbers.map(lambda x: x.upper())  # error: attr-defined
    numbers.map(Length())  # error: arg-type
    numbers.map(Length)  # error: arg-type
    numbers.filter(Short())  # error: arg-type
    numbers.flat_map(lambda x: x + 1)  # error: arg-type, return-value
    numbers.map(len)  # error: arg-type
    numbers.union(numbers.map(str))  # error: arg-type
    numbers.add_sink(Write())  # error: arg-type
    numbers.sink_to(Write())  # error: arg-type


def keys(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_sequence(1, 5)
    numbers.sum(0)  # error: attr-defined
    numbers.reduce(lambda a, b: a + b)  # error: attr-defined
    numbers.key_by(0)  # error: arg-type
    numbers.key_by(str).reduce(lambda a, b: str(a + b))  # error: arg-type, return-value
    numbers.key_by(str).sum(1.5)  # error: arg-type


def arguments(env: StreamExecutionEnvironment) -> None:
    numbers = env.from_sequence(1, 5)
    numbers.set_parallelism("2")  # error: arg-type
    env.from_source([1, 2])  # error: arg-type
    env.from_sequence("a", "b")  # error: arg-type, arg-type
    env.set_runtime_mode("BATCH")  # error: arg-type
    numbers.execute_and_collect(limit="3")  # error: call-overload
