"""The file of a subtask in a checkpoint: all state of its operators, key group by key group.

Layout, numbers little endian::

    magic, 8 bytes, the last is the version
    chunks, one after the other. Entries by key: first keys and namespaces, then values, each as pickles of
        some entries one after the other (version 1: one pickle of all three). Other state: one pickle. Each
        part is compressed with lz4 where that makes it smaller
    index: MessagePack of ``StateIndex``
    footer: offset of the index u64 | its size u32 | its xxh64 u64 | magic

A chunk of kind ``native`` is the MessagePack of ``NativeManifest``: state that is in files of its backend.

The index names every chunk: its operator, state, kind, key groups, entries, sizes and checksum. So a tool can
list what a checkpoint holds without the program's classes, and a restored subtask reads the chunks of its
key groups and no others.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
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
from zmflow.state.pickled_chunks import (
    COMPRESS_MAX_BYTES,
    ChunkData,
    PickledChunk,
    pickled_chunks,
    unpicklable,
    unpickled_columns,
)

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

_MAGIC = b"ZMFLSTA\x02"
_VERSIONS_READ = (1, 2)
_FOOTER = struct.Struct("<QIQ8s")

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
    keys_stored_bytes: int = 0
    keys_raw_bytes: int = 0


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
    """A pickled chunk that has no place in a file yet. Plain bytes are as they are stored."""

    entry: ChunkEntry
    data: bytes | ChunkData
    keys: ChunkData | None = None

    def stored(self) -> tuple[ChunkEntry, bytes]:
        """What is stored, and the entry that says so."""
        if isinstance(self.data, bytes):
            return self.entry, self.data
        keys = self.keys.stored() if self.keys is not None else b""
        data = keys + self.data.stored()
        checksum = xxhash.xxh64_intdigest(data)
        return (
            msgspec.structs.replace(
                self.entry, stored_bytes=len(data), checksum=checksum, keys_stored_bytes=len(keys)
            ),
            data,
        )


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
            entry, stored = chunk.stored()
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
            for frozen_chunk in pickled_chunks(frozen.chunks()):
                yield operator_id, _keyed(frozen_chunk)


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
        chunks = list(map(_keyed, pickled_chunks(operator.keyed)))
        chunks += [_operator(state) for state in operator.operator if state.elements]
        pickled.append((operator.operator_id, chunks))
    return PickledState(pickled, frozen)


def _keyed(chunk: PickledChunk) -> _Raw:
    of = chunk.of
    entry = ChunkEntry(
        of.name,
        of.kind,
        of.first_group,
        of.last_group,
        chunk.entries,
        of.namespaces is not None,
        of.timed,
        0,
        0,
        chunk.keys.raw_bytes + chunk.values.raw_bytes,
        0,
        of.watermark_ms,
        0,
        chunk.keys.raw_bytes,
    )
    return _Raw(entry, chunk.values, chunk.keys)


def _native(manifest: NativeManifest) -> _Raw:
    data = encode_manifest(manifest)
    groups = (manifest.first_group, manifest.last_group)
    entry = ChunkEntry(manifest.format, NATIVE, *groups, 0, False, False, 0, 0, len(data), 0)
    return _Raw(entry, ChunkData(data))


def _operator(state: OperatorStateSnapshot) -> _Raw:
    try:
        data = pickle.dumps(state.elements, protocol=5)
    except Exception as error:
        raise unpicklable(state.name, None, error) from error
    kind = f"operator.{state.mode.value}"
    entry = ChunkEntry(state.name, kind, -1, -1, len(state.elements), False, False, 0, 0, len(data), 0)
    return _Raw(entry, ChunkData(data))


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
        if magic[-1] not in _VERSIONS_READ:
            raise StateError(
                f"The state file {where} was written by another version of zmflow.",
                detail=f"Its format has version {magic[-1]}, this zmflow reads {_MAGIC[-1]} and older ones.",
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
        of_operator = self.operators.get(operator_id, [])
        entries = of_operator if groups is None else self.keyed_entries(operator_id, groups)
        return [
            decode_manifest(self._raw(entry, self._stored(entry), entry.raw_bytes), self._where)
            for entry in entries
            if entry.kind == NATIVE
        ]

    def chunk(self, entry: ChunkEntry) -> KeyedChunk:
        """What there is at an entry of the index that belongs to keys."""
        keys, namespaces, values = self._load(entry, unpickled_columns)
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
            OperatorStateSnapshot(entry.name, _OPERATOR_KINDS[entry.kind], self._load(entry, _loads))
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

    def _load(self, entry: ChunkEntry, loads: Callable[[bytes, bytes], Any]) -> Any:
        data = self._stored(entry)
        split = entry.keys_stored_bytes
        keys = self._raw(entry, data[:split], entry.keys_raw_bytes)
        rest = self._raw(entry, data[split:], entry.raw_bytes - entry.keys_raw_bytes)
        try:
            return loads(keys, rest)
        except Exception as error:
            raise StateError(
                f"State in {self._where} cannot be read: {error}",
                detail=f"{_place_of(entry)}.",
                hint="The classes of what is kept must be where they were when the checkpoint was taken.",
            ) from error

    def _raw(self, entry: ChunkEntry, stored: bytes, raw_bytes: int) -> bytes:
        if len(stored) == raw_bytes:
            return stored
        if not 0 <= raw_bytes <= COMPRESS_MAX_BYTES:
            raise self._damaged(f"{_place_of(entry)}: {raw_bytes} bytes")
        data: bytes = lz4.block.decompress(stored, uncompressed_size=raw_bytes)
        return data

    def _damaged(self, why: str) -> StateError:
        return StateError(
            f"The state file {self._where} is damaged.", detail=f"{why}.", hint="Use an older checkpoint."
        )


def _loads(_keys: bytes, data: bytes) -> Any:
    return pickle.loads(data)


def _place_of(entry: ChunkEntry) -> str:
    return f"state {entry.name!r}, key groups {entry.first_group} to {entry.last_group}"
