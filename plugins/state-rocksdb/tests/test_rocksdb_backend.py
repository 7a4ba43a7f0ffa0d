"""The RocksDB backend passes the conformance kit of state backends, with much memory and with almost none."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from zmflow_state_rocksdb import RocksDBKeyedStateBackend, table

from zmflow.state.backend import BackendContext, load_state_backend
from zmflow.testing.state_backend_checks import MakeBackend
from zmflow.testing.state_backend_tests import StateBackendTests


def test_it_is_found_by_its_name() -> None:
    """``state.backend.type: rocksdb``."""
    assert load_state_backend("rocksdb") is RocksDBKeyedStateBackend


class TestRocksDBStateBackend(StateBackendTests):
    """As jobs have it."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path) -> MakeBackend:
        return partial(RocksDBKeyedStateBackend, context=BackendContext(str(tmp_path)))


class TestWithoutMemory(StateBackendTests):
    """Each entry is written at once and forgotten soon: whatever is read comes from the database."""

    @pytest.fixture
    def make_backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeBackend:
        for name in ("ENTRIES_MAX", "ENTRIES_MIN", "CHECKED_EVERY"):
            monkeypatch.setattr(table, name, 1)
        return partial(RocksDBKeyedStateBackend, context=BackendContext(str(tmp_path)))
