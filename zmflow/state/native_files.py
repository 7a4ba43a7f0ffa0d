"""State in the files of its backend: how it gets into a checkpoint without being read, and out of it again.

A backend that has its state in files which never change, as RocksDB has, offers these instead of chunks.
Each such file is stored once, beside the locations of checkpoints, and later checkpoints only name it. The
chunk of kind ``native`` in the state file says which files there are, and has those that are small and
different each time.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import xxhash

from zmflow.errors import (
    CheckpointFileDamagedError,
    CheckpointFileMissingError,
    CheckpointStorageError,
    RestoreError,
    StateError,
)
from zmflow.state.checkpoint_storage import SHARED, CheckpointStorage, parse_name

__all__ = [
    "NATIVE",
    "TAKE_A_SAVEPOINT",
    "Adopted",
    "FetchCopy",
    "FrozenFiles",
    "NativeManifest",
    "NativeRestore",
    "NativeStateRecord",
    "StoredFile",
    "decode_manifest",
    "encode_manifest",
    "file_checksum",
    "foreign_files",
]

NATIVE = "native"
"""The kind of the chunk that describes the files of a backend."""

TAKE_A_SAVEPOINT = (
    "Restore with the backend that wrote it, and take a savepoint there: any backend can read that."
)
"""What to do about an incremental checkpoint of another state backend."""

READ_SIZE_BYTES = 4 * 2**20
"""Files are read in pieces of this size: large enough for object stores, small beside a slot's memory."""


class _Struct(msgspec.Struct, frozen=True, array_like=True):
    pass


class NativeStateRecord(_Struct, frozen=True):
    """One state that is in the files, for tools that do not know the format."""

    name: str
    kind: str
    namespaced: bool
    timed: bool


class StoredFile(_Struct, frozen=True):
    """A file of a backend that is shared between checkpoints.

    Args:
        name: as the backend calls it.
        stored: what the shared file is called.
        size_bytes: of the file.
        checksum: xxh64 of the file.
    """

    name: str
    stored: str
    size_bytes: int
    checksum: int


class NativeManifest(_Struct, frozen=True):
    """What the files of one backend are.

    Args:
        format: whose files they are: the name the backend is registered by.
        first_group, last_group: the key groups that are in them, both included.
        states: what is in them; their order is the backend's.
        description: what else the backend has to know to open them.
        own: small files that are different in each checkpoint.
        shared: the others.
    """

    format: str
    first_group: int
    last_group: int
    states: list[NativeStateRecord]
    description: bytes
    own: dict[str, bytes]
    shared: list[StoredFile]

    @property
    def key_groups(self) -> range:
        """The key groups that are in the files."""
        return range(self.first_group, self.last_group + 1)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(NativeManifest)


def encode_manifest(manifest: NativeManifest) -> bytes:
    """The content of the chunk.

    >>> empty = NativeManifest("rocksdb", 0, 127, [], b"", {}, [])
    >>> decode_manifest(encode_manifest(empty), "chk-1") == empty
    True
    """
    return _encoder.encode(manifest)


def decode_manifest(data: bytes, where: str) -> NativeManifest:
    """What is in the content of the chunk.

    Raises:
        StateError: it is damaged.
    """
    try:
        manifest = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateError(f"The list of native files in {where} is damaged.", detail=str(error)) from None
    names = {*manifest.own, *(name for file in manifest.shared for name in (file.name, file.stored))}
    for name in names:  # they become paths
        if not _is_plain(name):
            raise StateError(f"The list of native files in {where} is damaged.", detail=repr(name))
    return manifest


def _is_plain(name: str) -> bool:
    try:
        shared, _ = parse_name(name)
    except CheckpointStorageError:
        return False
    return not shared


