"""Sources of an alignment group in worker processes of their own: how far one gets ahead of the other."""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from zmflow import (
    Duration,
    EndOfInput,
    RuntimeContext,
    Source,
    SourceReader,
    SplitEnumerator,
    StreamExecutionEnvironment,
    WatermarkStrategy,
)
from zmflow.api.environment import environment_context
from zmflow.api.sources import SplitEnumeratorContext
from zmflow.config import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

STEP_MS = 10
"""Event time of a record after the one before it; each record is a batch."""

LAST_MS = 5000
DRIFT_MS = 1000
INTERVAL_MS = 20

PACE_S = 0.002
"""What a record takes the slow source, so that it takes a second in all. The fast one takes no time."""

START_MS = DRIFT_MS // 2
"""The fast source repeats its first record until the slow one is here, so that neither has begun late."""

BOUND_MS = DRIFT_MS + STEP_MS
"""How far the readers may be apart: the drift, and what is read in one batch."""

SETTINGS = {
    "slot.idle.timeout": "10 ms",
    "restart-strategy.type": "fixed-delay",
    "restart-strategy.fixed-delay.attempts": "3",
    "restart-strategy.fixed-delay.delay": "100 ms",
}


class Progress:
    """A number that processes share: the greatest that was written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def value(self) -> int:
        data = self.path.read_bytes() if self.path.exists() else b""
        return struct.unpack("q", data)[0] if data else -1

    def reach(self, value: int) -> None:
        if value > self.value:
            with self.path.open("r+b" if self.path.exists() else "w+b", buffering=0) as file:
                file.write(struct.pack("q", value))


class OneSplit(SplitEnumerator[int]):
    def __init__(self, context: SplitEnumeratorContext[int]) -> None:
        self.context = context
        self.left = [0]

    def handle_split_request(self, subtask: int) -> None:
        if self.left:
            self.context.assign_splits([self.left.pop()], subtask)
        else:
            self.context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[int], subtask: int) -> None:
        self.left += splits


class Steps(Source[int, int]):
    """Event times from 0, one by one, each noted before it is read.

    Args:
        own: how far it has come, over all attempts.
        last_ms: its last event time.
        pace_s: what a record takes.
        dies_at_ms: where the first attempt takes its worker with it.
    """

    def __init__(
        self, own: Progress, *, last_ms: int = LAST_MS, pace_s: float = 0.0, dies_at_ms: int = -1
    ) -> None:
        self.own = own
        self.last_ms = last_ms
        self.pace_s = pace_s
        self.dies_at_ms = dies_at_ms

    def create_enumerator(self, context: SplitEnumeratorContext[int]) -> SplitEnumerator[int]:
        return OneSplit(context)

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, int]:
        return StepsReader(self, self.dies_at_ms if context.attempt_number == 0 else -1)


class StepsReader(SourceReader[int, int]):
    def __init__(self, source: Steps, dies_at_ms: int) -> None:
        self.source = source
        self.dies_at_ms = dies_at_ms
        self.next_ms = source.last_ms + STEP_MS  # nothing to read
        self.complete = False

    def add_splits(self, splits: Sequence[int]) -> None:
        (self.next_ms,) = splits

    def notify_no_more_splits(self) -> None:
        self.complete = True

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        at_ms = self.next_ms
        if at_ms > self.source.last_ms:
            return EndOfInput.END if self.complete else None
        if at_ms == self.dies_at_ms:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.source.pace_s:
            time.sleep(self.source.pace_s)
        self.source.own.reach(at_ms)
        self.next_ms += self.step_from(at_ms)
        return [at_ms]

    def step_from(self, at_ms: int) -> int:
        return STEP_MS


class FastSteps(Steps):
    """Notes how far it is ahead of another source, each time it reads."""

    def __init__(self, own: Progress, slow: Progress, ahead: Progress, dies_at_ms: int = -1) -> None:
        super().__init__(own, dies_at_ms=dies_at_ms)
        self.slow = slow
        self.ahead = ahead

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, int]:
        return FastReader(self, self.dies_at_ms if context.attempt_number == 0 else -1)


class FastReader(StepsReader):
    source: FastSteps

    def step_from(self, at_ms: int) -> int:
        slow_ms = self.source.slow.value
        if slow_ms < START_MS:
            return 0
        if slow_ms < LAST_MS:  # who has finished is not waited for
            self.source.ahead.reach(at_ms - slow_ms)
        return STEP_MS


class Race:
    """A job of a fast and a slow source, each in a worker of its own."""

    def __init__(self, directory: Path) -> None:
        self.fast, self.slow, self.ahead = (Progress(directory / name) for name in ("fast", "slow", "ahead"))

    def run(
        self,
        *others: tuple[str, Steps],
        aligned: bool = True,
        fast_first: bool = True,
        fast_dies_ms: int = -1,
        slow_dies_ms: int = -1,
    ) -> None:
        """Run it to its end, with other sources of the group before them."""
        strategy: WatermarkStrategy[int] = WatermarkStrategy.for_monotonous_timestamps()
        strategy = strategy.with_timestamp_assigner(lambda at_ms, _: at_ms)
        if aligned:
            strategy = strategy.with_watermark_alignment(
                "race", Duration.of_millis(DRIFT_MS), Duration.of_millis(INTERVAL_MS)
            )
        sources: list[tuple[str, Steps]] = [
            ("slow", Steps(self.slow, pace_s=PACE_S, dies_at_ms=slow_dies_ms)),
            ("fast", FastSteps(self.fast, self.slow, self.ahead, fast_dies_ms)),
        ]
        if fast_first:
            sources.reverse()
        with environment_context(Settings().with_values(SETTINGS, "test")):
            env = StreamExecutionEnvironment.get_execution_environment()
            for name, source in [*others, *sources]:
                stream = env.from_source(source, strategy, name).slot_sharing_group(name)
                stream.add_sink(lambda _: None)
            env.execute("race")
        assert (self.fast.value, self.slow.value) == (LAST_MS, LAST_MS)


@pytest.fixture
def race(tmp_path: Path) -> Race:
    return Race(tmp_path)


@pytest.mark.parametrize("fast_first", [True, False])
def test_an_aligned_source_waits_for_the_slower_one(race: Race, fast_first: bool) -> None:
    """It is never farther ahead than the drift and a batch, in whichever worker the group is kept."""
    race.run(fast_first=fast_first)
    assert 0 < race.ahead.value <= BOUND_MS


def test_the_group_outlives_the_source_beside_which_it_was_kept(race: Race, tmp_path: Path) -> None:
    """The first source ends early and its slot is given back, with the worker that kept the group."""
    race.run(("short", Steps(Progress(tmp_path / "short"), last_ms=STEP_MS)))
    assert 0 < race.ahead.value <= BOUND_MS


def test_a_source_that_is_not_aligned_runs_away(race: Race) -> None:
    """The same job without alignment: the fast one is at its end while the slow one is still at its begin."""
    race.run(aligned=False)
    assert race.ahead.value > 2 * BOUND_MS


@pytest.mark.parametrize("who", ["fast", "slow"])
@pytest.mark.parametrize("fast_first", [True, False])
def test_alignment_survives_a_killed_worker(race: Race, who: str, fast_first: bool) -> None:
    """Member or keeper of the group: the job comes through, and the limit holds all the time."""
    dies_ms = {f"{who}_dies_ms": LAST_MS // 2}
    race.run(fast_first=fast_first, **dies_ms)
    assert 0 < race.ahead.value <= BOUND_MS
