"""The file of a subtask in a checkpoint: all state of its operators, key group by key group.

Layout, numbers little endian::

    magic, 8 bytes, the last is the version
    chunks, one after the other: pickled, compressed with lz4 where that makes them smaller
    index: MessagePack of ``StateIndex``
    footer: offset of the index u64 | its size u32 | its xxh64 u64 | magic

A chunk of kind ``native`` is the MessagePack of ``NativeManifest``: state that is in files of its backend.

The index names every chunk: its operator, state, kind, key groups, entries, sizes and checksum. So a tool can
list what a checkpoint holds without the program's classes, and a restored subtask reads the chunks of its
key groups and no others.
"""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import lz4.block
import msgspec
import xxhash

from zmflow.errors import StateError
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.native_files import (
    NATIVE,
    FrozenFiles,
    NativeManifest,
    decode_manifest,
    encode_manifest,
)
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot

if TYPE_CHECKING:
    from zmflow.state.backend import Frozen

__all__ = [
    "ChunkEntry",
    "OperatorIndex",
    "PickledState",
    "StateFileReader",
    "StateIndex",
    "pickle_state",
]

_MAGIC = b"ZMFLSTA\x01"
_FOOTER = struct.Struct("<QIQ8s")

CHUNK_SIZE_MAX_BYTES = 2**31 - 1
"""Largest chunk: what lz4 takes in one block. A key group of 2 GiB asks for more key groups."""

COMPRESS_FROM_BYTES = 256
"""Smaller chunks are stored as they are: the file has a block of 4 KiB for them in any case."""

_SCALARS = frozenset((str, bytes, int, float, bool, type(None)))

_OPERATOR_KINDS = {f"operator.{mode.value}": mode for mode in OperatorStateMode}


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class ChunkEntry(_Struct, frozen=True):
    """Where a chunk is and what is in it. Operator state has the key groups -1 to -1."""

    name: str
    kind: str
    first_group: int
    last_group: int
    entries: int
    namespaced: bool
    timed: bool
    offset: int
    stored_bytes: int
    raw_bytes: int
    checksum: int  # xxh64 of what is stored
    watermark_ms: int | None = None


class OperatorIndex(_Struct, frozen=True):
    """The chunks of one operator."""

    operator_id: str
    chunks: list[ChunkEntry]


class StateIndex(_Struct, frozen=True):
    """What a file holds."""

    operators: list[OperatorIndex]


_index_decoder = msgspec.msgpack.Decoder(StateIndex)


@dataclass(frozen=True, slots=True)
class _Raw:
    """A pickled chunk that has no place in a file yet. With a checksum the data is as it is stored."""

    entry: ChunkEntry
    data: bytes


class PickledState:
    """State that no program can change any more. ``parts`` makes a file of it, beside the task.

    Args:
        operators: by operator id, what is pickled.
        frozen: by operator id, what is read and pickled by ``parts``, piece by piece.
    """

    def __init__(
        self,
        operators: Sequence[tuple[str, list[_Raw]]],
        frozen: Sequence[tuple[str, Frozen]] = (),
    ) -> None:
        self._operators = operators
        self._frozen = frozen

    @property
    def empty(self) -> bool:
        """Whether there is no state at all."""
        return not self._frozen and not any(chunks for _, chunks in self._operators)

    @property
    def native(self) -> list[tuple[str, FrozenFiles]]:
        """By operator id, what is frozen in files: to be stored before ``parts`` is called."""
        return [(id_, frozen) for id_, frozen in self._frozen if isinstance(frozen, FrozenFiles)]

    def close(self) -> None:
        """Give back what is frozen."""
        for _, frozen in self._frozen:
            frozen.close()

    def with_file(self, file: memoryview) -> PickledState:
        """The same with the state in a file, which another process has made."""
        reader = StateFileReader(
            lambda offset, size: bytes(file[offset : offset + size]), len(file), "a snapshot"
        )
        operators = [
            (
                operator_id,
                [_Raw(one, bytes(file[one.offset : one.offset + one.stored_bytes])) for one in entries],
            )
            for operator_id, entries in reader.operators.items()
        ]
        return PickledState([*self._operators, *operators], self._frozen)

    @property
    def has_union(self) -> bool:
        """Whether some of it goes to every subtask when it is restored."""
        union = f"operator.{OperatorStateMode.UNION.value}"
        return any(chunk.entry.kind == union for _, chunks in self._operators for chunk in chunks)

    def with_more(self, other: PickledState) -> PickledState:
        """This and more: of an operator that both have, the chunks of both."""
        return PickledState([*self._operators, *other._operators], (*self._frozen, *other._frozen))

    def parts(self) -> Iterator[bytes]:
        """The bytes of the file, in pieces; once, if something is frozen."""
        yield _MAGIC
        position = len(_MAGIC)
        found: dict[str, list[ChunkEntry]] = {}
        for operator_id, chunk in self._chunks():
            entry, stored = chunk.entry, chunk.data
            if not entry.checksum:
                stored = _compressed(stored)
                checksum = xxhash.xxh64_intdigest(stored)
                entry = msgspec.structs.replace(entry, stored_bytes=len(stored), checksum=checksum)
            found.setdefault(operator_id, []).append(msgspec.structs.replace(entry, offset=position))
            yield stored
            position += len(stored)
        index = msgspec.msgpack.encode(StateIndex([OperatorIndex(*operator) for operator in found.items()]))
        yield index
        yield _FOOTER.pack(position, len(index), xxhash.xxh64_intdigest(index), _MAGIC)

    def _chunks(self) -> Iterator[tuple[str, _Raw]]:
        for operator_id, chunks in self._operators:
            for chunk in chunks:
                yield operator_id, chunk
        for operator_id, frozen in self._frozen:
            if isinstance(frozen, FrozenFiles):
                assert frozen.manifest is not None, "its files are not stored"
                yield operator_id, _native(frozen.manifest)
                continue
            for keyed in frozen.chunks():
                yield operator_id, _keyed(keyed)


