"""Which sources of a job wait for each other, and what is said where none can."""

from __future__ import annotations

import pickle
import warnings
from typing import Any

import pytest
from submissions import KeepingExecutor, new_environment

from zmflow.api.collections import SequenceSource
from zmflow.api.environment import RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.api.notices import forget_notices
from zmflow.api.time import Duration
from zmflow.api.watermark_strategy import WatermarksOperator, WatermarkStrategy


def aligned(group: str) -> WatermarkStrategy[Any]:
    """A strategy of a group."""
    return WatermarkStrategy.for_monotonous_timestamps().with_watermark_alignment(
        group, Duration.of_seconds(1)
    )


@pytest.fixture
def environment() -> tuple[StreamExecutionEnvironment, KeepingExecutor]:
    forget_notices()
    return new_environment()


def alignments(executor: KeepingExecutor) -> dict[str, dict[int, list[str]]]:
    """What the chains that begin with a source say, by the name of the source."""
    specs = [pickle.loads(vertex.operators) for vertex in executor.graphs[-1].vertices]
    return {
        spec.nodes[0].name.removeprefix("Source: "): spec.aligned
        for spec in specs
        if spec.nodes[0].name.startswith("Source: ")
    }


Environment = tuple[StreamExecutionEnvironment, KeepingExecutor]


def test_sources_that_name_a_group_know_its_vertices(environment: Environment) -> None:
    """Chains know them by the node of the strategy, in the same order; other groups and sources do not."""
    env, executor = environment
    for name, group in (("a", "one"), ("b", "other"), ("c", "one"), ("d", "")):
        strategy = aligned(group) if group else WatermarkStrategy.for_monotonous_timestamps()
        env.from_source(SequenceSource(1, 2), strategy, name).map(abs).print()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env.execute()
    assert alignments(executor) == {"a": {1: ["v1", "v3"]}, "b": {1: ["v2"]}, "c": {1: ["v1", "v3"]}, "d": {}}


def test_a_strategy_in_the_chain_of_a_source_is_aligned(environment: Environment) -> None:
    """Wherever it stands in the chain, and however many there are."""
    env, executor = environment
    numbers = env.from_source(SequenceSource(1, 2), source_name="a").map(abs)
    numbers.assign_timestamps_and_watermarks(aligned("one")).print()
    numbers.assign_timestamps_and_watermarks(aligned("other")).print()
    env.execute()
    assert sorted(alignments(executor)["a"].values()) == [["v1"], ["v1"]]


def test_a_strategy_behind_an_exchange_says_once_that_it_has_no_effect(environment: Environment) -> None:
    """A call without effect is never silent; a source that is aligned does not count it among its group."""
    env, executor = environment
    for _ in range(2):
        numbers = env.from_source(SequenceSource(1, 2), aligned("one"), "a")
        numbers.rebalance().assign_timestamps_and_watermarks(aligned("one")).print()
        if not executor.graphs:
            with pytest.warns(UserWarning, match="'Timestamps/Watermarks' has no effect"):
                env.execute()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                env.execute()
        assert alignments(executor) == {"a": {1: ["v1"]}}


def test_nothing_is_aligned_in_batch_mode(environment: Environment) -> None:
    """There every input is read to its end before time matters."""
    env, executor = environment
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    env.from_source(SequenceSource(1, 2), aligned("one"), "a").print()
    env.execute()
    assert alignments(executor) == {"a": {}}


def test_what_is_said_of_a_source_with_a_strategy_is_said_of_the_source(environment: Environment) -> None:
    """Parallelism, slot and uid: the strategy is a part of the source, so they stay in one task."""
    env, executor = environment
    source = env.from_source(SequenceSource(1, 2), aligned("one"), "a")
    source.set_parallelism(3).set_max_parallelism(7).slot_sharing_group("readers").uid("a").print()
    env.get_execution_plan()  # what is asked before changes nothing
    env.execute()
    reader = executor.graphs[-1].vertices[0]
    assert (reader.parallelism, reader.max_parallelism, reader.sharing_group) == (3, 7, "readers")
    assert [operator.uid for operator in reader.chain][:2] == ["a", ""]
    assert alignments(executor) == {"a": {1: ["v1"]}}


def test_a_strategy_that_is_assigned_later_keeps_to_itself(environment: Environment) -> None:
    """There the calls are about the operator, as with any other."""
    env, executor = environment
    stream = env.from_source(SequenceSource(1, 2), source_name="a")
    stream.assign_timestamps_and_watermarks(aligned("one")).uid("times").print()
    env.execute()
    chain = pickle.loads(executor.graphs[-1].vertices[0].operators).nodes
    assert isinstance(chain[1].operator, WatermarksOperator)
    assert not chain[1].operator.of_source
    assert [operator.uid for operator in executor.graphs[-1].vertices[0].chain][:2] == ["", "times"]
