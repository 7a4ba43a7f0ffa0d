"""Entries of keyed state as bytes: keys and values apart, each as pickles of some entries behind each other.

A snapshot is made while its task stands still, so this is written for speed. Entries are read, checked and
pickled block by block: wherever they lie in memory, each is fetched once, and is in the processor's cache for
all that follows. Plain values are pickled without the memo, which takes an eighth of the time. What is
compressed are the keys for themselves: where they have not changed they are compressed, and pickled, once.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, NoReturn, TypeAlias

import lz4.block

from zmflow.errors import StateError
from zmflow.state.chunks import BLOCK_ENTRIES, KeyedChunk

__all__ = [
    "COMPRESS_MAX_BYTES",
    "ChunkData",
    "GrowingChunks",
    "PickledChunk",
    "pickled_chunks",
    "unpicklable",
    "unpickled_columns",
]

CHUNK_SIZE_BYTES = 4 * 2**20
"""What is in one piece in a file, before it is compressed. Each costs a line of the index, and calls behind
which the writer waits for the interpreter lock; it is in memory as a whole."""

CHUNK_ENTRIES = 64 * BLOCK_ENTRIES
"""Entries of a dict that only grows whose keys are kept as bytes. The keys behind the last are pickled each
time. With smaller ones the writer asks for the interpreter lock so often that the task notices."""

COMPRESS_FROM_BYTES = 256
"""What is smaller is stored as it is: the file has a block of 4 KiB for it in any case."""

COMPRESS_MAX_BYTES = 2**31 - 1
"""What lz4 takes in one block. A key group of 2 GiB asks for more key groups."""

_TEXTS = frozenset((str, bytes))
_IMMUTABLE = frozenset((str, bytes, int, float, bool, type(None), tuple, frozenset))

_Columns: TypeAlias = tuple[list[Any], list[Any] | None, list[Any]]
"""Keys, namespaces and values."""


class _NotPlainError(Exception):
    pass


class _PlainPickler(pickle.Pickler):
    """Refuses everything that is not built in. Without a memo what is met twice is written twice."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)
        self.fast = True

    def reducer_override(self, obj: Any) -> NoReturn:  # noqa: ARG002 - of the interface
        raise _NotPlainError


class _Pickles:
    """Pickles behind each other, plain as long as they can be."""

    def __init__(self) -> None:
        self.buffer = io.BytesIO()
        self._plain: _PlainPickler | None = _PlainPickler(self.buffer)

    def add(self, columns: Any) -> None:
        """Pickle what cannot change, unless somebody's own class makes it do so."""
        if self._plain is not None:
            begin = self.buffer.tell()
            try:
                self._plain.dump(columns)
            except Exception:  # noqa: BLE001 - the other way says what is wrong, if anything is
                self.buffer.seek(begin)
                self.buffer.truncate()
                self._plain = None  # what follows is not tried: the keys or values of a state are alike
            else:
                return
        self.buffer.write(pickle.dumps(columns, protocol=5))

    def add_values(self, values: list[Any]) -> None:
        """Pickle what may change, or contain itself."""
        if self._plain is not None and not _are_immutable(values):
            self._plain = None
        self.add(values)


def _are_immutable(values: list[Any]) -> bool:
    """Whether nothing that is built in and in there can change. What can may be in several places, and has to
    be one object again."""
    kind = type(values[0])
    if kind not in _IMMUTABLE:
        return False
    if kind in _TEXTS and set(map(type, values)) <= _TEXTS:
        return True  # hashing a long text takes longer than writing it
    try:
        hash(tuple(values))  # what can change has no hash
    except Exception:  # noqa: BLE001 - a class of the program's may raise anything
        return False
    return True


class ChunkData:
    """Bytes to be stored, which are compressed when that is first asked for: not while the task waits.

    Snapshots that have it in common may ask at the same time, each on a thread of its own.
    """

    __slots__ = ("_held", "raw_bytes")

    def __init__(self, data: bytes) -> None:
        self._held = data, False  # the bytes, and whether they are as they are stored
        self.raw_bytes = len(data)

    def stored(self) -> bytes:
        """As it is stored."""
        data, is_stored = self._held
        if not is_stored:
            data = _compressed(data)
            self._held = data, True
        return data


class PickledChunk:
    """What some key groups have in one state, or a part of it.

    Args:
        of: the state: a chunk that has its name, kind, key groups and so on.
    """

    def __init__(self, of: KeyedChunk, entries: int, keys: ChunkData, values: ChunkData) -> None:
        self.of = of
        self.entries = entries
        self.keys = keys
        self.values = values


class _Piece:
    """A chunk while it is made of blocks."""

    def __init__(self, first: KeyedChunk) -> None:
        self._of = first
        self._entries = 0
        self._keys = _Pickles()
        self._values = _Pickles()

    def takes(self, block: KeyedChunk) -> bool:
        """Whether there is room for a block, and it is of the same state."""
        size = self._keys.buffer.tell() + self._values.buffer.tell()
        return size < CHUNK_SIZE_BYTES and self._of.is_like(block)

    def add(self, block: KeyedChunk) -> None:
        """Pickle a block."""
        self._entries += len(block.keys)
        try:
            self._keys.add((block.keys, block.namespaces))
            self._values.add_values(block.values)
        except Exception as error:
            raise _unpicklable_in(block.name, block.keys, block.values, error) from error

    def done(self) -> PickledChunk:
        """The chunk."""
        keys, values = (ChunkData(part.buffer.getvalue()) for part in (self._keys, self._values))
        return PickledChunk(self._of, self._entries, keys, values)


