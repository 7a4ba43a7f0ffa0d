"""``zmflow checkpoint list`` and ``show``: what is on disk, without a cluster."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from zmflow.cli.main import app
from zmflow.state.reader import SnapshotWriter


@pytest.fixture
def snapshots(tmp_path: Path) -> Path:
    """A directory with two snapshots in it, one of them deeper, and much else."""
    writer = SnapshotWriter()
    writer.keyed_state("counts", "count", {"a": 1, "b": 2}.items())
    writer.write(str(tmp_path / "job" / "chk-1"))
    shutil.copytree(tmp_path / "job" / "chk-1", tmp_path / "savepoint-1")
    (tmp_path / "job" / "shared").mkdir()
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    return tmp_path


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_what_is_below_a_directory_or_url_is_listed(snapshots: Path, prefix: str) -> None:
    """Each with the location that opens it."""
    done = CliRunner().invoke(app, ["checkpoint", "list", f"{prefix}{snapshots}", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert {one["location"] for one in found} == {
        str(snapshots / "job" / "chk-1"),
        str(snapshots / "savepoint-1"),
    }
    assert {one["kind"] for one in found} == {"savepoint"}
    for one in found:
        shown = CliRunner().invoke(app, ["checkpoint", "show", one["location"], "--json"])
        assert shown.exit_code == 0, repr(shown.exception)
        assert [operator["uid"] for operator in json.loads(shown.stdout)["operators"]] == ["counts"]


def test_where_nothing_is_nothing_is_listed(tmp_path: Path) -> None:
    """An empty directory is no mistake."""
    done = CliRunner().invoke(app, ["checkpoint", "list", str(tmp_path)])
    assert (done.exit_code, "There are none." in done.output) == (0, True)
