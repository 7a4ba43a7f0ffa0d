"""Aggregates over every kind of record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import pytest

from zmflow.api.row import Row
from zmflow.errors import ConnectorError
from zmflow.execution.aggregates import combiner_for


class Point(NamedTuple):
    name: str
    x: int


@dataclass(frozen=True)
class Reading:
    name: str
    x: int


class Struct(msgspec.Struct, frozen=True):
    name: str
    x: int


@pytest.mark.parametrize(
    ("first", "second", "field", "expected"),
    [
        (("a", 1), ("b", 2), 1, ("a", 3)),
        (("a", 1), ("b", 2), -1, ("a", 3)),
        (["a", 1], ["b", 2], 1, ["a", 3]),
        (Point("a", 1), Point("b", 2), 1, Point("a", 3)),
        (Point("a", 1), Point("b", 2), "x", Point("a", 3)),
        (Reading("a", 1), Reading("b", 2), "x", Reading("a", 3)),
        (Struct("a", 1), Struct("b", 2), "x", Struct("a", 3)),
        ({"n": "a", "x": 1}, {"n": "b", "x": 2}, "x", {"n": "a", "x": 3}),
        (Row("a", 1), Row("b", 2), 1, Row("a", 3)),
        (1, 2, 0, 3),
        (1.5, 2, None, 3.5),
    ],
)
def test_sum_replaces_one_field(first: Any, second: Any, field: Any, expected: Any) -> None:
    """The sum is in the field, the rest is the first record's, and neither input has changed."""
    before = repr(first), repr(second)
    result = combiner_for("sum", field, first)(first, second)
    assert expected == result
    assert type(expected) is type(result)
    assert before == (repr(first), repr(second))


def test_a_tuple_of_another_arity_keeps_its_fields() -> None:
    """The fast path for tuples of one arity hands others to the general one."""
    combine = combiner_for("sum", 0, (1, "a"))
    assert combine((1, "a"), (2,)) == (3, "a")
    assert combine((1, "b", "c"), (2, "a")) == (3, "b", "c")


def test_a_missing_field_is_named() -> None:
    """The error names the field and shows the record."""
    with pytest.raises(ConnectorError, match="no field 'y'"):
        combiner_for("max", "y", {"x": 1})({"x": 1}, {"x": 2})
