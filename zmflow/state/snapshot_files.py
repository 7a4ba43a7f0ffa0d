"""``SnapshotFiles``: a checkpoint or savepoint, as it is read again: its metadata and its state files."""

from __future__ import annotations

from collections.abc import Iterator

from zmflow.config import Settings
from zmflow.errors import CheckpointFileMissingError, StateError
from zmflow.protocol.checkpoint_metadata import (
    METADATA_NAME,
    CheckpointMetadata,
    VertexRecord,
    decode_metadata,
)
from zmflow.protocol.checkpoints import StateFile
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage, parse_name
from zmflow.state.state_file import StateFileReader

__all__ = ["SnapshotFiles", "open_state_file"]


def open_state_file(file: StateFile, storage: CheckpointStorage | None) -> StateFileReader:
    """A reader of a state file of a checkpoint.

    Args:
        storage: of the checkpoint's location; not needed for state that is inline.
    """
    if not file.path:
        data = file.inline
        return StateFileReader(
            lambda offset, size: data[offset : offset + size], len(data), "in the metadata"
        )
    assert storage is not None, "a file of a checkpoint without a location"
    path = file.path
    return StateFileReader(
        lambda offset, size: storage.read(path, offset, size),
        file.size_bytes,
        f"{storage.location}/{path}",
    )


class SnapshotFiles:
    """A checkpoint or savepoint that is complete.

    Args:
        location: its directory; the path of its ``_metadata`` does as well.

    Raises:
        CheckpointStorageError: there is none, or it cannot be read.
        StateError: its metadata is damaged.
    """

    def __init__(self, location: str, settings: Settings) -> None:
        location = location.removesuffix(f"/{METADATA_NAME}")
        self.storage = open_storage(location, settings)
        try:
            data = self.storage.read(METADATA_NAME)
        except CheckpointFileMissingError as error:
            raise CheckpointFileMissingError(
                f"There is no checkpoint or savepoint in {location}.",
                detail=error.detail,
                hint="Give the directory of a completed one: it has a file _metadata.",
            ) from None
        self.metadata: CheckpointMetadata = decode_metadata(data, f"{location}/{METADATA_NAME}")

    @property
    def location(self) -> str:
        """Its directory."""
        return self.storage.location

    def files(self, vertex: VertexRecord) -> Iterator[StateFileReader]:
        """The state files of a vertex.

        Raises:
            CheckpointStorageError: one cannot be read.
            StateError: one is damaged.
        """
        for file in vertex.subtasks:
            if file is not None:
                yield open_state_file(file, self.storage)

    def check_sizes(self) -> None:
        """See that every file is there, and as long as it was.

        Raises:
            CheckpointFileMissingError: one is not there.
            StateError: one has another size.
        """
        sizes: dict[str, int] | None = None
        for vertex in self.metadata.vertices:
            for file in (*vertex.subtasks, *vertex.in_flight):
                if file is None or not file.path:
                    continue
                if parse_name(file.path)[0]:
                    found: int | None = self.storage.size(file.path)
                else:
                    sizes = dict(self.storage.list()) if sizes is None else sizes
                    found = sizes.get(file.path)
                place = f"{self.location}/{file.path}"
                if found is None:
                    raise CheckpointFileMissingError(
                        "A file of the snapshot is missing.",
                        detail=f"{place}, state of {vertex.name}.",
                        hint="Begin from another one.",
                    )
                if found != file.size_bytes:
                    raise StateError(
                        f"The state file {place} is damaged.",
                        detail=f"It has {found} bytes, and had {file.size_bytes}.",
                        hint="Begin from another one.",
                    )

    def stateful_operators(self) -> set[str]:
        """The ids of the operators that have state, be it that of a split enumerator.

        Raises:
            CheckpointStorageError: a file cannot be read.
            StateError: one is damaged.
        """
        found: set[str] = set()
        for vertex in self.metadata.vertices:
            if vertex.coordinator is not None:
                found.add(vertex.operators[0].operator_id)
            for reader in self.files(vertex):
                found.update(reader.operators)
                if len(found.intersection(o.operator_id for o in vertex.operators)) == len(vertex.operators):
                    break
        return found
