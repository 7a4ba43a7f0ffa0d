"""Resolved settings: where each value comes from.

Order, later wins: default, settings file (``zmflow.toml``), environment (``ZMFLOW_...``), ``-D key=value``
on the command line, what the program sets on its ``Configuration``. Keys are Flink's where Flink has the
setting; anything else is refused with the closest known key.

The settings file is TOML with the same dotted keys, as tables or quoted. It is looked for in
``$ZMFLOW_CONFIG``, ``./zmflow.toml``, ``~/.config/zmflow/zmflow.toml`` and ``/etc/zmflow/zmflow.toml``; the
first that exists is the one that counts. The environment variable of a key is ``ZMFLOW_`` and the key in
capitals with ``_`` for dots and dashes: ``ZMFLOW_HEARTBEAT_TIMEOUT="2 s"``.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from zmflow.config.option import Option
from zmflow.config.options import OPTIONS, option_for
from zmflow.errors import ConfigurationError

__all__ = ["SettingValue", "Settings", "load_settings"]

T = TypeVar("T")

SETTINGS_FILE_SIZE_MAX_BYTES = 1 << 20
"""A settings file of every key is some 10 KiB; a larger file than this is not a settings file."""


@dataclass(frozen=True, slots=True)
class SettingValue:
    """The text of a setting and the place it came from."""

    text: str
    where: str


class Settings:
    """Resolved settings: typed values by option, texts by key, and where each came from.

    >>> from zmflow.config.options import HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT
    >>> settings = Settings().with_values({"heartbeat.timeout": "2 s"}, "-D")
    >>> settings[HEARTBEAT_TIMEOUT], settings[HEARTBEAT_INTERVAL]
    (2000, 1000)
    """

    def __init__(self, values: Mapping[str, SettingValue] | None = None) -> None:
        self._values: dict[str, SettingValue] = dict(values or {})
        self._parsed: dict[str, Any] = {}

    def __getitem__(self, option: Option[T]) -> T:
        if option.key not in self._parsed:
            value = self.value_of(option)
            self._parsed[option.key] = option.read(value.text, value.where)
        parsed: T = self._parsed[option.key]
        return parsed

    def value_of(self, option: Option[Any]) -> SettingValue:
        """The text and origin of an option; its default when nothing set it."""
        return self._values.get(option.key) or SettingValue(option.default_text, "default")

    def is_set(self, option: Option[Any]) -> bool:
        """Whether anything but the default decides this option."""
        return option.key in self._values

    def with_values(self, values: Mapping[str, str], where: str) -> Settings:
        """These settings under the given ones. Unknown keys and wrong values are refused."""
        merged = dict(self._values)
        for key, text in values.items():
            option_for(key, where).read(text, where)
            merged[key] = SettingValue(text, where)
        return Settings(merged)

    def texts(self) -> dict[str, str]:
        """What was set, as text by key: what travels to other processes."""
        return {key: value.text for key, value in sorted(self._values.items())}

    def __iter__(self) -> Iterator[tuple[Option[Any], SettingValue]]:
        """Every option with its value, defaults included."""
        return iter([(option, self.value_of(option)) for option in OPTIONS.values()])


def _flatten(table: Mapping[str, Any], prefix: str, where: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{key}.", where)
        elif isinstance(value, bool):
            yield key, "true" if value else "false"
        elif isinstance(value, (str, int)):
            yield key, str(value)
        else:
            raise ConfigurationError(
                f"The setting {key} has a value of type {type(value).__name__}.",
                detail=f"From {where}.",
                hint="Settings are text, whole numbers or true and false.",
            )


def _settings_file(environment: Mapping[str, str]) -> Path | None:
    named = environment.get("ZMFLOW_CONFIG")
    if named:
        if not Path(named).is_file():
            raise ConfigurationError("The settings file named by ZMFLOW_CONFIG does not exist.", detail=named)
        return Path(named)
    places = [
        Path("zmflow.toml"),
        Path(environment.get("HOME", "/")) / ".config/zmflow/zmflow.toml",
        Path("/etc/zmflow/zmflow.toml"),
    ]
    return next((place for place in places if place.is_file()), None)


def read_settings_file(path: Path) -> dict[str, str]:
    """Keys and texts of a settings file.

    Raises:
        ConfigurationError: too large, unreadable, not TOML, or a value of a wrong type.
    """
    try:
        if path.stat().st_size > SETTINGS_FILE_SIZE_MAX_BYTES:
            raise ConfigurationError(
                "The settings file is too large to be one.",
                detail=f"{path}: {path.stat().st_size} bytes.",
            )
        return dict(_flatten(tomllib.loads(path.read_text(encoding="utf-8")), "", str(path)))
    except (OSError, ValueError, RecursionError) as error:
        # ValueError: not UTF-8, not TOML, or a number of more digits than Python converts.
        raise ConfigurationError("The settings file cannot be read.", detail=f"{path}: {error}") from None


_NOT_SETTINGS = frozenset({"ZMFLOW_CONFIG"})


def load_settings(
    overrides: Mapping[str, str] | None = None,
    *,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """The settings of this process: defaults, file, environment, then ``overrides`` (``-D``).

    Raises:
        ConfigurationError: an unknown key or a wrong value, with the place it came from.
    """
    environment = os.environ if environment is None else environment
    settings = Settings()
    path = file or _settings_file(environment)
    if path is not None:
        settings = settings.with_values(read_settings_file(path), str(path))
    by_variable = {option.environment_variable: option.key for option in OPTIONS.values()}
    for variable in sorted(environment):
        if not variable.startswith("ZMFLOW_") or variable in _NOT_SETTINGS:
            continue
        if variable not in by_variable:
            close = difflib.get_close_matches(variable, by_variable, n=1, cutoff=0.5)
            raise ConfigurationError(
                f"The environment variable {variable} is not a setting.",
                hint=f"Did you mean {close[0]}?" if close else "'zmflow config' lists every setting.",
            )
        settings = settings.with_values(
            {by_variable[variable]: environment[variable]}, f"environment {variable}"
        )
    return settings.with_values(overrides or {}, "-D")
