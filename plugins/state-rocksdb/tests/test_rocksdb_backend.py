"""The RocksDB backend passes the conformance kit of state backends, with much memory and with almost none."""

from __future__ import annotations

import gc
import json
import operator
import pickle
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from zmflow_state_rocksdb import RocksDBKeyedStateBackend, frozen, hot_maps, table

from zmflow.errors import StateError
from zmflow.state.backend import BackendContext, KeyedStateBackend, load_state_backend
from zmflow.state.chunks import KeyedChunk, group_snapshots
from zmflow.state.descriptors import (
    AggregatingStateDescriptor,
    ListStateDescriptor,
    MapStateDescriptor,
    ReducingStateDescriptor,
    ValueStateDescriptor,
)
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.ttl import StateTtlConfig
from zmflow.testing.state_backend_checks import MakeBackend, VirtualClock, holding
from zmflow.testing.state_backend_machine import Average
from zmflow.testing.state_backend_tests import StateBackendTests


@pytest.fixture(scope="module")
def directory() -> Iterator[str]:
    """Where the kit has its databases: in memory where there is such a place, because each of some thousand
    databases waits for the disk otherwise."""
    memory = Path("/dev/shm")  # noqa: S108 - a directory of its own in it
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield directory


@pytest.fixture
def clock() -> VirtualClock:
    """The clock of the backends."""
    return VirtualClock()


def test_it_is_found_by_its_name() -> None:
    """``state.backend.type: rocksdb``."""
    assert load_state_backend("rocksdb") is RocksDBKeyedStateBackend


class TestRocksDBStateBackend(StateBackendTests):
    """As jobs have it."""

    @pytest.fixture
    def make_backend(self, directory: str) -> MakeBackend:
        return partial(RocksDBKeyedStateBackend, context=BackendContext(directory))


class TestWithoutMemory(StateBackendTests):
    """Each entry is written at once and forgotten soon: whatever is read comes from the database."""

    @pytest.fixture
    def make_backend(self, directory: str, monkeypatch: pytest.MonkeyPatch) -> MakeBackend:
        for name in ("ENTRIES_MAX", "ENTRIES_MIN", "CHECKED_EVERY"):
            monkeypatch.setattr(table, name, 1)
        return partial(RocksDBKeyedStateBackend, context=BackendContext(directory))


@pytest.fixture
def make(tmp_path: Path) -> Iterator[MakeBackend]:
    """Makes backends and closes them; nothing of them is left."""
    made: list[RocksDBKeyedStateBackend] = []

    def make_backend(max_parallelism: int, key_groups: range, clock: Callable[[], int]) -> Any:
        context = BackendContext(str(tmp_path), 8 * 2**20)
        made.append(RocksDBKeyedStateBackend.for_task(max_parallelism, key_groups, clock, context))
        return made[-1]

    yield make_backend
    for backend in made:
        backend.close()
    assert list(tmp_path.iterdir()) == [], "a database is left behind"


class Window(NamedTuple):
    """A namespace."""

    start: int
    end: int


KEYS: list[Any] = ["a", 1, 2.5, True, None, ("k", 1), ("k", 1.5), b"b", uuid.UUID(int=7), Window(1, 2)]


def fill(backend: KeyedStateBackend, *, expires: bool) -> None:
    """All kinds of state, with and without namespaces."""

    def declared(descriptor: Any) -> Any:
        if expires:
            descriptor.enable_time_to_live(StateTtlConfig.new_builder(1000).build())
        return descriptor

    value = backend.get_state(declared(ValueStateDescriptor("value")), Window(0, 5))
    elements = backend.get_state(declared(ListStateDescriptor("list")))
    entries = backend.get_state(declared(MapStateDescriptor("map")), "w")
    total = backend.get_state(declared(ReducingStateDescriptor("sum", operator.add)))
    average = backend.get_state(declared(AggregatingStateDescriptor("average", Average())), Window(3, 4))
    for number, key in enumerate(KEYS):
        backend.set_current_key(key)
        value.update([number, {"of": key}])
        elements.add_all([number, None])
        elements.add("last")
        entries.put_all({number: "int", 0.5: None, frozenset((number,)): "cannot be a key"})
        total.add(number)
        average.add(number)


