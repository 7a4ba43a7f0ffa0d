"""Who may connect: CURVE keys for every TCP endpoint that is not bound to loopback (design D11).

A cluster has one key pair, in one file that every machine and every client holds. Servers accept
exactly that public key, so holding the file is what being a member means. Unpickling is code
execution: without keys, nothing but loopback is bound.
"""

from __future__ import annotations

import ipaddress
import json
import os
import stat
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import zmq

from zmflow.config import Settings
from zmflow.config.options import CURVE_KEY_FILE
from zmflow.errors import ConfigurationError

if TYPE_CHECKING:
    from zmq.auth.thread import ThreadAuthenticator

__all__ = [
    "CurveKeys",
    "create_key_file",
    "end_authentication",
    "generate_keys",
    "is_loopback",
    "load_keys",
    "read_key_file",
    "require_keys_or_loopback",
    "secure_client",
    "secure_server",
]

KEY_FILE_SIZE_MAX_BYTES = 4096
"""Two keys of 40 characters and their names take about 120 bytes."""

KEY_LENGTH = 40
"""Characters of a Z85-encoded CURVE key of 32 bytes."""


class CurveKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The key pair of a cluster, both keys in ZeroMQ's Z85 text form."""

    public_key: str
    secret_key: str

    def __repr__(self) -> str:
        return f"CurveKeys(public_key={self.public_key!r}, secret_key=<hidden>)"


def generate_keys() -> CurveKeys:
    """A new random key pair."""
    public, secret = zmq.curve_keypair()
    return CurveKeys(public.decode(), secret.decode())


def create_key_file(path: Path) -> CurveKeys:
    """Make a new key pair and write it to a new file that only its owner can read.

    Raises:
        ConfigurationError: the file exists already, or cannot be written.
    """
    keys = generate_keys()
    text = json.dumps({"public_key": keys.public_key, "secret_key": keys.secret_key}, indent=2) + "\n"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigurationError(
            "The key file exists already and is not overwritten.",
            detail=str(path),
            hint="Every member of a cluster needs the same file; choose another name for a new cluster.",
        ) from None
    except OSError as error:
        raise ConfigurationError("The key file cannot be written.", detail=f"{path}: {error}") from None
    with os.fdopen(file, "w", encoding="ascii") as stream:
        stream.write(text)
    return keys


def read_key_file(path: Path) -> CurveKeys:
    """The key pair in a file made by ``create_key_file``.

    Raises:
        ConfigurationError: missing, readable by others, or not a key file.
    """
    hint = "Make one with 'zmflow keygen FILE' and copy the same file to every machine of the cluster."
    try:
        status = path.stat()
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise ConfigurationError(
                "The key file can be read by others than its owner.",
                detail=f"{path}: mode {stat.S_IMODE(status.st_mode):04o}.",
                hint=f"chmod 600 {path}",
            )
        if status.st_size > KEY_FILE_SIZE_MAX_BYTES:
            raise ConfigurationError(
                "The key file is too large to be one.",
                detail=f"{path}: {status.st_size} bytes.",
                hint=hint,
            )
        keys = msgspec.json.decode(path.read_bytes(), type=CurveKeys)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            "The key file cannot be read.", detail=f"{path}: {error}", hint=hint
        ) from None
    try:
        derived = zmq.curve_public(keys.secret_key.encode("ascii")).decode()
    except (zmq.ZMQError, ValueError, UnicodeEncodeError):
        derived = ""
    if len(keys.secret_key) != KEY_LENGTH or derived != keys.public_key:
        raise ConfigurationError(
            "The key file does not hold a pair of matching keys.", detail=str(path), hint=hint
        )
    return keys


def load_keys(settings: Settings) -> CurveKeys | None:
    """The cluster's keys, or None when ``security.curve.key-file`` names no file.

    Raises:
        ConfigurationError: the named file is not a key file.
    """
    path = settings[CURVE_KEY_FILE]
    return read_key_file(Path(path).expanduser()) if path else None


def is_loopback(host: str) -> bool:
    """Whether an endpoint bound to this host can only be reached from this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("node-1")
    (True, True, False, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def require_keys_or_loopback(host: str, keys: CurveKeys | None) -> None:
    """Refuse to bind an address others can reach without keys.

    Raises:
        ConfigurationError: says how to make keys.
    """
    if keys is None and not is_loopback(host):
        raise ConfigurationError(
            f"Binding {host} without keys is refused: whoever connects could run any code here.",
            detail=f"security.curve.key-file is not set, and {host} is not a loopback address.",
            hint="Run 'zmflow keygen FILE', copy FILE to every machine of the cluster and set "
            "security.curve.key-file to it; or bind 127.0.0.1.",
        )


class _OneKey:
    """What ThreadAuthenticator asks about each client: is this the cluster's public key?"""

    def __init__(self, public_key: bytes) -> None:
        self._public_key = public_key

    def callback(self, domain: str, key: bytes) -> bool:  # noqa: ARG002
        return key == self._public_key


_ZAP_DOMAIN = "zmflow"
_lock = threading.Lock()
_authenticators: dict[int, ThreadAuthenticator] = {}


def secure_server(socket: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Let only holders of ``keys`` connect to this socket; call before ``bind``. No keys: do nothing.

    The first call for a context starts its authenticator, which all its sockets share: a context
    belongs to one cluster. Call ``end_authentication`` before the context is terminated.
    """
    if keys is None:
        return
    context = socket.context
    with _lock:
        if id(context) not in _authenticators:
            from zmq.auth.thread import ThreadAuthenticator

            authenticator = ThreadAuthenticator(context)
            authenticator.start()
            authenticator.configure_curve_callback(
                domain=_ZAP_DOMAIN, credentials_provider=_OneKey(keys.public_key.encode())
            )
            _authenticators[id(context)] = authenticator
    socket.zap_domain = _ZAP_DOMAIN.encode()
    socket.curve_server = True
    socket.curve_publickey = keys.public_key.encode()
    socket.curve_secretkey = keys.secret_key.encode()


def secure_client(socket: zmq.Socket[bytes], keys: CurveKeys | None) -> None:
    """Encrypt and prove membership on this socket; call before ``connect``. No keys: do nothing."""
    if keys is None:
        return
    socket.curve_serverkey = keys.public_key.encode()
    socket.curve_publickey = keys.public_key.encode()
    socket.curve_secretkey = keys.secret_key.encode()


def end_authentication(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    """Stop the authenticator of a context, if it has one; needed before ``context.term()``."""
    with _lock:
        authenticator = _authenticators.pop(id(context), None)
    if authenticator is not None:
        authenticator.stop()
