"""Files of jobs on a TaskManager's disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from zmflow.api.shipping import new_cached_file, read_job_files
from zmflow.errors import ClusterError, ProtocolError
from zmflow.protocol.job_files import JobFile, named, new_job_file
from zmflow.runtime.job_file_store import JobFileStore, stored_path
from zmflow.runtime.shipped_code import install_files


def test_a_file_is_written_once_and_is_nobodys_to_change(tmp_path: Path) -> None:
    """It lies under its digest with the name it had; a second copy of it changes nothing."""
    store = JobFileStore(tmp_path)
    file = new_job_file("tool", "file", b"#!/bin/sh\n", file_name="run.sh", executable=True)
    store.store("j1", file)
    path = stored_path(store.directory_of("j1"), named(file))
    written = path.stat()
    assert (path.name, path.read_bytes(), written.st_mode & 0o777) == ("run.sh", b"#!/bin/sh\n", 0o555)
    store.store("j1", file)
    assert path.stat().st_ino == written.st_ino
    assert [entry.name for entry in (tmp_path / "j1").iterdir()] == [file.digest]


def test_jobs_do_not_see_each_others_files(tmp_path: Path) -> None:
    """Dropping those of one job leaves those of the other; dropping twice does no harm."""
    store = JobFileStore(tmp_path / "files")
    file = new_job_file("a", "file", b"x")
    store.store("j1", file)
    store.store("j2", file)
    store.drop("j1")
    store.drop("j1")
    assert not store.directory_of("j1").exists()
    assert stored_path(store.directory_of("j2"), file).read_bytes() == b"x"
    store.close()
    assert not (tmp_path / "files").exists()


def test_a_directory_comes_back_as_it_was(tmp_path: Path) -> None:
    """Names, contents and what is executable; also empty files and hidden ones."""
    model = tmp_path / "model"
    (model / "deep").mkdir(parents=True)
    (model / "deep" / "weights.bin").write_bytes(bytes(range(256)))
    (model / ".hidden").write_text("")
    (model / "tool").write_text("#!/bin/sh\n")
    (model / "tool").chmod(0o755)
    (file,) = read_job_files([], [new_cached_file(model, "model", executable=False)])
    store = JobFileStore(tmp_path / "files")
    store.store("j", file)
    found = Path(install_files([named(file)], store.directory_of("j"))["model"])
    assert found.name == "model"
    assert (found / "deep" / "weights.bin").read_bytes() == bytes(range(256))
    executable = {path.name: os.access(path, os.X_OK) for path in found.rglob("*") if path.is_file()}
    assert executable == {"weights.bin": False, ".hidden": False, "tool": True}


@pytest.mark.parametrize(
    "file",
    [
        new_job_file("../evil.py", "python", b""),
        new_job_file("ok", "file", b"", file_name=".."),
        JobFile("ok", "file", "ok", "../../etc", 0),
    ],
)
def test_names_lead_nowhere_else(tmp_path: Path, file: JobFile) -> None:
    """A name with a path in it is refused by who writes and by who reads."""
    with pytest.raises(ProtocolError, match="path for a name"):
        JobFileStore(tmp_path).store("j", file)
    with pytest.raises(ProtocolError, match="path for a name"):
        install_files([file], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_what_could_not_be_written(tmp_path: Path) -> None:
    """A damaged archive leaves no part of itself, and whoever needs it is told where to look."""
    store = JobFileStore(tmp_path)
    damaged = new_job_file("model", "directory", b"PK no zip")
    with pytest.raises(ProtocolError, match="'model' of a job is damaged"):
        store.store("j", damaged)
    assert list(tmp_path.rglob("*")) == [tmp_path / "j"]
    with pytest.raises(ClusterError, match="'model' of the job is not on this TaskManager"):
        install_files([named(damaged)], store.directory_of("j"))


def test_modules_and_archives_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module's directory and an archive itself are put on the import path, once, in their order."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("")
    (tmp_path / "one.py").write_text("")
    files = read_job_files([tmp_path / "one.py", tmp_path / "pack"], [])
    store = JobFileStore(tmp_path / "files")
    for file in files:
        store.store("j", file)
    for _ in range(2):
        assert install_files([named(file) for file in files], store.directory_of("j")) == {}
    module, archive = (stored_path(store.directory_of("j"), file) for file in files)
    assert sys.path[:2] == [str(module.parent), str(archive)]
    assert len([path for path in sys.path if str(tmp_path / "files") in path]) == 2
