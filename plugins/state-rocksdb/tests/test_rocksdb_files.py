"""What RocksDB offers to incremental checkpoints: its own files, gone on with as they are, or copied from."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from zmflow_state_rocksdb import RocksDBKeyedStateBackend, native

from zmflow.config import Settings
from zmflow.errors import RestoreError
from zmflow.protocol.checkpoints import SharedFile
from zmflow.runtime.checkpoints.shared_uploads import SharedUploads
from zmflow.state.backend import BackendContext, KeyedStateBackend
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage
from zmflow.state.descriptors import (
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.keys import key_group, key_group_range
from zmflow.state.native_files import NativeManifest, NativeRestore
from zmflow.state.state_file import PickledState
from zmflow.state.ttl import StateTtlConfig
from zmflow.testing.state_backend_checks import VirtualClock

GROUPS = 128


class Job:
    """Backends of one operator, and the checkpoints they are in."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._made: list[RocksDBKeyedStateBackend] = []
        self.clock = VirtualClock()
        self.uploads = SharedUploads("v1-0-0")

    def backend(self, groups: range = range(GROUPS)) -> RocksDBKeyedStateBackend:
        context = BackendContext(str(self._directory / "disk"))
        made = RocksDBKeyedStateBackend(GROUPS, groups, self.clock, context)
        self._made.append(made)
        return made

    def storage(self, number: int) -> CheckpointStorage:
        return open_storage(str(self._directory / "job" / f"chk-{number}"), Settings())

    def checkpoint(self, backend: KeyedStateBackend, number: int) -> tuple[NativeManifest, list[SharedFile]]:
        """Store the files of a backend, as a task does."""
        frozen = backend.freeze_files()
        assert frozen is not None
        state = PickledState((), [("op", frozen)])
        shared = self.uploads.store(number, state, self.storage(number))
        state.close()
        assert frozen.manifest is not None
        return frozen.manifest, shared

    def close(self) -> None:
        for backend in self._made:
            backend.close()


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    """Closed afterwards; nothing of it is left on the disk of the worker."""
    job = Job(tmp_path)
    yield job
    job.close()
    assert list((tmp_path / "disk").iterdir()) == []


def fill(backend: KeyedStateBackend, keys: range) -> None:
    """Something in each kind of state, with namespaces and without."""
    value = backend.get_state(ValueStateDescriptor[int]("value"))
    elements = backend.get_state(ListStateDescriptor[Any]("list"), ("w", 0))
    entries = backend.get_state(MapStateDescriptor[Any, Any]("map"))
    total = backend.get_state(ReducingStateDescriptor[int]("sum", operator.add))
    for key in keys:
        backend.set_current_key(key)
        value.update(key)
        elements.add_all([key, "x"])
        entries.put(key, 0.5)
        total.add(1)


def held(*backends: KeyedStateBackend) -> list[Any]:
    """All that backends hold."""
    return sorted(
        (group, state.name, state.namespaced, state.timed, repr(sorted(state.entries, key=repr)))
        for backend in backends
        for group in backend.key_groups
        for state in backend.snapshot(group).states
    )


def test_a_backend_goes_on_with_its_files(job: Job) -> None:
    """What is restored is what there was, also when it is changed and restored once more."""
    old = job.backend()
    fill(old, range(500))
    manifest, _ = job.checkpoint(old, 1)
    expected = held(old)
    new = job.backend()
    new.restore_files([NativeRestore(manifest, job.storage(1))])
    assert held(new) == expected
    for backend in (old, new):
        fill(backend, range(300, 700))
    assert held(new) == held(old)
    again = job.backend()
    again.restore_files([NativeRestore(job.checkpoint(new, 2)[0], job.storage(2))])
    assert held(again) == held(old)


def test_only_what_is_new_is_written(job: Job) -> None:
    """Files of a complete checkpoint are named again; unchanged state writes nothing."""
    backend = job.backend()
    fill(backend, range(500))
    _, first = job.checkpoint(backend, 1)
    job.uploads.completed(1)
    _, second = job.checkpoint(backend, 2)
    assert [file.fresh for file in first] == [True]
    assert [(file.name, file.fresh) for file in second] == [(first[0].name, False)]
    fill(backend, range(5))
    _, third = job.checkpoint(backend, 3)
    assert sum(file.size_bytes for file in third if file.fresh) < first[0].size_bytes / 4
    assert [file.name for file in third if not file.fresh] == [first[0].name]


def test_what_no_complete_checkpoint_has_is_written_again(job: Job) -> None:
    """Files of a checkpoint that was given up are deleted: nobody may name them again."""
    backend = job.backend()
    fill(backend, range(500))
    _, first = job.checkpoint(backend, 1)
    job.uploads.aborted(1)
    _, second = job.checkpoint(backend, 2)
    assert all(file.fresh for file in second)
    assert not {file.name for file in first} & {file.name for file in second}


