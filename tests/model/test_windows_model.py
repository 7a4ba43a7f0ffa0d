"""Random streams through random windows: the operator answers what the naive reference answers.

``ZMFLOW_MODEL_CASES=100000 pytest tests/model`` runs more cases than the default.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from plans import FIRINGS, LATE, specification_of
from reference import Plan, Reference

from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.execution.windows.operators import window_operator
from zmflow.execution.windows.pane_operator import PaneWindowOperator
from zmflow.execution.windows.window_operator import AnyWindowOperator
from zmflow.testing.harness import OperatorHarness

CASES = int(os.environ.get("ZMFLOW_MODEL_CASES", "2400"))
"""Together in the two tests: the normal run takes some ten seconds."""

cases = settings(
    max_examples=CASES // 2,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

FUNCTIONS = ["reduce", "aggregate", "apply", "process", "aggregate_process", "sum", "max_by"]
TIMED_TRIGGERS = ["default", "count", "continuous_event", "continuous_clock", "delta", "never", "timeout"]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Windows of every kind with every trigger, evictor, function and lateness that goes with it."""
    windows = draw(
        st.sampled_from(["tumbling", "sliding", "session", "dynamic", "global", "count", "count_sliding"])
    )
    counts = windows in ("global", "count", "count_sliding")
    merges = windows in ("session", "dynamic")
    event_time = not counts and draw(st.booleans())
    slide = draw(st.integers(1, 12))
    step = slide if windows == "sliding" else 5
    trigger = draw(
        st.sampled_from(TIMED_TRIGGERS if not counts else ["default", "count", "continuous_clock", "delta"])
    )
    if merges and trigger in ("delta", "never", "timeout"):
        trigger = "default"
    if not event_time and trigger == "continuous_event":
        trigger = "continuous_clock"
    evictor = "none" if merges else draw(st.sampled_from(["none", "none", "count", "time", "delta"]))
    function = draw(st.sampled_from(FUNCTIONS))
    if merges and function in ("sum", "max_by"):  # they show in which order sessions were merged
        function = "aggregate"
    return Plan(
        windows=windows,
        event_time=event_time,
        size=draw(st.integers(5, 15)) if not counts else draw(st.integers(1, 4)),
        slide=slide,
        offset=draw(st.integers(1 - step, step - 1)),
        trigger=trigger,
        inner=draw(st.sampled_from(["default", "count"])),
        number=draw(st.integers(1, 7)),
        resets=draw(st.booleans()),
        clears=draw(st.booleans()),
        purging=draw(st.booleans()),
        evictor=evictor,
        evicts_after=draw(st.booleans()),
        kept=draw(st.integers(1, 4)),
        lateness=draw(st.sampled_from([0, 0, 3, 20])),
        late_output=draw(st.booleans()),
        function=function,
    )


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Batches of records out of order, watermarks and times of the clock that only grow."""
    steps: list[tuple[str, Any]] = []
    watermark_ms, now_ms, serial = -40, 0, 0
    for kind in draw(st.lists(st.sampled_from("rrrrwwc"), max_size=12)):
        if kind == "r":
            batch = []
            for key, number, ahead in draw(
                st.lists(
                    st.tuples(st.sampled_from("ab"), st.integers(-4, 9), st.integers(-25, 30)), max_size=5
                )
            ):
                batch.append(((key, number, serial), watermark_ms + ahead))
                serial += 1
            steps.append(("records", batch))
        elif kind == "w":
            watermark_ms += draw(st.integers(1, 25))
            steps.append(("watermark", watermark_ms))
        else:
            now_ms += draw(st.integers(1, 25))
            steps.append(("clock", now_ms))
    if draw(st.booleans()):
        steps.append(("watermark", MAX_WATERMARK))
    return steps


def check(operator: Any, plan: Plan, steps: list[tuple[str, Any]]) -> None:
    """Run both, and compare what each step answers; within a step order is nobody's promise."""
    expected = Reference(plan)
    with OperatorHarness(operator) as harness:
        for step, (kind, what) in enumerate(steps):
            harness.clear_output()
            expected.out, expected.late, expected.firings = [], [], []
            if kind == "records":
                harness.push_batch([record for record, _ in what], [timestamp for _, timestamp in what])
                expected.push(what)
            elif kind == "watermark":
                harness.watermark(what)
                expected.watermark(what)
            else:
                harness.processing_time(what)
                expected.clock(what)
            assert Counter(map(tuple, harness.output())) == Counter(expected.out), (step, kind, what)
            assert list(map(tuple, harness.side_output(LATE))) == expected.late, (step, kind, what)
            firings = [record.value for record in harness.side_output(FIRINGS)]
            assert Counter(firings) == Counter(expected.firings), (step, kind, what)
        assert harness.metrics()["numLateRecordsDropped"] == expected.dropped


@cases
@given(plans(), streams())
def test_windows_answer_what_the_rules_say(plan: Plan, steps: list[tuple[str, Any]]) -> None:
    """Every window, trigger, evictor and function, with late data, in event and processing time."""
    operator = window_operator(specification_of(plan))
    event(type(operator).__name__)
    check(operator, plan, steps)


@cases
@given(
    st.builds(
        Plan,
        windows=st.sampled_from(["tumbling", "sliding"]),
        size=st.integers(5, 15),
        slide=st.integers(1, 5),
        offset=st.just(0),
        lateness=st.sampled_from([0, 0, 3, 20]),
        late_output=st.booleans(),
        function=st.sampled_from(FUNCTIONS),
    ),
    streams(),
)
def test_panes_answer_what_single_windows_do(plan: Plan, steps: list[tuple[str, Any]]) -> None:
    """The fast operator, where it is used, and the general one both answer what the rules say."""
    specification = specification_of(plan)
    operator = window_operator(specification)
    event(type(operator).__name__)
    if plan.windows == "tumbling":
        assert type(operator) is PaneWindowOperator
    check(operator, plan, steps)
    check(AnyWindowOperator(specification_of(plan)), plan, steps)
