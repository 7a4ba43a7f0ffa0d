"""What can be said of one operator: its id, its description, that it is not parallel, what it returns."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from submissions import new_environment

from zmflow import OutputTag, ProcessFunction, StreamExecutionEnvironment, Types
from zmflow.api.sinks import WriterContext
from zmflow.errors import JobGraphError
from zmflow.graph.explain import describe, render_text


class Passing(ProcessFunction[int, int]):
    """Does nothing."""

    def process_element(self, value: int, ctx: Any) -> Iterator[int]:
        yield value


HASH = "0123456789abcdef0123456789ABCDEF"


def test_a_uid_hash_is_the_operators_id_as_it_is() -> None:
    """In lower case, whatever the uid; ids that were made up are not touched by it."""
    env, executor = new_environment()
    env.from_collection([1]).map(str).uid("m").set_uid_hash(HASH).print().set_uid_hash("1" * 32)
    env.execute()
    operators = [operator for vertex in executor.graphs[0].vertices for operator in vertex.chain]
    assert [operator.operator_id for operator in operators][1:] == [HASH.lower(), "1" * 32]


@pytest.mark.parametrize("wrong", ["", "12", "g" * 32, "1" * 33, 5])
def test_other_texts_are_no_ids(wrong: str) -> None:
    """An id that could be no operator's is refused where it is given."""
    env, _ = new_environment()
    with pytest.raises(JobGraphError, match="32 hexadecimal digits"):
        env.from_collection([1]).set_uid_hash(wrong)


def test_an_id_is_one_operators() -> None:
    """State is found by it."""
    env, _ = new_environment()
    stream = env.from_collection([1]).map(str).name("left").set_uid_hash(HASH)
    stream.map(int).name("right").set_uid_hash(HASH).print()
    with pytest.raises(JobGraphError, match="that of 2 operators") as raised:
        env.execute()
    assert "'left', 'right'" in str(raised.value)


def test_a_description_is_shown_in_plans() -> None:
    """In Flink's plan as contents, in ours beside the name; logs and errors keep the name."""
    env, executor = new_environment()
    env.set_parallelism(1)
    env.from_collection([1]).map(str).name("m").set_description("numbers as text").print().set_description(
        "s"
    )
    nodes = json.loads(env.get_execution_plan())["nodes"]
    assert [node["contents"] for node in nodes][1:] == ["numbers as text", "s"]
    assert nodes[1]["type"] == "m"
    env.execute()
    plan = describe(executor.graphs[0])
    assert '├─ m  "numbers as text"\n' in render_text(plan)
    assert plan.chains[0].name == "Source: Collection Source -> m -> Sink: Print to Std. Out"


def test_what_is_not_parallel_stays_so() -> None:
    """One subtask, one key group."""
    env, executor = new_environment()
    stream = env.from_sequence(1, 9).map(str).set_parallelism(4).force_non_parallel()
    for call in (stream.set_parallelism, stream.set_max_parallelism):
        call(1)
        with pytest.raises(JobGraphError, match="is not parallel"):
            call(2)
    stream.print()
    env.execute()
    vertex = next(vertex for vertex in executor.graphs[0].vertices if vertex.name.startswith("Map"))
    assert (vertex.parallelism, vertex.max_parallelism) == (1, 1)


def test_returns_declares_what_output_type_does() -> None:
    """The stream knows its type, and so does the operator."""
    env, _ = new_environment()
    stream = env.from_collection([1]).map(str).returns(Types.STRING())
    assert stream.get_type() == Types.STRING()
    assert stream._operator("").output_type == Types.STRING()
    with pytest.raises(JobGraphError, match=r"returns\(\) takes a type"):
        stream.returns("text")  # type: ignore[arg-type]


def test_a_side_output_has_the_type_of_its_tag() -> None:
    """It travels with the chain whose output it is."""
    env, executor = new_environment()
    stream = env.from_collection([1]).process(Passing())
    stream.get_side_output(OutputTag("side", Types.INT())).rebalance().print()
    stream.print()
    env.execute()
    outputs = [
        output
        for vertex in executor.graphs[0].vertices
        for output in pickle.loads(vertex.operators).outputs
        if output.tag
    ]
    assert [(output.tag, output.output_type) for output in outputs] == [("side", Types.INT())]


def test_a_stream_has_its_environments_configuration() -> None:
    """What is set through it counts for the environment."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.from_collection([1]).get_execution_config().set_parallelism(3)
    assert env.get_parallelism() == 3


def test_print_to_err_prints_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing of it reaches standard output."""
    env, _ = new_environment()
    added = env.from_collection([1]).print_to_err("id")
    assert added.get_name() == "Print to Std. Err"
    sink = added._operator("").operator.sink  # type: ignore[attr-defined]
    from test_builtin_sources_and_sinks import runtime_context

    writer = sink.create_writer(WriterContext(runtime_context(0, 1), lambda *_: None))
    writer.write_batch(["a"])
    writer.write("b")
    writer.flush(True)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "id> a\nid> b\n")
