"""Read the state of a savepoint or checkpoint, and write savepoints: to look, to repair, to begin with data.

::

    from zmflow.state.reader import SnapshotReader, SnapshotWriter

    reader = SnapshotReader("/mnt/savepoints/savepoint-3f2a10-0c5e77aa01b2")
    counts = reader.keyed_state("counts", "count")
    fixed = SnapshotWriter(reader)
    fixed.keyed_state("counts", "count", ((key, abs(count)) for key, count in counts))
    fixed.write("/mnt/savepoints/fixed")

Values are unpickled, so their classes must be importable, and the snapshot must be one that you trust.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from typing import Any, NamedTuple

from zmflow.config import Settings
from zmflow.config.checkpoint_options import INLINE_THRESHOLD
from zmflow.errors import ConfigurationError, StateError
from zmflow.ids import operator_id_of
from zmflow.protocol.checkpoint_metadata import (
    METADATA_NAME,
    CheckpointMetadata,
    OperatorRecord,
    VertexRecord,
    encode_metadata,
)
from zmflow.protocol.checkpoints import StateFile
from zmflow.state.checkpoint_storage import CheckpointStorage, absolute_location, open_storage
from zmflow.state.chunks import KeyedChunk, OperatorSnapshot
from zmflow.state.descriptors import StateKind
from zmflow.state.keys import key_group, key_group_range, owner_of_group
from zmflow.state.native_chunks import native_chunks
from zmflow.state.operator_state import OperatorStateMode, OperatorStateSnapshot
from zmflow.state.snapshot_contents import OperatorContents, SnapshotContents, contents_of
from zmflow.state.snapshot_files import SnapshotFiles, open_state_file
from zmflow.state.snapshots import without_times
from zmflow.state.state_file import PickledState, StateFileReader, pickle_state

__all__ = ["KeyedEntry", "SnapshotReader", "SnapshotWriter"]

KEY_GROUPS = 128
"""Of a savepoint that is written from nothing: Flink's number for jobs of up to 85 subtasks."""


class KeyedEntry(NamedTuple):
    """What one key has in a state; in one that is kept by window, in one window: the ``namespace``."""

    key: Any
    namespace: Any
    value: Any


class SnapshotReader:
    """The state of one savepoint or checkpoint.

    Args:
        path: its directory, as a path or a URL.
        settings: of the process; the defaults do for paths.

    Raises:
        CheckpointStorageError: there is none, or it cannot be read.
        StateError: it is damaged.
    """

    def __init__(self, path: str, settings: Settings | None = None) -> None:
        self.files = SnapshotFiles(absolute_location(path), settings or Settings())
        self.contents: SnapshotContents = contents_of(self.files)

    def operators(self) -> list[OperatorContents]:
        """Its operators, with their uids and states."""
        return self.contents.operators

    def keyed_entries(self, operator: str, state: str) -> Iterator[KeyedEntry]:
        """What every key has in a state, file by file: key, namespace and value.

        Values are as functions put them there: of a LIST state a list, of a MAP state a dict. When they were
        touched last is left out.

        Args:
            operator: its uid, its id or its name.
            state: the name of the state; timers and what operators keep themselves have names, too.

        Raises:
            ConfigurationError: it is in files of a state backend that is not installed here.
            StateError: there is no such operator or state, or it is damaged.
        """
        found = self.contents.operator(operator)
        if not any(s.name == state and s.key_groups for s in found.states):
            raise self._unknown(found, state)
        for reader in self._files_of(found):
            for chunk in self._chunks(reader, found):
                if chunk.name == state:
                    yield from self._entries(chunk)

    def _chunks(self, reader: StateFileReader, of: OperatorContents) -> Iterator[KeyedChunk]:
        yield from reader.keyed(of.operator_id, range(of.max_parallelism), of.max_parallelism)
        for manifest in reader.native(of.operator_id):
            yield from native_chunks(manifest, self.files.storage, of.max_parallelism)

    def keyed_state(self, operator: str, state: str) -> Iterator[tuple[Any, Any]]:
        """What every key has in a state: pairs of key and value. As ``keyed_entries``, without windows."""
        for key, _, value in self.keyed_entries(operator, state):
            yield key, value

    def operator_state(self, operator: str, state: str) -> list[Any]:
        """The elements of an operator state of all subtasks, in their order.

        Raises:
            StateError: there is no such operator or state, or it is damaged.
        """
        found = self.contents.operator(operator)
        if not any(s.name == state and s.kind.startswith("operator.") for s in found.states):
            raise self._unknown(found, state)
        return [
            element
            for reader in self._files_of(found)
            for held in reader.operator(found.operator_id)
            if held.name == state
            for element in held.elements
        ]

    def to_arrow(self, operator: str, state: str) -> Any:
        """A keyed state as an Arrow table with the columns key, value and, of states by window, namespace.

        Raises:
            ConfigurationError: pyarrow is not installed.
        """
        return _optional("pyarrow", "arrow").table(self._columns(operator, state))

    def to_pandas(self, operator: str, state: str) -> Any:
        """A keyed state as a data frame, with the columns of ``to_arrow``.

        Raises:
            ConfigurationError: pandas is not installed.
        """
        return _optional("pandas", "pandas").DataFrame(self._columns(operator, state))

    def _columns(self, operator: str, state: str) -> dict[str, list[Any]]:
        entries = list(self.keyed_entries(operator, state))
        columns = {"key": [e.key for e in entries], "value": [e.value for e in entries]}
        if any(entry.namespace is not None for entry in entries):
            columns["namespace"] = [entry.namespace for entry in entries]
        return columns

    def _files_of(self, operator: OperatorContents) -> Iterator[StateFileReader]:
        for vertex in self.files.metadata.vertices:
            if any(record.operator_id == operator.operator_id for record in vertex.operators):
                yield from self.files.files(vertex)

    @staticmethod
    def _entries(chunk: KeyedChunk) -> Iterator[KeyedEntry]:
        kinds = {kind.value: kind for kind in StateKind}
        for key, namespace, value in chunk.entries():
            timed = chunk.timed and chunk.kind in kinds
            yield KeyedEntry(key, namespace, without_times(kinds[chunk.kind], value) if timed else value)

    def _unknown(self, operator: OperatorContents, state: str) -> StateError:
        known = ", ".join(f"{s.name} ({s.kind})" for s in operator.states)
        return StateError(
            f"{operator.uid or operator.name} has no such state {state!r} in {self.contents.location}.",
            detail=f"It has: {known or 'none'}.",
        )


