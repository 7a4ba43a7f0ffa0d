"""Result writers: which channel gets which row, and when frames leave."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.api.operators import KeyedAggregateOperator
from zmflow.errors import ConnectorError
from zmflow.execution.output import BATCH_ROWS_MAX, COMBINED_KEYS_MAX, ResultWriter, writer_for
from zmflow.graph.partitioners import (
    BroadcastPartitioner,
    CustomPartitioner,
    ForwardPartitioner,
    GlobalPartitioner,
    HashPartitioner,
    Partitioner,
    RebalancePartitioner,
    RescalePartitioner,
    ShufflePartitioner,
)
from zmflow.state.keys import key_group, owner_of_group


class Channel:
    def __init__(self, bytes_per_row: int = 0) -> None:
        self.frames: list[Sequence[Any]] = []
        self.bytes_per_row = bytes_per_row

    def send(self, rows: Sequence[Any]) -> int:
        assert rows
        self.frames.append(rows)
        return self.bytes_per_row * len(rows)

    @property
    def rows(self) -> list[Any]:
        return [row for frame in self.frames for row in frame]


def writer(
    partitioner: Partitioner, channels: list[Channel], first: int = 0, frame_size_bytes: int = 1024
) -> ResultWriter:
    chance = random.Random(7)
    return writer_for(
        partitioner,
        channels,
        frame_size_bytes=frame_size_bytes,
        max_parallelism=128,
        choose=lambda items, count: chance.choices(items, k=count),
        first=first,
    )


def spread(partitioner: Partitioner, rows: list[Any], channels: int = 3, first: int = 0) -> list[list[Any]]:
    ends = [Channel() for _ in range(channels)]
    to = writer(partitioner, ends, first)
    for begin in range(0, len(rows), 5):
        to.emit(rows[begin : begin + 5])
    to.flush()
    assert not to.pending
    assert len(rows) == to.records_out
    return [end.rows for end in ends]


def test_forward_and_global_use_the_first_channel() -> None:
    """One consumer, in order."""
    rows = list(range(20))
    assert [rows] == spread(ForwardPartitioner(), rows, channels=1)
    assert [rows, [], []] == spread(GlobalPartitioner(), rows)


@pytest.mark.parametrize("partitioner", [RebalancePartitioner(), RescalePartitioner()])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_round_robin_takes_each_channel_in_turn(partitioner: Partitioner, first: int) -> None:
    """Row i goes to channel (first + i) mod n, over the borders of batches."""
    rows = list(range(22))
    expected = [[r for r in rows if (first + r) % 3 == channel] for channel in range(3)]
    assert expected == spread(partitioner, rows, first=first)


def test_broadcast_copies_and_shuffle_loses_nothing() -> None:
    """Broadcast gives all to all; shuffle gives each row to one."""
    rows = list(range(50))
    assert [rows] * 3 == spread(BroadcastPartitioner(), rows)
    shuffled = spread(ShufflePartitioner(), rows)
    assert Counter(rows) == Counter(row for channel in shuffled for row in channel)
    assert all(shuffled)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.one_of(st.text(max_size=3), st.integers(-5, 5), st.booleans(), st.none())), st.integers(1, 9)
)
def test_a_key_always_goes_to_the_owner_of_its_group(keys: list[Any], channels: int) -> None:
    """Hash partitioning is the owner of the key's group, learnt or looked up."""
    rows = [(key, i) for i, key in enumerate(keys)]
    parts = spread(HashPartitioner(lambda row: row[0]), rows, channels)
    for channel, part in enumerate(parts):
        assert all(owner_of_group(key_group(k, 128), 128, channels) == channel for k, _ in part)
        assert sorted(part, key=lambda row: row[1]) == part, "order within a channel is kept"
    assert len(rows) == sum(map(len, parts))


def test_an_unhashable_key_is_refused_with_what_to_return() -> None:
    """A list as a key is named, with the remedy."""
    to = writer(HashPartitioner(lambda row: [row]), [Channel(), Channel()])
    with pytest.raises(ConnectorError, match="list, which is not hashable") as caught:
        to.emit([1])
    assert "tuple" in str(caught.value)


def test_an_error_inside_a_key_selector_stays_the_users_own() -> None:
    """A TypeError of user code is not taken for an unhashable key."""
    to = writer(HashPartitioner(lambda row: row + "x"), [Channel(), Channel()])
    with pytest.raises(TypeError, match="unsupported operand"):
        to.emit([1])


