"""The fast window operator: when it is used, and that nobody can tell."""

from __future__ import annotations

import random
from typing import Any

import pytest
from windowed import Average, specification

from zmflow.api.windows import (
    CountEvictor,
    CountTrigger,
    EventTimeSessionWindows,
    EventTimeTrigger,
    PurgingTrigger,
    SlidingEventTimeWindows,
    TumblingEventTimeWindows,
    TumblingProcessingTimeWindows,
    WindowStagger,
)
from zmflow.api.windows.operators import AggregateContents, FieldContents, ListContents, ReduceContents
from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.windows.operators import window_operator
from zmflow.execution.windows.pane_operator import PaneWindowOperator
from zmflow.execution.windows.window_operator import AnyWindowOperator
from zmflow.testing.harness import OperatorHarness

TUMBLING = TumblingEventTimeWindows(10)
SLIDING = SlidingEventTimeWindows(12, 4)
SUM = ReduceContents(lambda one, other: (one[0], one[1] + other[1]))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"assigner": TUMBLING}, True),
        ({"assigner": TUMBLING, "lateness_ms": 5, "late_tag": "late"}, True),
        ({"assigner": TUMBLING, "evictor": CountEvictor.of(1)}, False),
        ({"assigner": TUMBLING, "trigger": CountTrigger.of(1)}, False),
        ({"assigner": TUMBLING, "trigger": PurgingTrigger.of(EventTimeTrigger())}, False),
        ({"assigner": TumblingEventTimeWindows(9, 0, WindowStagger.NATURAL)}, False),
        ({"assigner": TumblingProcessingTimeWindows(9)}, False),
        ({"assigner": EventTimeSessionWindows(9)}, False),
        ({"assigner": SLIDING}, False),
        ({"assigner": SLIDING, "contents": SUM}, True),
        ({"assigner": SLIDING, "contents": SUM, "panes": False}, False),
        ({"assigner": SLIDING, "contents": AggregateContents(Average())}, True),
        ({"assigner": SLIDING, "contents": FieldContents("sum", 1)}, True),
        ({"assigner": SLIDING, "contents": FieldContents("max_by", 1)}, False),
        ({"assigner": SlidingEventTimeWindows(4, 9), "contents": SUM}, False),
    ],
)
def test_only_the_common_case_is_fast(settings: dict[str, Any], expected: bool) -> None:
    """Whatever a pane cannot answer exactly is left to the operator that knows everything."""
    assert (type(window_operator(specification(**settings))) is PaneWindowOperator) is expected


@pytest.mark.parametrize("lateness_ms", [0, 15])
@pytest.mark.parametrize(
    ("assigner", "contents"),
    [
        (TUMBLING, SUM),
        (TUMBLING, AggregateContents(Average())),
        (TUMBLING, ListContents()),
        (TumblingEventTimeWindows(7, 3), FieldContents("min_by", 1)),
        (SLIDING, SUM),
        (SlidingEventTimeWindows(10, 4, -1), AggregateContents(Average())),
        (SlidingEventTimeWindows(10, 10), FieldContents("sum", 1)),
    ],
)
def test_both_operators_answer_the_same(assigner: Any, contents: Any, lateness_ms: int) -> None:
    """Thousands of records out of order, some late, in large batches over many windows."""
    settings: dict[str, Any] = {"contents": contents, "lateness_ms": lateness_ms, "late_tag": "late"}
    if not isinstance(contents, ListContents):
        settings["function"] = None
    spec = specification(assigner, **settings)
    operators = (PaneWindowOperator(spec), AnyWindowOperator(spec))
    harnesses = [OperatorHarness(operator) for operator in operators]
    chance = random.Random(7)
    for step in range(40):
        rows = [(chance.choice("abcde"), chance.randrange(100)) for _ in range(80)]
        timestamps = [step * 5 + chance.randrange(-40, 30) for _ in rows]
        for harness in harnesses:
            harness.push_batch(rows, timestamps)
            harness.watermark(step * 5 - 10)
    fast, general = harnesses
    for harness in harnesses:
        harness.watermark(MAX_WATERMARK)
    assert sorted(fast.output(), key=repr) == sorted(general.output(), key=repr)
    assert [t for _, t in fast.output()] != []
    assert fast._recorder.sides == general._recorder.sides
    assert fast._recorder.sides != {}


def test_panes_survive_merges_that_change_their_accumulators() -> None:
    """A pane is part of several windows: merging must not change it for the next one."""

    class Changing(Average):
        def create_accumulator(self) -> Any:
            return [0, 0]

        def add(self, value: Any, accumulator: Any) -> Any:
            accumulator[0] += value[1]
            accumulator[1] += 1
            return accumulator

        def merge(self, acc_a: Any, acc_b: Any) -> Any:
            for accumulator, other in ((acc_a, list(acc_b)), (acc_b, list(acc_a))):
                accumulator[0] += other[0]
                accumulator[1] += other[1]
            return acc_a

    harness = OperatorHarness(
        window_operator(specification(SLIDING, contents=AggregateContents(Changing()), function=None))
    )
    harness.push_batch([("a", 1), ("a", 2), ("a", 6)], [0, 4, 8])
    harness.watermark(MAX_WATERMARK)
    assert harness.output() == [(1.0, 3), (1.5, 7), (3.0, 11), (4.0, 15), (6.0, 19)]


def test_results_move_on_in_bounded_batches() -> None:
    """A window of many keys is not one batch, and no pane is left when it is over."""
    operator = PaneWindowOperator(specification(TUMBLING, contents=SUM, function=None))
    harness = OperatorHarness(operator)
    sizes: list[int] = []
    operator._output = harness._recorder  # looked at below
    emit = harness._recorder.emit
    harness._recorder.emit = lambda rows, timestamps: (sizes.append(len(rows)), emit(rows, timestamps))  # type: ignore[method-assign]
    harness.push_batch([(f"k{number}", 1) for number in range(20_000)], [3] * 20_000)
    harness.watermark(9)
    assert sizes == [8192, 8192, 3616]
    assert (operator._panes, operator._scheduled, operator._agenda) == ({}, set(), [])


@pytest.mark.parametrize("lateness_ms", [0, 15])
@pytest.mark.parametrize("assigner", [TUMBLING, SLIDING])
def test_panes_go_through_a_snapshot(assigner: Any, lateness_ms: int) -> None:
    """An operator that is restored in the middle answers what one that was never stopped does."""
    spec = specification(assigner, contents=SUM, function=None, lateness_ms=lateness_ms)
    whole, begun = OperatorHarness(PaneWindowOperator(spec)), OperatorHarness(PaneWindowOperator(spec))
    chance = random.Random(3)
    rows = [(chance.choice("abcde"), number) for number in range(400)]
    timestamps = [number // 4 + chance.randrange(-20, 20) for number in range(400)]
    for harness in (whole, begun):
        harness.push_batch(rows[:100], timestamps[:100])
        harness.watermark(5)
    for harness in (whole, begun):
        harness.push_batch(rows[100:200], timestamps[100:200])
        harness.watermark(40)
    resumed = OperatorHarness(PaneWindowOperator(spec), restore=begun.snapshot())
    for harness in (whole, resumed):
        harness.clear_output()
        harness.push_batch(rows[200:], timestamps[200:])
        harness.watermark(MAX_WATERMARK)
    assert sorted(resumed.output()) == sorted(whole.output()) != []