def _optional(package: str, extra: str) -> Any:
    try:
        return import_module(package)
    except ImportError:
        raise ConfigurationError(
            f"{package} is not installed.", hint=f"pip install 'zmflow[{extra}]'."
        ) from None


class _Operator:
    """What is to be written of one operator, by subtask."""

    def __init__(self, record: OperatorRecord, parallelism: int, max_parallelism: int) -> None:
        self.record = record
        self.parallelism = parallelism
        self.max_parallelism = max_parallelism
        self.replaced: set[str] = set()
        self.keyed: list[list[KeyedChunk]] = [[] for _ in range(parallelism)]
        self.operator: list[list[OperatorStateSnapshot]] = [[] for _ in range(parallelism)]


class SnapshotWriter:
    """Makes a savepoint: from nothing, or as another one with some states replaced.

    Args:
        base: what it begins with; states that are not replaced are copied as they are.
        max_parallelism: key groups of operators that the base has not.
        parallelism: into how many files the state of such operators goes.
    """

    def __init__(
        self, base: SnapshotReader | None = None, *, max_parallelism: int = KEY_GROUPS, parallelism: int = 1
    ) -> None:
        if not 1 <= parallelism <= max_parallelism:
            raise StateError(
                f"State in {parallelism} files has {max_parallelism} key groups.",
                hint="There must be as many key groups as files, at least.",
            )
        self._base = base
        self._max_parallelism = max_parallelism
        self._parallelism = parallelism
        self._operators: dict[str, _Operator] = {}

    def keyed_state(
        self,
        operator: str,
        state: str,
        entries: Iterable[tuple[Any, Any]],
        kind: StateKind | str = StateKind.VALUE,
    ) -> None:
        """Put a keyed state into the savepoint, in place of one of this name that the base has.

        Args:
            operator: its uid; in the base also its id or name.
            state: the name that the descriptor has.
            entries: pairs of key and value: of a LIST state a list, of a MAP state a dict, of an AGGREGATING
                state the accumulator.
            kind: of the state.
        """
        to = self._operator(operator)
        to.replaced.add(state)
        rows: list[tuple[list[Any], list[Any]]] = [([], []) for _ in range(to.parallelism)]
        for key, value in entries:
            group = key_group(key, to.max_parallelism)
            keys, values = rows[owner_of_group(group, to.max_parallelism, to.parallelism)]
            keys.append(key)
            values.append(value)
        for subtask, (keys, values) in enumerate(rows):
            groups = key_group_range(subtask, to.max_parallelism, to.parallelism)
            chunk = KeyedChunk(state, StateKind(kind).value, groups.start, groups.stop - 1, keys, values)
            to.keyed[subtask].append(chunk)

    def operator_state(
        self,
        operator: str,
        state: str,
        elements: Iterable[Any],
        mode: OperatorStateMode = OperatorStateMode.SPLIT,
    ) -> None:
        """Put an operator state into the savepoint, in place of one of this name that the base has."""
        to = self._operator(operator)
        to.replaced.add(state)
        to.operator[0].append(OperatorStateSnapshot(state, mode, list(elements)))

    def remove(self, operator: str, state: str) -> None:
        """Leave a state of the base out."""
        self._operator(operator).replaced.add(state)

    def write(self, path: str, settings: Settings | None = None) -> str:
        """Write the savepoint; its metadata last. Returns its location.

        Args:
            path: its directory, as a path or a URL.

        Raises:
            CheckpointStorageError: it cannot be written, or something is there.
            StateError: a value cannot be pickled.
        """
        settings = settings or Settings()
        storage = open_storage(absolute_location(path), settings)
        if any(storage.list()):
            raise StateError(f"{storage.location} is not empty.", hint="Name a directory that is new.")
        base = self._base.files if self._base is not None else None
        vertices = []
        left = dict(self._operators)
        for number, vertex in enumerate(base.metadata.vertices if base is not None else ()):
            own = [left.pop(o.operator_id) for o in vertex.operators if o.operator_id in left]
            vertices.append(_rewritten(vertex, own, base, storage, f"v{number}", settings))
        for number, new in enumerate(left.values(), len(vertices)):
            record = VertexRecord(
                new.record.uid,
                new.record.name,
                new.parallelism,
                new.max_parallelism,
                [new.record],
                [None] * new.parallelism,
            )
            vertices.append(_rewritten(record, [new], None, storage, f"v{number}", settings))
        old = base.metadata if base is not None else CheckpointMetadata("0" * 32, "", 1, "savepoint", 0, [])
        metadata = CheckpointMetadata(
            old.job_id, old.job_name, old.checkpoint_id, "savepoint", old.triggered_wall_ms, vertices
        )
        storage.write(METADATA_NAME, [encode_metadata(metadata)])
        return storage.location

    def _operator(self, wanted: str) -> _Operator:
        parallelism, max_parallelism = self._parallelism, self._max_parallelism
        record = OperatorRecord(operator_id_of(wanted), wanted, wanted)
        for contents in self._base.operators() if self._base is not None else ():
            if wanted in (contents.uid, contents.operator_id, contents.name):
                record = OperatorRecord(contents.operator_id, contents.uid, contents.name)
                parallelism, max_parallelism = contents.parallelism, contents.max_parallelism
        if record.operator_id not in self._operators:
            self._operators[record.operator_id] = _Operator(record, parallelism, max_parallelism)
        return self._operators[record.operator_id]


