"""Checkpoints in a directory: what the operating system refuses, what a killed writer leaves, durability."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from zmflow.config import Settings
from zmflow.errors import CheckpointFileMissingError, CheckpointStorageError, ConfigurationError
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage

PROGRAM = """
import os, resource, signal, sys
from zmflow.config import Settings
from zmflow.errors import CheckpointStorageError
from zmflow.state.checkpoint_storage import open_storage
storage = open_storage(sys.argv[1], Settings())
try:
    {body}
except CheckpointStorageError as error:
    print(error)
print([name for name, _ in storage.list()])
"""

WRITE = 'storage.write("state", [bytes(1 << 20)])'
AS_NOBODY = f"os.getuid() or os.setuid(65534); {WRITE}"
LIMITED = f'storage.write("before", [b"x"]); resource.setrlimit(resource.RLIMIT_FSIZE, (4096,) * 2); {WRITE}'
KILLED = 'storage.write("state", (os.kill(os.getpid(), signal.SIGKILL) for _ in range(1)))'


def in_another_process(body: str, location: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a statement with the storage of a location in a process of its own, perhaps by another command."""
    program = PROGRAM.format(body=body)
    return subprocess.run(
        [*command, sys.executable, "-c", program, str(location)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def location(tmp_path: Path) -> Path:
    """Where the checkpoint of a test is; it is not there yet."""
    return tmp_path / "job" / "chk-1"


@pytest.fixture
def storage(location: Path) -> CheckpointStorage:
    """A checkpoint without files."""
    return open_storage(str(location), Settings())


def test_a_directory_that_may_not_be_written_is_named() -> None:
    """The file, the reason, and whose right is missing; nothing is left behind."""
    with TemporaryDirectory() as folder:  # whose parents, unlike those of pytest's, anybody may enter
        Path(folder).chmod(0o755)
        location = Path(folder) / "chk-1"
        location.mkdir()
        location.chmod(0o555)
        done = in_another_process(AS_NOBODY, location)
        assert list(location.iterdir()) == []
        location.chmod(0o755)
    assert done.stdout.splitlines() == [
        "A checkpoint file cannot be written.",
        f"{location}/state: Permission denied.",
        "Hint: Give the user that zmflow runs as the right to it.",
        "[]",
    ], done.stderr


def test_a_file_that_becomes_too_large_is_named(location: Path) -> None:
    """A write that is cut short in the middle leaves nothing, and what was there before."""
    done = in_another_process(LIMITED, location)
    assert done.stdout.splitlines() == [
        "A checkpoint file cannot be written.",
        f"{location}/state: File too large.",
        "Hint: The file system or a limit of the process (ulimit -f) allows no file of this size.",
        "['before']",
    ], done.stderr
    assert [path.name for path in location.iterdir()] == ["before"]


@pytest.mark.parametrize(
    ("options", "reason", "hint"),
    [
        ("size=64k", "No space left on device", "Free space there."),
        ("ro", "Read-only file system", "Mount the file system for writing."),
    ],
)
def test_a_file_system_that_is_full_or_read_only_is_named(
    tmp_path: Path, options: str, reason: str, hint: str
) -> None:
    """On a file system of its own, in a process that may mount one."""
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    # A namespace of mounts: only the process sees it, and it ends with it. Root needs no namespace of users.
    unshare = ["unshare", "--mount"] if os.getuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody mount anything")
    shell = f'mount -t tmpfs -o {options} tmpfs "$0" && exec "$@"'
    done = in_another_process(WRITE, mounted / "chk-1", *unshare, "sh", "-c", shell, str(mounted))
    assert done.stdout.splitlines() == [
        "A checkpoint file cannot be written.",
        f"{mounted}/chk-1/state: {reason}.",
        f"Hint: {hint}",
        "[]",
    ], done.stderr


def test_what_a_killed_writer_leaves_is_no_file(location: Path, storage: CheckpointStorage) -> None:
    """It is not listed, does not stand in the way, and goes with the checkpoint."""
    assert in_another_process(KILLED, location).returncode == -9
    assert [path.suffix for path in location.iterdir()] == [".unfinished"]
    assert list(storage.list()) == []
    storage.write("state", [b"x"])
    assert list(storage.list()) == [("state", 1)]
    storage.delete_all()
    assert not location.exists()


def test_a_file_that_was_cut_is_damaged(location: Path, storage: CheckpointStorage) -> None:
    """What the metadata says and what is there are both in the message."""
    storage.write("state", [bytes(100)])
    os.truncate(location / "state", 60)
    with pytest.raises(CheckpointStorageError) as caught:
        storage.read("state", 50, 50)
    assert str(caught.value) == (
        "A checkpoint file is shorter than it should be.\n"
        f"{location}/state has 60 bytes; asked for 50 bytes from byte 50.\n"
        "Hint: It is damaged: begin from another checkpoint."
    )


def test_a_missing_file_says_where_to_look(location: Path, storage: CheckpointStorage) -> None:
    """Most often the directory is not mounted on this machine."""
    with pytest.raises(CheckpointFileMissingError) as caught:
        storage.read("state")
    assert str(caught.value) == (
        "A checkpoint file cannot be read.\n"
        f"{location}/state: No such file or directory.\n"
        "Hint: Every machine must reach the directory: is it mounted on this one?"
    )


def test_a_file_on_the_way_is_named(location: Path, storage: CheckpointStorage) -> None:
    """A location below a file has no files, and gets none."""
    location.parent.parent.mkdir(exist_ok=True)
    location.parent.write_bytes(b"")
    with pytest.raises(CheckpointStorageError, match="on the way there is a file"):
        storage.write("state", [b"x"])
    with pytest.raises(CheckpointFileMissingError):
        storage.read("state")
    storage.delete(["state"])
    storage.delete_all()
    assert list(storage.list()) == []
    assert location.parent.exists()


def test_a_directory_is_no_file(location: Path, storage: CheckpointStorage) -> None:
    """One that has the name of a file is not listed, read, replaced or deleted."""
    (location / "state").mkdir(parents=True)
    assert list(storage.list()) == []
    for call in (
        lambda: storage.read("state"),
        lambda: storage.write("state", [b"x"]),
        lambda: storage.delete(["state"]),
    ):
        with pytest.raises(CheckpointStorageError, match="Is a directory"):
            call()
    assert [path.name for path in location.iterdir()] == ["state"]


def test_what_is_no_checkpoint_survives_deleting_all(location: Path, storage: CheckpointStorage) -> None:
    """Whoever names a directory of other things loses no tree, and is told."""
    (location / "photos").mkdir(parents=True)
    (location / "photos" / "one").write_bytes(b"x")
    with pytest.raises(CheckpointStorageError, match="no file of a checkpoint is in it"):
        storage.delete_all()
    assert (location / "photos" / "one").exists()


def test_deleting_removes_links_not_what_they_lead_to(
    tmp_path: Path, location: Path, storage: CheckpointStorage
) -> None:
    """A link in a checkpoint goes, its target stays."""
    target = tmp_path / "target"
    target.write_bytes(b"x")
    location.mkdir(parents=True)
    (location / "link").symlink_to(target)
    storage.delete_all()
    assert target.exists() and not location.exists()


def test_one_failed_deletion_keeps_no_other(location: Path, storage: CheckpointStorage) -> None:
    """All are tried, the first failure is told."""
    storage.write("a", [b"x"])
    (location / "b").mkdir()
    storage.write("c", [b"x"])
    with pytest.raises(CheckpointStorageError, match="chk-1/b"):
        storage.delete(["a", "b", "c"])
    assert list(storage.list()) == []


def test_the_root_is_no_checkpoint() -> None:
    """Whatever is there, it is not ours."""
    with pytest.raises(ConfigurationError, match="root directory"):
        open_storage("/", Settings())


def test_files_follow_the_umask(location: Path, storage: CheckpointStorage) -> None:
    """Another user may restore, where the umask lets others read."""
    before = os.umask(0o027)
    try:
        storage.write("state", [b"x"])
    finally:
        os.umask(before)
    assert (location / "state").stat().st_mode & 0o777 == 0o640


def test_everything_is_flushed_before_it_is_promised(
    location: Path, storage: CheckpointStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new directories; the file, before it gets its name; the directory, after that."""
    flushed = []
    flush = os.fsync

    def recording(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        flushed.append((path, (location / "state").exists()))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", recording)
    storage.write("state", [b"x"])
    unfinished = flushed[2][0]
    assert unfinished.parent == location and unfinished.suffix == ".unfinished"
    assert flushed == [
        (location.parent.parent, False),
        (location.parent, False),
        (unfinished, False),
        (location, True),
    ]
