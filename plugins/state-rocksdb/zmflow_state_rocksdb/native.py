"""Keyed state in the database's own files: what goes into an incremental checkpoint, and comes back."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import msgspec

from zmflow.errors import RestoreError
from zmflow.state.descriptors import StateKind
from zmflow.state.native_files import TAKE_A_SAVEPOINT, FrozenFiles, NativeManifest, NativeStateRecord
from zmflow_state_rocksdb.database import Database
from zmflow_state_rocksdb.layout import StateLayout

__all__ = ["FORMAT", "Description", "described", "frozen_files", "layouts_of"]

FORMAT = "rocksdb"
"""The name of the backend."""

FORMAT_VERSION = 1
"""Of records, as ``encoding`` has them."""

_OWN_PREFIXES = ("CURRENT", "MANIFEST-", "rocksdict-config")
"""Files that are needed beside those with data. Options are not: those of the new process count, and logs are
empty."""

_PYTHON = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"


class Description(msgspec.Struct, frozen=True, array_like=True):
    """What has to be known of a database beside its states.

    Args:
        version: of the format of records.
        python: whose marshal wrote the values.
        sequence: a number above those of all pieces of lists.
    """

    version: int
    python: str
    sequence: int


def frozen_files(
    database: Database, key_groups: range, states: Iterable[tuple[StateLayout, bool]], sequence: int
) -> FrozenFiles:
    """What a database holds now, as files.

    Args:
        states: in the order of their numbers; with whether they expire.

    Raises:
        StateError: they could not be made.
    """
    directory = database.checkpoint()
    names = sorted(path.name for path in directory.iterdir())
    return FrozenFiles(
        FORMAT,
        database.identity,
        key_groups,
        [NativeStateRecord(each.name, each.kind.value, each.namespaced, timed) for each, timed in states],
        msgspec.msgpack.encode(Description(FORMAT_VERSION, _PYTHON, sequence)),
        directory,
        own=[name for name in names if name.startswith(_OWN_PREFIXES)],
        shared=[name for name in names if name.endswith(".sst")],
    )


def described(manifest: NativeManifest) -> Description:
    """The description of a database that was written by this format and this Python.

    Raises:
        RestoreError: it was written by others.
    """
    try:
        description = msgspec.msgpack.decode(manifest.description, type=Description)
    except msgspec.DecodeError as error:
        raise RestoreError("The description of a database is damaged.", detail=str(error)) from None
    written = f"version {description.version} of {description.python}"
    here = f"version {FORMAT_VERSION} of {_PYTHON}"
    if written != here:
        raise RestoreError(
            "The files of an incremental checkpoint were written in another format.",
            detail=f"It is {written}, and this process reads {here}.",
            hint=TAKE_A_SAVEPOINT.replace("with the backend that wrote it", "where it was written"),
        )
    return description


def layouts_of(manifest: NativeManifest) -> list[tuple[StateLayout, bool]]:
    """The states of a database by their numbers, with whether they expire."""
    return [
        (StateLayout(number, state.name, StateKind(state.kind), state.namespaced), state.timed)
        for number, state in enumerate(manifest.states)
    ]
