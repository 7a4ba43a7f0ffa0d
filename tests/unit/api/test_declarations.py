"""Row, Types and Configuration."""

from __future__ import annotations

import copy
import pickle

import pytest

from zmflow import Configuration, Row, Types
from zmflow.errors import ConfigurationError, JobGraphError


def test_rows_by_position_name_and_attribute() -> None:
    """Fields are reached three ways; positions also by slices."""
    row = Row(word="a", count=2)
    assert (row[0], row["count"], row.word, row[:], len(row), list(row)) == (
        "a",
        2,
        "a",
        ["a", 2],
        2,
        ["a", 2],
    )
    assert row.get_fields_by_names(["count", "word"]) == [2, "a"]
    assert row.field_names == ("word", "count")
    assert 2 in row
    row.count = 3
    row["word"] = "b"
    row[1] += 1
    assert row == Row(word="b", count=4)


def test_rows_without_names() -> None:
    """Values alone make a row; it has no dict and no attributes."""
    row = Row(1, "a")
    assert (row[1], repr(row), repr(Row(a=1))) == ("a", "<Row(1, 'a')>", "Row(a=1)")
    with pytest.raises(TypeError, match="without field names"):
        row.as_dict()
    with pytest.raises(AttributeError, match="no field 'a'"):
        _ = row.a
    with pytest.raises(AttributeError, match="no field 'a'"):
        row.a = 1
    with pytest.raises(KeyError):
        _ = row["a"]
    row.set_field_names(["n", "t"])
    assert row == Row(n=1, t="a")
    for names in (["n"], ["n", "n"]):
        with pytest.raises(ValueError, match="cannot be named"):
            row.set_field_names(names)
    with pytest.raises(ValueError, match="not both"):
        Row(1, a=2)


def test_rows_compare_hash_copy_and_pickle() -> None:
    """Equal rows have equal hashes; names count for equality; copies are independent."""
    row = Row(a=1, b=(2, 3))
    assert hash(row) == hash(Row(a=1, b=(2, 3)))
    assert row != Row(1, (2, 3))
    assert row != (1, (2, 3))
    for clone in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
        assert clone == row
        clone.a = 9
        assert row.a == 1


def test_rows_become_dicts() -> None:
    """as_dict leaves inner rows alone unless asked to go on."""
    row = Row(a=Row(b=1), c=[Row(d=2)], e={"f": Row(g=3)})
    assert row.as_dict()["a"] == Row(b=1)
    assert row.as_dict(True) == {"a": {"b": 1}, "c": [{"d": 2}], "e": {"f": {"g": 3}}}


def test_a_row_of_names_makes_rows() -> None:
    """Row("name", "age") is a factory of named rows."""
    person = Row("name", "age")
    assert person("Ada", 36) == Row(name="Ada", age=36)


def test_types_describe_themselves() -> None:
    """Declarations compare and print as what they are."""
    pair = Types.TUPLE([Types.STRING(), Types.LONG()])
    assert str(Types.MAP(Types.STRING(), Types.LIST(pair))) == "MAP(STRING, LIST(TUPLE(STRING, LONG)))"
    assert Types.ROW_NAMED(["a"], [Types.INT()]) == Types.ROW_NAMED(["a"], [Types.INT()])
    assert Types.ROW([Types.INT()]) != Types.ROW_NAMED(["a"], [Types.INT()])
    with pytest.raises(JobGraphError, match="1 field names and 2 field types"):
        Types.ROW_NAMED(["a"], [Types.INT(), Types.INT()])
    arrays = [Types.PRIMITIVE_ARRAY, Types.BASIC_ARRAY, Types.OBJECT_ARRAY]
    assert [str(array(Types.INT())) for array in arrays] == [
        "PRIMITIVE_ARRAY(INT)",
        "BASIC_ARRAY(INT)",
        "OBJECT_ARRAY(INT)",
    ]


def test_configuration_is_typed() -> None:
    """Getters give the type they say; what is not set is the caller's default."""
    configuration = (
        Configuration()
        .set_integer("parallelism.default", 4)
        .set_boolean("pipeline.operator-chaining.enabled", False)
        .set_string("heartbeat.timeout", "2 s")
    )
    assert configuration.get_integer("parallelism.default", 1) == 4
    assert configuration.get_integer("heartbeat.timeout", 1) == 2000
    assert configuration.get_integer("heartbeat.interval", 7) == 7
    assert configuration.get_boolean("pipeline.operator-chaining.enabled", True) is False
    assert configuration.get_string("heartbeat.timeout", "") == "2 s"
    for wrong in (
        lambda: configuration.get_boolean("parallelism.default", True),
        lambda: configuration.get_integer("pipeline.operator-chaining.enabled", 1),
        lambda: configuration.set_string("parallelism.default", "many"),
        lambda: configuration.set_string("parallelism.defalt", "1"),
        lambda: configuration.get_string("nothing.like.it", ""),
    ):
        with pytest.raises(ConfigurationError):
            wrong()


def test_configuration_is_a_mapping() -> None:
    """Keys can be listed, removed, merged and turned into a dict and back."""
    one = Configuration.from_dict({"parallelism.default": "1", "pipeline.name": "a"})
    two = Configuration(one)
    assert two == one
    assert two.remove_config("pipeline.name")
    assert not two.remove_config("pipeline.name")
    assert (two.key_set(), two.contains_key("pipeline.name")) == ({"parallelism.default"}, False)
    two.add_all(Configuration.from_dict({"pipeline.name": "b"}))
    assert two.to_dict() == {"parallelism.default": "1", "pipeline.name": "b"}
    assert "pipeline.name" in repr(two)
