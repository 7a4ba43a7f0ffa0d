"""Keys: their canonical bytes, their hash, their key group and its owner (design D10).

The same key has the same key group in every process, on every machine and in every release: the hash is
taken over canonical bytes, never over ``hash()``, which Python salts per process.

Keys that Python calls equal are one key: ``1``, ``1.0`` and ``True`` have the same canonical bytes, as they
have one entry in a dict. PyFlink, which hashes pickled keys, keeps them apart. ``nan`` is not equal to
itself and is refused.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import xxhash

from zmflow.errors import ConnectorError

__all__ = [
    "UnsupportedKeyError",
    "canonical_bytes",
    "key_group",
    "key_group_range",
    "owner_of_group",
]


class UnsupportedKeyError(ConnectorError):
    """A key selector returned something that has no stable hash."""


def _refuse(key: object, why: str) -> UnsupportedKeyError:
    return UnsupportedKeyError(
        f"A key selector returned a key of type {type(key).__name__}: {key!r:.80}.",
        detail=why,
        hint="Return str, bytes, int, float, bool, None, an enum member, a date, time or datetime, "
        "a UUID, or a tuple, frozen dataclass or frozen msgspec.Struct of these.",
    )


def _integer(key: int) -> bytes:
    return b"i" + key.to_bytes(key.bit_length() // 8 + 1, "little", signed=True)


def _float(key: float) -> bytes:
    if key != key:
        raise _refuse(key, "nan is not equal to itself, so its records could never be grouped.")
    if key.is_integer():
        return _integer(int(key))
    return b"f" + key.hex().encode()


def _sequence(mark: bytes, items: tuple[object, ...]) -> bytes:
    parts = [mark, len(items).to_bytes(4, "little")]
    for item in items:
        encoded = canonical_bytes(item)
        parts.append(len(encoded).to_bytes(4, "little"))
        parts.append(encoded)
    return b"".join(parts)


def _datetime(key: datetime.datetime) -> bytes:
    # Aware datetimes are equal when they name the same instant, whatever their zone.
    if key.utcoffset() is not None:
        return b"Z" + key.astimezone(datetime.UTC).isoformat().encode()
    return b"z" + key.isoformat().encode()


_EXACT: dict[type, Callable[[Any], bytes]] = {
    str: lambda key: b"s" + key.encode("utf-8", "surrogatepass"),
    bytes: lambda key: b"b" + key,
    int: _integer,
    bool: _integer,
    float: _float,
    type(None): lambda _key: b"n",
    tuple: lambda key: _sequence(b"t", key),
    uuid.UUID: lambda key: b"u" + key.bytes,
    datetime.datetime: _datetime,
    datetime.date: lambda key: b"d" + key.isoformat().encode(),
    datetime.time: lambda key: b"T" + key.isoformat().encode(),
    datetime.timedelta: lambda key: b"D" + str((key.days, key.seconds, key.microseconds)).encode(),
}


def canonical_bytes(key: object) -> bytes:
    """The bytes that stand for a key: equal exactly when the keys are equal.

    Raises:
        UnsupportedKeyError: the key has no stable identity; says what to return instead.

    >>> canonical_bytes(1) == canonical_bytes(1.0) == canonical_bytes(True)
    True
    >>> canonical_bytes("1") == canonical_bytes(1)
    False
    """
    exact = _EXACT.get(type(key))
    if exact is not None:
        return exact(key)
    return _canonical_of_subclass(key)


def _canonical_of_subclass(key: object) -> bytes:
    for kind in (str, bytes, int, float, tuple):
        # IntEnum, StrEnum, namedtuple: equal to the plain value, so they must hash like it.
        if isinstance(key, kind):
            return _EXACT[kind](key)
    name = f"{type(key).__module__}.{type(key).__qualname__}"
    if isinstance(key, enum.Enum):
        return _sequence(b"e", (name, key.name))
    if isinstance(key, (list, dict, set, bytearray)):
        raise _refuse(key, f"A {type(key).__name__} can change, so it cannot be a key.")
    if type(key).__hash__ in (None, object.__hash__):
        raise _refuse(key, "Its identity is its place in memory, which no other process shares.")
    if dataclasses.is_dataclass(key) and not isinstance(key, type):
        compared = [field.name for field in dataclasses.fields(key) if field.compare]
        return _sequence(b"c", (name, *(getattr(key, field) for field in compared)))
    if isinstance(key, msgspec.Struct):
        return _sequence(b"m", (name, *(getattr(key, field) for field in key.__struct_fields__)))
    raise _refuse(key, "zmflow knows no stable bytes for this type.")


def key_group(key: object, max_parallelism: int) -> int:
    """The key group of a key: ``mix(hash(canonical bytes)) % max_parallelism``.

    >>> key_group("zmflow", 128) == key_group("zmflow", 128) < 128
    True
    """
    return _murmur_mix(xxhash.xxh32_intdigest(canonical_bytes(key))) % max_parallelism


def _murmur_mix(word: int) -> int:
    """Flink's MathUtils.murmurHash of one 32-bit word: Murmur3 body and finaliser with length 4."""
    word = (word * 0xCC9E2D51) & 0xFFFFFFFF
    word = ((word << 15) | (word >> 17)) & 0xFFFFFFFF
    word = (word * 0x1B873593) & 0xFFFFFFFF
    word = ((word << 13) | (word >> 19)) & 0xFFFFFFFF
    word = (word * 5 + 0xE6546B64) & 0xFFFFFFFF
    word ^= 4
    word ^= word >> 16
    word = (word * 0x85EBCA6B) & 0xFFFFFFFF
    word ^= word >> 13
    word = (word * 0xC2B2AE35) & 0xFFFFFFFF
    word ^= word >> 16
    if word < 0x80000000:
        return word
    return 0x100000000 - word if word != 0x80000000 else 0


def owner_of_group(group: int, max_parallelism: int, parallelism: int) -> int:
    """The subtask that owns a key group."""
    return group * parallelism // max_parallelism


def key_group_range(subtask: int, max_parallelism: int, parallelism: int) -> range:
    """The key groups a subtask owns; the inverse of ``owner_of_group``.

    >>> [list(key_group_range(i, 7, 3)) for i in range(3)]
    [[0, 1, 2], [3, 4], [5, 6]]
    """
    start = -(-subtask * max_parallelism // parallelism)
    end = ((subtask + 1) * max_parallelism - 1) // parallelism
    return range(start, end + 1)
