"""What a restored subtask reads of a checkpoint: the files it was told, and in them its own part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from zmflow.config import Settings
from zmflow.config.options import STATE_BACKEND
from zmflow.errors import (
    CheckpointFileDamagedError,
    CheckpointFileMissingError,
    RestoreError,
    StateError,
)
from zmflow.execution.operator_snapshots import RestoredOperator
from zmflow.protocol.checkpoints import StateFile, SubtaskRestore
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.checkpoints.local_copies import LocalCopies
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage
from zmflow.state.chunks import STATE_KINDS, KeyedChunk
from zmflow.state.keys import key_group_range
from zmflow.state.native_files import (
    NATIVE,
    TAKE_A_SAVEPOINT,
    Adopted,
    NativeRestore,
    StoredFile,
    foreign_files,
)
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot, redistribute
from zmflow.state.snapshot_files import open_state_file
from zmflow.state.state_file import ChunkEntry, StateFileReader

__all__ = ["read_restored"]


def read_restored(
    deployment: TaskDeployment,
    operator_id: str,
    settings: Settings,
    adopted: Adopted | None = None,
    copies: LocalCopies | None = None,
) -> RestoredOperator | None:
    """What an operator of a task goes on from; None where it begins anew.

    Args:
        adopted: called when its state backend goes on with native files of the checkpoint as they are.
        copies: read in place of the checkpoint's files where they are whole; None: there are none.

    Raises:
        RestoreError: a file is missing or damaged, or holds what cannot be read.
        CheckpointStorageError: a file cannot be read now.
    """
    with _restoring():
        restore = deployment.restore
        if restore is None or restore.finished:
            return None
        storage = open_storage(restore.location, settings) if restore.location else None
        copies = copies or LocalCopies("", deployment, settings)
        files = _Files(restore.checkpoint_id, storage, copies, adopted, settings[STATE_BACKEND])
        return _read(deployment, restore, operator_id, files)


@dataclass(frozen=True, slots=True)
class _Files:
    """Where the files of a checkpoint are: in its storage, and perhaps nearer."""

    checkpoint_id: int
    storage: CheckpointStorage | None
    copies: LocalCopies
    adopted: Adopted | None
    backend: str

    def open(self, file: StateFile) -> StateFileReader:
        return open_state_file(file, self.storage, self.copies.find(self.checkpoint_id, file))

    def native_parts(self, reader: StateFileReader, operator_id: str, groups: range) -> list[NativeRestore]:
        """What of an operator's state is in files of its backend.

        Raises:
            RestoreError: they are another backend's.
        """
        parts = []
        for manifest in reader.native(operator_id, groups):
            if why := foreign_files(manifest.format, self.backend):
                raise RestoreError(why, hint=TAKE_A_SAVEPOINT)
            parts.append(NativeRestore(manifest, self.storage, self.adopted, self._fetch_copy))
        return parts

    def _fetch_copy(self, file: StoredFile, path: Path) -> bool:
        return self.copies.fetch(self.checkpoint_id, file, path)


def _read(
    deployment: TaskDeployment, restore: SubtaskRestore, operator_id: str, files: _Files
) -> RestoredOperator:
    of_operator = next((one for one in restore.operators if one.operator_id == operator_id), None)
    if of_operator is None:
        return RestoredOperator(restore.checkpoint_id)
    groups = key_group_range(deployment.subtask_index, deployment.max_parallelism, deployment.parallelism)
    keyed: list[KeyedChunk] = []
    later: dict[int, list[tuple[StateFileReader, ChunkEntry]]] = {}
    native: list[NativeRestore] = []
    for file in of_operator.keyed:
        reader = files.open(file)
        native += files.native_parts(reader, operator_id, groups)
        for entry in reader.keyed_entries(operator_id, groups):
            if entry.kind == NATIVE:
                continue
            if entry.kind in STATE_KINDS and entry.first_group == entry.last_group:
                later.setdefault(entry.first_group, []).append((reader, entry))
            else:
                keyed.append(reader.chunk(entry).within(groups, deployment.max_parallelism))
    by_group = _ByGroup([later[group] for group in sorted(later)])
    if any(chunk.kind in STATE_KINDS for chunk in keyed):
        # A group's state must be whole when it is restored.
        keyed += [chunk for chunks in by_group for chunk in chunks]
        by_group = _ByGroup(())
    held: list[list[OperatorStateSnapshot]] = [
        [] if file is None else files.open(file).operator(operator_id) for file in of_operator.operator
    ]
    if of_operator.own:
        operator = [state for states in held for state in states]
    elif of_operator.parallelism == deployment.parallelism:
        # All files, because some of it goes to everybody; the rest stays where it was.
        own = held[deployment.subtask_index]
        operator = [state for state in own if state.mode is not OperatorStateMode.UNION]
        everybodys = [[state for state in states if state.mode is OperatorStateMode.UNION] for states in held]
        operator += redistribute(everybodys, deployment.parallelism)[deployment.subtask_index]
    else:
        operator = redistribute(held, deployment.parallelism)[deployment.subtask_index]
    return RestoredOperator(restore.checkpoint_id, keyed, operator, by_group, native)


class _ByGroup:
    """Reads the chunks of one key group after the other."""

    def __init__(self, groups: Sequence[list[tuple[StateFileReader, ChunkEntry]]]) -> None:
        self._groups = groups

    def __iter__(self) -> Iterator[list[KeyedChunk]]:
        for entries in self._groups:
            with _restoring():
                chunks = [reader.chunk(entry) for reader, entry in entries]
            yield chunks


@contextmanager
def _restoring() -> Iterator[None]:
    try:
        yield
    except (StateError, CheckpointFileDamagedError, CheckpointFileMissingError) as error:
        raise RestoreError(error.message, detail=error.detail, hint=error.hint) from error
