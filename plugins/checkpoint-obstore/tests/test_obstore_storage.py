"""Checkpoints in an object store, against a real server of the S3 protocol."""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from zmflow.config import Settings
from zmflow.errors import CheckpointFileMissingError, CheckpointStorageError, ConfigurationError
from zmflow.state.checkpoint_storage import CheckpointStorage, open_storage
from zmflow.testing.checkpoint_storage_tests import CheckpointStorageTests

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("s3")]

SERVER = Path(__file__).with_name("s3_server.py")
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server with one bucket, ``checkpoints``."""
    with subprocess.Popen(
        [sys.executable, SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        request = urllib.request.Request(f"{address}/checkpoints", method="PUT")
        urllib.request.urlopen(request, timeout=30).close()
        yield address
        process.stdin.close()
        process.wait(30)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client takes from the environment; nothing of the machine's own."""
    for name, value in {"AWS_ACCESS_KEY_ID": "somebody", "AWS_SECRET_ACCESS_KEY": "secret"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def base_location(server: str) -> str:
    """A prefix of the bucket that no other test has."""
    return f"s3://checkpoints/base {next(NUMBERS)}?endpoint={server}&max_retries=1"


@pytest.fixture
def storage(base_location: str) -> CheckpointStorage:
    """A checkpoint without files."""
    address, _, query = base_location.partition("?")
    return open_storage(f"{address}/chk-1?{query}", Settings())


class TestObjectStoreStorage(CheckpointStorageTests):
    """The conformance kit."""

    @pytest.fixture
    def base_location(self, base_location: str) -> str:
        return base_location


def test_more_files_than_a_page_are_listed_and_deleted(storage: CheckpointStorage) -> None:
    """Servers list and delete a thousand objects at once."""
    names = [f"state-{number:04}" for number in range(1_005)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: storage.write(name, [b"x"]), names))
    assert [name for name, _ in storage.list()] == names
    storage.delete_all()
    assert list(storage.list()) == []


def test_files_are_where_others_find_them(storage: CheckpointStorage, server: str) -> None:
    """The location's path and the name are the key; what is beside the location is for the shared files."""
    storage.write("_metadata", [b"m"])
    storage.write("../shared/s", [b"s"])
    with urllib.request.urlopen(f"{server}/checkpoints?list-type=2", timeout=30) as answer:
        listing = answer.read().decode()
    prefix = storage.location.removeprefix("s3://checkpoints/").partition("/")[0]
    assert f"<Key>{prefix}/chk-1/_metadata</Key>" in listing
    assert f"<Key>{prefix}/shared/s</Key>" in listing


def test_a_bucket_that_is_missing_is_named(server: str) -> None:
    """With the server's own word for it; deleting what was never there is no error."""
    storage = open_storage(f"s3://elsewhere/chk-1?endpoint={server}&max_retries=1", Settings())
    with pytest.raises(CheckpointStorageError) as caught:
        storage.write("state", [b"x"])
    assert str(caught.value).splitlines()[0] == "A checkpoint file cannot be written."
    assert "s3://elsewhere/chk-1/state: " in str(caught.value) and "NoSuchBucket" in str(caught.value)
    assert str(caught.value).splitlines()[-1].startswith("Hint: Does the bucket exist")
    with pytest.raises(CheckpointStorageError, match="NoSuchBucket"):
        list(storage.list())
    with pytest.raises(CheckpointFileMissingError):
        storage.read("state")
    storage.delete(["state", "../shared/state"])


def free_address() -> str:
    """An address that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_server_that_is_down_is_given_up() -> None:
    """Each call ends with an error that says where nobody answered, a large write too."""
    address = free_address()
    storage = open_storage(f"s3://checkpoints/chk-1?endpoint={address}&max_retries=1", Settings())
    calls = {
        "written": lambda: storage.write("state", [b"x"]),
        "written.": lambda: storage.write("state", [bytes(9 << 20)] * 3),
        "read": lambda: storage.read("state"),
        "read.": lambda: storage.size("state"),
        "listed": storage.list,
        "deleted": lambda: storage.delete(["state"]),
        "deleted.": storage.delete_all,
    }
    for done, call in calls.items():
        with pytest.raises(CheckpointStorageError, match=done) as caught:
            call()
        assert not isinstance(caught.value, CheckpointFileMissingError)
        assert address in str(caught.value) and "Is the server up" in str(caught.value)


def test_a_server_that_is_silent_is_given_up() -> None:
    """A connection that is taken and never answered ends after ``read_timeout``."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        location = f"s3://checkpoints/chk-1?endpoint={address}&max_retries=0&read_timeout=200ms"
        began = time.monotonic()
        with pytest.raises(CheckpointStorageError, match="read"):
            open_storage(location, Settings()).read("state")
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("s3://checkpoints", "A whole bucket"),
        ("s3://checkpoints/x?nonsense=1", "no option 'nonsense'"),
        ("s3://checkpoints/x?secret_access_key=s", "Secrets"),
        ("gs://checkpoints/x?account_name=s", "Known: base_url, connect_timeout"),
        ("az://checkpoints/x", "Account must be specified"),
        ("s3://checkpoints/x?max_retries=many", "many"),
        ("s3://checkpoints/x?read_timeout=soon", "cannot be used"),
    ],
)
def test_wrong_locations_say_what_is_wrong(location: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is asked of a server."""
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(ConfigurationError, match=says):
        open_storage(location, Settings())


def test_the_other_stores_are_opened() -> None:
    """One plugin for three schemes; their credentials are looked for when they are needed."""
    for location in ("gs://bucket/x?skip_signature=true", "az://bucket/x?account_name=a&skip_signature=true"):
        assert open_storage(location, Settings()).location == location
