"""Restart strategies: Flink's defaults exactly, and random failures against rules written down naively."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow.config import Settings
from zmflow.coordination.restart_strategies import RestartStrategy, restart_strategy
from zmflow.errors import ConfigurationError

SECOND_MS = 1000
HOUR_MS = 3_600_000
EXPONENTIAL = "restart-strategy.exponential-delay."


def strategy(
    kind: str = "auto",
    *,
    checkpoints: bool = False,
    chance: Callable[[], float] = lambda: 0.5,
    **values: object,
) -> RestartStrategy:
    """The strategy of this type; a setting ``fixed-delay.attempts`` is written ``fixed_delay__attempts``."""
    texts = {"restart-strategy.type": kind}
    for name, value in values.items():
        texts["restart-strategy." + name.replace("__", ".").replace("_", "-")] = str(value)
    settings = Settings().with_values(texts, "test")
    return restart_strategy(settings, checkpoints=checkpoints, chance=chance)


def exponential(chance: Callable[[], float] = lambda: 0.5, **values: object) -> RestartStrategy:
    """Exponential delay with these settings of its own."""
    return strategy(
        "exponential-delay",
        chance=chance,
        **{f"exponential_delay__{name}": value for name, value in values.items()},
    )


def waits(subject: RestartStrategy, *failures_ms: int) -> list[int | None]:
    """What it answers to failures at these times."""
    return [subject.failed(at_ms) for at_ms in failures_ms]


# -- which strategy -----------------------------------------------------------------------------------


def test_default_without_checkpoints_is_none() -> None:
    """No restart, and the refusal names the setting that would change it."""
    subject = strategy()
    assert subject.describe() == "none: a failure ends the job"
    assert waits(subject, 0, 5) == [None, None]
    assert "without checkpoints unless restart-strategy.type is set" in subject.refusal
    assert subject.describe() == subject.refusal


def test_default_with_checkpoints_is_exponential_delay() -> None:
    """With checkpoints a job restarts as often as it must."""
    subject = strategy(checkpoints=True)
    assert subject.describe() == "exponential-delay: attempt 0, next wait 1 s"
    assert subject.failed(0) == SECOND_MS


def test_none_by_name_holds_with_checkpoints_too() -> None:
    """What is set wins over what auto would be."""
    subject = strategy("none", checkpoints=True)
    assert subject.failed(0) is None
    assert subject.refusal == "the restart strategy is none"


# -- fixed delay --------------------------------------------------------------------------------------


def test_fixed_delay_by_default_restarts_once_after_a_second() -> None:
    """One restart after 1 s; the second failure is the end, however late it comes."""
    subject = strategy("fixed-delay")
    assert subject.describe() == "fixed-delay: attempt 0 of 1, next wait 1 s"
    assert subject.failed(50) == SECOND_MS
    assert subject.describe() == "fixed-delay: attempt 1 of 1, next wait 1 s"
    assert subject.failed(50 + 100 * HOUR_MS) is None
    assert subject.refusal == "fixed-delay allows 1 restart, and this was failure 2"
    assert subject.failed(50 + 200 * HOUR_MS) is None
    assert subject.refusal.endswith("failure 2")


def test_fixed_delay_of_no_attempts_never_restarts() -> None:
    """Zero restarts are zero."""
    subject = strategy("fixed-delay", fixed_delay__attempts=0)
    assert subject.failed(0) is None
    assert subject.refusal == "fixed-delay allows 0 restarts, and this was failure 1"


def test_failures_while_waiting_are_one_attempt() -> None:
    """Until the restart is due, failures wait for what is left; the next one after that counts."""
    subject = strategy("fixed-delay", fixed_delay__attempts=2, fixed_delay__delay="10 s")
    assert waits(subject, 1000, 1000, 4000, 10_999, 11_000) == [10_000, 10_000, 7000, 1, 0]
    assert waits(subject, 11_001, 12_000) == [10_000, 9001]
    assert waits(subject, 21_002) == [None]


@given(st.integers(0, 4), st.integers(0, 50), st.lists(st.integers(0, 40), max_size=30))
def test_fixed_delay_allows_so_many_attempts(restarts: int, delay_ms: int, gaps_ms: list[int]) -> None:
    """Random failures: a failure is one of a waiting attempt, a new attempt, or one too many."""
    subject = strategy("fixed-delay", fixed_delay__attempts=restarts, fixed_delay__delay=f"{delay_ms} ms")
    now_ms, attempts_ms = 0, list[int]()
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        expected: int | None
        if len(attempts_ms) <= restarts and attempts_ms and now_ms <= attempts_ms[-1] + delay_ms:
            expected = attempts_ms[-1] + delay_ms - now_ms
        else:
            attempts_ms.append(now_ms)
            expected = delay_ms if len(attempts_ms) <= restarts else None
        assert subject.failed(now_ms) == expected
        assert bool(subject.refusal) == (expected is None)


# -- failure rate -------------------------------------------------------------------------------------


def test_failure_rate_by_default_allows_one_failure_a_minute() -> None:
    """1 s wait; a second failure within 60 s, the sixtieth included, is one too many."""
    subject = strategy("failure-rate")
    assert subject.failed(0) == SECOND_MS
    assert subject.describe() == "failure-rate: 1 of 1 failure in 60 s, next wait 1 s"
    assert subject.failed(60_001) == SECOND_MS
    assert subject.failed(120_001) is None
    assert subject.refusal == "failure-rate allows 1 failure in 60 s, and this was failure 2"


@given(st.integers(0, 3), st.integers(1, 100), st.integers(0, 20), st.lists(st.integers(0, 60), max_size=40))
def test_failure_rate_counts_attempts_in_the_interval(
    failures_max: int, interval_ms: int, delay_ms: int, gaps_ms: list[int]
) -> None:
    """Random failures: refused as soon as an interval that ends now holds too many attempts."""
    subject = strategy(
        "failure-rate",
        failure_rate__max_failures_per_interval=failures_max,
        failure_rate__failure_rate_interval=f"{interval_ms} ms",
        failure_rate__delay=f"{delay_ms} ms",
    )
    now_ms, attempts_ms, over = 0, list[int](), False
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        answer = subject.failed(now_ms)
        if not over and attempts_ms and now_ms <= attempts_ms[-1] + delay_ms:
            assert answer == attempts_ms[-1] + delay_ms - now_ms
            continue
        attempts_ms.append(now_ms)
        over = over or sum(now_ms - at_ms <= interval_ms for at_ms in attempts_ms) > failures_max
        assert answer == (None if over else delay_ms)
        assert bool(subject.refusal) == over


# -- exponential delay --------------------------------------------------------------------------------


def test_exponential_delay_by_default_grows_by_half_from_a_second_to_a_minute() -> None:
    """1 s, x1.5, at most 60 s, any number of times; a draw from the middle is no jitter."""
    subject = strategy("exponential-delay")
    now_ms, answers = 0, []
    for _ in range(13):
        wait_ms = subject.failed(now_ms)
        assert wait_ms is not None
        answers.append(wait_ms)
        now_ms += wait_ms + 1
    assert answers[:6] == [1000, 1500, 2250, 3375, 5062, 7593]
    assert answers[10:] == [57665, 60_000, 60_000]
    assert subject.describe() == "exponential-delay: attempt 13, next wait 60 s"


def test_description_shows_attempt_and_wait() -> None:
    """A sentence for logs and pages."""
    subject = exponential()
    waits(subject, 0, 2000, 5000)
    assert subject.describe() == "exponential-delay: attempt 3, next wait 2.2 s"


@pytest.mark.parametrize(("draw", "expected"), [(0.0, 1350), (0.5, 1500), (1 - 2**-53, 1650)])
def test_jitter_is_a_tenth_either_way(draw: float, expected: int) -> None:
    """The second wait lies between 1.35 s and 1.65 s, both included."""
    assert waits(exponential(lambda: draw), 0, 5000)[1] == expected


def test_jitter_never_leaves_the_bounds() -> None:
    """No wait is shorter than the initial one nor longer than the longest, whatever is drawn."""
    assert exponential(lambda: 0.0).failed(0) == 1000
    assert exponential(lambda: 0.0, jitter_factor=1).failed(0) == 1000
    assert exponential(lambda: 0.999, initial_backoff="1 min").failed(0) == 60_000


def test_exponential_delay_begins_anew_after_an_hour_of_quiet() -> None:
    """Quiet is measured from the end of the last wait: an hour after it the waits are short again."""
    almost, quiet = exponential(), exponential()
    waits(almost, 0, 2000)
    waits(quiet, 0, 2000)
    assert almost.failed(3500 + HOUR_MS - 1) == 2250
    assert quiet.failed(3500 + HOUR_MS) == 1000


def test_exponential_delay_can_be_limited_between_quiet_times() -> None:
    """So many restarts, counted from zero again after the quiet."""
    subject = exponential(attempts_before_reset_backoff=2)
    assert waits(subject, 0, 2000) == [1000, 1500]
    assert waits(subject, 2 * HOUR_MS, 2 * HOUR_MS + 2000) == [1000, 1500]
    assert subject.describe() == "exponential-delay: attempt 2 of 2, next wait 1.5 s"
    assert subject.failed(2 * HOUR_MS + 5000) is None
    assert subject.refusal == (
        "exponential-delay allows 2 restarts without 3600 s of quiet, and this was failure 3"
    )


def test_exponential_delay_goes_on_for_weeks() -> None:
    """Ten thousand failures a minute apart overflow nothing."""
    subject = exponential(lambda: 0.0, backoff_multiplier=100)
    assert {subject.failed(61_000 * n) for n in range(1, 10_000)} == {1000, 60_000}


@given(
    initial_ms=st.integers(1, 50),
    more_ms=st.integers(0, 500),
    multiplier=st.sampled_from([1, 1.5, 2, 2.3, 100]),
    jitter=st.sampled_from([0, 0.1, 0.25, 1]),
    reset_ms=st.integers(1, 300),
    restarts=st.integers(0, 4),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=40, max_size=40),
    gaps_ms=st.lists(st.integers(0, 400), max_size=40),
)
def test_exponential_delay_follows_flinks_rules(
    initial_ms: int,
    more_ms: int,
    multiplier: float,
    jitter: float,
    reset_ms: int,
    restarts: int,
    draws: list[float],
    gaps_ms: list[int],
) -> None:
    """Random failures, settings and draws: merged, reset, refused, or a wait between its two bounds."""
    subject = exponential(
        iter(draws).__next__,
        initial_backoff=f"{initial_ms} ms",
        max_backoff=f"{initial_ms + more_ms} ms",
        backoff_multiplier=multiplier,
        jitter_factor=jitter,
        reset_backoff_threshold=f"{reset_ms} ms",
        attempts_before_reset_backoff=restarts,
    )
    now_ms, until_ms, attempt, over = 0, -1_000_000, 0, False
    for gap_ms in gaps_ms:
        now_ms += gap_ms
        answer = subject.failed(now_ms)
        if over:
            assert answer is None
            continue
        if now_ms <= until_ms:
            assert answer == until_ms - now_ms
            continue
        if now_ms - until_ms >= reset_ms:
            attempt = 0
        if restarts and attempt == restarts:
            over = True
            assert answer is None
            continue
        base_ms = int(initial_ms * multiplier**attempt)
        least, most = base_ms - int(base_ms * jitter), base_ms + int(base_ms * jitter)
        longest_ms = initial_ms + more_ms
        assert answer is not None
        assert max(initial_ms, min(least, longest_ms)) <= answer <= max(initial_ms, min(most, longest_ms))
        attempt += 1
        until_ms = now_ms + answer


# -- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("fixed-delay", "fixed-delay.delay"),
        ("failure-rate", "failure-rate.delay"),
        ("failure-rate", "failure-rate.failure-rate-interval"),
        ("exponential-delay", "exponential-delay.initial-backoff"),
        ("exponential-delay", "exponential-delay.max-backoff"),
        ("exponential-delay", "exponential-delay.reset-backoff-threshold"),
    ],
)
def test_impossible_durations_are_refused(kind: str, key: str) -> None:
    """A wait of -1 has no meaning here; the error names the setting and where it came from."""
    key = f"restart-strategy.{key}"
    settings = Settings().with_values({"restart-strategy.type": kind, key: "-1"}, "the job")
    with pytest.raises(ConfigurationError, match=key) as caught:
        restart_strategy(settings, checkpoints=False, chance=lambda: 0.5)
    assert "From the job." in str(caught.value)


def test_initial_wait_above_the_longest_is_refused() -> None:
    """Two settings that contradict each other are named together."""
    with pytest.raises(ConfigurationError, match=r"initial-backoff is longer than .*max-backoff"):
        exponential(initial_backoff="61 s")


def test_a_failure_of_the_new_attempt_counts_within_the_same_millisecond() -> None:
    """The wait is over when the restart begins; or an attempt that fails at once would restart for ever."""
    subject = strategy("fixed-delay", fixed_delay__attempts=2, fixed_delay__delay="1 s")
    assert waits(subject, 0, 1000) == [1000, 0]
    subject.restarted()
    assert waits(subject, 1000) == [1000]
    subject.restarted()
    assert waits(subject, 2000) == [None]
