"""Entries as bytes: the same objects come back, of the same types, and what may be shared stays shared."""

from __future__ import annotations

import enum
import pickle
from typing import Any

import lz4.block
import msgspec
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from zmflow.errors import StateError
from zmflow.state.chunks import BLOCK_ENTRIES, KeyedChunk, OperatorSnapshot
from zmflow.state.pickled_chunks import (
    CHUNK_ENTRIES,
    CHUNK_SIZE_BYTES,
    GrowingChunks,
    PickledChunk,
    pickled_chunks,
    unpickled_columns,
)
from zmflow.state.state_file import StateFileReader, pickle_state


class Text(str):
    __slots__ = ()


class Colour(enum.IntEnum):
    RED = 1


class Hostile:
    """Has a hash that fails, and can be pickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hostile) and other.name == self.name

    def __hash__(self) -> int:
        raise RuntimeError("no hash")


def restored(chunks: list[PickledChunk]) -> list[tuple[Any, Any, Any]]:
    """Key, namespace and value of all entries, as they are after compressing and back."""
    entries: list[tuple[Any, Any, Any]] = []
    for chunk in chunks:
        parts = []
        for part in (chunk.keys, chunk.values):
            stored = part.stored()
            same = len(stored) == part.raw_bytes
            parts.append(stored if same else lz4.block.decompress(stored, uncompressed_size=part.raw_bytes))
        keys, namespaces, values = unpickled_columns(parts[0], parts[1])
        assert len(keys) == len(values) == chunk.entries
        entries += zip(keys, namespaces or [None] * len(keys), values, strict=True)
    return entries


def shape(value: Any) -> Any:
    """What makes two values the same: their types, too, and -0.0 is not 0.0, and nan is nan."""
    if isinstance(value, (tuple, list)):
        return type(value), [shape(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return type(value), sorted(map(repr, value))
    if isinstance(value, dict):
        return type(value), [(shape(key), shape(item)) for key, item in value.items()]
    return type(value), repr(value)


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.just(2**70),
    st.floats(),
    st.text(st.characters(exclude_categories=())),
    st.binary(max_size=20),
    st.just(Text("text")),
    st.just(Colour.RED),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.text(max_size=3), inner, max_size=3),
        st.frozensets(scalars, max_size=3),
        st.binary(max_size=3).map(bytearray),
    ),
    max_leaves=6,
)


@given(columns=st.lists(st.tuples(st.text(), values), min_size=1, max_size=20), timed=st.booleans())
def test_every_value_comes_back_as_it_was(columns: list[tuple[str, Any]], timed: bool) -> None:
    """Of its type and no other: subclasses, numbers beyond 64 bits, halves of surrogate pairs, bools, nan."""
    keys = [key for key, _ in columns]
    held = [value for _, value in columns]
    chunk = KeyedChunk("s", "value", 3, 3, keys, held, [7] * len(keys) if timed else None, timed)
    found = restored(list(pickled_chunks([chunk])))
    assert [(shape(key), namespace, shape(value)) for key, namespace, value in found] == [
        (shape(key), 7 if timed else None, shape(value)) for key, value in columns
    ]


@pytest.mark.parametrize("first", [0, "plain", (1, 2)])
@pytest.mark.parametrize("kind", [list, bytearray, set, dict])
def test_what_can_change_is_one_object_again(first: object, kind: type) -> None:
    """Wherever it is: after a value that is plain, inside a tuple, and where two keys share it."""
    shared = kind()
    chunk = KeyedChunk("s", "value", 3, 3, ["a", "b", "c"], [first, shared, (shared, 1)])
    (_, _, plain), (_, _, one), (_, _, (other, _)) = restored(list(pickled_chunks([chunk])))
    assert plain == first
    assert type(one) is kind
    assert one is other


def test_a_hash_that_fails_keeps_nothing_from_being_written() -> None:
    """Values need no hash; they are only asked for it."""
    held = [1, (Hostile("x"),)]
    found = restored(list(pickled_chunks([KeyedChunk("s", "value", 3, 3, ["a", "b"], held)])))
    assert [value for _, _, value in found] == held


def test_chunks_are_put_together_and_cut() -> None:
    """Many entries are cut into blocks and pieces, chunks of one state are put together, others are not."""
    keys = list(range(3 * BLOCK_ENTRIES + 5))
    text = "x" * (CHUNK_SIZE_BYTES // BLOCK_ENTRIES // 2)
    large = KeyedChunk("s", "value", 3, 3, keys, [f"{key}{text}" for key in keys])
    small = [KeyedChunk("t", "value", group, group, [group], [group]) for group in (4, 4, 5)]
    chunks = list(pickled_chunks([large, KeyedChunk("u", "value", 9, 9, [], []), *small]))
    assert [(chunk.of.name, chunk.of.first_group, chunk.entries) for chunk in chunks] == [
        ("s", 3, 2 * BLOCK_ENTRIES),
        ("s", 3, BLOCK_ENTRIES + 5),
        ("t", 4, 2),
        ("t", 5, 1),
    ]
    assert [key for key, _, _ in restored(chunks)] == [*keys, 4, 4, 5]


def test_a_dict_that_grows_is_written_as_it_is_each_time() -> None:
    """Values that change, keys that come; what keys are known to be is not pickled again."""
    held: dict[str, Any] = {}
    growing = GrowingChunks(KeyedChunk("reduce", "reduce", 0, 127, [], []), held)
    assert list(growing.pickled()) == []
    whole: list[PickledChunk] = []
    for size in (10, CHUNK_ENTRIES + 5, CHUNK_ENTRIES + 5, 3 * CHUNK_ENTRIES):
        held.update((f"k{number}", (f"k{number}", size)) for number in range(size))
        held["k3"] = ["not plain", size]
        before, whole = whole, list(growing.pickled())
        assert {key: value for key, _, value in restored(whole)} == held
        assert [key for key, _, _ in restored(whole)] == list(held)
        for old, new in zip(before, whole, strict=False):
            if old.entries == CHUNK_ENTRIES:
                assert new.keys is old.keys


def test_a_snapshot_that_was_given_up_halfway_leaves_nothing_behind() -> None:
    """The next one is whole."""
    held = {number: number for number in range(3 * CHUNK_ENTRIES)}
    growing = GrowingChunks(KeyedChunk("reduce", "reduce", 0, 127, [], []), held)
    for _ in zip(range(2), growing.pickled(), strict=False):
        pass
    assert {key: value for key, _, value in restored(list(growing.pickled()))} == held


def test_the_key_of_what_cannot_be_pickled_is_named() -> None:
    """Also of a dict that grows, whose keys are not at hand."""
    held: dict[str, Any] = {f"k{number}": number for number in range(CHUNK_ENTRIES + 3)}
    held["bad"] = lambda: 0
    growing = GrowingChunks(KeyedChunk("reduce", "reduce", 0, 127, [], []), held)
    with pytest.raises(StateError, match=r"'reduce' .* for the key 'bad'"):
        list(growing.pickled())


def test_files_of_version_1_are_read() -> None:
    """One pickle of all columns, and an index that says nothing of keys; and they are copied as they are."""
    columns = (["a", "b"] * 200, None, [1, 2] * 200)
    raw = pickle.dumps(columns, protocol=5)
    stored = lz4.block.compress(raw, store_size=False)
    checksum = xxhash.xxh64_intdigest(stored)
    entry = ["s", "value", 3, 3, 400, False, False, 8, len(stored), len(raw), checksum, None]
    index = msgspec.msgpack.encode([[["o", [entry]]]])
    magic = b"ZMFLSTA\x01"
    where = (8 + len(stored)).to_bytes(8, "little") + len(index).to_bytes(4, "little")
    footer = where + xxhash.xxh64_intdigest(index).to_bytes(8, "little") + magic
    data = magic + stored + index + footer
    expected = KeyedChunk("s", "value", 3, 3, columns[0], columns[2])
    old = StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "x")
    assert old.keyed("o", range(128), 128) == [expected]
    more = pickle_state([OperatorSnapshot("o", [expected], [])])
    copy = b"".join(old.copied().with_more(more).parts())
    new = StateFileReader(lambda offset, size: copy[offset : offset + size], len(copy), "x")
    assert new.keyed("o", range(128), 128) == [expected, expected]
