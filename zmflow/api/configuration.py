"""Settings of one program, with PyFlink's typed getters and setters."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, MutableMapping
from typing import Any, Self

from zmflow.config import Option, option_for
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

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> Self:
        """A configuration with these texts."""
        configuration = cls()
        for key, value in values.items():
            configuration.set_string(key, value)
        return configuration

    @staticmethod
    def parse_list_value(value: str) -> list[str]:
        """The parts of a setting that is a list: in brackets with commas, or between semicolons.

        >>> Configuration.parse_list_value("a; b"), Configuration.parse_list_value("['a', 'b']")
        (['a', 'b'], ['a', 'b'])
        """
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                return [str(part) for part in ast.literal_eval(text)]
            except (ValueError, SyntaxError):  # the parts are not in quotes
                return [part.strip() for part in text[1:-1].split(",") if part.strip()]
        return [part.strip() for part in text.split(";") if part.strip()]

    # -- setting --------------------------------------------------------------------------------

    def set_string(self, key: str, value: str) -> Self:
        """Set a setting to the value this text stands for.

        Raises:
            ConfigurationError: there is no such setting, or the text is not a value of it.
        """
        option = self._option(key)
        if option is not None:
            option.read(value, _WHERE)
        self._texts[key] = value
        return self

    def set_integer(self, key: str, value: int) -> Self:
        """Set a setting to a whole number."""
        return self.set_string(key, str(value))

    def set_boolean(self, key: str, value: bool) -> Self:
        """Set a setting to true or false."""
        return self.set_string(key, "true" if value else "false")

    def set_float(self, key: str, value: float) -> Self:
        """Set a setting to a number."""
        return self.set_string(key, str(float(value)))

    def set_bytearray(self, key: str, value: bytes | bytearray) -> Self:
        """Set a setting to bytes, written as the characters of the same numbers."""
        return self.set_string(key, value.decode("latin-1"))

    def add_all(self, other: Configuration, prefix: str | None = None) -> None:
        """Set everything that the other configuration sets, with a prefix before its keys."""
        for key, value in other._texts.items():
            self.set_string(f"{prefix or ''}{key}", value)

    def remove_config(self, key: str) -> bool:
        """Forget what was set; false when nothing was."""
        return self._texts.pop(key, None) is not None

    # -- reading --------------------------------------------------------------------------------

    def get_string(self, key: str, default_value: str) -> str:
        """The text of a setting; ``default_value`` where this configuration does not set it."""
        self._option(key)
        return self._texts.get(key, default_value)

    def get_integer(self, key: str, default_value: int) -> int:
        """The value of a setting that is a number (durations in milliseconds, sizes in bytes)."""
        value = self._value(key, default_value, "[+-]?[0-9]+", int)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise self._wrong_type(key, "a number")

    def get_boolean(self, key: str, default_value: bool) -> bool:
        """The value of a setting that is true or false."""
        value = self._value(key, default_value, "(?i:true|false)", lambda text: text.lower() == "true")
        if isinstance(value, bool):
            return value
        raise self._wrong_type(key, "true or false")

    def get_float(self, key: str, default_value: float) -> float:
        """The value of a setting that is a number."""
        value = self._value(key, default_value, r"[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?", float)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        raise self._wrong_type(key, "a number")

    def get_bytearray(self, key: str, default_value: bytes | bytearray) -> bytearray:
        """The bytes of a setting, as ``set_bytearray`` writes them."""
        self._option(key)
        text = self._texts.get(key)
        return bytearray(default_value if text is None else text.encode("latin-1"))

    def contains_key(self, key: str) -> bool:
        """Whether this configuration sets the key."""
        return key in self._texts

    def key_set(self) -> set[str]:
        """The keys this configuration sets."""
        return set(self._texts)

    def to_dict(self) -> dict[str, str]:
        """Keys and texts."""
        return dict(self._texts)

    def add_all_to_dict(self, target_dict: MutableMapping[str, str]) -> None:
        """Put keys and texts into a dictionary."""
        target_dict.update(self._texts)

    def __deepcopy__(self, memo: object) -> Self:
        return type(self)(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Configuration) and self._texts == other._texts

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Configuration({self._texts!r})"

    # -- inside ---------------------------------------------------------------------------------

    def _option(self, key: str) -> Option[Any] | None:
        """The setting with this key; a subclass may return None for one that is kept as text."""
        return option_for(key, _WHERE)

    def _value(self, key: str, default: object, pattern: str, read: Any) -> object:
        option = self._option(key)
        text = self._texts.get(key)
        if text is None:
            return default
        if option is not None:
            value: object = option.read(text, _WHERE)
            return value
        return read(text) if re.fullmatch(pattern, text.strip()) else None

    def _wrong_type(self, key: str, wanted: str) -> ConfigurationError:
        return ConfigurationError(f"The setting {key} is not {wanted}.", hint="Read it with get_string().")
