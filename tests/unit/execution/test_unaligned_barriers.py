"""Barriers that overtake records: whose snapshot is taken when, and what belongs to it besides."""

from __future__ import annotations

import random

import pytest

from zmflow.execution.barrier_alignment import Alignment, BarrierAlignment
from zmflow.protocol.checkpoints import CheckpointBarrier


def barrier(number: int) -> CheckpointBarrier:
    return CheckpointBarrier(number, 0)


def test_a_snapshot_that_must_not_wait_is_taken_at_once() -> None:
    """It is whole when the barriers have come on the channels that had none."""
    alignment = BarrierAlignment(["a", "b", "c"])
    alignment.barrier("a", barrier(1), 3)
    outcome = alignment.unaligned(barrier(1), 9)
    assert (outcome.take, outcome.overtakes, outcome.resumes, outcome.began_us) == (barrier(1), True, True, 3)
    assert (alignment.overtaking, alignment.behind, alignment.blocked) == (1, {"b", "c"}, set())
    assert alignment.passed("b", 1) == Alignment()
    assert alignment.behind == {"c"}
    assert alignment.barrier("c", barrier(1), 10) == Alignment(overtaken=1)
    assert alignment.overtaking == 0


def test_with_all_barriers_there_nothing_is_overtaken() -> None:
    """Also where the task has no channels at all."""
    outcome = BarrierAlignment([]).unaligned(barrier(1), 0)
    assert (outcome.take, outcome.overtakes, outcome.overtaken) == (barrier(1), False, 1)
    alignment = BarrierAlignment(["a"])
    alignment.barrier("a", barrier(1), 0)
    assert alignment.unaligned(barrier(1), 0) == Alignment()


def test_an_order_that_is_late_is_ignored() -> None:
    """The snapshot was taken, or the checkpoint given up."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.aborted(2)
    assert alignment.unaligned(barrier(2), 0) == Alignment()
    alignment.unaligned(barrier(3), 0)
    assert alignment.unaligned(barrier(3), 0) == Alignment()
    assert alignment.overtaking == 3


def test_the_end_of_a_channel_is_a_barrier_for_what_is_overtaken() -> None:
    """Nothing more comes on it."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.unaligned(barrier(1), 0)
    assert alignment.ended("a") == []
    assert alignment.ended("b") == [Alignment(overtaken=1)]


@pytest.mark.parametrize("how", ["aborted", "a newer order", "a newer barrier"])
def test_a_snapshot_that_will_not_be_whole_is_forgotten(how: str) -> None:
    """What was recorded for it is dropped, and nothing more is."""
    alignment = BarrierAlignment(["a", "b"])
    alignment.unaligned(barrier(1), 0)
    if how == "aborted":
        outcome = alignment.aborted(1)
    elif how == "a newer order":
        outcome = alignment.unaligned(barrier(2), 0)
    else:
        outcome = alignment.barrier("a", barrier(2), 0)
    assert outcome.forgets == 1
    assert alignment.overtaking == (2 if how == "a newer order" else 0)


@pytest.mark.parametrize("seed", range(300))
def test_what_was_processed_and_what_was_overtaken_make_a_consistent_cut(seed: int) -> None:
    """Random records, barriers, ends, aborts and orders not to wait: of each channel, what was processed at
    the snapshot and what was recorded behind it are what came before the barrier there."""
    chance = random.Random(seed)
    channels = [f"c{number}" for number in range(chance.randint(1, 4))]
    checkpoints = chance.randint(1, 5)
    streams = {channel: _stream(chance, checkpoints) for channel in channels}
    whole = {channel: list(stream) for channel, stream in streams.items()}
    alignment = BarrierAlignment(channels)
    seen = dict.fromkeys(channels, 0)
    recorded: dict[str, int] = {}
    cuts: dict[int, dict[str, int]] = {}
    aborted: set[int] = set()

    def learn(outcome: Alignment) -> None:
        if outcome.take is not None:
            cuts[outcome.take.checkpoint_id] = dict(seen)
        if outcome.overtakes:
            recorded.update(dict.fromkeys(channels, 0))
        if outcome.overtaken and outcome.take is None:
            for channel in channels:
                cuts[outcome.overtaken][channel] += recorded[channel]
        if outcome.forgets:
            del cuts[outcome.forgets]

    def step(channel: str) -> None:
        kind, number = streams[channel].pop(0)
        if kind == "record":
            if channel in alignment.behind and alignment.overtaking:
                recorded[channel] += 1
            seen[channel] += 1
        elif kind == "barrier":
            learn(alignment.barrier(channel, barrier(number), 0))
        else:
            for outcome in alignment.ended(channel):
                learn(outcome)

    ordered = 0
    while any(streams.values()):
        draw = chance.random()
        if draw < 0.05:
            number = chance.randint(1, checkpoints)
            aborted.add(number)
            learn(alignment.aborted(number))
        elif draw < 0.2:
            ordered = min(checkpoints, max(ordered, chance.randint(1, checkpoints)))
            if all(("barrier", ordered) in whole[c] for c in channels):
                learn(alignment.unaligned(barrier(ordered), 0))
        else:
            step(chance.choice([c for c in channels if streams[c] and c not in alignment.blocked]))
    assert alignment.overtaking == 0
    for number, cut in cuts.items():
        for channel in channels:
            assert cut[channel] == _before(whole[channel], number), (channel, number)


def _stream(chance: random.Random, checkpoints: int) -> list[tuple[str, int]]:
    stream: list[tuple[str, int]] = []
    for number in range(1, checkpoints + 1):
        stream += [("record", 0)] * chance.randint(0, 3)
        stream.append(("barrier", number))
    cut = chance.randint(0, len(stream)) if chance.random() < 0.2 else len(stream)
    return [*stream[:cut], ("end", 0)]


def _before(stream: list[tuple[str, int]], number: int) -> int:
    """The records of a channel before a barrier, or before its end."""
    marker = ("barrier", number)
    end = stream.index(marker) if marker in stream else len(stream)
    return stream[:end].count(("record", 0))
