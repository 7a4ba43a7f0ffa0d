"""Accumulators, and what the RuntimeContext offers beside state."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow import RuntimeContext
from zmflow.api.accumulators import (
    Accumulator,
    AverageAccumulator,
    DoubleCounter,
    DoubleMaximum,
    DoubleMinimum,
    Histogram,
    IntCounter,
    IntMaximum,
    IntMinimum,
    ListAccumulator,
    LongCounter,
    LongMaximum,
    LongMinimum,
    merge_accumulators,
)
from zmflow.api.output_tag import OutputTag
from zmflow.errors import JobGraphError, ZmflowError
from zmflow.state.descriptors import ValueStateDescriptor


def context(**more: Any) -> RuntimeContext:
    return RuntimeContext("j", "job", "task", "operator", 0, 1, 128, 0, "here", **more)


KINDS: list[tuple[type[Accumulator[Any, Any]], Any]] = [
    (IntCounter, sum),
    (LongCounter, sum),
    (DoubleCounter, sum),
    (IntMinimum, min),
    (LongMinimum, min),
    (DoubleMinimum, min),
    (IntMaximum, max),
    (LongMaximum, max),
    (DoubleMaximum, max),
    (AverageAccumulator, lambda values: sum(values) / len(values)),
    (ListAccumulator, list),
    (Histogram, lambda values: {value: values.count(value) for value in sorted(set(values))}),
]


@pytest.mark.parametrize(("kind", "expected"), KINDS, ids=lambda value: getattr(value, "__name__", ""))
@given(parts=st.lists(st.lists(st.integers(-9, 9)), min_size=1, max_size=4))
def test_merged_parts_are_the_whole(
    kind: type[Accumulator[Any, Any]], expected: Any, parts: list[list[int]]
) -> None:
    """However values are spread over subtasks, the merged result is that of all; the parts stay."""
    accumulators = []
    for part in parts:
        accumulator = kind()
        for value in part:
            accumulator.add(value)
        accumulators.append(pickle.loads(pickle.dumps(accumulator)))
    before = [pickle.dumps(accumulator) for accumulator in accumulators]
    merged = merge_accumulators({"a": accumulator} for accumulator in accumulators)["a"]
    values = [value for part in parts for value in part]
    if values:
        assert merged.get_local_value() == expected(values)
    assert [pickle.dumps(accumulator) for accumulator in accumulators] == before
    merged.reset_local()
    assert merged.get_local_value() == kind().get_local_value()


def test_names_that_only_some_subtasks_have_are_merged_too() -> None:
    """A subtask that registered nothing contributes nothing."""
    merged = merge_accumulators([{"a": IntCounter(1)}, {}, {"b": IntCounter(2), "a": IntCounter(3)}])
    assert {name: found.get_local_value() for name, found in merged.items()} == {"a": 4, "b": 2}


def test_two_types_under_one_name_are_refused() -> None:
    """Neither could be merged into the other."""
    with pytest.raises(ZmflowError, match="two types"):
        merge_accumulators([{"a": IntCounter()}, {"a": DoubleCounter()}])


def test_a_task_shares_accumulators_by_name() -> None:
    """add_accumulator refuses a name that is taken; the counters are made on first use."""
    runtime = context()
    added = runtime.add_accumulator("mine", IntCounter())
    assert runtime.get_accumulator("mine") is added
    assert runtime.get_accumulator("other") is None
    with pytest.raises(ZmflowError, match="already exists"):
        runtime.add_accumulator("mine", IntCounter())
    assert runtime.get_int_counter("mine") is added
    runtime.get_long_counter("long").add(2)
    runtime.get_double_counter("double").add(0.5)
    runtime.get_histogram("histogram").add(7)
    with pytest.raises(ZmflowError, match="not a Histogram"):
        runtime.get_histogram("mine")
    values = {name: found.get_local_value() for name, found in runtime.accumulators.items()}
    assert values == {"mine": 0, "long": 2, "double": 0.5, "histogram": {7: 1}}


def test_job_parameters_have_defaults() -> None:
    """A parameter that is not there is the default, or None."""
    runtime = context(job_parameters={"mode": "fast"})
    assert runtime.get_job_parameter("mode", "slow") == "fast"
    assert runtime.get_job_parameter("other", "slow") == "slow"
    assert runtime.get_job_parameter("other") is None


def test_cached_files_are_found_by_name() -> None:
    """An unknown name is refused with those there are."""
    cache = context(cached_files={"words": "/tmp/words.txt"}).get_distributed_cache()
    assert cache.get_file("words") == "/tmp/words.txt"
    with pytest.raises(ZmflowError, match="Registered: words"):
        cache.get_file("wordz")


def test_state_without_keys_is_refused() -> None:
    """The message says what to call."""
    with pytest.raises(ZmflowError, match=r"key_by\(\)"):
        context().get_state(ValueStateDescriptor("x"))


def test_output_tags_are_equal_by_id_and_need_one() -> None:
    """Tags made in different places are one; an empty id is refused."""
    assert OutputTag("a") == pickle.loads(pickle.dumps(OutputTag("a")))
    assert len({OutputTag("a"), OutputTag("a"), OutputTag("b")}) == 2
    assert OutputTag("a") != "a"
    with pytest.raises(JobGraphError, match="id ''"):
        OutputTag("")
