"""``Configuration`` for programs of PyFlink: Flink's other keys are kept, where zmflow's own refuses them."""

from __future__ import annotations

from typing import Any

from zmflow import api
from zmflow.api.notices import notice_once
from zmflow.config import OPTIONS, Option

__all__ = ["Configuration", "known_settings"]


class Configuration(api.Configuration):
    """Settings by key. A key that zmflow does not have is kept as text, with one warning."""

    def _option(self, key: str) -> Option[Any] | None:
        return OPTIONS.get(key)

    def set_string(self, key: str, value: str) -> Configuration:
        if key not in OPTIONS:
            notice_once(f"setting {key}", f"zmflow has no setting {key!r}: it is kept and has no effect.")
        return super().set_string(key, value)


def known_settings(configuration: api.Configuration) -> dict[str, str]:
    """The keys and texts of a configuration that are settings of zmflow."""
    return {key: text for key, text in configuration.to_dict().items() if key in OPTIONS}
