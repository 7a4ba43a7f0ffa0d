"""DataStream, KeyedStream and DataStreamSink: what they add, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from submissions import KeepingExecutor, new_environment, operators_of

from zmflow import (
    DataStream,
    FilterFunction,
    FlatMapFunction,
    KeySelector,
    MapFunction,
    PrintSink,
    SinkContext,
    SinkFunction,
    Types,
)
from zmflow.api.operators import ProjectOperator, SinkFunctionOperator
from zmflow.errors import JobGraphError


class Double(MapFunction[int, int]):
    def map(self, value: int) -> int:
        return value * 2


class Keep(FilterFunction[int]):
    def filter(self, value: int) -> bool:
        return True


class Parity(KeySelector[int, int]):
    def get_key(self, value: int) -> int:
        return value % 2


class Drop(SinkFunction[int]):
    def invoke(self, value: int, context: SinkContext) -> None:
        """Nothing."""


def edges(build: Any) -> list[tuple[str, str, str]]:
    """Edges of the unchained job that ``build`` adds to a stream of numbers."""
    env, executor = new_environment()
    env.disable_operator_chaining()
    build(env.from_sequence(1, 9))
    env.execute()
    graph = executor.graphs[0]
    names = {vertex.vertex_id: vertex.name for vertex in graph.vertices}
    return [(names[edge.source], edge.partitioner, names[edge.target]) for edge in graph.edges]


@pytest.mark.parametrize(
    ("method", "partitioner"),
    [
        ("shuffle", "SHUFFLE"),
        ("rebalance", "REBALANCE"),
        ("rescale", "RESCALE"),
        ("forward", "FORWARD"),
        ("broadcast", "BROADCAST"),
        ("global_", "GLOBAL"),
    ],
)
def test_partitioners(method: str, partitioner: str) -> None:
    """Each partitioning method decides how the next operator is fed."""
    assert [edge[1] for edge in edges(lambda stream: getattr(stream, method)().print())] == [partitioner]


def test_partition_custom() -> None:
    """A custom partitioner takes the key, then the number of subtasks."""
    found = edges(lambda stream: stream.partition_custom(lambda key, n: key % n, lambda x: x).print())
    assert [edge[1] for edge in found] == ["CUSTOM"]


def test_keyed_streams_act_on_values() -> None:
    """map, union, project, print and sinks take a keyed stream's records where their keys are."""
    found = edges(lambda stream: stream.key_by(Parity()).map(Double()).print())
    assert found[0] == ("Source: Sequence Source", "HASH", "Map")
    found = edges(lambda stream: stream.key_by(Parity()).union(stream).print())
    assert [edge[1] for edge in found] == ["HASH", "FORWARD"]
    for build in (lambda keyed: keyed.print(), lambda keyed: keyed.project(0).print()):
        assert edges(lambda stream, build=build: build(stream.key_by(Parity())))[0][1] == "HASH"


def test_keying_again_keys_the_original() -> None:
    """Of two key_by calls in a row the second counts."""
    env, executor = new_environment()
    env.from_sequence(1, 9).key_by(lambda x: "first").key_by(lambda x: "second").sum().print()
    env.execute()
    selectors = [o.key_selector for o in operators_of(executor.graphs[0]) if hasattr(o, "key_selector")]
    assert [selector(1) for selector in selectors] == ["second"]


@pytest.mark.parametrize(
    "call",
    [
        lambda keyed: keyed.shuffle(),
        lambda keyed: keyed.rebalance(),
        lambda keyed: keyed.rescale(),
        lambda keyed: keyed.forward(),
        lambda keyed: keyed.broadcast(),
        lambda keyed: keyed.global_(),
        lambda keyed: keyed.partition_custom(lambda k, n: 0, lambda x: x),
        lambda keyed: keyed.name("x"),
        lambda keyed: keyed.get_name(),
        lambda keyed: keyed.uid("x"),
        lambda keyed: keyed.set_parallelism(1),
        lambda keyed: keyed.set_max_parallelism(1),
        lambda keyed: keyed.start_new_chain(),
        lambda keyed: keyed.disable_chaining(),
        lambda keyed: keyed.slot_sharing_group("x"),
        lambda keyed: keyed.set_buffer_timeout(1),
    ],
)
def test_keyed_streams_refuse_what_would_change_them(call: Any) -> None:
    """Re-partitioning or renaming a keyed stream is an error that says where to do it."""
    env, _ = new_environment()
    with pytest.raises(JobGraphError, match="keyed stream") as caught:
        call(env.from_sequence(1, 2).key_by(lambda x: x))
    assert "key_by()" in (caught.value.hint or "")


