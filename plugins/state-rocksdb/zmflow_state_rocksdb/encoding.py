"""What keys, namespaces and values are in the database: bytes.

A key of the database is::

    key group u16 | state id u16 | key | namespace | rest

all numbers big endian, so that what belongs together is side by side. Key and namespace are *parts*: their
size, u32, and their canonical bytes, so that objects Python calls equal are one part. A state without
namespaces has no such part. What follows is the map key, as a part, or the number of a piece of a list.

Canonical bytes do not always say which object they came from: ``1`` and ``1.0`` have the same ones. Where
they do not, the objects are pickled in front of the value. A value is::

    flags u8 | size of the pickled objects u32, and these, where flags has OBJECTS | the value

marshalled where it is plain, because that takes a third of the time of pickling. The database never outlives
its process, so the format of marshal, which is another one in each Python, is as good as any.
"""

from __future__ import annotations

import io
import marshal
import pickle
import struct
from typing import Any

from zmflow.state.keys import UnsupportedKeyError, canonical_bytes

__all__ = [
    "PREFIX",
    "SIZE",
    "pack",
    "part",
    "read_objects",
    "read_part",
    "recoverable",
    "skip_part",
    "unpack",
]

PREFIX = struct.Struct(">HH")
"""Key group and state."""

SIZE = struct.Struct(">I")

OBJECTS = 1
PICKLED = 2
_MARSHAL_VERSION = 2
"""The last one without references, which would cost more than they save."""

_PLAIN = frozenset((int, float, str, bytes, bool))
_NO_CANONICAL = b"\0"
"""What pickled bytes that stand for an object begin with; no canonical bytes do."""


def part(thing: Any) -> bytes:
    """The part that stands for a key, a namespace or the key of a map.

    What cannot be a key, but be in a map, is told apart by its pickled bytes.

    >>> part("ab") == part("ab") != part(b"ab"), part(1) == part(True)
    (True, True)
    """
    try:
        data = canonical_bytes(thing)
    except UnsupportedKeyError:
        data = _NO_CANONICAL + _pickled(thing)
    return SIZE.pack(len(data)) + data


def recoverable(thing: Any) -> bool:
    """Whether ``read_part`` gives this very object back.

    >>> recoverable(("a", 1)), recoverable(1.0), recoverable(True)
    (True, False, False)
    """
    kind = type(thing)
    if kind is str or kind is int or kind is bytes or thing is None:
        return True
    return kind is tuple and all(map(recoverable, thing))


def read_part(data: bytes, offset: int) -> tuple[Any, int]:
    """The object at an offset, and where the next one is.

    >>> read_part(part(("a", None, -300, b"x")), 0)
    (('a', None, -300, b'x'), 33)
    """
    end = skip_part(data, offset)
    return _recovered(data[offset + SIZE.size : end]), end


def skip_part(data: bytes, offset: int) -> int:
    """Where the next part is."""
    return offset + SIZE.size + int.from_bytes(data[offset : offset + SIZE.size], "big")


def _recovered(data: bytes) -> Any:
    mark, rest = data[:1], data[1:]
    match mark:
        case b"s":
            return rest.decode("utf-8", "surrogatepass")
        case b"i":
            return int.from_bytes(rest, "little", signed=True)
        case b"b":
            return rest
        case b"t":
            items = []
            offset = 4
            for _ in range(int.from_bytes(rest[:4], "little")):
                end = offset + 4 + int.from_bytes(rest[offset : offset + 4], "little")
                items.append(_recovered(rest[offset + 4 : end]))
                offset = end
            return tuple(items)
    return None  # stands for itself, or for what is pickled beside the value


def pack(held: Any, objects: tuple[Any, ...] | None) -> bytes:
    """A value as it is in the database.

    Args:
        held: the value.
        objects: what its key does not say: key, namespace, map key.
    """
    flags, data = 0, b""
    kind = type(held)
    if kind in _PLAIN or (kind is tuple and all(type(item) in _PLAIN for item in held)):
        data = marshal.dumps(held, _MARSHAL_VERSION)
    else:
        flags, data = PICKLED, pickle.dumps(held, protocol=5)
    if objects is None:
        return (b"\2" if flags else b"\0") + data
    front = pickle.dumps(objects, protocol=5)
    return bytes((flags | OBJECTS,)) + SIZE.pack(len(front)) + front + data


def unpack(data: bytes) -> tuple[Any, tuple[Any, ...] | None]:
    """The value, and the objects that were packed with it.

    >>> unpack(pack((1, 2), None)), unpack(pack([1], (1.0,)))
    (((1, 2), None), ([1], (1.0,)))
    """
    flags = data[0]
    objects = None
    begin = 1
    if flags & OBJECTS:
        begin = skip_part(data, 1)
        objects = pickle.loads(data[1 + SIZE.size : begin])
    view = data[begin:]
    if flags & PICKLED:
        return pickle.loads(view), objects
    return marshal.loads(view), objects  # noqa: S302 - the process reads what it wrote


def read_objects(data: bytes) -> tuple[Any, ...] | None:
    """The objects that were packed with a value."""
    if not data[0] & OBJECTS:
        return None
    objects: tuple[Any, ...] = pickle.loads(data[1 + SIZE.size : skip_part(data, 1)])
    return objects


def _pickled(thing: Any) -> bytes:
    """Without the memo, which would make the bytes depend on which parts of the object are one object."""
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    pickler.fast = True
    pickler.dump(thing)
    return buffer.getvalue()
