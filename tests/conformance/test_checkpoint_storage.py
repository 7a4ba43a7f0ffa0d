"""The directory passes the conformance kit of checkpoint storages, also by its URL and behind idle faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmflow.testing.checkpoint_storage_tests import CheckpointStorageTests
from zmflow.testing.faulty_storage import register_faulty_storage


class TestDirectoryStorage(CheckpointStorageTests):
    """The storage that is built in."""

    @pytest.fixture
    def base_location(self, tmp_path: Path) -> str:
        return str(tmp_path / "check points")


class TestDirectoryStorageByUrl(CheckpointStorageTests):
    """The same with ``file://``."""

    @pytest.fixture
    def base_location(self, tmp_path: Path) -> str:
        return (tmp_path / "check points").as_uri()


class TestFaultyStorage(CheckpointStorageTests):
    """The storage that breaks on demand breaks nothing when it is not asked to."""

    @pytest.fixture
    def base_location(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        register_faulty_storage(tmp_path / "plugins")
        monkeypatch.syspath_prepend(str(tmp_path / "plugins"))
        return f"faulty://{tmp_path}/checkpoints?fail_every=0"
