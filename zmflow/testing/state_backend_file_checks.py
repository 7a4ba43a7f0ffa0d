"""The checks of state backends that are about native files: what incremental checkpoints consist of.

A backend that has none says so, and is then asked for nothing but a clear refusal.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from zmflow.config import Settings
from zmflow.errors import StateError
from zmflow.runtime.checkpoints.shared_uploads import SharedUploads
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage
from zmflow.state.descriptors import (
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.keys import key_group_range
from zmflow.state.native_files import NativeRestore
from zmflow.state.snapshots import KeyGroupSnapshot
from zmflow.state.state_file import PickledState
from zmflow.testing.state_backend_checks import (
    MAX_PARALLELISM,
    MakeBackend,
    StateBackendChecks,
    VirtualClock,
    holding,
)

__all__ = ["NativeFileChecks", "StoredBackends", "held_by"]

KEYS: list[Any] = [None, ("a", 1), 2**70, "text", b"bytes", *range(100)]


class StoredBackends:
    """Incremental checkpoints of backends in a directory, as tasks store them.

    Args:
        directory: an empty one; the caller removes it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._uploads = SharedUploads("v1-0-0")
        self._newest = 0

    def storage(self, number: int) -> CheckpointStorage:
        """Where a checkpoint is."""
        return open_storage(str(self._directory / f"chk-{number}"), Settings())

    def take(self, backend: KeyedStateBackend) -> NativeRestore | None:
        """One more checkpoint, complete, to restore from; None: the backend has nothing in files."""
        frozen = backend.freeze_files()
        if frozen is None:
            return None
        self._newest += 1
        storage = self.storage(self._newest)
        self._uploads.store(self._newest, PickledState((), [("operator", frozen)]), storage)
        self._uploads.completed(self._newest)
        frozen.close()
        frozen.close()  # as often as anybody likes
        assert frozen.manifest is not None
        return NativeRestore(frozen.manifest, storage)


def held_by(backends: Sequence[KeyedStateBackend]) -> list[KeyGroupSnapshot]:
    """What backends hold, by key group, in an order that follows from what it is."""
    found = []
    for backend in backends:
        for group in backend.key_groups:
            states = [
                replace(state, entries=sorted(state.entries, key=repr))
                for state in backend.snapshot(group).states
            ]
            found.append(KeyGroupSnapshot(group, tuple(sorted(states, key=lambda state: state.name))))
    return sorted(found, key=lambda snapshot: snapshot.group)


def _fill(backend: KeyedStateBackend, keys: Sequence[Any]) -> None:
    value = backend.get_state(ValueStateDescriptor[Any]("value"))
    elements = backend.get_state(ListStateDescriptor[Any]("list"), "window")
    entries = backend.get_state(MapStateDescriptor[str, Any]("map"))
    total = backend.get_state(ReducingStateDescriptor[int]("total", operator.add))
    for key in keys:
        backend.set_current_key(key)
        value.update(key)
        elements.add_all([key, None])
        entries.put("x", key)
        total.add(1)


class NativeFileChecks(StateBackendChecks):
    """A backend that has files goes on with them as they are, and can take entries out of those of others."""

    def test_who_has_no_files_says_so(self, make_backend: MakeBackend, clock: VirtualClock) -> None:
        """The capability is what the engine and the tools go by."""
        backend = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        holding(backend, backend.get_state(ValueStateDescriptor[int]("value")), {"a": 1})
        frozen = backend.freeze_files()
        assert (frozen is not None) is backend.capabilities.native_files
        if frozen is not None:
            frozen.close()
            return
        with pytest.raises(StateError) as raised:
            backend.restore_files([])
        assert "savepoint" in (raised.value.hint or "")

    def test_files_are_of_one_moment_and_gone_on_with(
        self, make_backend: MakeBackend, clock: VirtualClock, tmp_path: Path
    ) -> None:
        """What comes after the checkpoint is not in it, and what comes after the restore is in the next."""
        old, new, last = (make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock) for _ in range(3))
        checkpoints = StoredBackends(tmp_path)
        _fill(old, KEYS)
        expected = held_by([old])
        stored = checkpoints.take(old)
        if stored is None:
            return
        _fill(old, KEYS[:7])
        new.restore_files([stored])
        assert held_by([new]) == expected
        _fill(new, KEYS[:7])
        assert held_by([new]) == held_by([old])
        again = checkpoints.take(new)
        assert again is not None
        last.restore_files([again])
        assert held_by([last]) == held_by([old])

    @pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
    def test_entries_in_files_move_to_other_subtasks(
        self, make_backend: MakeBackend, clock: VirtualClock, tmp_path: Path, before: int, after: int
    ) -> None:
        """Each takes its key groups out of the files of every subtask that had some of them."""
        whole = make_backend(MAX_PARALLELISM, range(MAX_PARALLELISM), clock)
        _fill(whole, KEYS)
        checkpoints = StoredBackends(tmp_path)
        stored = []
        for index in range(before):
            old = make_backend(MAX_PARALLELISM, key_group_range(index, MAX_PARALLELISM, before), clock)
            for group in old.key_groups:
                old.restore(group, whole.snapshot(group))
            part = checkpoints.take(old)
            if part is None:
                return
            stored.append(part)
        backends = []
        for index in range(after):
            new = make_backend(MAX_PARALLELISM, key_group_range(index, MAX_PARALLELISM, after), clock)
            new.restore_files(
                [part for part in stored if set(part.manifest.key_groups) & set(new.key_groups)]
            )
            backends.append(new)
        assert held_by(backends) == held_by([whole])
