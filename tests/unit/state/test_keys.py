"""Keys: equal keys have equal bytes, everywhere; key groups have exactly one owner."""

from __future__ import annotations

import datetime
import enum
import os
import subprocess
import sys
import uuid
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import ConnectorError
from zmflow.state.keys import (
    canonical_bytes,
    key_group,
    key_group_range,
    owner_of_group,
)


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Number(enum.IntEnum):
    ONE = 1


class Name(enum.StrEnum):
    A = "a"


class Pair(NamedTuple):
    a: int
    b: str


@dataclass(frozen=True)
class Place:
    city: str
    number: int


class Struct(msgspec.Struct, frozen=True):
    a: int


scalars = st.one_of(
    st.text(max_size=4),
    st.binary(max_size=4),
    st.integers(),
    st.booleans(),
    st.none(),
    st.floats(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.datetimes(timezones=st.just(datetime.UTC)),
    st.uuids(),
    st.timedeltas(),
    st.sampled_from([Colour.RED, Colour.BLUE, Number.ONE, Name.A, Pair(1, "a"), Place("x", 1), Struct(1)]),
)
keys = st.recursive(scalars, lambda inner: st.tuples(inner, inner), max_leaves=4)


@settings(max_examples=2000)
@given(keys, keys)
def test_bytes_are_equal_exactly_when_keys_are(one: Any, other: Any) -> None:
    """Python's equality decides what one key is."""
    assert (one == other) == (canonical_bytes(one) == canonical_bytes(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (2**60, float(2**60)),
        (Number.ONE, 1),
        (Name.A, "a"),
        (Pair(1, "a"), (1, "a")),
        ((1, (True,)), (1.0, (1,))),
        (
            datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC),
            datetime.datetime(2026, 1, 1, 14, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        ),
    ],
)
def test_equal_keys_of_different_types_are_one_key(one: Any, other: Any) -> None:
    """Whatever a dict would treat as one key has one key group."""
    assert one == other
    assert key_group(one, 32768) == key_group(other, 32768)


@pytest.mark.parametrize("key", [[1], {"a": 1}, {1}, object(), float("nan"), lambda: 1, (1, [2]), 1j])
def test_other_keys_are_refused_with_what_to_return(key: Any) -> None:
    """No stable bytes, no key: the error says what would do."""
    with pytest.raises(ConnectorError, match="key of type") as caught:
        canonical_bytes(key)
    assert "frozen dataclass" in str(caught.value)


def test_groups_are_the_same_in_every_process() -> None:
    """Neither PYTHONHASHSEED nor the process changes a key's group."""
    program = (
        "from zmflow.state.keys import key_group; import uuid;"
        "print([key_group(k, 32768) for k in ['a', b'a', 7, 1.5, None, (1, 'x'), uuid.UUID(int=5)]])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    expected = [key_group(k, 32768) for k in ["a", b"a", 7, 1.5, None, (1, "x"), uuid.UUID(int=5)]]
    assert {f"{expected}\n"} == outputs


def test_golden_groups() -> None:
    """A release that moved keys to other groups could not read older snapshots."""
    assert {key: key_group(key, 32768) for key in GOLDEN} == GOLDEN


GOLDEN = {"": 18580, "zmflow": 5385, 0: 6023, -1: 18011, None: 2078, (1, "a"): 548}


def test_owner_and_range_agree_for_every_parallelism() -> None:
    """The two formulas are inverse for all p <= max <= 130 and at the large end."""
    sizes = [(m, p) for m in range(1, 131) for p in range(1, m + 1)] + [
        (32768, p) for p in (1, 7, 1000, 32768)
    ]
    for maximum, parallelism in sizes:
        begin = 0
        for subtask in range(parallelism):
            groups = key_group_range(subtask, maximum, parallelism)
            assert groups.start == begin
            assert all(owner_of_group(g, maximum, parallelism) == subtask for g in (groups[0], groups[-1]))
            begin = groups.stop
        assert maximum == begin


def test_keys_spread_evenly() -> None:
    """Consecutive integers and short words fill 8 owners within a fifth of the mean."""
    for many in (range(8000), [f"user-{i}" for i in range(8000)]):
        counts = [0] * 8
        for key in many:
            counts[owner_of_group(key_group(key, 128), 128, 8)] += 1
        assert max(counts) < 1.2 * 1000
        assert min(counts) > 0.8 * 1000
