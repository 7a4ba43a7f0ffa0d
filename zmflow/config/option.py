"""What one setting is: its key, its default, how text becomes a value, what it means."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from zmflow.errors import ConfigurationError

__all__ = ["Option", "boolean", "choice", "duration", "integer", "number", "resources", "size", "text"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One setting: its key, its default as text, how text becomes a value, what it means."""

    key: str
    default_text: str
    kind: str
    parse: Callable[[str], T]
    doc: str

    @property
    def environment_variable(self) -> str:
        """``ZMFLOW_`` and the key in capitals, dots and dashes as underscores."""
        return "ZMFLOW_" + re.sub(r"[.-]", "_", self.key).upper()

    def read(self, text: str, where: str) -> T:
        """The value of this text; an error names the key, the place and what is allowed."""
        try:
            return self.parse(text)
        except ValueError as error:
            raise ConfigurationError(
                f"The setting {self.key} is not {self.kind}: {text!r}.",
                detail=f"From {where}. {error}".rstrip(),
                hint=f"{self.doc} Default: {self.default_text or 'empty'}.",
            ) from None


_UNITS_MS = {
    "ms": 1,
    "s": 1000,
    "sec": 1000,
    "second": 1000,
    "seconds": 1000,
    "m": 60_000,
    "min": 60_000,
    "minute": 60_000,
    "minutes": 60_000,
    "h": 3_600_000,
    "hour": 3_600_000,
    "hours": 3_600_000,
    "d": 86_400_000,
}
_UNITS_BYTES = {
    "b": 1,
    "bytes": 1,
    "k": 2**10,
    "kb": 2**10,
    "kib": 2**10,
    "m": 2**20,
    "mb": 2**20,
    "mib": 2**20,
    "g": 2**30,
    "gb": 2**30,
    "gib": 2**30,
}


def _quantity(text: str, units: Mapping[str, int]) -> int:
    match = re.fullmatch(r"\s*(\d+)\s*([a-zA-Z]*)\s*", text)
    unit = match[2].lower() if match else ""
    if not match or (unit and unit not in units):
        raise ValueError("Write a whole number and a unit: " + ", ".join(units) + ".")
    return int(match[1]) * (units[unit] if unit else 1)


def duration(key: str, default: str, doc: str) -> Option[int]:
    """Milliseconds, written with a unit; -1 where the setting gives it a meaning."""

    def parse(text: str) -> int:
        return -1 if text.strip() == "-1" else _quantity(text, _UNITS_MS)

    return Option(key, default, "a duration", parse, doc)


def size(key: str, default: str, doc: str) -> Option[int]:
    """Bytes, written with a unit."""
    return Option(key, default, "a size", lambda text: _quantity(text, _UNITS_BYTES), doc)


def integer(key: str, default: str, doc: str, *, least: int = 0, most: int = 2**31 - 1) -> Option[int]:
    """A whole number between ``least`` and ``most``."""

    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise ValueError(f"Allowed: {least} to {most}.")
        return value

    return Option(key, default, "a whole number in its range", parse, doc)


def text(key: str, default: str, doc: str) -> Option[str]:
    """Any text."""
    return Option(key, default, "text", str, doc)


def choice(key: str, default: str, doc: str, allowed: tuple[str, ...]) -> Option[str]:
    """One of the ``allowed`` words."""

    def parse(text: str) -> str:
        for value in allowed:
            if text.strip().lower() == value.lower():
                return value
        raise ValueError("Allowed: " + ", ".join(allowed) + ".")

    return Option(key, default, "one of its values", parse, doc)


def boolean(key: str, default: str, doc: str) -> Option[bool]:
    """True or false."""

    def parse(text: str) -> bool:
        lowered = text.strip().lower()
        if lowered in ("true", "yes", "on", "1"):
            return True
        if lowered in ("false", "no", "off", "0"):
            return False
        raise ValueError("Allowed: true, false.")

    return Option(key, default, "true or false", parse, doc)


def number(key: str, default: str, doc: str, *, least: float, most: float) -> Option[float]:
    """A number between ``least`` and ``most``, fractions allowed."""

    def parse(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise ValueError(f"Allowed: {least:g} to {most:g}.")
        return value

    return Option(key, default, "a number in its range", parse, doc)


def resources(key: str, default: str, doc: str) -> Option[dict[str, int]]:
    """Named amounts: ``gpu:2, fpga:1``."""

    def parse(text: str) -> dict[str, int]:
        amounts: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            match = re.fullmatch(r"([A-Za-z][\w.-]*)\s*:\s*(\d{1,9})", part)
            if match is None or match[1] in amounts:
                raise ValueError("Write each name once, with its amount: gpu:2, fpga:1.")
            amounts[match[1]] = int(match[2])
        return amounts

    return Option(key, default, "names with amounts", parse, doc)
