"""Sources whose records are made: by index, at a rate; by a generator, from a position."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from source_drive import Context

from zmflow.api.time import Duration
from zmflow.connectors import DataGeneratorSource, PositionedSource, RateLimiterStrategy
from zmflow.connectors.rate_limits import RateLimiter
from zmflow.errors import ConnectorError
from zmflow.testing.source_run import SourceRun


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("step_s", [0.0004, 0.01, 0.3])
def test_a_rate_is_kept_over_any_time_from_the_start(share: float, step_s: float) -> None:
    """However often a reader is polled: never more, and no less by more than one."""
    now = 0.0
    limiter = RateLimiter(1000, lambda: now)
    taken = 0
    while now < 4:
        now += step_s
        due = limiter.due(share)
        limiter.take(due)
        taken += due
        assert taken <= 1000 * share * now + 1e-6
    assert taken >= 1000 * share * now - 1 - 1e-6


def test_only_a_second_is_made_good() -> None:
    """A job that was held up for a minute does not flood what comes behind it."""
    now = 0.0
    limiter = RateLimiter(10, lambda: now)
    now = 60.0
    assert limiter.due(1.0) == 10


def test_a_slow_rate_is_waited_for() -> None:
    """One record in four seconds, of which this reader has half."""
    now = 0.0
    limiter = RateLimiter(0.25, lambda: now)
    assert limiter.due(0.5) == 0
    assert limiter.wait_s(0.5) == 8.0
    now = 8.0
    assert limiter.due(0.5) == 1


def test_indices_advance_at_all_subtasks_alike() -> None:
    """Each reader has every n-th index, and what it returns is in order."""
    run = SourceRun(DataGeneratorSource(int, 4000), 2)
    run.read_rounds(1)  # the lanes are assigned
    first, second = run.poll(0), run.poll(1)
    assert list(first) == list(range(0, 2048, 2))
    assert list(second) == list(range(1, 2048, 2))
    run.close()


def test_a_source_without_an_end_goes_on() -> None:
    """Its indices are the first ones, with any parallelism."""
    source = DataGeneratorSource(str)
    assert source.bounded is False
    run = SourceRun(source, 3)
    read = run.read_all(wanted=10_000)
    assert set(map(int, read)) >= set(range(9_000))
    assert len(set(read)) == len(read)
    run.close()


def test_a_source_of_nothing_ends() -> None:
    """With a rate, too."""
    assert SourceRun(DataGeneratorSource(int, 0), 2).read_all() == []
    assert SourceRun(DataGeneratorSource(int, 0, RateLimiterStrategy.per_second(1)), 2).read_all() == []


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataGeneratorSource(int, -1),
        lambda: DataGeneratorSource(3),  # type: ignore[arg-type]
        lambda: RateLimiterStrategy.per_second(0),
        lambda: RateLimiterStrategy.per_second(float("nan")),
        lambda: PositionedSource(iter([])),  # type: ignore[arg-type]
    ],
)
def test_misuse_is_refused(make: Callable[[], object]) -> None:
    """When the source is made, not when the job runs."""
    with pytest.raises(ConnectorError) as refused:
        make()
    assert refused.value.hint


def test_a_generator_that_yields_no_pair_says_what_it_should() -> None:
    """The record is in the message."""
    run = SourceRun(PositionedSource(lambda position: iter([7])), 1)  # type: ignore[arg-type, return-value]
    with pytest.raises(ConnectorError, match="no pair: 7"):
        run.read_all()
    run.close()


def test_none_is_a_pause_and_hands_over_what_is_there() -> None:
    """Records before a pause are not held back; the generator goes on where it was, and is not made again."""
    made: list[int] = []

    def read(position: int) -> Iterator[tuple[int, int] | None]:
        made.append(position)
        for number in range(position, 4):
            yield number + 1, number
            yield None

    source = PositionedSource(read, 0, bounded=False, poll_interval=Duration.of_millis(0), name="Mine")
    assert (source.name, source.bounded) == ("Mine", False)
    reader = source.create_reader(None)  # type: ignore[arg-type]
    reader.add_splits(source_splits(source))
    assert [reader.poll_next() for _ in range(5)] == [[0], [1], [2], [3], None]
    assert made == [0]


def test_a_partition_that_never_pauses_leaves_the_others_their_turn() -> None:
    """Each is read for a batch at a time."""

    def count(name: str, position: int) -> Iterator[tuple[int, str]]:
        while True:
            yield (position := position + 1), name

    source = PositionedSource(count, 0, partitions="ab", bounded=False)
    reader = source.create_reader(None)  # type: ignore[arg-type]
    reader.add_splits(source_splits(source))
    batches = [reader.poll_next() for _ in range(4)]
    assert [batch[0] for batch in batches] == ["a", "b", "a", "b"]  # type: ignore[index]


def test_generators_are_closed_with_their_reader() -> None:
    """What they hold open is let go of."""
    closed: list[str] = []

    def hold(position: Any) -> Iterator[tuple[int, int] | None]:
        try:
            yield 1, 1
            yield None
        finally:
            closed.append("closed")

    source = PositionedSource(hold)
    reader = source.create_reader(None)  # type: ignore[arg-type]
    reader.add_splits(source_splits(source))
    assert reader.poll_next() == [1]
    reader.close()
    assert closed == ["closed"]


def source_splits(source: PositionedSource[Any]) -> list[Any]:
    """Every split of a source."""

    reader = _Collecting()
    source.create_enumerator(Context([reader])).handle_split_request(0)
    return reader.splits


class _Collecting:
    def __init__(self) -> None:
        self.splits: list[Any] = []

    def add_splits(self, splits: Any) -> None:
        self.splits += splits
