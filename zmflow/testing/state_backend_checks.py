"""What the checks of state backends share: how a backend comes to be, and a clock that only they turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest

from zmflow.state.backend import KeyedStateBackend

__all__ = ["MAX_PARALLELISM", "MakeBackend", "StateBackendChecks", "VirtualClock", "holding"]

MAX_PARALLELISM = 16
"""Key groups in the checks: few, so that every group gets keys."""

MakeBackend: TypeAlias = Callable[[int, range, Callable[[], int]], KeyedStateBackend]
"""Makes an empty backend of its max parallelism, its key groups and its clock."""


class VirtualClock:
    """A clock that stands still until it is told otherwise.

    >>> clock = VirtualClock(5)
    >>> clock.now_ms += 10
    >>> clock()
    15
    """

    def __init__(self, now_ms: int = 1_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


class StateBackendChecks:
    """Base of the checks. Who has a backend to check overrides ``make_backend``."""

    @pytest.fixture
    def make_backend(self) -> MakeBackend:
        """What makes a backend; each call a new, empty one."""
        raise NotImplementedError("Override the fixture make_backend.")

    @pytest.fixture
    def clock(self) -> VirtualClock:
        """The clock of ``backend``."""
        return VirtualClock()

    @pytest.fixture
    def backend(self, make_backend: MakeBackend, clock: VirtualClock) -> KeyedStateBackend:
        """A backend with all key groups."""
        return make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)


def holding(backend: KeyedStateBackend, state: Any, values: dict[Any, Any]) -> None:
    """Let a value state hold these, by key."""
    for key, value in values.items():
        backend.set_current_key(key)
        state.update(value)