@dataclass(slots=True, eq=False)
class FrozenFiles:
    """What a backend held at one moment, as files that do not change. Used by another thread than the task's.

    Args:
        format: the name the backend is registered by.
        identity: of the backend, different from those of all others. Within one, a name stands for one
            content for ever.
        key_groups: those of the backend.
        states: what is in the files.
        description: what else is needed to open them.
        directory: where they are. It is removed when they are given back.
        own: names of small files that are different each time.
        shared: names of files that may be in later checkpoints, too.
        manifest: what they are in the checkpoint, once they are stored.
    """

    format: str
    identity: str
    key_groups: range
    states: list[NativeStateRecord]
    description: bytes
    directory: Path
    own: list[str]
    shared: list[str]
    manifest: NativeManifest | None = None

    def described(self, shared: list[StoredFile]) -> None:
        """The shared ones are stored under these names."""
        self.manifest = NativeManifest(
            self.format,
            self.key_groups.start,
            self.key_groups.stop - 1,
            self.states,
            self.description,
            {name: (self.directory / name).read_bytes() for name in self.own},
            shared,
        )

    def close(self) -> None:
        """Give them back; called once or more often."""
        shutil.rmtree(self.directory, ignore_errors=True)


Adopted: TypeAlias = Callable[[str, NativeManifest], None]
"""Told that the backend of this identity goes on with files of a checkpoint."""

FetchCopy: TypeAlias = Callable[[StoredFile, Path], bool]
"""Lets a path be a shared file from somewhere nearer than the storage. False: it cannot."""


class NativeRestore:
    """Files of one old subtask that a backend is restored from.

    Args:
        manifest: what they are.
        storage: of the checkpoint's location.
        adopted: called when a backend goes on with these very files: with its identity.
        fetch_copy: asked for each shared file before the storage is.
    """

    def __init__(
        self,
        manifest: NativeManifest,
        storage: CheckpointStorage | None,
        adopted: Adopted | None = None,
        fetch_copy: FetchCopy = lambda _file, _path: False,
    ) -> None:
        self.manifest = manifest
        self._storage = storage
        self._adopted = adopted
        self._fetch_copy = fetch_copy

    def fetch(self, directory: Path) -> None:
        """Put the files into a directory, which is made. The shared ones must not be changed there.

        Raises:
            CheckpointStorageError: one cannot be read now.
            RestoreError: one is missing or damaged.
        """
        directory.mkdir(parents=True)
        for name, data in self.manifest.own.items():
            (directory / name).write_bytes(data)
        for file in self.manifest.shared:
            if self._fetch_copy(file, directory / file.name):
                continue
            try:
                self._fetch(file, directory / file.name)
            except (StateError, CheckpointFileDamagedError, CheckpointFileMissingError) as error:
                raise RestoreError(error.message, detail=error.detail, hint=error.hint) from error

    def _fetch(self, file: StoredFile, path: Path) -> None:
        assert self._storage is not None, "native files of a checkpoint without a location"
        self._storage.fetch(SHARED + file.stored, path)
        size = path.stat().st_size
        if size != file.size_bytes:
            why = f"It has {size} bytes, and had {file.size_bytes}."
        elif file_checksum(path) != file.checksum:
            why = "Its checksum is wrong."
        else:
            return
        raise StateError(
            f"The state file {self._storage.location}/{SHARED}{file.stored} is damaged.",
            detail=why,
            hint="Use an older checkpoint.",
        )

    def adopted(self, identity: str) -> None:
        """A backend goes on with these files, under their names."""
        if self._adopted is not None:
            self._adopted(identity, self.manifest)

    @contextmanager
    def fetched(self, base: str) -> Iterator[Path]:
        """The files in a directory that is removed afterwards.

        Args:
            base: the directory that it is made in; empty: that of temporary files.
        """
        if base:
            Path(base).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="restore-", dir=base or None) as directory:
            path = Path(directory) / "files"
            self.fetch(path)
            yield path


def foreign_files(format_: str, backend: str) -> str:
    """Why a job with this backend cannot go on from files of that format; empty: it can.

    >>> foreign_files("rocksdb", "hashmap")
    "Keyed state is in files of the state backend 'rocksdb', and the job has 'hashmap'."
    """
    if not format_ or format_ == backend:
        return ""
    return f"Keyed state is in files of the state backend {format_!r}, and the job has {backend!r}."


def file_checksum(path: Path) -> int:
    """The xxh64 of a file."""
    digest = xxhash.xxh64()
    with path.open("rb") as file:
        while data := file.read(READ_SIZE_BYTES):
            digest.update(data)
    return digest.intdigest()
