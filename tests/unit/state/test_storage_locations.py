"""Locations of checkpoints: how they are written, and which storage they lead to."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.errors import ConfigurationError
from zmflow.state.checkpoint_storage import ENTRY_POINT_GROUP, join_location, open_storage, validate_location
from zmflow.state.directory_storage import DirectoryStorage


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("/mnt/chk", "/mnt/chk"),
        (" /mnt//chk/ ", "/mnt/chk"),
        ("/mnt/a b?c#d", "/mnt/a b?c#d"),
        ("/", "/"),
        ("file:///mnt/chk", "/mnt/chk"),
        ("FILE://localhost/mnt/%C3%A4%3F", "/mnt/ä?"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/a//b/", "s3://bucket/a/b"),
        ("S3://Bucket/a?x=1&y=2", "s3://Bucket/a?x=1&y=2"),
        ("abfss://container@account.example/a", "abfss://container@account.example/a"),
        ("faulty:///tmp/a?fail_every=3", "faulty:///tmp/a?fail_every=3"),
    ],
)
def test_a_location_has_one_form(text: str, location: str) -> None:
    """Whatever the way it is written; that form is one itself."""
    assert validate_location(text) == location == validate_location(location)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("checkpoints", "relative path"),
        ("./checkpoints", "relative path"),
        ("s3:/bucket", "no ://"),
        ("file:/mnt", "no ://"),
        ("://x", "relative path"),
        ("s3://", "names nothing"),
        ("s3:///", "names nothing"),
        ("file://host/mnt", "Write three slashes"),
        ("file:///mnt?x=1", "Write %3F"),
        ("file:///mnt/%00", "cannot be printed"),
        ("/mnt/../etc", r"has \. or \.\."),
        ("s3://bucket/./a", r"has \. or \.\."),
        ("file:///mnt/%2e%2e/etc", r"has \. or \.\."),
        ("s3://bucket/a#b", "behind #"),
        ("s3://[bucket", "is no URL"),
        ("/mnt/a\nb", "cannot be printed"),
        ("/" + "x" * 4096, "longer than 4096 bytes"),
    ],
)
def test_what_is_no_location_says_what_to_write(text: str, says: str) -> None:
    """Each refusal has the text and an example."""
    with pytest.raises(ConfigurationError, match=says) as caught:
        validate_location(text)
    assert caught.value.hint


def test_a_password_is_refused_and_not_repeated() -> None:
    """Locations are in logs, in the metadata and on screens."""
    with pytest.raises(ConfigurationError, match="password") as caught:
        validate_location("s3://key:hushhush@bucket/a")
    assert "hushhush" not in str(caught.value)


def test_locations_are_joined() -> None:
    """Below a directory or a prefix; options stay at the end."""
    assert join_location("file:///mnt/chk", "job", "chk-1") == "/mnt/chk/job/chk-1"
    assert join_location("/", "a") == "/a"
    assert join_location("/what?", "a") == "/what?/a"
    assert join_location("s3://bucket/x/?a=b/c", "job") == "s3://bucket/x/job?a=b/c"
    assert join_location("s3://bucket") == "s3://bucket"


@pytest.mark.parametrize("part", ["", "..", "a/b", "a?b", "a b", ".hidden"])
def test_only_plain_names_are_joined(part: str) -> None:
    """A part leads to what is directly below."""
    with pytest.raises(ConfigurationError, match="no plain name"):
        join_location("/mnt", part)


def test_a_path_is_the_directory(tmp_path: Path) -> None:
    """As a path and as a URL."""
    for text in (str(tmp_path), tmp_path.as_uri()):
        storage = open_storage(text, Settings())
        assert (type(storage), storage.location) == (DirectoryStorage, str(tmp_path))


def test_a_scheme_that_nobody_serves_is_answered_with_those_there_are() -> None:
    """Most often the plugin is not installed."""
    with pytest.raises(ConfigurationError, match="'nowhere'") as caught:
        open_storage("nowhere://x/y", Settings())
    assert "file" in str(caught.value.detail)


@pytest.mark.parametrize(
    ("scheme", "says"), [("dumps", "is no checkpoint storage"), ("old", "is of version 0 of the interface")]
)
def test_a_plugin_that_does_not_fit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, says: str
) -> None:
    """It is no storage, or one for another version."""
    info = tmp_path / "misfits-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misfits\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\ndumps = json:dumps\nold = misfit:Old\n")
    (tmp_path / "misfit.py").write_text(
        "from zmflow.state.directory_storage import DirectoryStorage\n"
        "class Old(DirectoryStorage):\n"
        "    api_version = 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigurationError, match=says):
        open_storage(f"{scheme}://x/y", Settings())
