"""``Database``: RocksDB in a directory that ends with it. Opened when something is written first."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from rocksdict import (
    AccessType,
    BlockBasedOptions,
    Checkpoint,
    DBCompressionType,
    Options,
    Rdict,
    RdictIter,
    ReadOptions,
    WriteBatch,
    WriteOptions,
)

from zmflow.errors import RestoreError, StateError
from zmflow_state_rocksdb.memory import SlotMemory

__all__ = ["Database", "Reader", "after", "open_files", "scan"]

BLOOM_BITS_PER_KEY = 10
"""One in a hundred of the reads of keys that are not there looks into a file."""

_END = b"\xff" * 8
"""Behind all keys: there are fewer states than 0xffff."""

_HINT = "Set env.run.dir of the TaskManager to a directory with room."


class Reader(Protocol):
    """A database, or a snapshot of one."""

    def iter(self, read_opt: ReadOptions) -> RdictIter: ...


def scan(reader: Reader, prefix: bytes, begin: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Keys that begin with ``prefix``, in order, with their values; from ``begin`` on. It shows what there
    was when it began, whatever is written meanwhile."""
    options = ReadOptions()
    options.set_iterate_upper_bound(after(prefix))
    found = reader.iter(options)
    found.seek(prefix if begin is None else begin)
    while found.valid():
        yield found.key(), found.value()
        found.next()
    found.status()  # raises what ended it too early


def after(prefix: bytes) -> bytes:
    """The first key behind all that begin with ``prefix``.

    >>> after(b"ab"), after(bytes((1, 255)))
    (b'ac', b'\\x02')
    """
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,)) if kept else _END


class Database:
    """The bytes of one backend.

    Args:
        directory: where the database's own directory is made; "": with the system's temporary files.
        memory: what it shares with others.
    """

    def __init__(self, directory: str, memory: SlotMemory) -> None:
        self._directory = directory
        self._memory = memory
        self._path: Path | None = None
        self._rocks: Any = None
        # State is restored from checkpoints: a log of what is written would be read by nobody.
        self._unlogged = WriteOptions()
        self._unlogged.disable_wal = True  # type: ignore[method-assign, assignment]

    @property
    def is_open(self) -> bool:
        """Whether anything was ever written."""
        return self._rocks is not None

    @property
    def reader(self) -> Reader:
        """Reads what there is now; only where it is open."""
        reader: Reader = self._rocks
        return reader

    def get(self, key: bytes) -> bytes | None:
        """The value of a key."""
        if self._rocks is None:
            return None
        value: bytes | None = self._rocks.get(key)
        return value

    def scan(self, prefix: bytes, begin: bytes | None = None) -> Iterator[tuple[bytes, bytes]]:
        """See ``scan``; nothing where nothing was written."""
        return iter(()) if self._rocks is None else scan(self._rocks, prefix, begin)

    def batch(self) -> WriteBatch:
        """Collects what ``write`` writes."""
        return WriteBatch(raw_mode=True)

    def write(self, batch: WriteBatch) -> None:
        """Write all of it.

        Raises:
            StateError: it could not be written.
        """
        if batch.is_empty():
            return
        try:
            self._opened().write(batch, self._unlogged)
        except Exception as error:
            raise StateError(
                "Keyed state could not be written to disk.", detail=f"{self._path}: {error}", hint=_HINT
            ) from error

    def snapshot(self) -> Reader:
        """What there is now, for ever; outlives the database. Only where it is open."""
        snapshot: Reader = self._rocks.snapshot()
        return snapshot

    @property
    def identity(self) -> str:
        """Different from that of every other database; only where it is open."""
        assert self._path is not None
        return self._path.name

    def checkpoint(self) -> Path:
        """A new directory that has what there is now: links to the files that never change, and the few
        others. Only where it is open.

        Raises:
            StateError: the disk is full, or has another fault.
        """
        assert self._path is not None
        directory = Path(tempfile.mkdtemp(prefix="checkpoint-", dir=self._path.parent))
        try:
            # What is unwritten goes into a file first: without a log it would be missing.
            self._rocks.flush()
            directory.rmdir()
            Checkpoint(self._rocks).create_checkpoint(str(directory))
        except Exception as error:
            shutil.rmtree(directory, ignore_errors=True)
            raise StateError(
                "The database for keyed state could not make a checkpoint.",
                detail=f"{directory}: {error}",
                hint=_HINT,
            ) from error
        return directory

    def adopt(self, fill: Callable[[Path], None]) -> None:
        """Open what somebody puts into the directory of the database. Nothing was written before.

        Args:
            fill: makes the directory.

        Raises:
            RestoreError: it cannot be opened.
        """
        path = self._new_path()
        path.rmdir()
        fill(path)
        self._rocks = open_files(path, self._memory)

    def close(self) -> None:
        """Forget everything, and remove the files."""
        rocks, self._rocks = self._rocks, None
        if rocks is not None:
            rocks.close()
        if self._path is not None:
            shutil.rmtree(self._path, ignore_errors=True)
            self._path = None

    def _opened(self) -> Any:
        if self._rocks is None:
            try:
                self._rocks = Rdict(str(self._new_path()), _options(self._memory))
            except Exception as error:
                raise StateError(
                    "The database for keyed state could not be opened.",
                    detail=f"{self._directory or tempfile.gettempdir()}: {error}",
                    hint=_HINT,
                ) from error
        return self._rocks

    def _new_path(self) -> Path:
        if self._directory:
            Path(self._directory).mkdir(parents=True, exist_ok=True)
        self._path = Path(tempfile.mkdtemp(prefix="rocksdb-", dir=self._directory or None))
        return self._path


def open_files(path: Path, memory: SlotMemory, *, only_read: bool = False) -> Any:
    """The database whose files are in a directory.

    Raises:
        RestoreError: they are damaged, or of a version that cannot be read.
    """
    access = AccessType.read_only() if only_read else AccessType.read_write()
    try:
        return Rdict(str(path), _options(memory), access_type=access)
    except Exception as error:
        raise RestoreError(
            "The database in the checkpoint cannot be opened.",
            detail=str(error),
            hint="Use an older checkpoint.",
        ) from error


def _options(memory: SlotMemory) -> Options:
    blocks = BlockBasedOptions()
    blocks.set_block_cache(memory.cache)
    blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    # Else they were beside what is counted, and grew with the state.
    blocks.set_cache_index_and_filter_blocks(True)
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(True)
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_block_based_table_factory(blocks)
    options.set_write_buffer_manager(memory.buffers)
    options.set_write_buffer_size(memory.buffer_bytes)
    options.set_compression_type(DBCompressionType.lz4())
    options.set_level_compaction_dynamic_level_bytes(True)
    options.set_max_log_file_size(2**20)
    options.set_keep_log_file_num(1)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    return options
