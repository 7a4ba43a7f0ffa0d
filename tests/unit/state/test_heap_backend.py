"""What is the heap backend's own beyond the conformance kit, and how backends are found by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmflow.config.options import STATE_BACKEND
from zmflow.errors import ConfigurationError
from zmflow.state import heap
from zmflow.state.backend import load_state_backend
from zmflow.state.descriptors import ValueStateDescriptor
from zmflow.state.heap import HeapKeyedStateBackend
from zmflow.state.keys import key_group
from zmflow.state.ttl import StateTtlConfig


def test_the_default_backend_is_the_heap() -> None:
    """The setting's default is a name that is there."""
    assert (
        load_state_backend(STATE_BACKEND.read(STATE_BACKEND.default_text, "default")) is HeapKeyedStateBackend
    )


def test_an_unknown_backend_is_answered_with_what_to_do() -> None:
    """As every other plugin is."""
    with pytest.raises(ConfigurationError, match="no plugin 'rocksdbb'"):
        load_state_backend("rocksdbb")


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution with three things in the group of state backends."""
    info = tmp_path / "state_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: state-plugins\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[zmflow.state_backends]\n"
        "mine = state_plugins:Mine\nold = state_plugins:Old\nwrong = state_plugins:Wrong\n"
    )
    (tmp_path / "state_plugins.py").write_text(
        "from zmflow.state.heap import HeapKeyedStateBackend\n"
        "class Mine(HeapKeyedStateBackend): pass\n"
        "class Old(HeapKeyedStateBackend): api_version = 0\n"
        "class Wrong: pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_backend_is_a_plugin_by_name(plugins: None) -> None:
    """One that fits is taken; others are refused with why."""
    assert load_state_backend("mine").__name__ == "Mine"
    with pytest.raises(ConfigurationError, match="version 0 of the interface"):
        load_state_backend("old")
    with pytest.raises(ConfigurationError, match="is no state backend"):
        load_state_backend("wrong")


def test_the_cache_of_keys_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream of ever new keys does not fill the memory; state is found all the same."""
    monkeypatch.setattr(heap, "KNOWN_KEYS_MAX", 10)
    backend = HeapKeyedStateBackend(4, range(4), lambda: 0)
    state = backend.get_state(ValueStateDescriptor[int]("value"))
    for key in range(100):
        backend.set_current_key(key)
        state.update(key)
        assert len(backend._known_keys) <= 10
    for key in range(100):
        backend.set_current_key(key)
        assert (state.value(), backend.current_key_group) == (key, key_group(key, 4))


def test_values_are_the_functions_own_objects() -> None:
    """Nothing is copied: that is what makes the heap fast, and it is documented."""
    backend = HeapKeyedStateBackend(4, range(4), lambda: 0)
    state = backend.get_state(ValueStateDescriptor[list[int]]("value"))
    backend.set_current_key("a")
    mine = [1]
    state.update(mine)
    assert state.value() is mine
    assert not backend.capabilities.copies_values


def test_the_heap_says_that_it_compacts_no_files() -> None:
    """Once for a state; what was chosen is for RocksDB."""
    backend = HeapKeyedStateBackend(4, range(4), lambda: 0)
    descriptor = ValueStateDescriptor[int]("value")
    builder = StateTtlConfig.new_builder(1).cleanup_in_rocksdb_compact_filter()
    descriptor.enable_time_to_live(builder.build())
    with pytest.warns(UserWarning, match="'value' is on the heap"):
        backend.get_state(descriptor)
    backend.get_state(descriptor)
