"""Entries of keyed state as bytes: pickles of blocks of columns, one after the other.

A snapshot is made while its task stands still, so this is written for speed. Entries are read, checked and
pickled block by block: whatever order they lie in memory, each is fetched once, and is in the processor's
cache for all that follows. Plain values are pickled without the memo, which takes an eighth of the time.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable, Iterator
from typing import Any, NoReturn, TypeAlias

from zmflow.errors import StateError
from zmflow.state.chunks import KeyedChunk

__all__ = ["Columns", "PickledChunk", "pickled_chunks", "unpicklable", "unpickled_columns"]

CHUNK_SIZE_BYTES = 4 * 2**20
"""What is in one piece in a file, before it is compressed. Each piece costs a line of the index and some calls
after which the writer's thread waits for the interpreter lock; a piece is in memory as a whole."""

_TEXTS = frozenset((str, bytes))

Columns: TypeAlias = tuple[list[Any], list[Any] | None, list[Any]]
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


class PickledChunk:
    """One piece of a file: what some key groups have in one state, or a part of it.

    Args:
        first: with its name, kind, key groups and so on, which are those of the others.
    """

    def __init__(self, first: KeyedChunk) -> None:
        self.of = first
        self.entries = 0
        self._buffer = io.BytesIO()
        self._plain: _PlainPickler | None = _PlainPickler(self._buffer)

    @property
    def data(self) -> bytes:
        """The pickles."""
        return self._buffer.getvalue()

    def takes(self, chunk: KeyedChunk) -> bool:
        """Whether there is room for a chunk, and it is of the same state."""
        return self._buffer.tell() < CHUNK_SIZE_BYTES and self.of.is_like(chunk)

    def add(self, block: KeyedChunk) -> None:
        """Pickle a block.

        Raises:
            StateError: something cannot be pickled; says which state and key.
        """
        self.entries += len(block.keys)
        columns = (block.keys, block.namespaces, block.values)
        if self._plain is not None and not self._add_plain(self._plain, columns):
            self._plain = None  # values of a state are alike: the next ones are not tried
        if self._plain is None:
            self._buffer.write(_pickled(block, columns))

    def _add_plain(self, pickler: _PlainPickler, columns: Columns) -> bool:
        """Pickle columns as plain ones; False if they are not."""
        if type(columns[2][0]).__hash__ is None:
            return False  # what ``_check_immutable`` would find, before it costs anything
        begin = self._buffer.tell()
        try:
            pickler.dump(columns)
            _check_immutable(columns[2])
        except Exception:  # noqa: BLE001 - the slow way says what is wrong, if anything is
            self._buffer.seek(begin)
            self._buffer.truncate()
            return False
        return True


def _check_immutable(values: list[Any]) -> None:
    """Raise where something built in can change: it may be in several places, or contain itself, and then has
    to be one object again. Keys and namespaces cannot change."""
    if type(values[0]) in _TEXTS and set(map(type, values)) <= _TEXTS:
        return  # hashing a long text takes longer than writing it
    hash(tuple(values))  # what can change has no hash


def _pickled(block: KeyedChunk, columns: Columns) -> bytes:
    try:
        return pickle.dumps(columns, protocol=5)
    except Exception as error:
        for key, _, value in block.entries():
            try:
                pickle.dumps((key, value), protocol=5)
            except Exception as own:  # noqa: BLE001 - whatever a value's own pickling code raises
                raise unpicklable(block.name, key, own) from error
        raise unpicklable(block.name, None, error) from error


def unpicklable(name: str, key: object, error: Exception) -> StateError:
    """The error that a state, and the entry of a key in it, cannot be pickled."""
    of_key = "" if key is None else f" for the key {key!r:.80}"
    return StateError(
        f"The state {name!r} cannot be written to a checkpoint{of_key}: {error}",
        hint="Keep plain data in state: numbers, text, tuples, lists, dicts, dataclasses of a module.",
    )


def pickled_chunks(chunks: Iterable[KeyedChunk]) -> Iterator[PickledChunk]:
    """Pickle chunks as they come. What is of one state and the same key groups is put together.

    Raises:
        StateError: something cannot be pickled; says which state and key.
    """
    piece: PickledChunk | None = None
    for chunk in chunks:
        for block in chunk.blocks():
            if piece is None or not piece.takes(block):
                if piece is not None:
                    yield piece
                piece = PickledChunk(block)
            piece.add(block)
    if piece is not None:
        yield piece


def unpickled_columns(data: bytes) -> Columns:
    """The columns of all blocks, one behind the other."""
    stream = io.BytesIO(data)
    keys, namespaces, values = pickle.load(stream)
    while stream.tell() < len(data):
        more_keys, more_namespaces, more_values = pickle.load(stream)
        keys += more_keys
        values += more_values
        if namespaces is not None:
            namespaces += more_namespaces
    return keys, namespaces, values