def test_custom_partitioners_choose_and_are_checked() -> None:
    """The user's function of (key, n) decides; a number out of range is refused."""
    evens = CustomPartitioner(lambda key, n: key % n, lambda row: row)
    assert spread(evens, [0, 1, 2, 3, 4]) == [[0, 3], [1, 4], [2]]
    with pytest.raises(ConnectorError, match="returned 3 where 3 partitions exist"):
        spread(CustomPartitioner(lambda key, n: n, lambda row: row), [1])


def test_frames_close_on_size() -> None:
    """After the first frame the number of rows per frame follows their encoded size."""
    end = Channel(bytes_per_row=100)
    to = writer(ForwardPartitioner(), [end], frame_size_bytes=1000)
    for i in range(2000):
        to.emit([i])
    sizes = {len(frame) for frame in end.frames[1:]}
    assert {10} == sizes
    assert end.rows == list(range(len(end.rows)))


def test_a_flood_leaves_in_frames_of_the_right_size() -> None:
    """A batch much larger than a frame is cut; nothing is sent as one huge frame."""
    end = Channel(bytes_per_row=100)
    to = writer(ForwardPartitioner(), [end], frame_size_bytes=1000)
    to.emit(list(range(1000)))
    to.emit(list(range(1000)))
    assert len(end.rows) == 2000
    assert max(len(frame) for frame in end.frames[1:]) <= 256
    assert all(len(frame) <= BATCH_ROWS_MAX for frame in end.frames)


def test_rows_given_to_a_channel_are_not_changed_later() -> None:
    """A batch handed over by reference is not the list the writer gathers in."""
    end = Channel()
    to = writer(ForwardPartitioner(), [end])
    to.emit([1])
    to.flush()
    first = end.frames[0]
    to.emit([2])
    to.flush()
    assert list(first) == [1]


def summed() -> HashPartitioner:
    """Partitioning by the first field, with the sum of the second applied before the exchange."""
    aggregate = KeyedAggregateOperator(lambda row: row[0], "sum", 1, True)
    return HashPartitioner(aggregate.key_selector, aggregate)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(-9, 9)), max_size=60))
def test_combining_before_the_exchange_changes_no_total(rows: list[tuple[str, int]]) -> None:
    """Each key leaves once, with its sum, on the channel it would have taken."""
    ends = [Channel() for _ in range(3)]
    to = writer(summed(), ends)
    for begin in range(0, len(rows), 7):
        to.emit(rows[begin : begin + 7])
    to.flush()
    assert not any(end.rows for end in ends), "a timer does not break up what is being summed"
    to.finish()
    expected: Counter[str] = Counter()
    for key, number in rows:
        expected[key] += number
    sent = [row for end in ends for row in end.rows]
    assert len(sent) == len({key for key, _ in sent})
    assert dict(sent) == {key: (key, expected[key]) for key in dict(rows)}
    for channel, end in enumerate(ends):
        assert all(owner_of_group(key_group(key, 128), 128, 3) == channel for key, _ in end.rows)


def test_combining_keeps_the_key_of_the_parts() -> None:
    """The sum of numbers keyed by a remainder has another remainder; it leaves under the old one."""
    aggregate = KeyedAggregateOperator(lambda n: n % 3, "sum", None, True)
    end = Channel()
    to = writer(HashPartitioner(aggregate.key_selector, aggregate), [end])
    to.emit([1, 2, 4, 5, 7])
    to.finish()
    assert end.rows == [(1, 12), (2, 7)]


def test_combining_is_bounded_and_stops_where_it_does_not_pay() -> None:
    """Keys that never repeat leave when enough have gathered, and later ones pass straight through."""
    ends = [Channel()]
    to = writer(summed(), ends)
    rows = [(f"key {i}", 1) for i in range(COMBINED_KEYS_MAX + 10)]
    to.emit(rows)
    assert to.records_out == len(rows)
    to.emit([("a", 1), ("a", 1)])
    to.finish()
    assert ends[0].rows == [(row[0], row) for row in [*rows, ("a", 1), ("a", 1)]]


def test_combining_refuses_what_the_exchange_would_refuse() -> None:
    """A list as a key is named as without combining."""
    aggregate = KeyedAggregateOperator(lambda row: [row], "sum", None, True)
    to = writer(HashPartitioner(aggregate.key_selector, aggregate), [Channel()])
    with pytest.raises(ConnectorError, match="list, which is not hashable"):
        to.emit([1])