def pickled_chunks(chunks: Iterable[KeyedChunk | PickledChunk]) -> Iterator[PickledChunk]:
    """Pickle chunks as they come. What is of one state and the same key groups is put together.

    Raises:
        StateError: something cannot be pickled; says which state and key.
    """
    piece: _Piece | None = None
    for chunk in chunks:
        if isinstance(chunk, PickledChunk):
            yield chunk
            continue
        for block in chunk.blocks():
            if piece is None or not piece.takes(block):
                if piece is not None:
                    yield piece.done()
                piece = _Piece(block)
            piece.add(block)
    if piece is not None:
        yield piece.done()


class GrowingChunks:
    """A dict that nothing is ever removed from, in chunks. So its keys stay in their order: they are pickled
    and compressed when they are new, and only their values for every snapshot.

    Args:
        of: the state, without entries.
        held: the dict.
    """

    def __init__(self, of: KeyedChunk, held: Mapping[Any, Any]) -> None:
        self._of = of
        self._held = held
        self._keys: list[ChunkData] = []  # each of CHUNK_ENTRIES

    def pickled(self) -> Iterator[PickledChunk]:
        """What it holds now, each chunk pickled when it is asked for. It must not change meanwhile.

        Raises:
            StateError: something cannot be pickled; says which state and key.
        """
        values = iter(self._held.values())
        for keys in self._keys:
            yield PickledChunk(self._of, CHUNK_ENTRIES, keys, self._pickled_values(values))
        # From the end: to come to the new ones from the beginning would mean to touch all keys.
        new = list(islice(reversed(self._held), len(self._held) - len(self._keys) * CHUNK_ENTRIES))
        new.reverse()
        for begin in range(0, len(new), CHUNK_ENTRIES):
            part = new[begin : begin + CHUNK_ENTRIES]
            keys = self._pickled_keys(part)
            yield PickledChunk(self._of, len(part), keys, self._pickled_values(values))
            if len(part) == CHUNK_ENTRIES:
                self._keys.append(keys)

    def _pickled_keys(self, keys: list[Any]) -> ChunkData:
        pickles = _Pickles()
        try:
            pickles.add((keys, None))
        except Exception as error:
            raise _unpicklable_in(self._of.name, keys, keys, error) from error
        return ChunkData(pickles.buffer.getvalue())

    def _pickled_values(self, values: Iterator[Any]) -> ChunkData:
        pickles = _Pickles()
        for _ in range(0, CHUNK_ENTRIES, BLOCK_ENTRIES):
            if not (block := list(islice(values, BLOCK_ENTRIES))):
                break
            try:
                pickles.add_values(block)
            except Exception as error:
                places = {id(value): key for key, value in self._held.items()}
                keys = [places[id(value)] for value in block]
                raise _unpicklable_in(self._of.name, keys, block, error) from error
        return ChunkData(pickles.buffer.getvalue())


def _unpicklable_in(name: str, keys: list[Any], values: list[Any], error: Exception) -> StateError:
    for key, value in zip(keys, values, strict=True):
        try:
            pickle.dumps((key, value), protocol=5)
        except Exception as own:  # noqa: BLE001 - whatever the pickling code of an object raises
            return unpicklable(name, key, own)
    return unpicklable(name, None, error)


def unpicklable(name: str, key: object, error: Exception) -> StateError:
    """The error that a state, and the entry of a key in it, cannot be pickled."""
    of_key = "" if key is None else f" for the key {key!r:.80}"
    return StateError(
        f"The state {name!r} cannot be written to a checkpoint{of_key}: {error}",
        hint="Keep plain data in state: numbers, text, tuples, lists, dicts, dataclasses of a module.",
    )


def _compressed(data: bytes) -> bytes:
    """The same compressed where that makes it smaller."""
    if COMPRESS_FROM_BYTES <= len(data) <= COMPRESS_MAX_BYTES:
        stored: bytes = lz4.block.compress(data, store_size=False)
        if len(stored) < len(data):
            return stored
    return data


def unpickled_columns(key_data: bytes, value_data: bytes) -> _Columns:
    """The columns of a chunk. Without keys for themselves it is of version 1: one pickle of all columns."""
    if not key_data:
        columns: _Columns = pickle.loads(value_data)
        return columns
    keys: list[Any] = []
    namespaces: list[Any] = []
    for more_keys, more_namespaces in _unpickled(key_data):
        keys += more_keys
        namespaces += more_namespaces or ()
    values: list[Any] = []
    for more_values in _unpickled(value_data):
        values += more_values
    return keys, namespaces or None, values


def _unpickled(data: bytes) -> Iterator[Any]:
    stream = io.BytesIO(data)
    while stream.tell() < len(data):
        yield pickle.load(stream)