def in_order(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """An entry whose map, if it holds one, is in the order of its keys."""
    *owner, content = entry
    return *owner, sorted(content.items(), key=repr) if type(content) is dict else content


def held(backend: KeyedStateBackend) -> list[list[tuple[Any, ...]]]:
    """What a backend holds, in an order that follows from what it is."""
    return [
        [
            (
                state.name,
                state.kind,
                state.namespaced,
                state.timed,
                sorted(map(in_order, state.entries), key=repr),
            )
            for state in sorted(backend.snapshot(group).states, key=lambda state: state.name)
        ]
        for group in backend.key_groups
    ]


def restored(chunks: Iterable[KeyedChunk], backend: KeyedStateBackend) -> KeyedStateBackend:
    """A backend with what chunks hold."""
    for snapshot in group_snapshots(chunks, backend.key_groups, backend.max_parallelism):
        backend.restore(snapshot.group, snapshot)
    return backend


@pytest.mark.parametrize("expires", [False, True])
def test_state_moves_between_the_backends(make: MakeBackend, clock: VirtualClock, expires: bool) -> None:
    """A savepoint of a job on the heap is restored on RocksDB, and the other way round: nothing changes, the
    types of keys and namespaces neither."""
    heap, *other_heaps = (HeapKeyedStateBackend(128, range(128), clock) for _ in range(2))
    fill(heap, expires=expires)
    first = make(128, range(128), clock)
    chunks = [chunk for group in range(128) for chunk in heap.chunks(group)]
    restored(pickle.loads(pickle.dumps(chunks)), first)
    assert held(first) == held(heap)
    assert repr(held(first)) == repr(held(heap)), "1, 1.0 and True are equal, but not the same"
    (back,) = other_heaps
    restored(first.freeze().chunks(), back)
    assert held(back) == held(heap)
    fill(back, expires=expires)  # what is restored can be used


def test_what_is_frozen_does_not_change(
    make: MakeBackend, clock: VirtualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read while the task goes on, in chunks that fit into memory; each entry once."""
    monkeypatch.setattr(frozen, "CHUNK_SIZE_BYTES", 500)
    backend = make(4, range(4), clock)
    assert list(backend.freeze().chunks()) == [], "nothing was written"
    state = backend.get_state(ValueStateDescriptor[int]("value"))
    entries = backend.get_state(MapStateDescriptor[int, int]("map"))
    for key in range(1000):
        backend.set_current_key(key)
        state.update(key)
        entries.put(key, 1)
        entries.put(-key, 2)
    view = backend.freeze()
    chunks = view.chunks()
    found = [next(chunks)]
    for key in range(0, 2000, 2):
        backend.set_current_key(key)
        state.clear()
        entries.put(7000, 3)
    backend.freeze()
    found += chunks
    assert len(found) > 40
    assert [chunk.first_group for chunk in found] == sorted(chunk.first_group for chunk in found)
    values = {key: value for chunk in found if chunk.name == "value" for key, _, value in chunk.entries()}
    assert values == {key: key for key in range(1000)}
    maps = [(key, value) for chunk in found if chunk.name == "map" for key, _, value in chunk.entries()]
    assert sorted(maps) == [(key, {key: 1, -key: 2} if key else {0: 2}) for key in range(1000)]
    view.close()
    view.close()


def test_what_is_frozen_outlives_its_backend(make: MakeBackend, clock: VirtualClock) -> None:
    """A task that ends while its snapshot is written takes nothing away from under the thread that reads
    it."""
    backend = make(4, range(4), clock)
    holding(backend, backend.get_state(ValueStateDescriptor[int]("value")), {key: key for key in range(100)})
    view = backend.freeze()
    backend.close()
    assert sum(len(chunk.keys) for chunk in view.chunks()) == 100


def test_the_heap_is_not_frozen(clock: VirtualClock) -> None:
    """Its snapshots are pickled before the task goes on, or by a forked process."""
    assert HeapKeyedStateBackend(4, range(4), clock).freeze() is None


def test_the_compaction_filter_is_a_sweep(make: MakeBackend, clock: VirtualClock) -> None:
    """Chosen alone it removes what nobody reads, in lists and maps, too; and says nothing about having no
    effect."""
    backend = make(4, range(4), clock)
    builder = StateTtlConfig.new_builder(100).disable_cleanup_in_background()
    config = builder.cleanup_in_rocksdb_compact_filter().build()
    value, elements = ValueStateDescriptor[int]("value"), ListStateDescriptor[int]("list")
    entries = MapStateDescriptor[int, int]("map")
    for descriptor in (value, elements, entries):
        descriptor.enable_time_to_live(config)
    states = [backend.get_state(each) for each in (value, elements, entries)]
    for key in range(100):
        backend.set_current_key(key)
        states[0].update(1)
        states[1].add_all([1, 2])
        states[2].put(1, 1)
    backend.freeze()  # from here on it is on disk
    clock.now_ms += 100
    backend.set_current_key("used")
    for number in range(200):
        states[0].update(number)
        states[1].add(number)
        states[2].put(1, number)
    assert [list(backend.keys(each.name)) for each in (value, elements, entries)] == [["used"]] * 3


def test_without_a_filter_nothing_is_swept(make: MakeBackend, clock: VirtualClock) -> None:
    """Where cleaning up in the background is off, only reading finds what has expired."""
    backend = make(4, range(4), clock)
    descriptor = ValueStateDescriptor[int]("value")
    descriptor.enable_time_to_live(StateTtlConfig.new_builder(100).disable_cleanup_in_background().build())
    state = backend.get_state(descriptor)
    holding(backend, state, dict.fromkeys(range(100), 1))
    clock.now_ms += 100
    backend.set_current_key("used")
    for number in range(200):
        state.update(number)
    assert len(list(backend.keys("value"))) == 101


@pytest.mark.parametrize("elements", [10, hot_maps.REMOVED_ONE_BY_ONE_MAX + 10])
def test_large_maps_are_cleared_and_filled_again(
    make: MakeBackend, clock: VirtualClock, elements: int
) -> None:
    """Whether their entries are removed one by one or as a range, those of other keys stay."""
    backend = make(4, range(4), clock)
    state = backend.get_state(MapStateDescriptor[int, int]("map"))
    for key in ("a", "b"):
        backend.set_current_key(key)
        state.put_all({number: number for number in range(elements)})
    again = restored(list(backend.freeze().chunks()), make(4, range(4), clock))
    state = again.get_state(MapStateDescriptor[int, int]("map"))
    again.set_current_key("a")
    assert not state.is_empty()
    state.put(-1, 1)
    state.clear()
    assert state.is_empty()
    state.put(3, 4)
    assert dict(restored_map(again, "a")) == {3: 4}
    assert dict(restored_map(again, "b")) == {number: number for number in range(elements)}


def restored_map(backend: KeyedStateBackend, key: Any) -> Any:
    """The map of a key, as a snapshot has it."""
    backend.set_current_key(key)
    (state,) = backend.snapshot(backend.current_key_group).states
    return next(content for owner, _, content in state.entries if owner == key)


def test_what_cannot_be_pickled_is_named(make: MakeBackend, clock: VirtualClock) -> None:
    """The state and the key, when it is written."""
    backend = make(4, range(4), clock)
    state = backend.get_state(ValueStateDescriptor[Any]("functions"))
    backend.set_current_key("a")
    state.update(lambda: 0)
    with pytest.raises(StateError, match="'functions' cannot be written for the key 'a'"):
        backend.freeze()
    state.clear()


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path, clock: VirtualClock) -> None:
    """The error names the directory and what to do."""
    (tmp_path / "file").touch()
    backend = RocksDBKeyedStateBackend(4, range(4), clock, BackendContext(str(tmp_path / "file")))
    state = backend.get_state(ValueStateDescriptor[Any]("value"))
    backend.set_current_key("a")
    state.update(1)
    with pytest.raises(StateError, match="could not be opened") as raised:
        backend.freeze()
    assert str(tmp_path / "file") in (raised.value.detail or "")
    backend.close()


def test_the_backends_of_a_slot_share_its_memory(make: MakeBackend, clock: VirtualClock) -> None:
    """One cache and one bound on what is unwritten, however many operators there are."""
    gc.collect()  # the kit leaves backends behind
    one, other = make(4, range(4), clock), make(4, range(4), clock)
    memory = one._memory
    assert memory is other._memory
    half = memory.objects_bytes
    other.close()
    assert memory.objects_bytes == 2 * half


def test_much_state_takes_little_memory(tmp_path: Path) -> None:
    """Five times the memory there is: the process grows by less than half of the state, also while it writes
    a snapshot of it."""
    memory, state = 32 * 2**20, 160 * 2**20
    script = Path(__file__).with_name("large_state.py")
    done = subprocess.run(
        [sys.executable, script, tmp_path, str(memory), str(state)],
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    report = json.loads(done.stdout)
    assert report["snapshot"] > state * 0.95
    assert max(report["most"].values()) < state // 2, report
