"""Metrics by themselves: what they show, what is refused without failing anybody, what gauges may do."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from zmflow.api.metric_group import MetricGroup
from zmflow.api.metric_registry import (
    GAUGE_INTERVAL_S,
    IDENTIFIER_LENGTH_MAX,
    METRICS_PER_TASK_MAX,
    MetricKey,
    MetricRegistry,
)
from zmflow.api.metrics import (
    GAUGE_TEXT_LENGTH_MAX,
    RATE_MARKS,
    Distribution,
    DistributionValue,
    Gauge,
    Meter,
)


class Watched:
    """A registry, its clock and what it says to the log."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.said: list[str] = []
        self.registry = MetricRegistry(lambda: self.now_s, self.said.append)
        self.group = MetricGroup(self.registry, "Parse")

    def names(self) -> list[str]:
        return [str(key) for key, _ in self.registry.metrics()]

    def value(self, name: str) -> Any:
        (found,) = (metric for key, metric in self.registry.metrics() if key.name == name)
        assert isinstance(found, Gauge)
        return found.value


def test_a_name_is_one_metric_for_everybody_who_asks() -> None:
    """Also through groups: the same way leads to the same metric, another way to another."""
    group = Watched().group
    group.counter("n").inc()
    group.add_group("a").counter("n").inc(10)
    group.add_group("a", "b").counter("n").inc(100)
    assert group.counter("n").get_count() == 1
    assert group.add_group("a").counter("n").get_count() == 10
    assert group.add_group("a", "b").counter("n").get_count() == 100


def test_identifiers_have_the_operator_and_the_groups() -> None:
    """As Flink writes them."""
    watched = Watched()
    watched.group.add_group("cache").add_group("table", "users").meter("hits")
    assert watched.names() == ["Parse.cache.table.users.hits"]
    assert watched.registry.metrics()[0][0] == MetricKey("Parse", (("cache", ""), ("table", "users")), "hits")


def test_a_name_of_another_kind_works_and_is_not_shown() -> None:
    """The first stays; the log says it once."""
    watched = Watched()
    watched.group.counter("n").inc()
    meter = watched.group.meter("n")
    meter.mark_event(3)
    watched.group.distribution("n")
    assert meter.get_count() == 3
    assert watched.group.counter("n").get_count() == 1
    assert watched.said == ["The metric Parse.n is not shown: its name belongs to another counter."]


def test_a_second_gauge_of_a_name_is_not_shown() -> None:
    """Each asks a function of its own, so they cannot be one."""
    watched = Watched()
    watched.group.gauge("n", lambda: 1)
    watched.group.gauge("n", lambda: 2)
    watched.registry.ask_gauges()
    assert watched.value("n") == 1
    assert len(watched.said) == 1


def test_a_metric_for_each_key_is_cut_off_with_a_sentence() -> None:
    """What is beyond the limit counts on its own; the log has one line, not one for each."""
    watched = Watched()
    counters = [watched.group.counter(f"key {i}") for i in range(METRICS_PER_TASK_MAX + 10)]
    for counter in counters:
        counter.inc()
    assert [counter.get_count() for counter in counters] == [1] * len(counters)
    assert len(watched.names()) == METRICS_PER_TASK_MAX
    (sentence,) = watched.said
    assert f"key {METRICS_PER_TASK_MAX} " in sentence and str(METRICS_PER_TASK_MAX) in sentence


def test_a_long_name_is_not_shown() -> None:
    """The limit is on all of it; the line in the log is no longer than the limit allows."""
    watched = Watched()
    longest = "x" * (IDENTIFIER_LENGTH_MAX - len("Parse.g."))
    watched.group.add_group("g").counter(longest)
    watched.group.add_group("g").counter(longest + "x")
    watched.group.counter("y" * 100_000)
    assert watched.names() == [f"Parse.g.{longest}"]
    assert len(watched.said) == 1 and len(watched.said[0]) < 2 * IDENTIFIER_LENGTH_MAX


def test_names_that_cannot_be_encoded_are_made_so() -> None:
    """A lone surrogate would be an error where the message is written, far from the function."""
    watched = Watched()
    watched.group.add_group("a\ud800", "b\ud800").counter("c\ud800")
    assert watched.names() == ["Parse.a?.b?.c?"]


# -- meters and distributions --------------------------------------------------------------------


