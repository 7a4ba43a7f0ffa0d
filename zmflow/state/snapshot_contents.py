"""What a checkpoint or savepoint holds, operator by operator and state by state.

All of it is in the indexes of its files, so neither the program nor its classes are needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from zmflow.errors import StateError
from zmflow.state.native_files import NATIVE, NativeManifest
from zmflow.state.snapshot_files import SnapshotFiles

__all__ = ["OperatorContents", "SnapshotContents", "StateContents", "contents_of"]


@dataclass(frozen=True, slots=True)
class StateContents:
    """One state of an operator, in all files.

    Args:
        kind: what it is: value, list, map, timers, operator.split, ...
        entries: how many: keys, or keys and namespaces; elements of operator state. -1: it is in files of a
            state backend, which have to be opened to know.
        size_bytes: as it is stored.
        key_groups: how many of them its chunks cover; 0 for operator state.
        namespaced: whether each key has several, one for each window.
        expires: whether it has a time to live.
    """

    name: str
    kind: str
    entries: int
    size_bytes: int
    key_groups: int
    namespaced: bool
    expires: bool


@dataclass(frozen=True, slots=True)
class OperatorContents:
    """One operator.

    Args:
        finished: how many of its tasks had finished.
        enumerator_bytes: of the split enumerator of a source.
        in_flight_bytes: of records that were on their way to it, which its barriers overtook.
    """

    operator_id: str
    uid: str
    name: str
    vertex: str
    parallelism: int
    max_parallelism: int
    finished: int
    states: list[StateContents]
    enumerator_bytes: int = 0
    in_flight_bytes: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotContents:
    """A checkpoint or savepoint."""

    location: str
    kind: str
    checkpoint_id: int
    job_id: str
    job_name: str
    triggered_wall_ms: int
    size_bytes: int
    operators: list[OperatorContents]
    written_bytes: int = 0  # for this one; the rest is in files of earlier ones

    def operator(self, wanted: str) -> OperatorContents:
        """The operator with this uid, id or name.

        Raises:
            StateError: there is none, or several have the name.
        """
        for found in (
            [o for o in self.operators if wanted in (o.uid, o.operator_id)],
            [o for o in self.operators if o.name == wanted],
        ):
            if len(found) == 1:
                return found[0]
        known = ", ".join(o.uid or f"{o.name} ({o.operator_id[:8]})" for o in self.operators)
        raise StateError(
            f"{self.location} has no operator {wanted!r}, or several.",
            detail=f"It has: {known}.",
            hint="Give the uid or the id of the operator.",
        )


def contents_of(files: SnapshotFiles) -> SnapshotContents:
    """What a snapshot holds.

    Raises:
        CheckpointStorageError: a file cannot be read.
        StateError: one is damaged.
    """
    operators = []
    for vertex in files.metadata.vertices:
        found: dict[str, dict[tuple[str, str], StateContents]] = {}
        counted: set[tuple[str, str, str, int]] = set()  # much state of a key group is in several chunks
        for reader in files.files(vertex):
            for operator_id, chunks in reader.operators.items():
                states = found.setdefault(operator_id, {})
                for manifest in reader.native(operator_id):
                    _add_native(states, manifest)
                for chunk in chunks:
                    if chunk.kind == NATIVE:
                        continue
                    place = (operator_id, chunk.kind, chunk.name, chunk.first_group)
                    is_new = chunk.first_group >= 0 and place not in counted
                    counted.add(place)
                    groups = chunk.last_group - chunk.first_group + 1 if is_new else 0
                    before = states.get((chunk.kind, chunk.name))
                    states[chunk.kind, chunk.name] = StateContents(
                        chunk.name,
                        chunk.kind,
                        chunk.entries + (before.entries if before else 0),
                        chunk.stored_bytes + (before.size_bytes if before else 0),
                        groups + (before.key_groups if before else 0),
                        chunk.namespaced,
                        chunk.timed,
                    )
        operators += [
            OperatorContents(
                operator.operator_id,
                operator.uid,
                operator.name,
                vertex.name,
                vertex.parallelism,
                vertex.max_parallelism,
                len(vertex.finished),
                list(found.get(operator.operator_id, {}).values()),
                len(vertex.coordinator) if vertex.coordinator is not None and not place else 0,
                sum(file.size_bytes for file in vertex.in_flight if file is not None) if not place else 0,
            )
            for place, operator in enumerate(vertex.operators)
        ]
    meta = files.metadata
    return SnapshotContents(
        files.location,
        meta.kind,
        meta.checkpoint_id,
        meta.job_id,
        meta.job_name,
        meta.triggered_wall_ms,
        meta.state_bytes,
        operators,
        meta.written_bytes,
    )


def _add_native(states: dict[tuple[str, str], StateContents], manifest: NativeManifest) -> None:
    """What the files of one old subtask hold: their size is all that is known without opening them."""
    groups = len(manifest.key_groups)
    for state in manifest.states:
        before = states.get((state.kind, state.name))
        covered = groups + (before.key_groups if before else 0)
        states[state.kind, state.name] = StateContents(
            state.name, state.kind, -1, 0, covered, state.namespaced, state.timed
        )
    size = sum(file.size_bytes for file in manifest.shared) + sum(map(len, manifest.own.values()))
    before = states.get((NATIVE, manifest.format))
    states[NATIVE, manifest.format] = StateContents(
        f"{manifest.format} files",
        NATIVE,
        len(manifest.shared) + (before.entries if before else 0),
        size + (before.size_bytes if before else 0),
        groups + (before.key_groups if before else 0),
        False,
        False,
    )