def pickle_state(
    operators: Iterable[OperatorSnapshot], frozen: Sequence[tuple[str, Frozen]] = ()
) -> PickledState:
    """Pickle the state of a subtask: what the program does to its objects afterwards changes nothing.

    What is frozen, by operator id, does not change anyway: it is pickled when the file is made.

    Raises:
        StateError: something cannot be pickled; says which state and key.
    """
    pickled = []
    for operator in operators:
        chunks = [_keyed(chunk) for chunk in operator.keyed if chunk.keys]
        chunks += [_operator(state) for state in operator.operator if state.elements]
        pickled.append((operator.operator_id, chunks))
    return PickledState(pickled, frozen)


def _keyed(chunk: KeyedChunk) -> _Raw:
    data = _pickled(chunk)
    return _Raw(
        ChunkEntry(
            chunk.name,
            chunk.kind,
            chunk.first_group,
            chunk.last_group,
            len(chunk.keys),
            chunk.namespaces is not None,
            chunk.timed,
            0,
            0,
            len(data),
            0,
            chunk.watermark_ms,
        ),
        data,
    )


def _native(manifest: NativeManifest) -> _Raw:
    data = encode_manifest(manifest)
    groups = (manifest.first_group, manifest.last_group)
    return _Raw(ChunkEntry(manifest.format, NATIVE, *groups, 0, False, False, 0, 0, len(data), 0), data)


def _operator(state: OperatorStateSnapshot) -> _Raw:
    try:
        data = pickle.dumps(state.elements, protocol=5)
    except Exception as error:
        raise _unpicklable(state.name, None, error) from error
    kind = f"operator.{state.mode.value}"
    entry = ChunkEntry(state.name, kind, -1, -1, len(state.elements), False, False, 0, 0, len(data), 0)
    return _Raw(entry, data)


def _pickled(chunk: KeyedChunk) -> bytes:
    columns = (chunk.keys, chunk.namespaces, chunk.values)
    if all(_is_plain(column) for column in columns if column is not None):
        # Without the memo, scalars take half the time and less space.
        buffer = io.BytesIO()
        pickler = pickle.Pickler(buffer, protocol=5)
        pickler.fast = True
        pickler.dump(columns)
        return buffer.getvalue()
    try:
        return pickle.dumps(columns, protocol=5)
    except Exception as error:
        for key, _, value in chunk.entries():
            try:
                pickle.dumps((key, value), protocol=5)
            except Exception as own:  # noqa: BLE001 - whatever a value's own pickling code raises
                raise _unpicklable(chunk.name, key, own) from error
        raise _unpicklable(chunk.name, None, error) from error


def _is_plain(column: list[Any]) -> bool:
    kinds = set(map(type, column))
    if tuple in kinds:
        kinds.discard(tuple)
        kinds.update(map(type, chain.from_iterable(item for item in column if type(item) is tuple)))
    return kinds <= _SCALARS


def _unpicklable(name: str, key: object, error: Exception) -> StateError:
    of_key = "" if key is None else f" for the key {key!r:.80}"
    return StateError(
        f"The state {name!r} cannot be written to a checkpoint{of_key}: {error}",
        hint="Keep plain data in state: numbers, text, tuples, lists, dicts, dataclasses of a module.",
    )


def _compressed(data: bytes) -> bytes:
    if COMPRESS_FROM_BYTES <= len(data) <= CHUNK_SIZE_MAX_BYTES:
        stored: bytes = lz4.block.compress(data, store_size=False)
        if len(stored) < len(data):
            return stored
    return data


