"""Barrier alignment: Flink's rules, and a model that looks at every interleaving's outcome."""

from __future__ import annotations

import random

import pytest

from zmflow.execution.barrier_alignment import ABORTED_KEPT_MAX, BarrierAlignment
from zmflow.protocol.checkpoints import CheckpointBarrier


def barrier(number: int) -> CheckpointBarrier:
    return CheckpointBarrier(number, 0)


def test_a_task_with_one_input_waits_for_nobody() -> None:
    """Its first barrier is its last."""
    alignment = BarrierAlignment(["a"])
    outcome = alignment.barrier("a", barrier(1), 7)
    assert outcome.take == barrier(1)
    assert alignment.blocked == set()


def test_a_channel_is_blocked_until_the_others_are_there() -> None:
    """The same set is blocked all the time, because the task looks into it for every batch."""
    alignment = BarrierAlignment(["a", "b", "c"])
    blocked = alignment.blocked
    assert alignment.barrier("b", barrier(1), 3).take is None
    assert alignment.barrier("a", barrier(1), 4).take is None
    assert blocked == {"a", "b"}
    assert alignment.waits_for == barrier(1)
    outcome = alignment.barrier("c", barrier(1), 9)
    assert (outcome.take, outcome.resumes, outcome.began_us) == (barrier(1), True, 3)
    assert blocked == set()
    assert blocked is alignment.blocked
    assert alignment.waits_for is None


def test_the_end_of_a_channel_counts_as_its_barrier() -> None:
    """A channel that ended before the first barrier is not waited for, either."""
    alignment = BarrierAlignment(["a", "b", "c"])
    assert alignment.ended("c") == []
    alignment.barrier("a", barrier(1), 0)
    (outcome,) = alignment.ended("b")
    assert outcome.take == barrier(1)
    assert alignment.barrier("a", barrier(2), 0).take == barrier(2)


def test_a_newer_barrier_gives_up_the_one_that_is_waited_for() -> None:
    """The older one can never be complete: a channel has left it out."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.barrier("a", barrier(1), 0)
    outcome = alignment.barrier("b", barrier(2), 0)
    assert (outcome.given_up, outcome.resumes, outcome.take) == (1, True, None)
    assert alignment.blocked == {"b"}
    assert alignment.barrier("a", barrier(2), 0).take == barrier(2)


def test_barriers_of_what_is_over_are_ignored() -> None:
    """They are late; nobody is blocked for them."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.barrier("a", barrier(2), 0)
    alignment.barrier("b", barrier(2), 0)
    assert alignment.barrier("a", barrier(1), 0).take is None
    assert alignment.barrier("a", barrier(2), 0).take is None
    assert alignment.blocked == set()


def test_an_abort_lets_channels_go_on() -> None:
    """It may come before the barriers do; those of other checkpoints are not touched."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.barrier("a", barrier(1), 0)
    assert alignment.aborted(1).resumes
    assert not alignment.aborted(3).resumes
    assert alignment.barrier("b", barrier(1), 0).take is None
    assert alignment.barrier("a", barrier(3), 0).take is None
    assert alignment.blocked == set()
    alignment.barrier("a", barrier(2), 0)
    assert alignment.barrier("b", barrier(2), 0).take == barrier(2)


def test_aborts_without_end_take_no_memory() -> None:
    """Only what may still be under way is remembered."""
    alignment = BarrierAlignment(["a", "b"])
    for number in range(1, 10 * ABORTED_KEPT_MAX):
        alignment.aborted(number)
    assert len(alignment._aborted) <= ABORTED_KEPT_MAX


def test_at_least_once_counts_and_blocks_nothing() -> None:
    """Several checkpoints may be waited for at once; a newer one that is complete covers the older."""
    alignment = BarrierAlignment(["a", "b"], blocks=False)
    alignment.barrier("a", barrier(1), 0)
    alignment.barrier("a", barrier(2), 0)
    assert alignment.blocked == set()
    assert alignment.barrier("b", barrier(1), 0).take == barrier(1)
    assert alignment.barrier("b", barrier(2), 0).take == barrier(2)


def test_a_trigger_waits_for_the_ends_of_all_channels() -> None:
    """The inputs have finished, for the coordinator; their last records may still be on their way."""
    alignment = BarrierAlignment(["a", "b"])
    assert alignment.triggered(barrier(1), 0).take is None
    assert alignment.ended("a") == []
    assert [outcome.take for outcome in alignment.ended("b")] == [barrier(1)]
    assert alignment.triggered(barrier(2), 0).take == barrier(2)
    assert alignment.triggered(barrier(2), 0).take is None


@pytest.mark.parametrize("seed", range(200))
def test_a_snapshot_is_a_consistent_cut(seed: int) -> None:
    """Random records, barriers, ends and aborts on random channels: what a snapshot has seen of each channel
    is exactly what came before the barrier there, and in the end nothing is held back."""
    chance = random.Random(seed)
    channels = [f"c{number}" for number in range(chance.randint(1, 5))]
    checkpoints = chance.randint(1, 6)
    streams: dict[str, list[tuple[str, int]]] = {}
    for channel in channels:
        stream: list[tuple[str, int]] = []
        for number in range(1, checkpoints + 1):
            stream += [("record", 0)] * chance.randint(0, 3)
            stream.append(("barrier", number))
        cut = chance.randint(0, len(stream)) if chance.random() < 0.3 else len(stream)
        streams[channel] = [*stream[:cut], ("end", 0)]
    before = {
        (channel, number): stream[: stream.index(("barrier", number))].count(("record", 0))
        if ("barrier", number) in stream
        else stream.count(("record", 0))
        for channel, stream in streams.items()
        for number in range(1, checkpoints + 1)
    }
    reached = {number for stream in streams.values() for kind, number in stream if kind == "barrier"}
    alignment = BarrierAlignment(channels)
    seen = dict.fromkeys(channels, 0)
    aborted: set[int] = set()
    taken: list[int] = []

    def take(outcome) -> None:
        if outcome.take is not None:
            number = outcome.take.checkpoint_id
            taken.append(number)
            assert number not in aborted
            for channel in channels:
                assert seen[channel] == before[channel, number], (channel, number)

    while any(streams.values()):
        if chance.random() < 0.03:
            number = chance.randint(1, checkpoints)
            aborted.add(number)
            alignment.aborted(number)
            continue
        ready = [channel for channel in channels if streams[channel] and channel not in alignment.blocked]
        assert ready, f"all are blocked at {alignment.waits_for}"
        channel = chance.choice(ready)
        kind, number = streams[channel].pop(0)
        if kind == "record":
            seen[channel] += 1
        elif kind == "barrier":
            take(alignment.barrier(channel, barrier(number), 0))
        else:
            for outcome in alignment.ended(channel):
                take(outcome)
    assert alignment.blocked == set()
    assert taken == sorted(set(taken))
    if not aborted:
        assert taken == [number for number in range(1, checkpoints + 1) if number in reached]
