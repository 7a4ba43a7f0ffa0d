"""Declared types: what values become, and how they are printed.

Texts of scalars, tuples, lists and times are what PyFlink 2.3 prints.
"""

from __future__ import annotations

import dataclasses
import decimal
import math
import pickle
import struct
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmflow import PrintSink, Row, TypeInformation, Types
from zmflow.api.row import RowKind
from zmflow.api.time import Instant
from zmflow.api.typeinfo import coercer_for, render
from zmflow.api.typeinfo.java_numbers import double_text, float_text, to_float32
from zmflow.compat.pyflink.file_sinks import RowFormatFileSink

T = Types
PAIR = T.TUPLE([T.STRING(), T.INT()])
NAMED = T.ROW_NAMED(["word", "count"], [T.STRING(), T.INT()])
NULLABLE = [
    *(T.INT(), T.FLOAT(), T.DOUBLE(), T.BOOLEAN(), T.BIG_INT(), T.BIG_DEC(), T.SQL_DATE(), T.SQL_TIME()),
    *(T.SQL_TIMESTAMP(), PAIR, NAMED, T.LIST(T.INT()), T.MAP(T.INT(), T.INT())),
]


def at(*parts: int) -> datetime:
    """A point in time without a zone, as declared timestamps are."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)


def fit(value: Any, type_info: TypeInformation) -> Any:
    """The value made to fit a type."""
    coerce = coercer_for(type_info)
    return value if coerce is None else coerce(value)


@pytest.mark.parametrize(
    ("type_info", "value", "expected"),
    [
        (T.BYTE(), 200, -56),
        (T.SHORT(), 43878, -21658),
        (T.INT(), 9147483648, 557549056),
        (T.INT(), -(2**31), -(2**31)),
        (T.INT(), 2**31, -(2**31)),
        (T.INT(), 1.9, 1),
        (T.INT(), -1.9, -1),
        (T.INT(), True, 1),
        (T.LONG(), 2**63, -(2**63)),
        (T.BIG_INT(), 2**80, 2**80),
        (T.FLOAT(), 163.3, 163.3000030517578),
        (T.FLOAT(), 1e300, math.inf),
        (T.DOUBLE(), 3, 3.0),
        (T.BOOLEAN(), 1, True),
        (T.BIG_DEC(), 7, decimal.Decimal(7)),
        (T.SQL_DATE(), at(2021, 1, 9, 12), date(2021, 1, 9)),
        (T.SQL_TIME(), time(1, 2, 3, 4567), time(1, 2, 3, 4000)),
        (
            T.SQL_TIMESTAMP(),
            at(2018, 3, 11, 3, 0, 0, 123456),
            at(2018, 3, 11, 3, 0, 0, 123000),
        ),
        (PAIR, ["a", 2**31], ("a", -(2**31))),
        (PAIR, Row("a", 1), ("a", 1)),
        (PAIR, ("a", 1, "more"), ("a", 1)),
        (T.LIST(T.SHORT()), (1, 43878), [1, -21658]),
        (T.PRIMITIVE_ARRAY(T.BYTE()), bytearray(b"ab"), b"ab"),
        (T.BASIC_ARRAY(T.STRING()), ("x", None), ["x", None]),
        (T.MAP(T.STRING(), T.FLOAT()), {"a": 0.1}, {"a": to_float32(0.1)}),
        (NAMED, ("a", 1), Row(word="a", count=1)),
        (NAMED, {"count": 1, "word": "a"}, Row(word="a", count=1)),
        (NAMED, {"word": "a"}, Row(word="a", count=None)),
        (NAMED, Row(count=1, word="a"), Row(word="a", count=1)),
        (NAMED, Row("a", 1), Row(word="a", count=1)),
        (T.ROW([T.STRING(), T.INT()]), ("a", 1), Row(f0="a", f1=1)),
    ],
)
def test_values_are_made_to_fit(type_info: TypeInformation, value: Any, expected: Any) -> None:
    """Widths, containers and field names are those declared; the class of the result too."""
    got = fit(value, type_info)
    assert (got, type(got)) == (expected, type(expected))


def test_a_timestamp_with_a_zone_becomes_one_of_utc() -> None:
    """The point in time stays; the zone goes, as SQL's timestamps have none."""
    there = datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    assert fit(there, T.SQL_TIMESTAMP()) == at(2020, 1, 1, 10)


