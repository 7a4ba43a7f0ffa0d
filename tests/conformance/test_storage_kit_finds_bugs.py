"""The conformance kit of checkpoint storages finds what it is there to find: planted bugs do not pass."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from zmflow.state.checkpoint_storage import CheckpointStorage
from zmflow.testing.checkpoint_storage_tests import CheckpointStorageTests

BUGS = {
    "writes_in_place": (
        """
    def write(self, name, parts):
        path = self._path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            return sum(file.write(part) for part in parts)
""",
        [
            "a_write_that_breaks_off_leaves_nothing",
            "a_write_that_breaks_off_replaces_nothing",
            "nothing_is_seen_of_what_is_being_written",
        ],
    ),
    "hands_out_what_there_is": (
        """
    def read(self, name, offset=0, size=None):
        content = super().read(name)[max(offset, 0):]
        return content if size is None or size < 0 else content[:size]
""",
        ["a_file_that_is_shorter_is_damaged"],
    ),
    "takes_names_as_paths": (
        """
    def _path(self, name):
        return self._directory / name
""",
        ["names_lead_nowhere_else", "shared_files_belong_to_the_job"],
    ),
    "deletes_by_prefix": (
        """
    def delete_all(self, kept=()):
        import shutil
        for path in self._directory.parent.glob(self._directory.name + "*"):
            shutil.rmtree(path)
""",
        ["deleting_all_leaves_the_neighbours", "what_is_kept_is_not_deleted_with_the_rest"],
    ),
    "keeps_nothing": (
        """
    def delete_all(self, kept=()):
        super().delete_all()
""",
        ["what_is_kept_is_not_deleted_with_the_rest"],
    ),
    "deletes_what_is_there_only": (
        """
    def delete(self, names):
        for name in names:
            self._path(name).unlink()
""",
        ["deleting_what_is_missing_is_no_error", "names_lead_nowhere_else"],
    ),
    "keeps_parts_until_the_end": (
        """
    def write(self, name, parts):
        return super().write(name, list(parts))
""",
        ["parts_may_share_memory"],
    ),
    "lists_as_the_disk_does": (
        """
    def list(self):
        return iter(sorted(super().list(), reverse=True))
""",
        ["files_are_listed_by_name", "deleting_takes_what_is_named"],
    ),
}

HEAD = """
import pytest
from zmflow.state.directory_storage import DirectoryStorage
from zmflow.testing.checkpoint_storage_tests import CheckpointStorageTests
"""

CHECKED = """

class {bug}(DirectoryStorage):
{body}

class Test_{bug}(CheckpointStorageTests):
    @pytest.fixture
    def checkpoint(self, tmp_path, settings):
        return lambda name: {bug}(str(tmp_path / "job" / name), settings)

    @pytest.fixture
    def base_location(self, tmp_path):
        return str(tmp_path)
"""


def test_each_bug_fails_the_checks_that_are_about_it(tmp_path: Path) -> None:
    """Those, and perhaps some more: two threads meet when they do."""
    module = tmp_path / "test_buggy.py"
    module.write_text(HEAD + "".join(CHECKED.format(bug=bug, body=body) for bug, (body, _) in BUGS.items()))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", "-rf", str(module)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    failed = re.findall(r"^FAILED \S+::Test_(\w+)::test_(\w+)", done.stdout, flags=re.MULTILINE)
    for bug, (_, checks) in BUGS.items():
        assert {check for name, check in failed if name == bug} >= set(checks), done.stdout


def test_a_check_that_was_taken_out_is_named() -> None:
    """A plugin that overrides a check does not pass quietly."""

    class Evasive(CheckpointStorageTests):
        def test_ranges_are_read(self, storage: CheckpointStorage) -> None:
            """Not for us."""

    with pytest.raises(AssertionError, match="test_ranges_are_read"):
        Evasive().test_no_check_was_taken_out()
    CheckpointStorageTests().test_no_check_was_taken_out()
