"""Keys of a cluster: files, refusals, and who gets through a secured socket."""

import stat

import pytest
import zmq

from zmflow.config import Settings
from zmflow.errors import ConfigurationError
from zmflow.protocol.messages import Heartbeat
from zmflow.runtime.control import Arrival, ControlClient, ControlServer
from zmflow.runtime.security import (
    create_key_file,
    end_authentication,
    generate_keys,
    load_keys,
    require_keys_or_loopback,
)

DEADLINE_MS = 10_000


def test_key_file_round_trip(tmp_path):
    """A made key file is private and loads as the keys that were made."""
    path = tmp_path / "cluster.key"
    keys = create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    settings = Settings().with_values({"security.curve.key-file": str(path)}, "test")
    assert load_keys(settings) == keys
    assert keys.secret_key not in repr(keys)
    assert load_keys(Settings()) is None


def test_existing_key_file_is_kept(tmp_path):
    """Making keys over an existing file is refused and changes nothing."""
    path = tmp_path / "cluster.key"
    create_key_file(path)
    before = path.read_bytes()
    with pytest.raises(ConfigurationError, match="not overwritten"):
        create_key_file(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "cannot be read"),
        (b"{}", 0o600, "cannot be read"),
        (b"\xff", 0o600, "cannot be read"),
        (b"x" * 5000, 0o600, "too large"),
        (b'{"public_key": "a", "secret_key": "b"}', 0o600, "matching"),
        (b"{}", 0o644, "chmod 600"),
    ],
)
def test_wrong_key_files(tmp_path, content, mode, words):
    """What is not a private file with a matching pair is refused, naming the file."""
    path = tmp_path / "cluster.key"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    settings = Settings().with_values({"security.curve.key-file": str(path)}, "test")
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_keys(settings)
    assert str(path) in str(caught.value)


def test_other_hosts_need_keys():
    """Without keys only loopback may be bound; with keys anything."""
    require_keys_or_loopback("127.0.0.1", None)
    require_keys_or_loopback("::1", None)
    for host in ("0.0.0.0", "node-1", "10.0.0.7", "*"):  # noqa: S104
        with pytest.raises(ConfigurationError, match="zmflow keygen FILE"):
            require_keys_or_loopback(host, None)
        require_keys_or_loopback(host, generate_keys())


@pytest.mark.parametrize("who", ["member", "stranger", "plain"])
def test_only_members_get_through(who):
    """A secured server hears clients with the cluster's keys, and nobody else."""
    keys, context = generate_keys(), zmq.Context()
    server = ControlServer(context, log=lambda _: None, keys=keys)
    port = server.bind_tcp("127.0.0.1", 0, setting="test")
    theirs = {"member": keys, "stranger": generate_keys(), "plain": None}[who]
    client = ControlClient(context, f"tcp://127.0.0.1:{port}", log=lambda _: None, keys=theirs)
    member = ControlClient(context, f"tcp://127.0.0.1:{port}", log=lambda _: None, keys=keys)
    try:
        client.send(Heartbeat(1, who))
        if who != "member":
            # By the time a member's later message is through, the other's would have been.
            poller = zmq.Poller()
            poller.register(client.monitor)
            assert poller.poll(DEADLINE_MS), "the stranger was not turned away"
            member.send(Heartbeat(1, "member"))
        assert server.socket.poll(DEADLINE_MS)
        heard = [news.message.taskmanager_id for news in server.receive() if isinstance(news, Arrival)]
        assert heard == ["member"]
    finally:
        client.close(0)
        member.close(0)
        server.close()
        end_authentication(context)
        context.term()