def test_the_attributes_of_an_object_become_a_row() -> None:
    """An object that is no tuple is read by field name."""

    @dataclasses.dataclass
    class Count:
        word: str
        count: int

    assert fit(Count("a", 1), NAMED) == Row(word="a", count=1)


@pytest.mark.parametrize("type_info", [None, T.STRING(), T.CHAR(), T.INSTANT(), T.PICKLED_BYTE_ARRAY()])
def test_where_nothing_changes_there_is_no_coercer(type_info: TypeInformation | None) -> None:
    """Undeclared values and texts cost nothing."""
    assert coercer_for(type_info) is None


@pytest.mark.parametrize("type_info", NULLABLE, ids=str)
def test_none_stays_none(type_info: TypeInformation) -> None:
    """A missing value is missing whatever is declared, and prints as null."""
    assert fit(None, type_info) is None
    assert render(None, type_info) == "null"


@pytest.mark.parametrize(
    ("type_info", "value"),
    [
        (T.INT(), "1"),
        (T.INT(), math.nan),
        (T.FLOAT(), "1.5"),
        (T.DOUBLE(), [1.0]),
        (T.BIG_INT(), "1"),
        (T.BIG_DEC(), 1.5),
        (T.SQL_DATE(), "2021-01-09"),
        (T.SQL_TIME(), 7),
        (T.SQL_TIMESTAMP(), date(2021, 1, 9)),
        (PAIR, "ab"),
        (PAIR, ("a",)),
        (NAMED, ("a",)),
        (NAMED, 7),
        (T.LIST(T.STRING()), "abc"),
        (T.LIST(T.STRING()), 7),
        (T.MAP(T.STRING(), T.INT()), [("a", 1)]),
    ],
)
def test_what_cannot_fit_is_refused(type_info: TypeInformation, value: Any) -> None:
    """The error names the type and shows the value."""
    with pytest.raises(TypeError, match="declared as") as caught:
        fit(value, type_info)
    assert type(value).__name__ in str(caught.value)


