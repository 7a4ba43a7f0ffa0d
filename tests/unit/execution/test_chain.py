"""Compiled chains against the plain Python they stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.api.functions import FlatMapFunction, MapFunction, RuntimeContext, SinkContext, SinkFunction
from zmflow.api.metric_group import MetricGroup
from zmflow.api.operators import (
    FilterOperator,
    FlatMapOperator,
    KeyedAggregateOperator,
    KeyedReduceOperator,
    MapOperator,
    ProjectOperator,
    SinkFunctionOperator,
    SinkOperator,
    SourceOperator,
)
from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.execution.batches import TimedRows
from zmflow.execution.chain import Chain
from zmflow.execution.chain_code import ROWS_HELD_MAX
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.graph.job_graph import ChainNode, ChainOutput, ChainSpec
from zmflow.graph.partitioners import ForwardPartitioner

CONTEXT = RuntimeContext(
    job_id="j",
    job_name="job",
    task_name="task",
    operator_name="",
    subtask_index=1,
    parallelism=2,
    max_parallelism=128,
    attempt_number=0,
    host="here",
)


def linear(*operators: Any) -> ChainSpec:
    nodes = [ChainNode(f"o{i}", f"op{i}", op, i - 1) for i, op in enumerate(operators)]
    return ChainSpec(nodes, [ChainOutput("e", len(nodes) - 1, ForwardPartitioner(), 100)])


class Counting(MapFunction[int, int]):
    """Counts its calls, each as so many."""

    def __init__(self, step: int) -> None:
        self.step = step

    def open(self, runtime_context: RuntimeContext) -> None:
        self.calls = runtime_context.get_metrics_group().counter("calls")

    def map(self, value: int) -> int:
        self.calls.inc(self.step)
        return value


class Opened:
    """A chain with its output gathered."""

    def __init__(self, spec: ChainSpec, context: RuntimeContext = CONTEXT) -> None:
        self.batches: list[list[Any]] = []
        self.chain = Chain(spec, context, [self._take] * len(spec.outputs), lambda *_: None)
        self.chain.open()

    def _take(self, rows: Sequence[Any]) -> None:
        self.batches.append(rows if isinstance(rows, TimedRows) else list(rows))

    @property
    def rows(self) -> list[Any]:
        return [row for batch in self.batches for row in batch]


def test_map_filter_and_flat_map_are_what_python_makes_of_them() -> None:
    """A chain of the three stateless operators equals the nested loops."""
    opened = Opened(
        linear(
            FlatMapOperator(lambda line: line.split()),
            FilterOperator(lambda word: len(word) > 1),
            MapOperator(str.upper),
        )
    )
    opened.chain.process(["a bb ccc", "", "dd"])
    assert opened.rows == ["BB", "CCC", "DD"]


STEPS: list[tuple[Any, Callable[[list[int]], list[int]]]] = [
    (MapOperator(lambda x: x * 3 + 1), lambda rows: [x * 3 + 1 for x in rows]),
    (FilterOperator(lambda x: x % 2), lambda rows: [x for x in rows if x % 2]),
    (FlatMapOperator(lambda x: range(x % 4)), lambda rows: [y for x in rows for y in range(x % 4)]),
    (FlatMapOperator(lambda x: [x, -x]), lambda rows: [y for x in rows for y in (x, -x)]),
    (FlatMapOperator(lambda x: None if x % 3 else (x,)), lambda rows: [x for x in rows if not x % 3]),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(range(len(STEPS))), min_size=1, max_size=6),
    st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=20), max_size=4),
)
def test_every_sequence_of_stateless_operators(choice: list[int], batches: list[list[int]]) -> None:
    """Whatever the order of operators and the cut into batches, the rows are those of plain Python."""
    opened = Opened(linear(*(STEPS[i][0] for i in choice)))
    expected = [row for batch in batches for row in batch]
    for i in choice:
        expected = STEPS[i][1](expected)
    for batch in batches:
        opened.chain.process(batch)
    opened.chain.finish()
    assert expected == opened.rows


@pytest.mark.parametrize("final_only", [False, True])
def test_keyed_reduce_streams_updates_or_keeps_the_last(final_only: bool) -> None:
    """STREAMING emits a value per record, BATCH one per key when the input ends."""
    opened = Opened(
        linear(
            KeyedReduceOperator(lambda r: r[0], lambda a, b: (a[0], a[1] + b[1]), final_only),
            MapOperator(lambda r: f"{r[0]}{r[1]}"),
        )
    )
    opened.chain.process([("a", 1), ("b", 1), ("a", 2)])
    before_end = list(opened.rows)
    opened.chain.finish()
    if final_only:
        assert before_end == []
        assert opened.rows == ["a3", "b1"]
    else:
        assert ["a1", "b1", "a3"] == opened.rows == before_end


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["sum", "min", "max", "min_by", "max_by"]),
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-9, 9), st.integers()), max_size=30),
)
def test_aggregates_against_a_naive_model(kind: Any, rows: list[tuple[str, int, int]]) -> None:
    """sum, min, max keep the first record's other fields; min_by and max_by the first winner."""
    opened = Opened(linear(KeyedAggregateOperator(lambda r: r[0], kind, 1, False)))
    state: dict[str, tuple[str, int, int]] = {}
    expected = []
    for row in rows:
        old = state.get(row[0])
        if old is None:
            new = row
        elif kind == "sum":
            new = (old[0], old[1] + row[1], old[2])
        elif kind in ("min", "max"):
            new = (old[0], min(old[1], row[1]) if kind == "min" else max(old[1], row[1]), old[2])
        else:
            better = row[1] < old[1] if kind == "min_by" else row[1] > old[1]
            new = row if better else old
        state[row[0]] = new
        expected.append(new)
    for begin in range(0, len(rows), 7):
        opened.chain.process(rows[begin : begin + 7])
    assert expected == opened.rows