class StateFileReader:
    """Reads such a file.

    Args:
        read: the bytes at an offset: (offset, size).
        size_bytes: of the file.
        where: the file, for errors.

    Raises:
        StateError: it is damaged, no such file, or of another version.
    """

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int, where: str) -> None:
        self._read = read
        self._where = where
        if size_bytes < len(_MAGIC) + _FOOTER.size:
            raise self._damaged(f"it has {size_bytes} bytes")
        begin = size_bytes - _FOOTER.size
        offset, size, checksum, magic = _FOOTER.unpack(read(begin, _FOOTER.size))
        if magic[:-1] != _MAGIC[:-1]:
            raise self._damaged("its end is not that of a state file")
        if magic != _MAGIC:
            raise StateError(
                f"The state file {where} was written by another version of zmflow.",
                detail=f"Its format has version {magic[-1]}, this zmflow reads {_MAGIC[-1]}.",
            )
        if offset + size != begin:
            raise self._damaged("its index is not where it should be")
        data = read(offset, size)
        if xxhash.xxh64_intdigest(data) != checksum:
            raise self._damaged("the checksum of its index is wrong")
        try:
            index = _index_decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(str(error)) from None
        self._end = offset
        self.operators = {operator.operator_id: operator.chunks for operator in index.operators}

    def keyed_entries(self, operator_id: str, groups: range) -> list[ChunkEntry]:
        """Where there is what an operator kept for these key groups."""
        return [
            entry
            for entry in self.operators.get(operator_id, ())
            if 0 <= entry.first_group < groups.stop and entry.last_group >= groups.start
        ]

    def keyed(self, operator_id: str, groups: range, max_parallelism: int) -> list[KeyedChunk]:
        """What an operator kept for these key groups, but for what is in the files of a backend."""
        return [
            self.chunk(entry).within(groups, max_parallelism)
            for entry in self.keyed_entries(operator_id, groups)
            if entry.kind != NATIVE
        ]

    def native(self, operator_id: str, groups: range | None = None) -> list[NativeManifest]:
        """What the files of backends are that hold state of an operator, for these key groups or for all."""
        return [
            decode_manifest(self._content(entry), self._where)
            for entry in self.operators.get(operator_id, ())
            if entry.kind == NATIVE
            and (groups is None or (entry.first_group < groups.stop and entry.last_group >= groups.start))
        ]

    def chunk(self, entry: ChunkEntry) -> KeyedChunk:
        """What there is at an entry of the index that belongs to keys."""
        keys, namespaces, values = self._load(entry)
        return KeyedChunk(
            entry.name,
            entry.kind,
            entry.first_group,
            entry.last_group,
            keys,
            values,
            namespaces,
            entry.timed,
            entry.watermark_ms,
        )

    def operator(self, operator_id: str, name: str = "") -> list[OperatorStateSnapshot]:
        """The operator state of an operator: all of it, or the one with a name."""
        return [
            OperatorStateSnapshot(entry.name, _OPERATOR_KINDS[entry.kind], self._load(entry))
            for entry in self.operators.get(operator_id, ())
            if entry.kind in _OPERATOR_KINDS and (not name or entry.name == name)
        ]

    def copied(self, without: Collection[tuple[str, str]] = ()) -> PickledState:
        """All of it as it is, without knowing the classes of what is in it; but for what is in the files of a
        backend.

        Args:
            without: pairs of operator and state that are left out.
        """
        return PickledState(
            [
                (
                    operator_id,
                    [
                        _Raw(entry, self._stored(entry))
                        for entry in entries
                        if (operator_id, entry.name) not in without and entry.kind != NATIVE
                    ],
                )
                for operator_id, entries in self.operators.items()
            ]
        )

    def _stored(self, entry: ChunkEntry) -> bytes:
        if entry.stored_bytes < 0 or entry.offset < 0 or entry.offset + entry.stored_bytes > self._end:
            raise self._damaged(f"{_place_of(entry)}: outside of the file")
        stored = self._read(entry.offset, entry.stored_bytes)
        if xxhash.xxh64_intdigest(stored) != entry.checksum:
            raise self._damaged(f"{_place_of(entry)}: the checksum is wrong")
        return stored

    def _content(self, entry: ChunkEntry) -> bytes:
        data = self._stored(entry)
        if entry.stored_bytes != entry.raw_bytes:
            if not 0 <= entry.raw_bytes <= CHUNK_SIZE_MAX_BYTES:
                raise self._damaged(f"{_place_of(entry)}: {entry.raw_bytes} bytes")
            data = lz4.block.decompress(data, uncompressed_size=entry.raw_bytes)
        return data

    def _load(self, entry: ChunkEntry) -> Any:
        data = self._content(entry)
        try:
            return pickle.loads(data)
        except Exception as error:
            raise StateError(
                f"State in {self._where} cannot be read: {error}",
                detail=f"{_place_of(entry)}.",
                hint="The classes of what is kept must be where they were when the checkpoint was taken.",
            ) from error

    def _damaged(self, why: str) -> StateError:
        return StateError(
            f"The state file {self._where} is damaged.", detail=f"{why}.", hint="Use an older checkpoint."
        )


def _place_of(entry: ChunkEntry) -> str:
    return f"state {entry.name!r}, key groups {entry.first_group} to {entry.last_group}"
