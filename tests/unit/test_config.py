"""Settings: where values come from, which win, and how wrong ones are refused."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from zmflow.config import OPTIONS, Option, Settings, load_settings
from zmflow.config.options import (
    BUFFER_TIMEOUT,
    HEARTBEAT_TIMEOUT,
    LOAD_BALANCE_MODE,
    OPERATOR_CHAINING,
    PARALLELISM_DEFAULT,
    SEGMENT_SIZE,
)
from zmflow.config.settings import SETTINGS_FILE_SIZE_MAX_BYTES
from zmflow.errors import ConfigurationError

QUIET = {"HOME": "/nonexistent"}


def written(path: Path, text: str) -> Path:
    """A settings file with this text."""
    file = path / "zmflow.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.mark.parametrize("option", OPTIONS.values(), ids=lambda option: option.key)
def test_each_option_is_complete(option: Option[object]) -> None:
    """Its default can be read, its meaning is a sentence, its variable is its own."""
    option.read(option.default_text, "default")
    assert re.fullmatch(r"[\s\S]+\.", option.doc)
    others = [
        other for other in OPTIONS.values() if other.environment_variable == option.environment_variable
    ]
    assert [option] == others


def test_later_places_win(tmp_path: Path) -> None:
    """Default, file, environment, -D: each beats the one before it, and says so."""
    file = written(tmp_path, '[heartbeat]\ntimeout = "1 s"\n')
    environment = {**QUIET, "ZMFLOW_HEARTBEAT_TIMEOUT": "2 s"}
    overrides = {"heartbeat.timeout": "3 s"}
    assert found(load_settings(environment=QUIET)) == (5000, "default")
    assert (1000, str(file)) == found(load_settings(environment=QUIET, file=file))
    assert found(load_settings(environment=environment, file=file)) == (
        2000,
        "environment ZMFLOW_HEARTBEAT_TIMEOUT",
    )
    assert found(load_settings(overrides, environment=environment, file=file)) == (3000, "-D")


def found(settings: Settings) -> tuple[int, str]:
    """The heartbeat timeout and where it comes from."""
    return settings[HEARTBEAT_TIMEOUT], settings.value_of(HEARTBEAT_TIMEOUT).where


def test_the_file_may_write_keys_as_tables_or_quoted(tmp_path: Path) -> None:
    """Both spellings of a dotted key mean the same setting."""
    tables = written(tmp_path, "[pipeline.operator-chaining]\nenabled = false\n")
    assert load_settings(environment=QUIET, file=tables)[OPERATOR_CHAINING] is False
    quoted = written(tmp_path, '"pipeline.operator-chaining.enabled" = false\n')
    assert load_settings(environment=QUIET, file=quoted)[OPERATOR_CHAINING] is False


def test_the_file_is_found_by_the_environment(tmp_path: Path) -> None:
    """ZMFLOW_CONFIG names the file; a name that leads nowhere is an error, not silence."""
    file = written(tmp_path, "[parallelism]\ndefault = 3\n")
    assert load_settings(environment={**QUIET, "ZMFLOW_CONFIG": str(file)})[PARALLELISM_DEFAULT] == 3
    with pytest.raises(ConfigurationError, match="ZMFLOW_CONFIG"):
        load_settings(environment={"ZMFLOW_CONFIG": str(tmp_path / "missing.toml")})


@pytest.mark.parametrize(
    ("option", "text", "value"),
    [
        (HEARTBEAT_TIMEOUT, "250ms", 250),
        (HEARTBEAT_TIMEOUT, " 2 Min ", 120_000),
        (HEARTBEAT_TIMEOUT, "7", 7),
        (BUFFER_TIMEOUT, "-1", -1),
        (SEGMENT_SIZE, "64 kb", 65536),
        (SEGMENT_SIZE, "1m", 2**20),
        (LOAD_BALANCE_MODE, "SLOTS", "slots"),
        (OPERATOR_CHAINING, "Off", False),
    ],
)
def test_values_are_read_with_their_units(option: Option[object], text: str, value: object) -> None:
    """Durations become milliseconds, sizes bytes, choices their canonical spelling."""
    assert value == Settings().with_values({option.key: text}, "-D")[option]


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("heartbeat.timeout", "soon", "whole number and a unit"),
        ("heartbeat.timeout", "5 parsecs", "whole number and a unit"),
        ("parallelism.default", "two", "invalid literal"),
        ("parallelism.default", "-3", "Allowed: 0 to 32768."),
        ("taskmanager.load-balance.mode", "random", "Allowed: slots, tasks, none."),
        ("pipeline.operator-chaining.enabled", "perhaps", "Allowed: true, false."),
    ],
)
def test_a_wrong_value_names_key_place_and_what_is_allowed(key: str, text: str, says: str) -> None:
    """The reader learns which setting, where it was set, what it may be and its default."""
    with pytest.raises(ConfigurationError) as caught:
        Settings().with_values({key: text}, "zmflow.toml")
    assert key in caught.value.message and text in caught.value.message
    assert "zmflow.toml" in str(caught.value.detail) and says in str(caught.value.detail)
    assert "Default" in str(caught.value.hint)


def test_an_unknown_key_is_refused_with_the_closest_one() -> None:
    """A slip of the finger is answered with the key that was meant."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings({"hartbeat.timeout": "1 s"}, environment=QUIET)
    assert "Did you mean heartbeat.timeout?" in str(caught.value.hint)


