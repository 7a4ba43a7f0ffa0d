"""``faulty://``: a directory of checkpoints that breaks on demand, for tests of everything that uses one.

The location is that of the directory; behind the ``?`` is what goes wrong. Each process counts for itself,
over all locations with the same text there::

    faulty:///tmp/checkpoints?fail_every=3&on=write

``fail_every=N``      each N-th call raises a ``CheckpointStorageError``
``truncate_every=N``  each N-th file that is written loses its last byte, unnoticed
``flip_every=N``      each N-th file that is written gets one wrong bit, unnoticed
``hold=PATH``         calls wait as long as the file PATH is held, see ``hold``
``on=write,read``     which calls fail or wait: write, read, delete, list; all if not said
``name=TEXT``         means nothing: counts apart from locations with another name
"""

from __future__ import annotations

import fcntl
import itertools
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, get_args
from urllib.parse import parse_qsl

from zmflow.config import Settings
from zmflow.errors import ConfigurationError
from zmflow.state.checkpoint_storage import (
    API_VERSION,
    ENTRY_POINT_GROUP,
    CheckpointStorage,
    Operation,
    storage_failure,
)
from zmflow.state.directory_storage import DirectoryStorage

__all__ = ["FaultyStorage", "hold", "register_faulty_storage", "waiting_calls"]

_OPTIONS = {"fail_every", "truncate_every", "flip_every", "hold", "on", "name"}


class FaultyStorage(CheckpointStorage):
    """A directory with the faults that its location asks for."""

    api_version: ClassVar[int] = API_VERSION

    def __init__(self, location: str, settings: Settings) -> None:
        super().__init__(location, settings)
        address, _, query = location.partition("?")
        self._directory = DirectoryStorage(address.removeprefix("faulty://"), settings)
        self._faults = _faults_of(query)

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        self._faults.before("write", f"{self.location}: {name}")
        if not self._faults.damages:
            return self._directory.write(name, parts)
        content = b"".join(parts)
        self._directory.write(name, [self._faults.damaged(content)])
        return len(content)

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        self._faults.before("read", f"{self.location}: {name}")
        return self._directory.read(name, offset, size)

    def size(self, name: str) -> int:
        self._faults.before("read", f"{self.location}: {name}")
        return self._directory.size(name)

    def delete(self, names: Iterable[str]) -> None:
        self._faults.before("delete", self.location)
        self._directory.delete(names)

    def delete_all(self, kept: Container[str] = ()) -> None:
        self._faults.before("delete", self.location)
        self._directory.delete_all(kept)

    def list(self) -> Iterator[tuple[str, int]]:
        self._faults.before("list", self.location)
        return self._directory.list()

    def locations_with(self, name: str, depth_max: int) -> Iterator[str]:
        self._faults.before("list", self.location)
        address, mark, query = self.location.partition("?")
        root = self._directory.location
        for found in self._directory.locations_with(name, depth_max):
            yield address + found.removeprefix(root) + mark + query


class _Faults:
    """What goes wrong, and how often it was asked."""

    def __init__(self, query: str) -> None:
        options = dict(parse_qsl(query))
        self._fail_every = int(options.get("fail_every", 0))
        self._truncate_every = int(options.get("truncate_every", 0))
        self._flip_every = int(options.get("flip_every", 0))
        self._hold = options.get("hold")
        self._on = options.get("on", ",".join(get_args(Operation))).split(",")
        if options.keys() - _OPTIONS or set(self._on) - set(get_args(Operation)):
            raise ConfigurationError("A faulty location has an unknown fault.", detail=query)
        self.damages = bool(self._truncate_every or self._flip_every)
        self._calls = itertools.count(1)
        self._files = itertools.count(1)

    def before(self, operation: Operation, place: str) -> None:
        """Wait or fail, if it is time to."""
        if operation not in self._on:
            return
        if self._hold is not None:
            # A lock of the kernel: it holds other processes, too, and is let go when its holder dies.
            with Path(self._hold).open("a") as file:
                file.write(f"{operation} {place}\n")
                file.flush()
                fcntl.flock(file, fcntl.LOCK_SH)
        if self._fail_every and next(self._calls) % self._fail_every == 0:
            raise storage_failure(operation, place, f"fails at each call number {self._fail_every}")

    def damaged(self, content: bytes) -> bytes:
        """What is written instead."""
        number = next(self._files)
        if content and self._truncate_every and number % self._truncate_every == 0:
            content = content[:-1]
        if content and self._flip_every and number % self._flip_every == 0:
            middle = len(content) // 2
            content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        return content


@lru_cache(maxsize=64)
def _faults_of(query: str) -> _Faults:
    return _Faults(query)


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Let all calls wait whose location says ``hold=PATH``, in all processes, until this is left."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def waiting_calls(path: Path) -> list[str]:
    """The calls that came to ``hold``, by the operation and the place; those that went on, too."""
    return path.read_text().splitlines() if path.exists() else []


def register_faulty_storage(folder: Path) -> None:
    """Let ``folder`` have the plugin ``faulty``, for whoever has it in ``sys.path`` or ``PYTHONPATH``."""
    info = folder / "zmflow_faulty_storage-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: zmflow-faulty-storage\nVersion: 0\n")
    (info / "entry_points.txt").write_text(
        f"[{ENTRY_POINT_GROUP}]\nfaulty = zmflow.testing.faulty_storage:FaultyStorage\n"
    )
