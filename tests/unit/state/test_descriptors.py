"""Descriptors and times to live: what is refused, what is the default, what travels with a job."""

from __future__ import annotations

import operator
import pickle
from datetime import timedelta
from typing import Any

import pytest

from zmflow.api.time import Duration, Time
from zmflow.errors import StateError
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.ttl import BACKGROUND_CLEANUP_SIZE, StateTtlConfig


@pytest.mark.parametrize("name", ["", None, 7])
def test_a_state_needs_a_name(name: Any) -> None:
    """It is found again by it."""
    with pytest.raises(StateError, match="name of a state"):
        ValueStateDescriptor(name)


def test_functions_are_checked_when_they_are_declared() -> None:
    """Not when the first record comes."""
    with pytest.raises(StateError, match="no function to reduce with"):
        ReducingStateDescriptor("sum", 7)
    with pytest.raises(StateError, match="no method create_accumulator, add, get_result, merge"):
        AggregatingStateDescriptor("average", operator.add)


def test_descriptors_travel_with_a_job() -> None:
    """Pickled, with their types, functions and times to live."""
    config = StateTtlConfig.new_builder(Time.minutes(1)).cleanup_full_snapshot().build()
    for descriptor in (
        ListStateDescriptor("list", int),
        MapStateDescriptor("map", str, int),
        ReducingStateDescriptor("sum", operator.add),
    ):
        descriptor.enable_time_to_live(config)
        copy = pickle.loads(pickle.dumps(descriptor))
        assert (copy.get_name(), copy.kind) == (descriptor.name, descriptor.kind)
        assert (copy.type_info, copy.ttl_config) == (descriptor.type_info, config)


@pytest.mark.parametrize("ttl", [Time.seconds(2), Duration.of_seconds(2), timedelta(seconds=2), 2000])
def test_amounts_of_time_of_all_kinds(ttl: Any) -> None:
    """PyFlink's two classes, Python's own, and milliseconds."""
    config = StateTtlConfig.new_builder(ttl).build()
    assert (config.ttl_ms, config.get_ttl()) == (2000, ttl)


@pytest.mark.parametrize("ttl", [0, -1, True, timedelta(0), timedelta(microseconds=5), "1 min", None])
def test_no_time_to_live_is_refused(ttl: Any) -> None:
    """State that is dead when it is written helps nobody."""
    with pytest.raises(StateError, match="cannot live"):
        StateTtlConfig.new_builder(ttl).build()


def test_defaults_are_flinks() -> None:
    """Young again when written, never seen when expired, cleaned up in the background."""
    config = StateTtlConfig.new_builder(1000).build()
    strategies = config.get_cleanup_strategies()
    assert config.get_update_type() is StateTtlConfig.UpdateType.OnCreateAndWrite
    assert config.get_state_visibility() is StateTtlConfig.StateVisibility.NeverReturnExpired
    assert config.get_ttl_time_characteristic() is StateTtlConfig.TtlTimeCharacteristic.ProcessingTime
    assert (config.is_enabled(), strategies.in_full_snapshot()) == (True, False)
    assert strategies.entries_per_access == BACKGROUND_CLEANUP_SIZE


def test_what_is_chosen_is_what_is_built() -> None:
    """Each method of the builder, by itself and by its long form."""
    config = (
        StateTtlConfig.new_builder(1)
        .cleanup_in_rocksdb_compact_filter(1000, Duration.of_days(1))
        .set_ttl(7)
        .update_ttl_on_create_and_write()
        .update_ttl_on_read_and_write()
        .never_return_expired()
        .return_expired_if_not_cleaned_up()
        .use_processing_time()
        .set_ttl_time_characteristic(StateTtlConfig.TtlTimeCharacteristic.ProcessingTime)
        .cleanup_full_snapshot()
        .cleanup_incrementally(3, True)
        .disable_cleanup_in_background()
        .build()
    )
    assert config.ttl_ms == 7
    assert config.update_type is StateTtlConfig.UpdateType.OnReadAndWrite
    assert config.state_visibility is StateTtlConfig.StateVisibility.ReturnExpiredIfNotCleanedUp
    cleanup = config.get_cleanup_strategies()
    kinds = StateTtlConfig.CleanupStrategies
    assert cleanup.in_full_snapshot()
    assert cleanup.get_incremental_cleanup_strategy() == kinds.IncrementalCleanupStrategy(3, True)
    filtering = cleanup.get_rocksdb_compact_filter_cleanup_strategy()
    assert filtering == kinds.RocksdbCompactFilterCleanupStrategy(1000, Duration.of_days(1))
    assert cleanup.entries_per_access == 3
    off = StateTtlConfig.new_builder(1).disable_cleanup_in_background().build()
    assert off.cleanup_strategies.entries_per_access == 0
    assert off.cleanup_strategies.get_incremental_cleanup_strategy() is None
    assert off.cleanup_strategies.get_rocksdb_compact_filter_cleanup_strategy() is None
    with pytest.raises(StateError, match="removes nothing"):
        StateTtlConfig.new_builder(1).cleanup_incrementally(0, False)


def test_disabled_is_as_good_as_none() -> None:
    """So the backend need not know it."""
    descriptor = ValueStateDescriptor[int]("value")
    descriptor.enable_time_to_live(
        StateTtlConfig.new_builder(1).set_update_type(StateTtlConfig.UpdateType.Disabled).build()
    )
    assert descriptor.ttl_config is None
