"""``ObjectStoreStorage``: the files of a checkpoint as objects below a prefix of a bucket."""

from __future__ import annotations

import builtins
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError

from zmflow.config import Settings
from zmflow.errors import CheckpointStorageError, ConfigurationError
from zmflow.state.checkpoint_storage import (
    API_VERSION,
    CheckpointStorage,
    Operation,
    check_range,
    parse_name,
    storage_failure,
)
from zmflow_checkpoint_obstore.options import client_of
from zmflow_checkpoint_obstore.reasons import hint_for, reason_of

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

__all__ = ["ObjectStoreStorage"]

PART_SIZE_BYTES = 8 << 20
"""S3 takes 10,000 parts of at least 5 MiB: files of up to 80 GB. What is smaller is one request."""

PARTS_AT_ONCE = 4
"""Parts on their way at the same time: with the one being filled 40 MiB for each file that is written."""


class ObjectStoreStorage(CheckpointStorage):
    """The files of one checkpoint in a bucket. Their keys are the location's path and their names."""

    api_version: ClassVar[int] = API_VERSION

    def __init__(self, location: str, settings: Settings) -> None:
        super().__init__(location, settings)
        url = urlsplit(location)
        path = unquote(url.path).strip("/")
        if not url.netloc or not path:
            raise ConfigurationError(
                "A whole bucket cannot be a checkpoint.",
                detail=location,
                hint=f"Name a directory in it: {url.scheme}://bucket/checkpoints.",
            )
        self._bucket = f"{url.scheme}://{url.netloc}"
        self._client = client_of(self._bucket + (f"?{url.query}" if url.query else ""))
        self._prefix = path
        self._shared = f"{path.rpartition('/')[0]}/shared".lstrip("/")

    def write(self, name: str, parts: Iterable[bytes | memoryview]) -> int:
        key = self._key(name)
        size = 0
        with self._failures_of("write", key):
            # Not obstore.put(), which would ask for the parts while its event loop waits: they might use the
            # store themselves. A writer that is dropped, not closed, publishes nothing.
            writer = obstore.open_writer(
                self._client, key, buffer_size=PART_SIZE_BYTES, max_concurrency=PARTS_AT_ONCE
            )
        for part in parts:
            # The writer keeps what it is given; what is not bytes may change when the next part is asked for.
            content = part if isinstance(part, bytes) else bytes(part)
            size += len(content)
            if content:
                with self._failures_of("write", key):
                    writer.write(content)
        with self._failures_of("write", key):
            writer.close()
        return size

    def read(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        key = self._key(name)
        if offset < 0 or (size is not None and size <= 0):
            # No request has a range of no bytes.
            check_range(self._place(key), self.size(name), offset, size)
            return b""
        options: GetOptions = {}
        if size is not None:
            options["range"] = (offset, offset + size)
        elif offset:
            options["range"] = {"offset": offset}
        try:
            with self._failures_of("read", key):
                result = obstore.get(self._client, key, options=options)
                found = result.meta["size"]
                content = result.bytes().to_bytes()
        except CheckpointStorageError as failure:
            # Servers refuse a range that begins behind the end, and that is all they say.
            if "416" not in str(failure.__cause__) or check_range(
                self._place(key), self.size(name), offset, size
            ):
                raise
            return b""
        check_range(self._place(key), min(found, offset + len(content)), offset, size)
        return content

    def size(self, name: str) -> int:
        key = self._key(name)
        with self._failures_of("read", key):
            return obstore.head(self._client, key)["size"]

    def delete(self, names: Iterable[str]) -> None:
        self._delete([self._key(name) for name in names])

    def delete_all(self, kept: Container[str] = ()) -> None:
        keys = [entry["path"] for entry in self._entries("delete")]
        self._delete([key for key in keys if key.rpartition("/")[2] not in kept])

    def list(self) -> Iterator[tuple[str, int]]:
        entries = self._entries("list")
        return iter(sorted((entry["path"].rpartition("/")[2], entry["size"]) for entry in entries))

    def locations_with(self, name: str, depth_max: int) -> Iterator[str]:
        found: set[tuple[str, ...]] = set()
        with self._failures_of("list", self._prefix):
            for entries in obstore.list(self._client, self._prefix):
                for entry in entries:
                    *directories, last = entry["path"].removeprefix(self._prefix).split("/")[1:]
                    if last == name and len(directories) <= depth_max:
                        found.add(tuple(directories))
        outer = (one for one in found if not any(one[:depth] in found for depth in range(len(one))))
        address, mark, query = self.location.partition("?")
        return iter(["/".join([address, *directories]) + mark + query for directories in sorted(outer)])

    def _entries(self, operation: Operation) -> builtins.list[ObjectMeta]:
        with self._failures_of(operation, self._prefix):
            return list(obstore.list_with_delimiter(self._client, self._prefix)["objects"])

    def _delete(self, keys: builtins.list[str]) -> None:
        try:
            with self._failures_of("delete", self._prefix):
                obstore.delete(self._client, keys)
        except CheckpointStorageError as failure:
            if not isinstance(failure.__cause__, FileNotFoundError):
                raise
            # Stores that delete one by one stop at the first object that is missing.
            for key in keys:
                with self._failures_of("delete", key), suppress(FileNotFoundError):
                    obstore.delete(self._client, key)

    def _key(self, name: str) -> str:
        shared, plain = parse_name(name)
        return f"{self._shared if shared else self._prefix}/{plain}"

    def _place(self, key: str) -> str:
        return f"{self._bucket}/{key}"

    @contextmanager
    def _failures_of(self, operation: Operation, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            missing = operation == "read" and isinstance(error, FileNotFoundError)
            raise storage_failure(
                operation, self._place(key), reason_of(error), hint=hint_for(error), missing=missing
            ) from error
