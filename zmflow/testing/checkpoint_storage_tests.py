"""The conformance kit of checkpoint storages: what must hold, and why the engine needs it.

A plugin's tests are these few lines; everything else is inherited::

    class TestMyStorage(CheckpointStorageTests):
        @pytest.fixture
        def base_location(self):
            return "mine://server/empty-directory-of-this-test"

The storage is opened by its URL, so that it must be installed. The kit needs pytest, which zmflow itself does
not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from zmflow.config import Settings
from zmflow.errors import CheckpointFileMissingError, CheckpointStorageError
from zmflow.state import checkpoint_storage
from zmflow.state.checkpoint_storage import (
    API_VERSION,
    NAME_SIZE_MAX_BYTES,
    CheckpointStorage,
    join_location,
    open_storage,
)

__all__ = ["CheckpointStorageTests"]

MIB = 1 << 20

OpenCheckpoint: TypeAlias = Callable[[str], CheckpointStorage]
"""Opens the storage of one checkpoint of a job, by the checkpoint's name; each call a new one."""


class HalfwayError(Exception):
    """What the parts of a file raise in the middle of it."""


def breaking_off(size_bytes: int) -> Iterator[bytes]:
    """Parts that raise when so much of a file was handed out."""
    for _ in range(size_bytes // MIB):
        yield bytes(MIB)
    yield b"the last there is"
    raise HalfwayError


class _FileChecks:
    """One file: written, read, replaced."""

    @pytest.fixture
    def base_location(self) -> str:
        """A location of this test alone, with nothing in it."""
        raise NotImplementedError("Override the fixture base_location.")

    @pytest.fixture
    def settings(self) -> Settings:
        """What the storages are opened with."""
        return Settings()

    @pytest.fixture
    def checkpoint(self, base_location: str, settings: Settings) -> OpenCheckpoint:
        """Opens a checkpoint of one job."""
        return lambda name: open_storage(join_location(base_location, "job", name), settings)

    @pytest.fixture
    def storage(self, checkpoint: OpenCheckpoint) -> CheckpointStorage:
        """A checkpoint without files."""
        return checkpoint("chk-1")

    def test_the_version_is_declared(self, storage: CheckpointStorage) -> None:
        """The engine refuses a storage that was written for another interface, before it uses it."""
        assert storage.api_version == API_VERSION

    def test_what_is_written_is_read(self, storage: CheckpointStorage, checkpoint: OpenCheckpoint) -> None:
        """The parts in their order, whatever they are; by a process that opens the storage later, too."""
        parts: list[bytes | memoryview] = [b"ab", memoryview(b"xcdx")[1:3], b"", b"e"]
        assert storage.write("state", iter(parts)) == 5
        for reader in (storage, checkpoint("chk-1")):
            content = reader.read("state")
            assert (content, type(content), reader.size("state")) == (b"abcde", bytes, 5)

    @pytest.mark.parametrize("parts", [[], [b""], [memoryview(b""), b""]], ids=["none", "one", "two"])
    def test_a_file_may_be_empty(self, storage: CheckpointStorage, parts: list[bytes | memoryview]) -> None:
        """A subtask may have state of no bytes: that is not the same as none."""
        assert storage.write("empty", parts) == 0
        assert (storage.read("empty"), storage.read("empty", 0, 0), storage.size("empty")) == (b"", b"", 0)
        assert list(storage.list()) == [("empty", 0)]

    def test_parts_may_be_large(self, storage: CheckpointStorage) -> None:
        """State is as large as it is: parts of very different sizes, 37 MiB in all."""
        blocks = [bytes([number]) * (number * MIB + number) for number in (17, 1, 0, 19)]
        assert storage.write("large", map(memoryview, blocks)) == 37 * MIB + 37
        assert storage.size("large") == 37 * MIB + 37
        assert storage.read("large") == b"".join(blocks)
        assert storage.read("large", 17 * MIB + 15, 4) == b"\x11\x11\x01\x01"

    def test_parts_may_be_many(self, storage: CheckpointStorage) -> None:
        """Whoever encodes state need not gather it first."""
        assert storage.write("many", (b"%05d" % number for number in range(20_000))) == 100_000
        assert storage.read("many", 500 * 5, 10) == b"0050000501"

    def test_parts_may_share_memory(self, storage: CheckpointStorage) -> None:
        """Whoever encodes state may use one buffer: a part is taken when the next is asked for."""

        def parts() -> Iterator[memoryview]:
            buffer = bytearray(3 * MIB)
            for number in range(8):
                buffer[:] = bytes([number]) * len(buffer)
                yield memoryview(buffer)

        storage.write("state", parts())
        assert storage.read("state") == b"".join(bytes([number]) * (3 * MIB) for number in range(8))

    def test_ranges_are_read(self, storage: CheckpointStorage) -> None:
        """A restored subtask reads its key groups out of the files of others."""
        storage.write("state", [b"0123456789"])
        assert storage.read("state", 3, 4) == b"3456"
        assert storage.read("state", 9, 1) == storage.read("state", 9) == b"9"
        assert storage.read("state", 0, 10) == storage.read("state", 0) == b"0123456789"
        assert storage.read("state", 10, 0) == storage.read("state", 10) == storage.read("state", 4, 0) == b""

    @pytest.mark.parametrize(
        ("offset", "size"), [(0, 11), (9, 2), (10, 1), (11, 0), (500, 3), (0, 1 << 40), (-1, 1), (2, -1)]
    )
    def test_a_file_that_is_shorter_is_damaged(
        self, storage: CheckpointStorage, offset: int, size: int
    ) -> None:
        """Less than was asked for would be taken for state."""
        storage.write("state", [b"0123456789"])
        with pytest.raises(CheckpointStorageError, match="state") as caught:
            storage.read("state", offset, size)
        assert not isinstance(caught.value, CheckpointFileMissingError)

    def test_what_is_missing_is_named(self, storage: CheckpointStorage) -> None:
        """Whoever restores is told which file of which checkpoint; the location need not exist."""
        calls: list[Callable[[], object]] = [
            partial(storage.read, "state"),
            partial(storage.read, "state", 0, 1),
            partial(storage.read, "../shared/state"),
            partial(storage.size, "state"),
        ]
        for _ in range(2):
            for call in calls:
                with pytest.raises(CheckpointFileMissingError, match=r"(chk-1|shared)/state"):
                    call()
            storage.write("another", [b"x"])

    def test_the_same_name_replaces(self, storage: CheckpointStorage) -> None:
        """A later attempt writes what an earlier one wrote: nothing of that shines through."""
        storage.write("state", [b"a longer content"])
        storage.write("state", [b"short"])
        assert (storage.read("state"), storage.size("state")) == (b"short", 5)
        assert list(storage.list()) == [("state", 5)]


class _AtomicityChecks(_FileChecks):
    """Readers see nothing or all."""

    @pytest.mark.parametrize("size_bytes", [0, 20 * MIB])
    def test_a_write_that_breaks_off_leaves_nothing(
        self, storage: CheckpointStorage, size_bytes: int
    ) -> None:
        """Half a file looks like state. What the parts raise is what the caller sees."""
        with pytest.raises(HalfwayError):
            storage.write("state", breaking_off(size_bytes))
        assert list(storage.list()) == []
        with pytest.raises(CheckpointFileMissingError):
            storage.read("state")

    @pytest.mark.parametrize("size_bytes", [0, 20 * MIB])
    def test_a_write_that_breaks_off_replaces_nothing(
        self, storage: CheckpointStorage, size_bytes: int
    ) -> None:
        """What was published stays."""
        storage.write("state", [b"good"])
        with pytest.raises(HalfwayError):
            storage.write("state", breaking_off(size_bytes))
        assert (storage.read("state"), list(storage.list())) == (b"good", [("state", 4)])

    def test_nothing_is_seen_of_what_is_being_written(
        self, storage: CheckpointStorage, checkpoint: OpenCheckpoint
    ) -> None:
        """A checkpoint is complete when its metadata is there: that must not be so too early."""
        reader = checkpoint("chk-1")

        def parts() -> Iterator[bytes]:
            for _ in range(12):
                yield bytes(MIB)
                assert list(reader.list()) == []
                with pytest.raises(CheckpointFileMissingError):
                    reader.size("state")

        assert storage.write("state", parts()) == reader.size("state") == 12 * MIB

    def test_readers_see_one_content_or_the_other(self, storage: CheckpointStorage) -> None:
        """A file that is replaced while it is read is no mixture."""
        contents = [bytes([number]) * MIB for number in range(8)]
        storage.write("state", [contents[0]])
        with ThreadPoolExecutor(2) as threads:
            writing = threads.submit(lambda: [storage.write("state", [content]) for content in contents])
            seen = [storage.read("state")]
            while not writing.done():
                seen.append(storage.read("state"))
            writing.result()
        assert [content[:1] for content in seen if content not in contents] == []
        assert storage.read("state") == contents[-1]

    def test_writers_of_one_name_do_not_mix(self, storage: CheckpointStorage) -> None:
        """An attempt that was given up may still write beside the one that replaced it."""
        contents = [bytes([number]) * (2 * MIB + number) for number in range(6)]
        with ThreadPoolExecutor(len(contents)) as threads:
            list(
                threads.map(lambda content: storage.write("state", [content[:MIB], content[MIB:]]), contents)
            )
        assert storage.read("state") in contents
        assert [name for name, _ in storage.list()] == ["state"]

    def test_writers_of_different_names_work_at_once(self, checkpoint: OpenCheckpoint) -> None:
        """All subtasks begin together: the location comes to be under their hands."""

        def write(number: int) -> int:
            content = b"%d" % number * 1000
            return checkpoint("chk-1").write(f"state-{number}", [content])

        with ThreadPoolExecutor(16) as threads:
            sizes = list(threads.map(write, range(64)))
        storage = checkpoint("chk-1")
        assert dict(storage.list()) == {f"state-{number}": size for number, size in enumerate(sizes)}
        assert storage.read("state-42") == b"42" * 1000


class _DirectoryChecks(_AtomicityChecks):
    """Many files: deleted, shared, listed."""

    def test_deleting_takes_what_is_named(self, storage: CheckpointStorage) -> None:
        """And nothing that begins or ends alike."""
        for name in ("a", "ab", "b", "c"):
            storage.write(name, [b"x"])
        storage.delete(name for name in ("a", "c"))
        assert [name for name, _ in storage.list()] == ["ab", "b"]
        with pytest.raises(CheckpointFileMissingError):
            storage.read("a")

    def test_deleting_what_is_missing_is_no_error(self, storage: CheckpointStorage) -> None:
        """A JobManager that took over deletes again what the one before deleted."""
        storage.delete(["state"])
        storage.write("state", [b"x"])
        for _ in range(2):
            storage.delete(["missing", "state", "../shared/missing"])
        storage.delete([])
        assert list(storage.list()) == []

    def test_deleting_all_leaves_the_neighbours(self, checkpoint: OpenCheckpoint) -> None:
        """Neither the checkpoint whose number begins alike, nor the shared files, nor those of the job go."""
        for name in ("chk-1", "chk-10", "chk-2"):
            checkpoint(name).write("state", [b"x"])
        checkpoint("chk-1").write("../shared/s", [b"shared"])
        checkpoint("chk-1").write("more", [b"x"])
        checkpoint("chk-1").delete_all()
        assert list(checkpoint("chk-1").list()) == []
        for name in ("chk-10", "chk-2"):
            assert list(checkpoint(name).list()) == [("state", 1)]
        assert checkpoint("chk-2").read("../shared/s") == b"shared"

    def test_deleting_all_is_repeated_and_begun_anew(self, storage: CheckpointStorage) -> None:
        """Recovery repeats deletes; what does not exist is deleted; a location may be used again."""
        storage.delete_all()
        storage.write("state", [b"x"])
        with pytest.raises(HalfwayError):
            storage.write("broken", breaking_off(MIB))
        storage.delete_all()
        storage.delete_all()
        assert list(storage.list()) == []
        storage.write("state", [b"again"])
        assert storage.read("state") == b"again"

    def test_what_is_kept_is_not_deleted_with_the_rest(self, storage: CheckpointStorage) -> None:
        """Whoever cleans up names what somebody needs; writes that broke off go as well."""
        for name in ("a", "b", "c"):
            storage.write(name, [name.encode()])
        with pytest.raises(HalfwayError):
            storage.write("broken", breaking_off(MIB))
        storage.delete_all({"b", "missing"})
        assert list(storage.list()) == [("b", 1)]
        storage.delete_all(["missing"])
        assert list(storage.list()) == []

    def test_shared_files_belong_to_the_job(
        self, checkpoint: OpenCheckpoint, base_location: str, settings: Settings
    ) -> None:
        """Later checkpoints use what an earlier one wrote, and it outlives that one."""
        assert checkpoint("chk-1").write("../shared/s1", [b"large and unchanged"]) == 19
        later = checkpoint("chk-2")
        assert later.read("../shared/s1", 6, 3) == b"and"
        assert later.size("../shared/s1") == 19
        assert list(later.list()) == list(checkpoint("chk-1").list()) == []
        shared = open_storage(join_location(base_location, "job", "shared"), settings)
        assert list(shared.list()) == [("s1", 19)]
        later.delete(["../shared/s1"])
        with pytest.raises(CheckpointFileMissingError):
            later.read("../shared/s1")

    def test_files_are_fetched(
        self, checkpoint: OpenCheckpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """State backends open their files themselves: a task that is restored gets them onto its disk,
        be they larger than a piece or empty. They outlive the original, and are never written over."""
        monkeypatch.setattr(checkpoint_storage, "FETCH_SIZE_BYTES", 7)
        storage = checkpoint("chk-1")
        for name, content in (("../shared/s1", b"more than seven bytes"), ("../shared/s2", b"")):
            storage.write(name, [content])
            path = tmp_path / name.rpartition("/")[2]
            storage.fetch(name, path)
            storage.delete([name])
            assert path.read_bytes() == content
        with pytest.raises(CheckpointFileMissingError):
            storage.fetch("../shared/s1", tmp_path / "missing")
        storage.write("../shared/s1", [b"new"])
        with pytest.raises(CheckpointStorageError):
            storage.fetch("../shared/s1", tmp_path / "s1")
        assert (tmp_path / "s1").read_bytes() == b"more than seven bytes"

    def test_files_are_listed_by_name(self, storage: CheckpointStorage) -> None:
        """With their sizes; a location that does not exist has none."""
        assert list(storage.list()) == []
        names = ["b", "a", "Z", "_metadata", "a.b", "a=b-c", "x" * NAME_SIZE_MAX_BYTES]
        for size, name in enumerate(names):
            storage.write(name, [bytes(size)])
        assert list(storage.list()) == sorted((name, size) for size, name in enumerate(names))

    def test_locations_are_found_by_a_file(
        self, checkpoint: OpenCheckpoint, base_location: str, settings: Settings
    ) -> None:
        """Whoever looks for checkpoints finds them below a directory, each as what opens it."""
        base = open_storage(base_location, settings)
        assert list(base.locations_with("_metadata", 3)) == []
        for name in ("chk-1", "chk-2"):
            checkpoint(name).write("_metadata", [name.encode()])
        checkpoint("chk-3").write("state", [b"x"])
        checkpoint("chk-1").write("../shared/s", [b"x"])
        found = list(base.locations_with("_metadata", 2))
        assert sorted(open_storage(one, settings).read("_metadata") for one in found) == [b"chk-1", b"chk-2"]
        assert list(checkpoint("chk-2").locations_with("_metadata", 0)) == [checkpoint("chk-2").location]
        assert list(base.locations_with("_metadata", 1)) == []


class CheckpointStorageTests(_DirectoryChecks):
    """All that a checkpoint storage must do. Override ``base_location``, perhaps ``settings``; no more."""

    def test_no_check_was_taken_out(self) -> None:
        """A check that a plugin overrides says nothing any more. One that cannot hold is marked with xfail,
        with the reason."""
        overridden = [
            name
            for name, value in vars(type(self)).items()
            if type(self) is not CheckpointStorageTests
            if name.startswith("test_") and hasattr(CheckpointStorageTests, name)
            if not any(mark.name == "xfail" for mark in getattr(value, "pytestmark", ()))
        ]
        assert overridden == [], f"overridden without xfail: {overridden}"

    # A storage that follows them does no harm: none leads out of the base location to where anything is.
    @pytest.mark.parametrize(
        "name",
        [
            "",
            ".",
            "..",
            "/dev/null/state",
            "a/b",
            "../chk-2/state",
            "../shared/",
            "../shared/../state",
            "../../shared/state",
            "../shared/a/b",
            ".hidden",
            "state.unfinished",
            "a b",
            "ä",
            "a\n",
            "a\0",
            "x" * (NAME_SIZE_MAX_BYTES + 1),
            "../shared/" + "x" * (NAME_SIZE_MAX_BYTES + 1),
        ],
    )
    def test_names_lead_nowhere_else(self, storage: CheckpointStorage, name: str) -> None:
        """Names come out of files that may be damaged: none may reach what is not of this job."""
        calls: list[Callable[[], object]] = [
            partial(storage.write, name, [b"x"]),
            partial(storage.read, name),
            partial(storage.read, name, 0, 1),
            partial(storage.size, name),
            partial(storage.delete, ["state", name]),
        ]
        storage.write("state", [b"x"])
        for call in calls:
            with pytest.raises(CheckpointStorageError, match="impossible name") as caught:
                call()
            assert not isinstance(caught.value, CheckpointFileMissingError)
        assert list(storage.list()) == [("state", 1)]