def test_an_unknown_variable_is_refused_with_the_closest_one() -> None:
    """Variables of ours that mean nothing are not ignored: they were meant to do something."""
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environment={**QUIET, "ZMFLOW_HEARTBEAT_TIMEOT": "1 s"})
    assert "ZMFLOW_HEARTBEAT_TIMEOUT" in str(caught.value.hint)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    """A file larger than any settings file is refused by its size."""
    file = written(tmp_path, "#" * (SETTINGS_FILE_SIZE_MAX_BYTES + 1))
    with pytest.raises(ConfigurationError, match="too large"):
        load_settings(environment=QUIET, file=file)


def test_what_was_set_travels_as_text() -> None:
    """Another process that is given the texts resolves the same values."""
    settings = Settings().with_values({"heartbeat.timeout": "2 s", "parallelism.default": "3"}, "-D")
    copy = Settings().with_values(settings.texts(), "job")
    assert [(o.key, settings[o]) for o, _ in settings] == [(o.key, copy[o]) for o, _ in copy]


_KEYS = st.sampled_from([*OPTIONS, "a", "heartbeat", "heartbeat.timeout.more"])
_VALUES = st.one_of(
    st.text(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from(["1979-05-27", "[1]", "{a = 1}", "0x" + "f" * 5000, "9" * 5000, "inf", "5 s"]),
)


def as_line(key: str, value: object, quoted: bool) -> str:
    """A line of a settings file, well formed or nearly so."""
    if isinstance(value, str) and quoted:
        value = json.dumps(value)
    return f'"{key}" = {value}' if quoted else f"{key} = {value}"


_LINES = st.lists(st.builds(as_line, _KEYS, _VALUES, st.booleans())).map("\n".join)


@given(text=st.one_of(_LINES, st.text(), st.text(alphabet=string.punctuation + "a1\n ")))
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_text_of_a_file_raises_anything_but_configuration_errors(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever stands in the file, the reader gets a sentence about it."""
    file = tmp_path_factory.getbasetemp() / "fuzzed.toml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load_settings(environment=QUIET, file=file)
    except ConfigurationError as error:
        assert error.message


@given(
    values=st.dictionaries(
        st.one_of(
            st.sampled_from([option.environment_variable for option in OPTIONS.values()]),
            st.text(string.ascii_uppercase + "_").map(lambda name: "ZMFLOW_" + name),
        ),
        st.one_of(st.text(), st.integers().map(str), st.just("9" * 5000)),
        max_size=4,
    )
)
@hypothesis_settings(max_examples=200, deadline=None)
def test_no_environment_raises_anything_but_configuration_errors(values: dict[str, str]) -> None:
    """Whatever stands in the environment, the reader gets a sentence about it."""
    try:
        load_settings(environment={**QUIET, **values})
    except ConfigurationError as error:
        assert error.message


@pytest.mark.parametrize("number", ["0x" + "f" * 5000, "9" * 5000], ids=["hexadecimal", "decimal"])
def test_a_number_too_long_to_print_is_refused(tmp_path: Path, number: str) -> None:
    """Python refuses to convert very long numbers; that refusal is a configuration error too."""
    with pytest.raises(ConfigurationError):
        load_settings(environment=QUIET, file=written(tmp_path, f"[parallelism]\ndefault = {number}\n"))