def _rewritten(
    vertex: VertexRecord,
    operators: list[_Operator],
    base: SnapshotFiles | None,
    storage: CheckpointStorage,
    name: str,
    settings: Settings,
) -> VertexRecord:
    """A vertex with its files in the new place."""
    from msgspec import structs

    replaced = {(o.record.operator_id, state) for o in operators for state in o.replaced}
    before = [None] * vertex.parallelism if base is None else _readers(vertex, base)
    files: list[StateFile | None] = []
    for subtask, reader in enumerate(before):
        kept = PickledState([]) if reader is None or base is None else _copied(reader, base, vertex, replaced)
        fresh = pickle_state(
            OperatorSnapshot(o.record.operator_id, o.keyed[subtask], o.operator[subtask]) for o in operators
        )
        files.append(_stored(kept.with_more(fresh), storage, f"{name}-{subtask}.state", settings))
    in_flight: list[StateFile | None] = []
    for subtask, overtaken in enumerate(vertex.in_flight):
        if overtaken is None or base is None:
            in_flight.append(None)
        else:
            copied = open_state_file(overtaken, base.storage).copied()
            in_flight.append(_stored(copied, storage, f"{name}-{subtask}.in-flight", settings))
    return structs.replace(vertex, subtasks=files, in_flight=in_flight)


def _stored(
    state: PickledState, storage: CheckpointStorage, path: str, settings: Settings
) -> StateFile | None:
    """State in the new place, or with the metadata where it is small."""
    if state.empty:
        return None
    parts = list(state.parts())
    size = sum(map(len, parts))
    if size < settings[INLINE_THRESHOLD]:
        return StateFile("", size, b"".join(parts), state.has_union)
    return StateFile(path, storage.write(path, parts), b"", state.has_union)


def _copied(
    reader: StateFileReader, base: SnapshotFiles, vertex: VertexRecord, replaced: set[tuple[str, str]]
) -> PickledState:
    """A state file as it is, without some states. What is in files of a backend becomes readable for all."""
    read = [
        OperatorSnapshot(
            operator_id,
            [
                chunk
                for manifest in reader.native(operator_id)
                for chunk in native_chunks(manifest, base.storage, vertex.max_parallelism)
                if (operator_id, chunk.name) not in replaced
            ],
            [],
        )
        for operator_id in reader.operators
    ]
    return reader.copied(replaced).with_more(pickle_state(read))


def _readers(vertex: VertexRecord, base: SnapshotFiles) -> list[StateFileReader | None]:
    readers = iter(base.files(vertex))
    return [None if file is None else next(readers) for file in vertex.subtasks]
