"""What ``get_config()`` and ``get_checkpoint_config()`` read and write: settings by Flink's keys."""

from __future__ import annotations

from typing import Any, Protocol

from zmflow.api.notices import notice_once
from zmflow.config import OPTIONS, Option, Settings
from zmflow.config.option import boolean, duration, integer, text

__all__ = ["ProgramSettings", "SettingsHolder"]


class SettingsHolder(Protocol):
    """The environment whose settings a program reads and writes."""

    _settings: Settings
    _kept: dict[str, str]
    """Texts of keys that Flink has and zmflow does not."""


class ProgramSettings:
    """A view of an environment's settings. What it sets, later jobs of the environment have.

    A key that zmflow has no setting for is kept; setting it says once that it has no effect.
    """

    def __init__(self, environment: SettingsHolder) -> None:
        self._environment = environment

    def _set(self, key: str, value: str) -> None:
        if key in OPTIONS:
            settings = self._environment._settings
            self._environment._settings = settings.with_values({key: value}, "the program")
        else:
            notice_once(f"setting {key}", f"zmflow has no {key} yet: the call is accepted and has no effect.")
            self._environment._kept[key] = value

    def _boolean(self, key: str, default: bool) -> bool:
        return bool(self._read(boolean(key, "true" if default else "false", "")))

    def _integer(self, key: str, default: int) -> int:
        return int(self._read(integer(key, str(default), "")))

    def _milliseconds(self, key: str, default: str) -> int:
        return int(self._read(duration(key, default, "")))

    def _text(self, key: str, default: str) -> str:
        return str(self._read(text(key, default, "")))

    def _read(self, kept: Option[Any]) -> Any:
        option = OPTIONS.get(kept.key)
        if option is not None:
            return self._environment._settings[option]
        return kept.read(self._environment._kept.get(kept.key, kept.default_text), "the program")
