"""State files: what goes in comes out, by key group; a damaged one is told from a whole one."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import StateError
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot, group_snapshots
from zmflow.state.keys import key_group, key_group_range
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.state_file import StateFileReader, pickle_state


@dataclasses.dataclass
class Point:
    x: int
    y: int


def file_of(*operators: OperatorSnapshot) -> bytes:
    return b"".join(pickle_state(operators).parts())


def reader_of(data: bytes) -> StateFileReader:
    return StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "chk-1/x.state")


def everything(reader: StateFileReader, operator_id: str, groups: range = range(128)) -> list[KeyedChunk]:
    return reader.keyed(operator_id, groups, 128)


def test_chunks_come_back_as_they_went_in() -> None:
    """Plain values, instances, lists; with namespaces and without; operator state of every mode."""
    chunks = [
        KeyedChunk("count", "value", 3, 3, ["a", "b"], [1, 2]),
        KeyedChunk("points", "map", 4, 4, [("k", 1)], [{"p": Point(1, 2)}], [(0, 10)], timed=True),
        KeyedChunk("panes", "panes", 0, 127, [1, None], [[1], [2]], [0, 10], watermark_ms=-5),
    ]
    states = [
        OperatorStateSnapshot("offsets", OperatorStateMode.SPLIT, [range(3), range(5, 7)]),
        OperatorStateSnapshot("all", OperatorStateMode.UNION, ["x"]),
        OperatorStateSnapshot("rules", OperatorStateMode.BROADCAST, [("a", 1)]),
    ]
    reader = reader_of(
        file_of(OperatorSnapshot("o1", chunks, states), OperatorSnapshot("o2", [], states[:1]))
    )
    assert everything(reader, "o1") == chunks
    assert reader.operator("o1") == states
    assert reader.operator("o2") == states[:1]
    assert everything(reader, "o3") == []
    assert reader.operator("o3") == []


def test_empty_parts_are_left_out() -> None:
    """A state without entries makes no chunk, an operator without chunks no index."""
    empty = KeyedChunk("count", "value", 3, 3, [], [])
    state = pickle_state([OperatorSnapshot("o1", [empty], [])])
    assert state.empty
    assert reader_of(b"".join(state.parts())).operators == {}


def test_union_state_is_known_without_reading() -> None:
    """Whoever assigns files must know which of them everybody needs."""
    union = OperatorStateSnapshot("all", OperatorStateMode.UNION, [1])
    split = OperatorStateSnapshot("some", OperatorStateMode.SPLIT, [1])
    assert pickle_state([OperatorSnapshot("o", [], [union])]).has_union
    assert not pickle_state([OperatorSnapshot("o", [], [split])]).has_union


def test_what_happens_to_objects_afterwards_is_not_in_the_file() -> None:
    """State is pickled before the task goes on."""
    held = [1]
    pickled = pickle_state([OperatorSnapshot("o", [KeyedChunk("s", "list", 0, 0, ["k"], [held])], [])])
    held.append(2)
    assert everything(reader_of(b"".join(pickled.parts())), "o")[0].values == [[1]]


@pytest.mark.parametrize("parallelism", [1, 2, 3, 7])
def test_every_entry_is_read_by_one_subtask(parallelism: int) -> None:
    """Chunks of single groups and chunks of all groups, at any parallelism."""
    keys = [f"key-{number}" for number in range(500)]
    by_group = [
        KeyedChunk("s", "value", group, group, of_group, of_group)
        for group in range(128)
        if (of_group := [key for key in keys if key_group(key, 128) == group])
    ]
    coarse = KeyedChunk("reduce", "reduce", 0, 127, keys, keys)
    data = file_of(OperatorSnapshot("o", [*by_group, coarse], []))
    found: dict[str, list[str]] = {"s": [], "reduce": []}
    for subtask in range(parallelism):
        groups = key_group_range(subtask, 128, parallelism)
        for chunk in everything(reader_of(data), "o", groups):
            assert {key_group(key, 128) for key in chunk.keys} <= set(groups)
            found[chunk.name] += chunk.keys
    assert sorted(found["s"]) == sorted(found["reduce"]) == sorted(keys)


def test_chunks_of_many_groups_become_snapshots_of_each() -> None:
    """Another backend may have written them so."""
    keys = [f"key-{number}" for number in range(50)]
    chunk = KeyedChunk("s", "value", 0, 127, keys, list(range(50)))
    restored = {
        snapshot.group: snapshot.states[0].entries for snapshot in group_snapshots([chunk], range(128), 128)
    }
    assert sorted(entry for entries in restored.values() for entry in entries) == sorted(
        (key, None, number) for number, key in enumerate(keys)
    )
    assert all(key_group(key, 128) == group for group, entries in restored.items() for key, _, _ in entries)


def test_what_cannot_be_pickled_is_named() -> None:
    """The error says which state and which key."""
    chunk = KeyedChunk("callbacks", "value", 0, 0, ["good", "bad"], [1, lambda: 0])
    with pytest.raises(StateError, match=r"'callbacks' .* for the key 'bad'"):
        pickle_state([OperatorSnapshot("o", [chunk], [])])


def test_values_that_contain_themselves_are_written() -> None:
    """The fast way for plain values has no memo; tuples of scalars cannot contain themselves."""
    loop: list[Any] = []
    loop.append(loop)
    (chunk,) = everything(
        reader_of(file_of(OperatorSnapshot("o", [KeyedChunk("s", "value", 0, 0, ["k"], [loop])], []))), "o"
    )
    assert chunk.values[0][0] is chunk.values[0]


DATA = file_of(
    OperatorSnapshot(
        "o1",
        [KeyedChunk("count", "value", group, group, [f"k{group}"], ["v" * 300]) for group in range(20)],
        [OperatorStateSnapshot("offsets", OperatorStateMode.SPLIT, [1, 2, 3])],
    )
)


def read_all(data: bytes) -> None:
    reader = reader_of(data)
    for operator_id in reader.operators:
        everything(reader, operator_id)
        reader.operator(operator_id)


@settings(max_examples=300, deadline=None)
@given(at=st.integers(8, len(DATA) - 1), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(at: int, bit: int) -> None:
    """Wherever it is behind the first eight bytes, which nothing is read from."""
    damaged = bytearray(DATA)
    damaged[at] ^= 1 << bit
    with pytest.raises(StateError):
        read_all(bytes(damaged))


@pytest.mark.parametrize("size", [0, 1, 7, 20, len(DATA) // 2, len(DATA) - 1])
def test_a_truncated_file_is_found(size: int) -> None:
    """Wherever it was cut off."""
    with pytest.raises(StateError, match="damaged"):
        read_all(DATA[:size])


def test_random_bytes_are_no_state_file() -> None:
    """They are refused, and nothing is allocated from what they claim."""
    chance = random.Random(5)
    for _ in range(200):
        with pytest.raises(StateError):
            read_all(chance.randbytes(chance.randrange(0, 400)))


def test_another_version_is_told_apart() -> None:
    """A newer file is not called damaged."""
    newer = DATA[:-1] + b"\x03"
    with pytest.raises(StateError, match="another version"):
        read_all(newer)
