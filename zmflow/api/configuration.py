"""Settings of one program, with PyFlink's typed getters and setters."""

from __future__ import annotations

from collections.abc import Mapping

from zmflow.config import option_for
from zmflow.errors import ConfigurationError

__all__ = ["Configuration"]

_WHERE = "the program's Configuration"


class Configuration:
    """Settings by key. Unknown keys and values a setting cannot have are refused when they are set.

    >>> configuration = Configuration().set_integer("parallelism.default", 4)
    >>> configuration.get_integer("parallelism.default", 1), configuration.to_dict()
    (4, {'parallelism.default': '4'})
    """

    def __init__(self, other: Configuration | None = None) -> None:
        self._texts: dict[str, str] = dict(other._texts) if other is not None else {}

    @staticmethod
    def from_dict(values: Mapping[str, str]) -> Configuration:
        """A configuration with these texts."""
        configuration = Configuration()
        for key, value in values.items():
            configuration.set_string(key, value)
        return configuration

    def set_string(self, key: str, value: str) -> Configuration:
        """Set a setting to the value this text stands for.

        Raises:
            ConfigurationError: there is no such setting, or the text is not a value of it.
        """
        option_for(key, _WHERE).read(value, _WHERE)
        self._texts[key] = value
        return self

    def set_integer(self, key: str, value: int) -> Configuration:
        """Set a setting to a whole number."""
        return self.set_string(key, str(value))

    def set_boolean(self, key: str, value: bool) -> Configuration:
        """Set a setting to true or false."""
        return self.set_string(key, "true" if value else "false")

    def get_string(self, key: str, default_value: str) -> str:
        """The text of a setting; ``default_value`` where this configuration does not set it."""
        option_for(key, _WHERE)
        return self._texts.get(key, default_value)

    def get_integer(self, key: str, default_value: int) -> int:
        """The value of a setting that is a number (durations in milliseconds, sizes in bytes)."""
        value = self._value(key, default_value)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._wrong_type(key, "a number")

    def get_boolean(self, key: str, default_value: bool) -> bool:
        """The value of a setting that is true or false."""
        value = self._value(key, default_value)
        if isinstance(value, bool):
            return value
        raise self._wrong_type(key, "true or false")

    def contains_key(self, key: str) -> bool:
        """Whether this configuration sets the key."""
        return key in self._texts

    def key_set(self) -> set[str]:
        """The keys this configuration sets."""
        return set(self._texts)

    def remove_config(self, key: str) -> bool:
        """Forget what was set; false when nothing was."""
        return self._texts.pop(key, None) is not None

    def add_all(self, other: Configuration) -> None:
        """Set everything that the other configuration sets."""
        self._texts.update(other._texts)

    def to_dict(self) -> dict[str, str]:
        """Keys and texts."""
        return dict(self._texts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._texts == other._texts

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Configuration({self._texts!r})"

    def _value(self, key: str, default: object) -> object:
        option = option_for(key, _WHERE)
        if key not in self._texts:
            return default
        value: object = option.read(self._texts[key], _WHERE)
        return value

    def _wrong_type(self, key: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"The setting {key} is not {wanted}.", hint="Read it with get_string().")
