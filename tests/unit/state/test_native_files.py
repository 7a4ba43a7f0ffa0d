"""State in files of its backend: lists of them that are damaged or foreign, and files that are."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.errors import ConfigurationError, RestoreError, StateError
from zmflow.state.checkpoint_storage import open_storage
from zmflow.state.native_chunks import native_chunks
from zmflow.state.native_files import (
    FrozenFiles,
    NativeManifest,
    NativeRestore,
    NativeStateRecord,
    StoredFile,
    decode_manifest,
    encode_manifest,
    file_checksum,
    foreign_files,
)
from zmflow.state.state_file import PickledState, StateFileReader

STATES = [NativeStateRecord("count", "value", False, False)]


def manifest_of(**more: object) -> NativeManifest:
    fields = {"format": "elsewhere", "own": {"CURRENT": b"1"}, "shared": []} | more
    return NativeManifest(first_group=0, last_group=127, states=STATES, description=b"", **fields)  # type: ignore[arg-type]


def test_a_damaged_list_is_refused() -> None:
    """Anywhere; and it never names a file outside the directory it is put into."""
    data = encode_manifest(manifest_of())
    for end in range(len(data)):
        with pytest.raises(StateError, match="chk-1"):
            decode_manifest(data[:end], "chk-1")
    for name in ("../elsewhere", "../shared/s", "/etc/passwd", "a/b", "", ".."):
        with pytest.raises(StateError):
            decode_manifest(encode_manifest(manifest_of(own={name: b""})), "chk-1")


def test_a_state_file_says_which_files_there_are(tmp_path: Path) -> None:
    """Tools see what state they hold without the backend."""
    frozen_in = tmp_path / "frozen"
    frozen_in.mkdir()
    (frozen_in / "CURRENT").write_bytes(b"1")
    frozen = FrozenFiles("elsewhere", "db", range(128), STATES, b"", frozen_in, ["CURRENT"], [])
    frozen.described([])
    data = b"".join(PickledState((), [("op", frozen)]).parts())
    reader = StateFileReader(lambda offset, size: data[offset : offset + size], len(data), "chk-1")
    assert reader.native("op") == [manifest_of()]
    assert reader.native("op", range(200, 300)) == []
    assert reader.keyed("op", range(128), 128) == []
    frozen.close()
    assert not frozen_in.exists()


def test_a_backend_that_is_not_installed_is_named() -> None:
    """With what to do: the plugin, or a savepoint, which needs none."""
    with pytest.raises(ConfigurationError) as raised:
        list(native_chunks(manifest_of(), None, 128))
    assert "'elsewhere', which is not installed" in raised.value.message
    assert "zmflow-state-elsewhere" in (raised.value.hint or "")
    assert foreign_files("elsewhere", "elsewhere") == foreign_files("", "hashmap") == ""
    assert "'hashmap'" in foreign_files("elsewhere", "hashmap")


def test_what_is_fetched_is_checked(tmp_path: Path) -> None:
    """Its size and its checksum; what a copy can give is not asked of the storage."""
    storage = open_storage(str(tmp_path / "chk-1"), Settings())
    storage.write("../shared/s", [b"content"])
    checksum = file_checksum(tmp_path / "shared" / "s")
    good = StoredFile("7.sst", "s", 7, checksum)
    NativeRestore(manifest_of(shared=[good]), storage).fetch(tmp_path / "good")
    assert (tmp_path / "good" / "7.sst").read_bytes() == b"content"
    assert (tmp_path / "good" / "CURRENT").read_bytes() == b"1"
    for wrong in (StoredFile("7.sst", "s", 8, checksum), StoredFile("7.sst", "s", 7, 1)):
        with pytest.raises(RestoreError, match="damaged"):
            NativeRestore(manifest_of(shared=[wrong]), storage).fetch(tmp_path / f"wrong {wrong.size_bytes}")
    missing = NativeRestore(
        manifest_of(shared=[StoredFile("7.sst", "gone", 7, checksum)]),
        storage,
        fetch_copy=lambda file, path: path.write_bytes(b"content") == file.size_bytes,
    )
    missing.fetch(tmp_path / "copied")
    assert (tmp_path / "copied" / "7.sst").read_bytes() == b"content"
