"""``CheckpointStorage``: where the files of one checkpoint are. A plugin kind.

A *location* is the directory of one checkpoint: an absolute path, ``file:///...``, or the URL of a plugin,
which is a subclass registered under its URL scheme in the entry-point group ``zmflow.checkpoint_storages``.
Files have plain names. ``../shared/NAME`` is a file beside the location, for what several checkpoints use.
``zmflow.testing.checkpoint_storage_tests`` says and checks what must hold.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NoReturn, TypeAlias
from urllib.parse import SplitResult, unquote, urlsplit

from zmflow.config import Settings
from zmflow.errors import (
    CheckpointFileDamagedError,
    CheckpointFileMissingError,
    CheckpointStorageError,
    ConfigurationError,
)
from zmflow.plugins import load_plugin
from zmflow.protocol.checkpoints import LOCATION_SIZE_MAX_BYTES, StateFile

__all__ = [
    "API_VERSION",
    "ENTRY_POINT_GROUP",
    "NAME_SIZE_MAX_BYTES",
    "SHARED",
    "UNFINISHED",
    "CheckpointStorage",
    "Operation",
    "absolute_location",
    "check_range",
    "join_location",
    "open_storage",
    "parse_name",
    "shared_location",
    "storage_failure",
    "validate_location",
    "written_names",
]

API_VERSION = 1
"""The version of this interface. A storage written for another one is refused."""

ENTRY_POINT_GROUP = "zmflow.checkpoint_storages"

NAME_SIZE_MAX_BYTES = 200
"""Longest name of a file: file systems take 255, and a file has a longer name while it is written."""

SHARED = "../shared/"
"""What the name of a file begins with that lies beside the location."""

UNFINISHED = ".unfinished"
"""What no name ends in: a storage may call files so that are being written."""

FETCH_SIZE_BYTES = 8 * 2**20
"""Files are fetched in pieces of this size: the part size of object stores, and little beside a slot's
memory."""

Operation: TypeAlias = Literal["write", "read", "delete", "list"]

_DOING = {
    "write": "A checkpoint file cannot be written.",
    "read": "A checkpoint file cannot be read.",
    "delete": "Checkpoint files cannot be deleted.",
    "list": "The files of a checkpoint cannot be listed.",
}
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*")
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCATIONS = (
    "Write an absolute path or a URL: /mnt/checkpoints, file:///mnt/checkpoints, s3://bucket/checkpoints."
)


class CheckpointStorage(ABC):
    """The files of one checkpoint. Any thread may call any method; several do at once.

    Every failure is a ``CheckpointStorageError``. A storage that waits for others gives up at some time, and
    says when.

    Args:
        location: the directory of the checkpoint, as ``validate_location`` returns it. It need not exist.
        settings: of the process.
    """

    api_version: ClassVar[int]

    def __init__(self, location: str, settings: Settings) -> None:
        self.location = location
        self.settings = settings

    @abstractmethod
    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        """Publish a file that consists of these parts, and return its size.

        Readers see all of it or nothing (before: what it replaces). When this returns, the file outlives a
        loss of power. What ``parts`` raises is raised, and then nothing was published. A part may change when
        the next one is asked for.
        """

    @abstractmethod
    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """``size`` bytes from ``offset``, or all from there to the end.

        Raises:
            CheckpointFileMissingError: there is no such file.
            CheckpointStorageError: the file is shorter than that, or cannot be read.
        """

    def fetch(self, name: str, path: Path) -> None:
        """Let a file of this machine hold what a file of the storage holds. Nobody may change it: it may be
        the same file. There must be none of this name.

        Raises:
            CheckpointFileMissingError: there is no such file.
            CheckpointStorageError: it cannot be read, or the other one cannot be written.
        """
        size = self.size(name)
        try:
            with path.open("xb") as file:  # never into what may be linked to
                for offset in range(0, size, FETCH_SIZE_BYTES):
                    file.write(self.read(name, offset, min(FETCH_SIZE_BYTES, size - offset)))
        except OSError as error:
            raise storage_failure("write", str(path), error.strerror or type(error).__name__) from error

    @abstractmethod
    def size(self, name: str) -> int:
        """The size of a file in bytes.

        Raises:
            CheckpointFileMissingError: there is no such file.
        """

    @abstractmethod
    def delete(self, names: Iterable[str]) -> None:
        """Delete these files. Those that are missing are fine. After a failure others may be there still."""

    @abstractmethod
    def delete_all(self, kept: Container[str] = ()) -> None:
        """Delete the location with its files, unfinished ones too; but no file that is kept, by its name.
        Shared files stay, and are not in it.
        """

    @abstractmethod
    def list(self) -> Iterator[tuple[str, int]]:
        """Name and size of each file, by name; of no file that is shared or unfinished.

        A location that does not exist has no files. The shared files are those of the location
        ``join_location(base, "shared")``.
        """

    @abstractmethod
    def locations_with(self, name: str, depth_max: int) -> Iterator[str]:
        """This location and those in it, so many directories down, that have a file of this name. Whether
        some of their own have one as well is not asked. A location that does not exist has none.
        """


def open_storage(location: str, settings: Settings) -> CheckpointStorage:
    """The storage of a location.

    Raises:
        ConfigurationError: the location is none, or no storage is installed for its scheme.
    """
    location = validate_location(location)
    if location.startswith("/"):
        # Not looked up: walking over all installed packages would take longer than writing a file.
        from zmflow.state.directory_storage import DirectoryStorage

        return DirectoryStorage(location, settings)
    return _plugin(location.partition(":")[0])(location, settings)


@lru_cache(maxsize=16)
def _plugin(scheme: str) -> type[CheckpointStorage]:
    plugin = load_plugin(ENTRY_POINT_GROUP, scheme)
    if not (isinstance(plugin, type) and issubclass(plugin, CheckpointStorage)):
        raise ConfigurationError(
            f"The plugin {scheme!r} of {ENTRY_POINT_GROUP} is no checkpoint storage.",
            detail=repr(plugin),
            hint="It must be a subclass of zmflow.state.checkpoint_storage.CheckpointStorage.",
        )
    if plugin.api_version != API_VERSION:
        raise ConfigurationError(
            f"The checkpoint storage {scheme!r} is of version {plugin.api_version} of the interface.",
            detail=f"This zmflow has version {API_VERSION}.",
            hint="Install a release of the plugin that fits this release of zmflow.",
        )
    return plugin


def validate_location(text: str) -> str:
    """A location in its one form: a path for the local file system, else a URL; no slash at its end.

    Whether anything is there, and whether a plugin is installed, is not looked at.

    Raises:
        ConfigurationError: it is none; says what to write.

    >>> validate_location("file:///mnt/check%20points/")
    '/mnt/check points'
    >>> validate_location("S3://bucket//jobs/?region=eu-north-1")
    's3://bucket/jobs?region=eu-north-1'
    """
    text = text.strip()
    if not text:
        _refuse(text, "is empty")
    if not text.isprintable():
        _refuse(text, "has characters that cannot be printed")
    if len(text.encode()) > LOCATION_SIZE_MAX_BYTES:
        _refuse(text[:40] + "…", f"is longer than {LOCATION_SIZE_MAX_BYTES} bytes")
    if text.startswith("/"):
        return "/" + _path(text, text)
    scheme = _URL.match(text)
    if scheme is None:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", text):
            _refuse(text, "has no :// behind its scheme")
        _refuse(text, "is a relative path, which is another directory in each process")
    try:
        url = urlsplit(text)
        password = url.password
    except ValueError:
        _refuse(text, "is no URL")
    if password is not None:
        _refuse(scheme[0] + "…", "holds a password, and locations are shown to people", _BY_ENVIRONMENT)
    return _file(text, url) if url.scheme == "file" else _remote(text, url)


_BY_ENVIRONMENT = "Give credentials to the processes by their environment."


def _file(text: str, url: SplitResult) -> str:
    if url.netloc not in ("", "localhost"):
        _refuse(text, f"names the host {url.netloc!r}", "Write three slashes: file:///mnt/checkpoints.")
    if url.query or url.fragment:
        _refuse(text, "has a ? or # in a file's URL", "Write %3F and %23, or the plain path.")
    path = unquote(url.path)
    if not path.isprintable():
        _refuse(text, "has characters that cannot be printed")
    return "/" + _path(path, text)


def _remote(text: str, url: SplitResult) -> str:
    if url.fragment:
        _refuse(text, "has a part behind #")
    path = _path(url.path, text)
    if not (url.netloc or path):
        _refuse(text, "names nothing behind its scheme")
    return (
        f"{url.scheme}://{url.netloc}" + (f"/{path}" if path else "") + (f"?{url.query}" if url.query else "")
    )


def _path(path: str, text: str) -> str:
    components = [component for component in path.split("/") if component]
    if any(component in (".", "..") for component in components):
        _refuse(text, "has . or .. in its path")
    return "/".join(components)


def _refuse(text: str, reason: str, hint: str = _LOCATIONS) -> NoReturn:
    raise ConfigurationError(f"The location of checkpoints {reason}.", detail=repr(text), hint=hint)


def absolute_location(text: str) -> str:
    """The location that a person means who writes a path: relative ones begin at the current directory.

    >>> absolute_location("savepoints").endswith("/savepoints"), absolute_location("s3://bucket/savepoints")
    (True, 's3://bucket/savepoints')
    """
    return text if _URL.match(text) else str(Path(text).expanduser().absolute())


def join_location(base: str, *parts: str) -> str:
    """The location of a directory below another one. What is behind the ``?`` of a URL stays.

    >>> join_location("/mnt/checkpoints/", "a1b2", "chk-7")
    '/mnt/checkpoints/a1b2/chk-7'
    >>> join_location("s3://bucket?region=eu-north-1", "a1b2")
    's3://bucket/a1b2?region=eu-north-1'
    """
    base = validate_location(base)
    for part in parts:
        if not _NAME.fullmatch(part):
            _refuse(part, "gets a part that is no plain name", "Use letters, digits and _ . = - in it.")
    if base.startswith("/"):
        return validate_location("/".join((base, *parts)))
    address, mark, query = base.partition("?")
    return validate_location("/".join((address, *parts)) + mark + query)


def shared_location(location: str) -> str:
    """Where the shared files of a location are, as a location.

    >>> shared_location("/mnt/checkpoints/a1b2/chk-7")
    '/mnt/checkpoints/a1b2/shared'
    >>> shared_location("s3://bucket/a1b2/chk-7?region=eu-north-1")
    's3://bucket/a1b2/shared?region=eu-north-1'
    """
    address, mark, query = (location, "", "") if location.startswith("/") else location.partition("?")
    return join_location(address.rpartition("/")[0] + mark + query, "shared")


def written_names(*files: StateFile | None) -> list[str]:
    """What was written for a part of a checkpoint: its own files, and those shared ones that are new."""
    written = [file for file in files if file is not None]
    own = [file.path for file in written if file.path]
    return own + [SHARED + shared.name for file in written for shared in file.shared if shared.fresh]


def parse_name(name: str) -> tuple[bool, str]:
    """Whether a file is a shared one, and its plain name. Each method of a storage looks at names by this.

    Raises:
        CheckpointStorageError: it is no name. Names may come out of damaged files.

    >>> parse_name("../shared/0c5e")
    (True, '0c5e')
    """
    shared = name.startswith(SHARED)
    plain = name.removeprefix(SHARED)
    if len(plain) > NAME_SIZE_MAX_BYTES or not _NAME.fullmatch(plain) or plain.endswith(UNFINISHED):
        raise CheckpointStorageError(
            "A checkpoint file has an impossible name.",
            detail=repr(name if len(name) <= 2 * NAME_SIZE_MAX_BYTES else name[:NAME_SIZE_MAX_BYTES] + "…"),
            hint=f"{NAME_SIZE_MAX_BYTES} letters, digits and _ . = - at most, {SHARED} before them or not.",
        )
    return shared, plain


def check_range(place: str, found: int, offset: int, size: int | None) -> int:
    """How many bytes a read gets from a file that has ``found`` bytes.

    Raises:
        CheckpointFileDamagedError: the file is shorter.

    >>> check_range("/mnt/chk-1/state", 100, 60, None)
    40
    """
    wanted = max(found - offset, 0) if size is None else size
    if offset < 0 or wanted < 0 or offset + wanted > found:
        upto = "" if size is None else f" {size} bytes"
        raise CheckpointFileDamagedError(
            "A checkpoint file is shorter than it should be.",
            detail=f"{place} has {found} bytes; asked for{upto} from byte {offset}.",
            hint="It is damaged: begin from another checkpoint.",
        )
    return wanted


def storage_failure(
    operation: Operation, place: str, reason: str, *, hint: str | None = None, missing: bool = False
) -> CheckpointStorageError:
    """The error of a storage: what it was doing, where, and the reason that it was given.

    >>> print(storage_failure("write", "/mnt/chk-1/state", "No space left on device"))
    A checkpoint file cannot be written.
    /mnt/chk-1/state: No space left on device.
    """
    kind = CheckpointFileMissingError if missing else CheckpointStorageError
    return kind(_DOING[operation], detail=f"{place}: {reason.rstrip('.')}.", hint=hint)