def test_an_aggregate_takes_pairs_that_were_combined_before_the_exchange() -> None:
    """The key is the pair's, not that of the sum."""
    aggregate = KeyedAggregateOperator(lambda n: n % 3, "sum", None, True, precombined=True)
    opened = Opened(linear(aggregate, MapOperator(lambda n: -n)))
    opened.chain.process([(1, 12), (2, 7)])
    opened.chain.process([(1, 10)])
    opened.chain.finish()
    assert opened.rows == [-22, -7]


def test_a_flat_map_without_end_moves_on_in_pieces() -> None:
    """A generator of a million rows never gathers more than the bound and one chunk."""
    opened = Opened(linear(FlatMapOperator(lambda n: (i for i in range(n)))))
    opened.chain.process([1_000_000])
    assert len(opened.rows) == 1_000_000
    assert max(map(len, opened.batches)) <= ROWS_HELD_MAX + 256


def test_a_branch_feeds_all_that_follows() -> None:
    """Two operators and an edge on one node each get every row."""
    seen: list[int] = []
    spec = ChainSpec(
        [
            ChainNode("a", "map", MapOperator(lambda x: x + 1), -1),
            ChainNode("b", "sink", SinkFunctionOperator(seen.append), 0),
            ChainNode("c", "double", MapOperator(lambda x: x * 2), 0),
        ],
        [
            ChainOutput("e1", 0, ForwardPartitioner(), 100),
            ChainOutput("e2", 2, ForwardPartitioner(), 100),
        ],
    )
    taken: dict[str, list[int]] = {"e1": [], "e2": []}
    chain = Chain(spec, CONTEXT, [taken["e1"].extend, taken["e2"].extend], lambda *_: None)
    chain.open()
    chain.process([1, 2])
    assert [2, 3] == seen == taken["e1"]
    assert taken["e2"] == [4, 6]


def test_a_source_alone_hands_its_batches_on() -> None:
    """The head of a chain may be a source, whose rows the task brings."""
    spec = linear(SourceOperator(None), MapOperator(lambda x: -x))  # type: ignore[arg-type]
    opened = Opened(spec)
    assert opened.chain.source is spec.nodes[0].operator
    opened.chain.process(range(3))
    assert opened.rows == [0, -1, -2]


class Recorder(MapFunction[int, int]):
    def __init__(self, events: list[str], name: str) -> None:
        self.events, self.name = events, name

    def open(self, runtime_context: RuntimeContext) -> None:
        self.events.append(f"open {self.name} as {runtime_context.operator_name}")

    def map(self, value: int) -> int:
        return value

    def close(self) -> None:
        self.events.append(f"close {self.name}")
        if self.name == "bad":
            raise RuntimeError("close failed")


class RecordingSink(Sink[int]):
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def create_writer(self, context: WriterContext) -> SinkWriter[int]:
        return RecordingWriter(self.events)


class RecordingWriter(SinkWriter[int]):
    def __init__(self, events: list[str]) -> None:
        self.events = events

    def write(self, value: int) -> None:
        self.events.append(f"write {value}")

    def flush(self, end_of_input: bool) -> None:
        self.events.append(f"flush {end_of_input}")

    def close(self, completed: bool) -> None:
        self.events.append(f"close sink {completed}")


def test_functions_open_in_chain_order_and_all_close_even_when_one_fails() -> None:
    """The life of a chain: open, process, finish, close; an error in close does not spare the others."""
    events: list[str] = []
    spec = linear(
        MapOperator(Recorder(events, "bad")),
        MapOperator(Recorder(events, "good")),
        SinkOperator(RecordingSink(events)),
    )
    opened = Opened(ChainSpec(spec.nodes))
    opened.chain.process([7])
    opened.chain.finish()
    with pytest.raises(RuntimeError, match="close failed"):
        opened.chain.close(completed=True)
    assert events == [
        "open bad as op0",
        "open good as op1",
        "write 7",
        "flush True",
        "close sink True",
        "close good",
        "close bad",
    ]