def test_a_restored_backend_names_the_files_it_came_from(job: Job) -> None:
    """A restart costs no whole checkpoint; beginning in another directory does."""
    backend = job.backend()
    fill(backend, range(500))
    manifest, first = job.checkpoint(backend, 1)
    for location, fresh in ((job.storage(1).location, False), ("/elsewhere/chk-1", True)):
        new = job.backend()
        job.uploads = SharedUploads("v1-0-1")
        adopted = partial(job.uploads.adopted, 1, location)
        new.restore_files([NativeRestore(manifest, job.storage(1), adopted)])
        _, second = job.checkpoint(new, 2)
        assert [file.fresh for file in second] == [fresh]
        assert (second[0].name == first[0].name) is not fresh


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
def test_entries_are_copied_to_other_subtasks(job: Job, before: int, after: int) -> None:
    """At another parallelism each subtask takes its key groups out of the files of all that have some."""
    old = [job.backend(key_group_range(index, GROUPS, before)) for index in range(before)]
    whole = job.backend()
    fill(whole, range(500))
    for backend in old:
        for group in backend.key_groups:
            backend.restore(group, whole.snapshot(group))
    manifests = [job.checkpoint(backend, number)[0] for number, backend in enumerate(old, 1)]
    new = [job.backend(key_group_range(index, GROUPS, after)) for index in range(after)]
    for backend in new:
        backend.restore_files(
            [
                NativeRestore(manifest, job.storage(1))
                for manifest in manifests
                if set(manifest.key_groups) & set(backend.key_groups)
            ]
        )
    assert held(*new) == held(whole)
    for backend in new:  # what is added to lists comes behind what was there
        elements = backend.get_state(ListStateDescriptor[Any]("list"), ("w", 0))
        for key in list(backend.keys("list", ("w", 0))):
            backend.set_current_key(key)
            elements.add("last")
            assert list(elements.get()) == [key, "x", "last"]


def test_states_may_be_numbered_in_another_order(job: Job) -> None:
    """A number stands for a state within one database only: those of two are told apart by their names."""
    halves = [job.backend(key_group_range(index, GROUPS, 2)) for index in range(2)]
    names = ("one", "two")
    for backend, order in zip(halves, (names, names[::-1]), strict=True):
        for name in order:
            state = backend.get_state(ValueStateDescriptor[str](name))
            for key in range(100):
                if key_group(key, GROUPS) in backend.key_groups:
                    backend.set_current_key(key)
                    state.update(name)
    manifests = [job.checkpoint(backend, number)[0] for number, backend in enumerate(halves, 1)]
    new = job.backend()
    new.restore_files([NativeRestore(manifest, job.storage(1)) for manifest in manifests])
    for name in names:
        state = new.get_state(ValueStateDescriptor[str](name))
        for key in range(100):
            new.set_current_key(key)
            assert state.value() == name


def test_a_time_to_live_may_come_and_go(job: Job) -> None:
    """State without one is restored as state with one, from files, too."""
    old = job.backend()
    fill(old, range(50))
    manifest, _ = job.checkpoint(old, 1)
    new = job.backend()
    new.restore_files([NativeRestore(manifest, job.storage(1))])
    descriptor = ValueStateDescriptor[int]("value")
    descriptor.enable_time_to_live(StateTtlConfig.new_builder(100).build())
    state = new.get_state(descriptor)
    new.set_current_key(7)
    assert state.value() == 7
    job.clock.now_ms += 100
    assert state.value() is None


def test_nothing_written_means_no_files(job: Job, tmp_path: Path) -> None:
    """A backend without state has no database."""
    (tmp_path / "disk").mkdir()
    assert job.backend().freeze_files() is None


def test_damaged_files_are_refused(job: Job, tmp_path: Path) -> None:
    """Before the database reads anything: the checksum is wrong, or the size."""
    old = job.backend()
    fill(old, range(500))
    manifest, (file,) = job.checkpoint(old, 1)
    path = tmp_path / "job" / "shared" / file.name
    content = path.read_bytes()
    for damaged, why in (
        (content[:50] + bytes((content[50] ^ 1,)) + content[51:], "checksum is wrong"),
        (content[:-1], f"has {len(content) - 1} bytes"),
    ):
        path.write_bytes(damaged)
        with pytest.raises(RestoreError) as raised:
            job.backend().restore_files([NativeRestore(manifest, job.storage(1))])
        assert why in (raised.value.detail or "")
    path.unlink()
    with pytest.raises(RestoreError):
        job.backend().restore_files([NativeRestore(manifest, job.storage(1))])


def test_another_format_is_refused(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values are marshalled, which each Python does in its own way; a savepoint has none of that."""
    old = job.backend()
    fill(old, range(5))
    manifest, _ = job.checkpoint(old, 1)
    monkeypatch.setattr(native, "_PYTHON", "cpython 4.0")
    with pytest.raises(RestoreError) as raised:
        job.backend().restore_files([NativeRestore(manifest, job.storage(1))])
    assert "savepoint" in (raised.value.hint or "")