def test_the_rate_forgets_what_is_older_than_the_time_span() -> None:
    """A burst counts for the span, with a twelfth more, and then not at all."""
    watched = Watched()
    meter = watched.group.meter("calls", 60)
    watched.now_s += 1
    meter.mark_event(600)
    assert meter.get_rate() == 600
    for _ in range(59):
        watched.now_s += 1
        meter.get_rate()
    assert meter.get_rate() == pytest.approx(10)
    for _ in range(60 + 60 // RATE_MARKS):
        watched.now_s += 1
        meter.get_rate()
    assert (meter.get_rate(), meter.get_count()) == (0, 600)


def test_the_rate_of_a_steady_stream_is_steady() -> None:
    """However often it is looked at, it keeps few marks."""
    watched = Watched()
    meter = watched.group.meter("calls", 12)
    for _ in range(400):
        watched.now_s += 0.25
        meter.mark_event(5)
        rate = meter.get_rate()
    assert rate == pytest.approx(20)
    assert len(meter._marks) <= RATE_MARKS + 2


def test_the_first_events_are_not_a_thousand_a_second() -> None:
    """A rate is over a second at least."""
    watched = Watched()
    meter = watched.group.meter("calls")
    meter.mark_event()
    watched.now_s += 0.001
    assert meter.get_rate() == 1


@pytest.mark.parametrize("time_span", [0, -5])
def test_a_time_span_of_nothing_harms_nobody(time_span: int) -> None:
    """The rate is since the look before, over a second at least."""
    now = iter(range(100))
    meter = Meter(time_span, lambda: float(next(now)))
    meter.mark_event(4)
    assert meter.get_rate() == 4


def test_a_distribution_begins_with_its_first_value() -> None:
    """Also when all values are negative."""
    distribution = Distribution()
    assert (distribution.value, distribution.value.mean) == (DistributionValue(0, 0, 0, 0), 0)
    distribution.update(-3)
    distribution.update(-5)
    assert (distribution.value, distribution.value.mean) == (DistributionValue(2, -8, -5, -3), -4)


# -- gauges --------------------------------------------------------------------------------------


class Spoken:
    """Could be used as a number, and is none."""

    def __index__(self) -> int:
        return 7

    def __str__(self) -> str:
        return "seven"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (3, 3),
        (True, 1),
        (2.5, 2.5),
        (2**70, float(2**70)),
        (-(2**5000), "-" + str(2**5000)[: GAUGE_TEXT_LENGTH_MAX - 2] + "…"),
        (Fraction(1, 2), 0.5),
        (Decimal("1.5"), 1.5),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (1j, "1j"),
        ("12", "12"),
        (b"12", "b'12'"),
        ("a\ud800", "a?"),
        ("x" * 500, "x" * (GAUGE_TEXT_LENGTH_MAX - 1) + "…"),
        (Spoken(), "seven"),
        (None, None),
    ],
)
def test_a_gauge_shows_numbers_and_text(answer: object, shown: object) -> None:
    """Whatever it answers is made a number or a text of a line; None is no value."""
    watched = Watched()
    watched.group.gauge("it", lambda: answer)
    watched.registry.ask_gauges()
    assert watched.value("it") == shown
    assert type(watched.value("it")) is type(shown)


def test_gauges_are_asked_when_they_are_due() -> None:
    """At once, then once in an interval; without gauges nothing is ever due."""
    watched = Watched()
    watched.registry.ask_due_gauges()
    assert watched.registry.gauges_due_s == float("inf")
    asked: list[float] = []
    watched.group.gauge("it", lambda: asked.append(watched.now_s))
    watched.registry.ask_due_gauges()
    watched.registry.ask_due_gauges()
    watched.now_s += GAUGE_INTERVAL_S
    watched.registry.ask_due_gauges()
    assert asked == [100.0, 100.0 + GAUGE_INTERVAL_S]


def test_a_gauge_that_raises_has_no_value_and_one_line_in_the_log() -> None:
    """It comes back when it answers again; the others are asked all the same."""
    watched = Watched()
    answers: list[int] = [1]
    watched.group.gauge("first", lambda: answers[0])
    watched.group.gauge("second", lambda: 2)
    watched.registry.ask_gauges()
    answers.clear()
    watched.registry.ask_gauges()
    watched.registry.ask_gauges()
    assert (watched.value("first"), watched.value("second")) == (None, 2)
    assert watched.said == [
        "The gauge Parse.first is not shown while it raises: IndexError: list index out of range"
    ]
    answers.append(5)
    watched.registry.ask_gauges()
    assert watched.value("first") == 5


def test_an_error_without_words_is_survived() -> None:
    """Code of users may raise what cannot even say what it is."""

    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def fail() -> None:
        raise Silent

    watched = Watched()
    watched.group.gauge("it", fail)
    watched.registry.ask_gauges()
    assert len(watched.said) == 1 and "Silent" in watched.said[0]


def test_a_gauge_may_register_metrics() -> None:
    """What is registered while gauges are asked is there afterwards."""
    watched = Watched()
    watched.group.gauge("it", lambda: watched.group.counter("asked").inc())
    watched.registry.ask_gauges()
    watched.registry.ask_gauges()
    assert watched.group.counter("asked").get_count() == 2