class Boom(FlatMapFunction[int, int]):
    def flat_map(self, value: int) -> list[int]:
        return [1 // value]


class BoomSink(SinkFunction[int]):
    def invoke(self, value: int, context: SinkContext) -> None:
        assert context.runtime_context.operator_name == "op3"
        raise ValueError(value)


@pytest.mark.parametrize(
    ("operators", "name"),
    [
        ((MapOperator(lambda x: x), MapOperator(lambda x: 1 // x)), "op1"),
        ((FilterOperator(lambda x: 1 // x), MapOperator(lambda x: x)), "op0"),
        ((MapOperator(lambda x: x), FlatMapOperator(Boom()), MapOperator(lambda x: x)), "op1"),
        ((FlatMapOperator(lambda x: (1 // y for y in [x])),), "op0"),
        ((MapOperator(lambda x: x), KeyedReduceOperator(lambda x: 1 // x, max, False)), "op1"),
        ((MapOperator(lambda x: x),) * 3 + (SinkFunctionOperator(BoomSink()),), "op3"),
        ((ProjectOperator((0, 2)),), "op0"),
    ],
)
def test_an_error_is_put_down_to_its_operator(operators: tuple[Any, ...], name: str) -> None:
    """The traceback through the generated code tells which operator was running."""
    opened = Opened(linear(*operators))
    try:
        opened.chain.process([0])
    except Exception as error:
        assert name == opened.chain.operator_of(error.__traceback__)
    else:
        pytest.fail("nothing was raised")


def test_the_generated_line_appears_in_the_traceback() -> None:
    """A traceback shows the line of generated code, as it shows a file's."""
    import traceback

    opened = Opened(linear(MapOperator(lambda x: 1 // x)))
    try:
        opened.chain.process([0])
    except ZeroDivisionError as error:
        text = "".join(traceback.format_exception(error))
        assert "f0(v0)" in text
        assert "<zmflow chain: op0" in text


# -- rows with timestamps, and errors that are no failure ---------------------------------------------


def rejecting(*operators: Any, policy: str = "skip", tag: bool = False) -> ChainSpec:
    """A chain whose every function may raise without failing the job."""
    nodes = [ChainNode(f"o{i}", f"op{i}", op, i - 1, policy) for i, op in enumerate(operators)]  # type: ignore[arg-type]
    outputs = [ChainOutput("e", len(nodes) - 1, ForwardPartitioner(), 100)]
    if tag:
        outputs.append(ChainOutput("dead", len(nodes) - 1, ForwardPartitioner(), 100, DEAD_LETTERS.tag_id))
    return ChainSpec(nodes, outputs)


def test_timestamps_stay_with_their_rows():
    """What is left out takes its timestamp with it, what is made of a row has the row's."""
    taken: list[TimedRows] = []
    spec = linear(
        MapOperator(lambda n: n + 1),
        FilterOperator(lambda n: n % 2 == 0),
        FlatMapOperator(lambda n: [n, -n]),
        KeyedReduceOperator(lambda n: n > 0, lambda a, b: a + b, final_only=False),
    )
    chain = Chain(spec, CONTEXT, [taken.append], lambda *_: None)
    chain.open()
    chain.process(TimedRows([1, 2, 3], [10, 20, 30]))
    assert [(batch.rows, batch.timestamps) for batch in taken] == [([2, -2, 6, -6], [10, 10, 30, 30])]


@pytest.mark.parametrize("timed", [False, True])
def test_rows_that_raise_are_skipped(timed: bool):
    """Each step of a chain may leave rows out; the rest goes on, and the number is known."""
    spec = rejecting(
        MapOperator(lambda n: 12 // n),
        FilterOperator(lambda n: 5 // (n - 12) or True),
        FlatMapOperator(lambda n: (10 // (n - 4 - i) for i in range(2))),
    )
    metrics = MetricGroup()
    opened = Opened(spec, replace(CONTEXT, metric_group=metrics))
    rows = [0, 1, 2, 3]
    opened.chain.process(TimedRows(rows, rows) if timed else rows)
    left = [row for batch in opened.batches for row in (batch.rows if timed else batch)]
    assert left == [10 // 2, 10 // 1]
    for operator in ("op0", "op1", "op2"):
        assert metrics.of_operator(operator).counter(RECORDS_REJECTED).get_count() == 1


def test_operators_of_the_same_name_have_metrics_of_their_own():
    """The second of a name is told from the first, and each is reached through its own context."""
    metrics = MetricGroup()
    nodes = [ChainNode(f"o{i}", "Map", MapOperator(Counting(10**i)), i - 1) for i in range(2)]
    spec = ChainSpec(nodes, [ChainOutput("e", 1, ForwardPartitioner(), 100)])
    Opened(spec, replace(CONTEXT, metric_group=metrics)).chain.process([1, 2, 3])
    counts = [metrics.of_operator(name).counter("calls").get_count() for name in ("Map", "Map (2)")]
    assert counts == [3, 30]


def test_rows_that_raise_go_to_the_dead_letters():
    """The row, and what was wrong with it, in the words of the error."""
    taken: list[Any] = []
    letters: list[Any] = []
    spec = rejecting(MapOperator(lambda n: 12 // n), policy="dead_letter", tag=True)
    chain = Chain(spec, CONTEXT, [taken.extend, letters.extend], lambda *_: None)
    chain.open()
    chain.process([3, 0, 4])
    assert taken == [4, 3]
    assert letters == [(0, "ZeroDivisionError: integer division or modulo by zero")]
