"""Restart strategies: whether and when a job restarts after a failure, by Flink's rules.

One rule is common to all, where Flink keeps it for exponential-delay: failures that come while a restart is
being waited for are one attempt. A lost TaskManager takes many tasks with it, each of which fails; they wait
for the same restart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import ClassVar

from zmflow.config import Settings
from zmflow.config.option import Option
from zmflow.config.options import (
    BACKOFF_ATTEMPTS,
    BACKOFF_INITIAL,
    BACKOFF_JITTER,
    BACKOFF_MAX,
    BACKOFF_MULTIPLIER,
    BACKOFF_RESET,
    FAILURE_RATE_DELAY,
    FAILURE_RATE_INTERVAL,
    FAILURE_RATE_MAX,
    FIXED_DELAY,
    FIXED_DELAY_ATTEMPTS,
    RESTART_STRATEGY,
)
from zmflow.errors import ConfigurationError

__all__ = ["RestartStrategy", "restart_strategy"]

UNBOUNDED_WAIT_MAX_MS = 2**53
"""Where a wait stops growing before it is bounded by the longest one: some 285,000 years, where floating
point no longer tells a millisecond from the next. A job that fails for weeks must not overflow it."""


def restart_strategy(
    settings: Settings, *, checkpoints: bool, chance: Callable[[], float]
) -> RestartStrategy:
    """The strategy the settings name.

    Args:
        settings: the cluster's settings under those of the job.
        checkpoints: whether the job takes checkpoints, which decides what ``auto`` means.
        chance: draws from 0 up to but not including 1, for the jitter.

    Raises:
        ConfigurationError: a wait or interval that cannot be, or an initial wait above the longest.
    """
    name = settings[RESTART_STRATEGY]
    if name == "auto" and not checkpoints:
        return _NoRestart(
            f"the restart strategy is none, as without checkpoints unless {RESTART_STRATEGY.key} is set"
        )
    if name == "none":
        return _NoRestart("the restart strategy is none")
    if name == "fixed-delay":
        return _FixedDelay(settings[FIXED_DELAY_ATTEMPTS], _duration_ms(settings, FIXED_DELAY, 0))
    if name == "failure-rate":
        return _FailureRate(
            settings[FAILURE_RATE_MAX],
            _duration_ms(settings, FAILURE_RATE_INTERVAL, 1),
            _duration_ms(settings, FAILURE_RATE_DELAY, 0),
        )
    return _ExponentialDelay(settings, chance)


def _duration_ms(settings: Settings, option: Option[int], least_ms: int) -> int:
    duration_ms = settings[option]
    if duration_ms < least_ms:
        value = settings.value_of(option)
        raise ConfigurationError(
            f"The setting {option.key} is too short: {value.text!r}.",
            detail=f"From {value.where}. At least {least_ms} ms.",
            hint=f"{option.doc} Default: {option.default_text}.",
        )
    return duration_ms


def _spoken(duration_ms: int) -> str:
    """A duration for people: ``150 ms``, ``1 s``, ``2.2 s``."""
    if duration_ms < 1000:
        return f"{duration_ms} ms"
    return f"{duration_ms / 1000:.1f}".removesuffix(".0") + " s"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")


class RestartStrategy(ABC):
    """Decides on the restarts of one job. Told of every failure, in the order of time."""

    name: ClassVar[str]

    def __init__(self) -> None:
        self.refusal = ""
        """Why the job does not restart any more, without a full stop; empty while it does."""
        self._wait_ms = 0
        self._now_ms = 0
        self._waits_until_ms: int | None = None
        self._waiting = False

    def failed(self, now_ms: int) -> int | None:
        """Note a failure. How long to wait before the restart; None: the job must not restart any more."""
        if self.refusal:
            return None
        if self._waits_until_ms is None or not self._waiting or now_ms > self._waits_until_ms:
            self._now_ms = now_ms
            self._attempt()
            if self.refusal:
                return None
            self._waits_until_ms = now_ms + self._wait_ms
            self._waiting = True
        return self._waits_until_ms - now_ms

    def restarted(self) -> None:
        """The restart has begun. A failure from here on is one of the new attempt and counts, be it in the
        same millisecond."""
        self._waiting = False

    def describe(self) -> str:
        """A sentence for people, without a full stop: what it does and how far it is."""
        return self.refusal or f"{self.name}: {self._progress()}"

    @abstractmethod
    def _attempt(self) -> None:
        """A failure that counts, at ``_now_ms``; the wait before it, if any, ended at ``_waits_until_ms``.
        Sets ``_wait_ms``, or ``refusal``."""

    @abstractmethod
    def _progress(self) -> str: ...


class _NoRestart(RestartStrategy):
    """The first failure is the last."""

    name = "none"

    def __init__(self, reason: str) -> None:
        super().__init__()
        self._reason = reason

    def _attempt(self) -> None:
        self.refusal = self._reason

    def _progress(self) -> str:
        return "a failure ends the job"


class _FixedDelay(RestartStrategy):
    """So many restarts, each after the same wait."""

    name = "fixed-delay"

    def __init__(self, restarts: int, delay_ms: int) -> None:
        super().__init__()
        self._restarts = restarts
        self._failures = 0
        self._wait_ms = delay_ms

    def _attempt(self) -> None:
        self._failures += 1
        if self._failures > self._restarts:
            allowed = _counted(self._restarts, "restart")
            self.refusal = f"{self.name} allows {allowed}, and this was failure {self._failures}"

    def _progress(self) -> str:
        return f"attempt {self._failures} of {self._restarts}, next wait {_spoken(self._wait_ms)}"


class _FailureRate(RestartStrategy):
    """Restarts after the same wait, until there are too many failures in an interval."""

    name = "failure-rate"

    def __init__(self, failures_max: int, interval_ms: int, delay_ms: int) -> None:
        super().__init__()
        self._failures_max = failures_max
        self._interval_ms = interval_ms
        self._wait_ms = delay_ms
        # One more than are allowed is enough to see that there are too many.
        self._failures: deque[int] = deque(maxlen=failures_max + 1)

    def _attempt(self) -> None:
        self._failures.append(self._now_ms)
        while self._now_ms - self._failures[0] > self._interval_ms:
            self._failures.popleft()
        if len(self._failures) > self._failures_max:
            self.refusal = f"{self._rule()}, and this was failure {len(self._failures)}"

    def _rule(self) -> str:
        return f"{self.name} allows {_counted(self._failures_max, 'failure')} in {_spoken(self._interval_ms)}"

    def _progress(self) -> str:
        return (
            f"{len(self._failures)} of {_counted(self._failures_max, 'failure')} "
            f"in {_spoken(self._interval_ms)}, next wait {_spoken(self._wait_ms)}"
        )


class _ExponentialDelay(RestartStrategy):
    """Waits that grow from restart to restart, and begin anew after a time without failures."""

    name = "exponential-delay"

    def __init__(self, settings: Settings, chance: Callable[[], float]) -> None:
        super().__init__()
        self._initial_ms = _duration_ms(settings, BACKOFF_INITIAL, 1)
        self._longest_ms = _duration_ms(settings, BACKOFF_MAX, 1)
        if self._initial_ms > self._longest_ms:
            raise ConfigurationError(
                f"{BACKOFF_INITIAL.key} is longer than {BACKOFF_MAX.key}.",
                detail=f"{_spoken(self._initial_ms)} and {_spoken(self._longest_ms)}.",
                hint="The first wait is the shortest one; make the longest at least as long.",
            )
        self._reset_ms = _duration_ms(settings, BACKOFF_RESET, 1)
        self._multiplier = settings[BACKOFF_MULTIPLIER]
        self._jitter = settings[BACKOFF_JITTER]
        self._restarts_max = settings[BACKOFF_ATTEMPTS]  # 0: any number
        self._chance = chance
        self._attempts = 0
        self._growth = 0  # times the next wait is multiplied
        self._wait_ms = self._initial_ms

    def _attempt(self) -> None:
        if self._waits_until_ms is not None and self._now_ms - self._waits_until_ms >= self._reset_ms:
            self._attempts = self._growth = 0
        self._attempts += 1
        if 0 < self._restarts_max < self._attempts:
            self.refusal = (
                f"{self.name} allows {_counted(self._restarts_max, 'restart')} without "
                f"{_spoken(self._reset_ms)} of quiet, and this was failure {self._attempts}"
            )
            return
        # Jitter is drawn from the unbounded wait, so that waits at the bound are all alike, as in Flink.
        base_ms = int(self._initial_ms * self._multiplier**self._growth)
        spread_ms = int(base_ms * self._jitter)
        jitter_ms = int(self._chance() * (2 * spread_ms + 1)) - spread_ms
        self._wait_ms = max(self._initial_ms, min(base_ms + jitter_ms, self._longest_ms))
        if base_ms < UNBOUNDED_WAIT_MAX_MS:
            self._growth += 1

    def _progress(self) -> str:
        limit = f" of {self._restarts_max}" if self._restarts_max else ""
        return f"attempt {self._attempts}{limit}, next wait {_spoken(self._wait_ms)}"
