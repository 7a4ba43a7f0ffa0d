"""Records that do not fit their declared type follow the operator's on_error; so do those of side outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from test_chain import CONTEXT

from zmflow import OutputTag, ProcessFunction, Types
from zmflow.api.collections import CollectionSource
from zmflow.api.metric_group import MetricGroup
from zmflow.api.operators import (
    FilterOperator,
    FlatMapOperator,
    KeyedReduceOperator,
    MapOperator,
    SourceOperator,
)
from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.api.process_operators import ProcessOperator
from zmflow.execution.batches import TimedRows
from zmflow.execution.chain import Chain
from zmflow.execution.metric_names import RECORDS_REJECTED
from zmflow.graph.job_graph import ChainNode, ChainOutput, ChainSpec
from zmflow.graph.partitioners import ForwardPartitioner

LONGS = Types.LIST(Types.LONG())
SIDE: OutputTag[Any] = OutputTag("side", LONGS)


class Both(ProcessFunction[Any, Any]):
    """Each record goes to both outputs."""

    def process_element(self, value: Any, ctx: Any) -> Any:
        yield value
        yield SIDE, value


def run(operator: Any, rows: list[Any], policy: Any, *, timed: bool = False) -> dict[str, list[Any]]:
    """What leaves an operator whose records are declared as lists of numbers, by output."""
    got: dict[str, list[Any]] = {"": [], SIDE.tag_id: [], DEAD_LETTERS.tag_id: []}

    def taker(tag: str) -> Any:
        def take(batch: Any) -> None:
            if isinstance(batch, TimedRows):
                got[tag].extend(zip(batch.rows, batch.timestamps, strict=True))
            else:
                got[tag].extend(batch)

        return take

    outputs = [
        ChainOutput(tag, 0, ForwardPartitioner(), 100, tag, LONGS if tag != "" else None) for tag in got
    ]
    context = replace(CONTEXT, metric_group=MetricGroup())
    node = ChainNode("o", "op", operator, -1, policy, LONGS)
    chain = Chain(ChainSpec([node], outputs), context, [taker(tag) for tag in got], lambda *_: None)
    chain.open()
    batch: Any = TimedRows(rows, list(range(len(rows)))) if timed else rows
    chain.process(batch)
    chain.close(completed=True)
    if policy != "fail":
        rejected = chain.context_of(0).metric_group.counter(RECORDS_REJECTED)
        assert rejected.get_count() == (1 if len(got[SIDE.tag_id]) == 0 else 2)
    return got


def same(value: Any) -> Any:
    return value


OPERATORS = [
    pytest.param(MapOperator(same), id="map"),
    pytest.param(FlatMapOperator(lambda value: [value]), id="flat map"),
    pytest.param(FilterOperator(lambda value: True), id="filter"),
    pytest.param(SourceOperator(CollectionSource([])), id="source"),
    pytest.param(ProcessOperator(Both()), id="process"),
]


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("operator", OPERATORS)
def test_a_record_that_does_not_fit_is_skipped(operator: Any, timed: bool) -> None:
    """The others go on, with their own timestamps."""
    expected = [([1], 0), ([3], 2)] if timed else [[1], [3]]
    got = run(operator, [(1,), 2, (3,)], "skip", timed=timed)
    assert got[""] == expected
    assert got[DEAD_LETTERS.tag_id] == []


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_record_that_does_not_fit_goes_to_the_dead_letters(operator: Any) -> None:
    """With what was declared of it."""
    got = run(operator, [(1,), 2], "dead_letter")
    letters = got[DEAD_LETTERS.tag_id]
    assert {record for record, _ in letters} == {2}
    assert all("declared as LIST" in text for _, text in letters)


@pytest.mark.parametrize("operator", OPERATORS)
def test_a_record_that_does_not_fit_fails_the_job(operator: Any) -> None:
    """Where nothing else was said."""
    with pytest.raises(TypeError, match="declared as"):
        run(operator, [(1,), 2], "fail")


def test_side_outputs_fit_the_type_of_their_tag() -> None:
    """By the same policy."""
    got = run(ProcessOperator(Both()), [(1,), 2], "dead_letter", timed=True)
    assert got[SIDE.tag_id] == [([1], 0)]
    assert len(got[DEAD_LETTERS.tag_id]) == 2


def test_the_letter_has_the_record_the_function_was_called_with() -> None:
    """Not the one it made, which is of less use to whoever reads it."""
    got = run(MapOperator(len), ["ab"], "dead_letter")
    assert got[DEAD_LETTERS.tag_id][0][0] == "ab"
    got = run(FlatMapOperator(lambda value: [[1], 2]), ["ab"], "dead_letter")
    assert (got[""], got[DEAD_LETTERS.tag_id][0][0]) == ([], "ab")


def test_a_reduce_that_does_not_fit_keeps_its_state() -> None:
    """The record is left out, and the next one is combined with what was there."""
    operator = KeyedReduceOperator(lambda value: 0, lambda left, right: right if right == [9] else 5, False)
    assert run(operator, [[1], [2], [9]], "skip")[""] == [[1], [9]]