def test_operator_properties_reach_the_job() -> None:
    """Names, uids, parallelism, chaining and groups are in the JobGraph."""
    env, executor = new_environment()
    stream = (
        env.from_sequence(1, 2).map(str).name("Text").uid("text").set_parallelism(3).set_max_parallelism(9)
    )
    assert stream.get_name() == "Text"
    sink = stream.slot_sharing_group("g").start_new_chain().set_buffer_timeout(5).print("id")
    sink.name("Out").uid("out").set_parallelism(3).disable_chaining().slot_sharing_group("h")
    env.execute()
    source, text, out = executor.graphs[0].vertices
    assert (text.name, text.parallelism, text.max_parallelism, text.sharing_group) == ("Text", 3, 9, "g")
    assert (out.name, out.parallelism, out.sharing_group) == ("Sink: Out", 3, "h")
    assert [vertex.chain[0].uid for vertex in (source, text, out)] == ["", "text", "out"]


def test_chaining_can_be_shaped() -> None:
    """start_new_chain cuts before an operator, disable_chaining on both sides."""
    env, executor = new_environment()
    env.from_sequence(1, 2).map(str).map(str).start_new_chain().map(str).disable_chaining().map(str).print()
    env.execute()
    assert [len(vertex.chain) for vertex in executor.graphs[0].vertices] == [2, 1, 1, 2]


def test_projection_and_sinks() -> None:
    """project keeps positions; add_sink takes functions and SinkFunctions and names them."""
    env, executor = new_environment()
    stream = env.from_collection([(1, 2, 3)]).project(2, 0)
    stream.add_sink(Drop()).set_parallelism(1)
    stream.add_sink(print).set_parallelism(1)
    stream.add_sink(lambda value: None).set_parallelism(1)
    stream.sink_to(PrintSink("x"))
    env.execute()
    graph = executor.graphs[0]
    operators = operators_of(graph)
    assert ProjectOperator((2, 0)) in operators
    assert sum(isinstance(operator, SinkFunctionOperator) for operator in operators) == 3
    names = {
        operator.name for vertex in graph.vertices for operator in vertex.chain if operator.kind == "sink"
    }
    assert names == {"Sink: Drop", "Sink: print", "Sink: Unnamed", "Sink: Print to Std. Out"}


def test_types_are_kept() -> None:
    """Declared types stay with the stream; filters and aggregates pass them on."""
    env, _ = new_environment()
    stream = env.from_collection([(1, 2)], Types.TUPLE([Types.INT(), Types.INT()]))
    assert str(stream.filter(Keep()).key_by(lambda pair: pair[0]).sum(1).get_type()) == "TUPLE(INT, INT)"
    assert stream.map(str, Types.STRING()).get_type() == Types.STRING()
    assert stream.map(str).get_type() is None
    assert stream.get_execution_environment() is env


def test_collecting_follows_the_stream() -> None:
    """The collect sink is as parallel as the stream, so that a collection comes back in order."""
    executor = KeepingExecutor(rows=[1, 2, 3, 4])
    env, _ = new_environment(executor)
    assert list(env.from_collection([1, 2, 3, 4]).map(Double()).set_parallelism(1).execute_and_collect()) == [
        1,
        2,
        3,
        4,
    ]
    assert [vertex.parallelism for vertex in executor.graphs[0].vertices] == [1]
    assert env.from_sequence(1, 9).rebalance().execute_and_collect("named", 2) == [1, 2]
    assert executor.graphs[1].name == "named"
    assert executor.jobs[1].calls == ["status", "cancel", "close"]


def test_collected_rows_can_be_left_early() -> None:
    """Closing the iterator cancels the job once; reading on ends at once."""
    executor = KeepingExecutor(rows=[1, 2, 3])
    env, _ = new_environment(executor)
    with env.from_sequence(1, 3).execute_and_collect() as rows:
        assert rows.next() == 1
    rows.close()
    assert list(rows) == []
    assert executor.jobs[0].calls == ["status", "cancel", "close"]


