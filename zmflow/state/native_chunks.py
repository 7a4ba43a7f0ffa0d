"""What is in the files of a state backend, read without the job: by opening them in the backend itself."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from zmflow.errors import ConfigurationError, StateError
from zmflow.state.backend import BackendContext, load_state_backend
from zmflow.state.checkpoint_storage import CheckpointStorage
from zmflow.state.chunks import KeyedChunk
from zmflow.state.native_files import NativeManifest, NativeRestore

__all__ = ["native_chunks"]


def native_chunks(
    manifest: NativeManifest, storage: CheckpointStorage | None, max_parallelism: int
) -> Iterator[KeyedChunk]:
    """All that is in the files of one old subtask, by key group. The files are copied to this machine.

    Raises:
        ConfigurationError: the backend is not installed.
        CheckpointStorageError: a file cannot be read.
        StateError: one is damaged.
    """
    try:
        kind = load_state_backend(manifest.format)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"State is in files of the state backend {manifest.format!r}, which is not installed here.",
            detail=error.message,
            hint=f"Install zmflow-state-{manifest.format}, or look at a savepoint: it needs no backend.",
        ) from None
    with tempfile.TemporaryDirectory(prefix="zmflow-state-") as directory:
        backend = kind.for_task(
            max_parallelism, manifest.key_groups, lambda: 0, BackendContext(str(Path(directory) / "backend"))
        )
        try:
            backend.restore_files([NativeRestore(manifest, storage)])
            frozen = backend.freeze()
            if frozen is None:
                raise StateError(f"The state backend {manifest.format!r} cannot show its files.")
            try:
                yield from frozen.chunks()
            finally:
                frozen.close()
        finally:
            backend.close()
