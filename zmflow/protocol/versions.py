"""Who may talk to whom: the protocol version and the Python minor version must be equal.

cloudpickle writes bytecode, which only the same minor version of CPython can read; a job that
got past the handshake with another one would fail in the middle, with an error nobody understands.
"""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import msgspec

from zmflow.errors import IncompatiblePeerError

__all__ = ["PROTOCOL_VERSION", "Versions", "check_compatible", "local_versions"]

PROTOCOL_VERSION = 3
"""Grows when a message or frame changes so that an older peer would misread it."""


class Versions(msgspec.Struct, frozen=True, array_like=True):
    """What one side runs: the protocol, CPython's ``major.minor`` and zmflow's own version."""

    protocol: int
    python: str
    zmflow: str


def local_versions() -> Versions:
    """The versions of this process."""
    return Versions(
        protocol=PROTOCOL_VERSION,
        python=".".join(platform.python_version_tuple()[:2])
        if sys.implementation.name == "cpython"
        else f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}",
        zmflow=metadata.version("zmflow"),
    )


def check_compatible(ours: Versions, theirs: Versions, *, our_name: str, their_name: str) -> None:
    """Refuse a peer this process could not exchange jobs and records with.

    Raises:
        IncompatiblePeerError: says both versions and what to install.

    >>> v = Versions(1, "3.11", "0.1.0")
    >>> check_compatible(v, v, our_name="JobManager", their_name="client")
    """
    if ours.protocol != theirs.protocol:
        raise IncompatiblePeerError(
            f"{their_name} speaks protocol version {theirs.protocol}, "
            f"{our_name} speaks version {ours.protocol}.",
            detail=f"{their_name}: zmflow {theirs.zmflow}; {our_name}: zmflow {ours.zmflow}.",
            hint="Install the same zmflow release on both sides.",
        )
    if ours.python != theirs.python:
        raise IncompatiblePeerError(
            f"{their_name} runs Python {theirs.python}, {our_name} runs Python {ours.python}.",
            detail="Functions travel as bytecode, which only the same minor version can run.",
            hint=f"Start {their_name} with Python {ours.python}.",
        )