def test_a_refused_collection_leaves_no_sink() -> None:
    """When execute_and_collect is refused, a later execute does not run its sink."""
    env, executor = new_environment()
    stream = env.from_sequence(1, 2).uid("same")
    other = env.from_sequence(1, 2).uid("same")
    stream.print()
    with pytest.raises(JobGraphError, match="uid"):
        other.execute_and_collect()
    other.uid("other")
    env.execute()
    assert "Collect" not in " ".join(vertex.name for vertex in executor.graphs[0].vertices)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.map(5), "map.. takes a callable or a MapFunction, not 5 of type int"),
        (lambda s: s.map(Keep()), "not the FilterFunction Keep"),
        (lambda s: s.map(Double), "not the class Double itself"),
        (lambda s: s.flat_map(None), "takes a callable or a FlatMapFunction, not None"),
        (lambda s: s.filter("x"), "takes a callable or a FilterFunction"),
        (lambda s: s.key_by(0), "key_by.. takes a callable or a KeySelector, not 0"),
        (lambda s: s.key_by(str).reduce(1), "takes a callable or a ReduceFunction"),
        (lambda s: s.key_by(str).sum(-1), "position .* or the name of a field, not -1"),
        (lambda s: s.key_by(str).max_by(""), "max_by"),
        (lambda s: s.key_by(str).min(lambda x: x), "min"),
        (lambda s: s.partition_custom(1, str), "takes a callable or a Partitioner"),
        (lambda s: s.partition_custom(max, 1), "takes a callable or a KeySelector"),
        (lambda s: s.project(), "project"),
        (lambda s: s.project("a"), "project"),
        (lambda s: s.union(), "no stream"),
        (lambda s: s.union([s]), "takes streams, not a list"),
        (lambda s: s.union(new_environment()[0].from_sequence(1, 2)), "another StreamExecutionEnvironment"),
        (lambda s: s.sink_to(print), "takes a Sink, not a builtin"),
        (lambda s: s.add_sink(3), "takes a callable or a SinkFunction"),
        (lambda s: s.name(""), "name"),
        (lambda s: s.uid(3), "uid"),
        (lambda s: s.slot_sharing_group(" "), "slot_sharing_group"),
        (lambda s: s.set_parallelism(0), "'Source: Sequence Source' is 0"),
        (lambda s: s.set_parallelism(-3), "is -3"),
        (lambda s: s.set_parallelism("2"), "not a whole number"),
        (lambda s: s.set_max_parallelism(32769), "32769"),
        (lambda s: s.set_buffer_timeout(-2), "buffer timeout"),
        (lambda s: s.rebalance().name("x"), "partitioning, which is not an operator"),
        (lambda s: s.union(s).uid("x"), "union, which is not an operator"),
        (lambda s: s.execute_and_collect(limit=0), "limit of at least 1"),
    ],
)
def test_misuse_is_refused_at_the_call(call: Any, words: str) -> None:
    """A wrong argument is named where it is given."""
    env, _ = new_environment()
    with pytest.raises(JobGraphError, match=words):
        call(env.from_sequence(1, 2))


def test_function_classes_are_accepted_everywhere() -> None:
    """Objects of function classes stand where callables do."""

    class Twice(FlatMapFunction[int, int]):
        def flat_map(self, value: int) -> list[int]:
            return [value, value]

    env, executor = new_environment()
    stream: DataStream[int] = env.from_sequence(1, 2).map(Double()).flat_map(Twice()).filter(Keep())
    stream.key_by(Parity()).reduce(max).print()
    env.execute()
    assert len(operators_of(executor.graphs[0])) == 6


def test_sources_and_sinks_are_validated_before_submission() -> None:
    """What a source or sink finds wrong stops execute()."""

    class BadSink(PrintSink):
        def validate(self) -> None:
            raise JobGraphError("The target is wrong.")

    env, executor = new_environment()
    env.from_sequence(1, 2).sink_to(BadSink())
    with pytest.raises(JobGraphError, match="target is wrong"):
        env.execute()
    assert executor.graphs == []


@pytest.mark.parametrize("call", ["name", "uid", "slot_sharing_group"])
def test_names_are_text_that_can_travel(call: str) -> None:
    """A lone surrogate is refused where it is given, not when the job is submitted."""
    env, _ = new_environment()
    stream = env.from_sequence(1, 2)
    with pytest.raises(JobGraphError, match="UTF-8"):
        getattr(stream, call)("\udcff")