@pytest.mark.parametrize(
    ("type_info", "value", "text"),
    [
        (None, ("a", 1), "('a', 1)"),
        (None, None, "None"),
        (None, True, "True"),
        (T.PICKLED_BYTE_ARRAY(), ("a", None), "('a', None)"),
        (T.STRING(), "a", "a"),
        (T.CHAR(), "x", "x"),
        (T.INT(), 7, "7"),
        (T.BOOLEAN(), True, "true"),
        (T.FLOAT(), to_float32(163.3), "163.3"),
        (T.DOUBLE(), 163.3, "163.3"),
        (T.DOUBLE(), 3.0, "3.0"),
        (T.BIG_INT(), 2**80, str(2**80)),
        (T.BIG_DEC(), decimal.Decimal("1000000000000000000.05"), "1000000000000000000.05"),
        (T.BIG_DEC(), decimal.Decimal("1E+3"), "1E+3"),
        (T.SQL_DATE(), date(2021, 1, 9), "2021-01-09"),
        (T.SQL_TIME(), time(12, 0, 0, 123000), "12:00:00"),
        (T.SQL_TIMESTAMP(), at(2018, 3, 11, 3, 0, 0, 123000), "2018-03-11 03:00:00.123"),
        (T.SQL_TIMESTAMP(), at(2018, 3, 11, 3), "2018-03-11 03:00:00.0"),
        (T.INSTANT(), Instant.of_epoch_milli(1000), "1970-01-01T00:00:01Z"),
        (T.INSTANT(), Instant.of_epoch_milli(1500123), "1970-01-01T00:25:00.123Z"),
        (T.INSTANT(), Instant(0, 1000), "1970-01-01T00:00:00.000001Z"),
        (PAIR, ("a", 1), "(a,1)"),
        (PAIR, ("a", None), "(a,null)"),
        (T.LIST(T.INT()), [1, 2], "[1, 2]"),
        (T.MAP(T.STRING(), T.DOUBLE()), {"a": 1.0, "b": 2.5}, "{a=1.0, b=2.5}"),
        (
            T.TUPLE([T.PRIMITIVE_ARRAY(T.BYTE()), T.PRIMITIVE_ARRAY(T.FLOAT())]),
            (b"\x01\xff", [1.5, 2]),
            "([1, -1],[1.5, 2.0])",
        ),
        (T.ROW([T.STRING(), T.INT(), T.STRING()]), Row("a", 1, None), "+I[a, 1, null]"),
        (NAMED, Row.of_kind(RowKind.DELETE, word="a", count=1), "-D[a, 1]"),
        (
            T.ROW([T.ROW([T.BOOLEAN()]), PAIR, T.LIST(T.STRING())]),
            Row(Row(True), ("x", 2), ["y"]),
            "+I[+I[true], (x,2), [y]]",
        ),
    ],
)
def test_values_print_as_java_prints_them(type_info: TypeInformation | None, value: Any, text: str) -> None:
    """``render`` gives Java's text of a declared type, and Python's of an undeclared one."""
    assert render(value, type_info) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (0.001, "0.001"),
        (0.002, "0.002"),
        (9999999.0, "9999999.0"),
        (1e7, "1.0E7"),
        (1.5e-5, "1.5E-5"),
        (5e-324, "4.9E-324"),
        (1.7976931348623157e308, "1.7976931348623157E308"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
    ],
)
def test_doubles_are_written_as_java_writes_them(value: float, text: str) -> None:
    """Positional between a thousandth and ten million, else with an exponent."""
    assert double_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_double_reads_back(value: float) -> None:
    """No digit that matters is lost."""
    assert struct.pack("d", float(double_text(value))) == struct.pack("d", value)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_written_float_reads_back(value: float) -> None:
    """No digit that matters to 32 bits is lost, and no more than nine are written."""
    text = float_text(value)
    assert struct.pack("f", float(text)) == struct.pack("f", value)
    assert len(text.split("E")[0].strip("-").replace(".", "").strip("0")) <= 9


@given(st.integers(), st.sampled_from([(T.BYTE(), 8), (T.SHORT(), 16), (T.INT(), 32), (T.LONG(), 64)]))
def test_integers_keep_their_last_bits(value: int, width: tuple[TypeInformation, int]) -> None:
    """The result is in range and differs from the value by a multiple of the range."""
    type_info, bits = width
    got = fit(value, type_info)
    assert -(2 ** (bits - 1)) <= got < 2 ** (bits - 1)
    assert (got - value) % 2**bits == 0


def test_a_row_keeps_its_kind_where_it_goes() -> None:
    """Coercion and pickling carry the kind; rows of different kinds are not equal."""
    row = Row.of_kind(RowKind.UPDATE_AFTER, "a", 1)
    for copy in (fit(row, NAMED), pickle.loads(pickle.dumps(row))):
        assert copy.get_row_kind() is RowKind.UPDATE_AFTER
    assert row != Row("a", 1)
    assert [str(kind) for kind in RowKind] == ["+I", "-U", "+U", "-D"]


def test_a_row_type_knows_its_fields() -> None:
    """Names and types can be asked for, and unnamed fields have Flink's names."""
    assert (NAMED.get_field_names(), NAMED.get_field_types()) == (["word", "count"], [T.STRING(), T.INT()])
    assert T.ROW([T.INT(), T.INT()]).get_field_names() == ["f0", "f1"]
    assert (NAMED.get_field_index("count"), NAMED.get_field_index("nothing")) == (1, -1)


def test_sinks_that_write_text_learn_the_type_and_stay_what_they_are() -> None:
    """A typed copy is of the sink's own class and prints in Java's form; the sink itself is unchanged."""

    class OwnSink(PrintSink):
        pass

    plain = OwnSink("id")
    typed = plain.for_type(PAIR)
    assert (type(typed), typed.identifier, typed.type_info, plain.type_info) == (OwnSink, "id", PAIR, None)
    rows = pickle.loads(pickle.dumps(RowFormatFileSink("out").for_type(PAIR)))
    assert rows._create_encoder()([("a", 1)]) == b"(a,1)\n"
