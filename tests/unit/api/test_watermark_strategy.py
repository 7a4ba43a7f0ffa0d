"""What watermark strategies and times keep, and what they refuse."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from zmflow.api.time import Duration, Instant, Time, whole_millis
from zmflow.api.watermark_strategy import (
    TimestampAssigner,
    WatermarkAlignment,
    WatermarkGenerator,
    WatermarkOutput,
    WatermarksOperator,
    WatermarkStrategy,
)
from zmflow.errors import JobGraphError


class SecondField(TimestampAssigner[tuple[str, int]]):
    def extract_timestamp(self, value: tuple[str, int], record_timestamp: int) -> int:
        return value[1]


class Silent(WatermarkGenerator[Any]):
    def on_event(self, event: Any, event_timestamp: int, output: WatermarkOutput) -> None: ...


def test_a_strategy_is_refined_without_changing() -> None:
    """Each with_ method returns a new strategy that has everything of the old one."""
    plain = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(3))
    assigner = SecondField()
    full = (
        plain.with_timestamp_assigner(assigner)
        .with_idleness(Duration.of_minutes(1))
        .with_watermark_alignment("group", Duration.of_seconds(20))
    )
    assert plain == WatermarkStrategy(bound_ms=3000)
    assert (full.bound_ms, full.timestamp_assigner, full.idle_timeout_ms) == (3000, assigner, 60_000)
    assert full.alignment == WatermarkAlignment("group", 20_000, 1000)


def test_the_built_in_strategies() -> None:
    """Monotonous timestamps are a bound of zero; no watermarks is no bound and no generator."""
    assert WatermarkStrategy.for_monotonous_timestamps().bound_ms == 0
    assert WatermarkStrategy.no_watermarks() == WatermarkStrategy()
    assert WatermarkStrategy.for_generator(Silent).generator_factory is Silent


def test_the_alignment_interval_can_be_given() -> None:
    """How often sources report is one second unless the program says otherwise."""
    strategy = WatermarkStrategy.no_watermarks().with_watermark_alignment(
        "g", timedelta(seconds=1), Time.milliseconds(250)
    )
    assert strategy.alignment == WatermarkAlignment("g", 1000, 250)


def test_a_strategy_travels_with_its_job() -> None:
    """The specification of the operator can be pickled, and its interval is the setting's default."""
    operator = WatermarksOperator(WatermarkStrategy.for_monotonous_timestamps())
    assert pickle.loads(pickle.dumps(operator)) == operator
    assert operator.interval_ms == 200


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: WatermarkStrategy.for_bounded_out_of_orderness(5), "for_bounded_out_of_orderness"),  # type: ignore[arg-type]
        (lambda: WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(-1)), "at least 0 ms"),
        (lambda: WatermarkStrategy.no_watermarks().with_idleness(Duration.of_millis(0)), "at least 1 ms"),
        (lambda: WatermarkStrategy.no_watermarks().with_timestamp_assigner(SecondField), "the class"),  # type: ignore[arg-type]
        (lambda: WatermarkStrategy.no_watermarks().with_timestamp_assigner(7), "not 7"),  # type: ignore[arg-type]
        (lambda: WatermarkStrategy.for_generator(Silent()), "not one"),  # type: ignore[arg-type]
        (lambda: WatermarkStrategy.for_generator("x"), "callable"),  # type: ignore[arg-type]
        (
            lambda: WatermarkStrategy.no_watermarks().with_watermark_alignment("", Duration.of_seconds(1)),
            "text",
        ),
    ],
)
def test_what_cannot_work_is_refused_at_once(make: Callable[[], object], names: str) -> None:
    """A wrong argument is an error when it is given, and the message names it."""
    with pytest.raises(JobGraphError, match=names):
        make()


def test_amounts_of_time() -> None:
    """Durations and times are values; parts of a millisecond are dropped."""
    assert Duration.of_days(1) == Duration.of_hours(24) == Duration.of_minutes(1440)
    assert Duration.of_seconds(1) == Duration.of_millis(1000) == Duration.of_nanos(10**9)
    assert Duration.of_nanos(1_999_999).to_millis() == 1
    assert Time.days(1) == Time.hours(24) == Time.minutes(1440) == Time.seconds(86_400)
    assert whole_millis(timedelta(seconds=1, microseconds=999), "call()") == 1000
    assert [repr(Duration.of_nanos(5)), repr(Duration.of_seconds(5)), repr(Time.seconds(1))] == [
        "Duration.of_nanos(5)",
        "Duration.of_millis(5000)",
        "Time.milliseconds(1000)",
    ]
    with pytest.raises(JobGraphError, match="whole number"):
        Time.seconds(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("millis", [-1500, -1000, -1, 0, 1, 1234])
def test_points_in_time(millis: int) -> None:
    """A point in time before or after 1970 keeps its milliseconds."""
    instant = Instant.of_epoch_milli(millis)
    assert instant.to_epoch_milli() == millis
    assert 0 <= instant.nanos < 10**9
