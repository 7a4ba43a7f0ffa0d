"""One JobManager without a rival: its epoch is a counter in a file.

Every start takes the next number, so TaskManagers and clients of an earlier start are told apart from
those of this one (design D8), also when there is only ever one JobManager.
"""

from __future__ import annotations

import os
from pathlib import Path

from zmflow.errors import ConfigurationError
from zmflow.ids import Epoch

__all__ = ["next_epoch"]

EPOCH_FILE_NAME = "epoch"

EPOCH_MAX = 2**53
"""Above this, JSON readers lose digits; a start every second gets there in 285 million years."""

EPOCH_FILE_SIZE_MAX_BYTES = 64
"""A number below ``EPOCH_MAX`` has 16 digits; a larger file is something else."""


def next_epoch(directory: Path) -> Epoch:
    """Take the next epoch: the first is 1. It is on the disk before it is returned.

    One process may call this for a directory at a time; which one that is, its caller decides.

    Raises:
        ConfigurationError: the directory cannot be written, or its file holds something else; the
            file is left as it is, since an epoch that goes back would let old messages pass for new.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     next_epoch(Path(name)), next_epoch(Path(name))
    (1, 2)
    """
    path = directory / EPOCH_FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        epoch = _read(path) + 1
        _write(directory, path, epoch)
    except OSError as error:
        raise ConfigurationError(
            "The JobManager's epoch could not be written.",
            detail=f"{path}: {error.strerror or error}",
            hint="Give the JobManager a directory it may write to (setting env.run.dir).",
        ) from None
    return Epoch(epoch)


def _read(path: Path) -> int:
    try:
        with path.open("rb") as file:
            text = file.read(EPOCH_FILE_SIZE_MAX_BYTES + 1)
    except FileNotFoundError:
        return 0
    digits = text.strip()
    if len(text) > EPOCH_FILE_SIZE_MAX_BYTES or not digits.isdigit() or not 0 < int(digits) < EPOCH_MAX:
        raise ConfigurationError(
            "The JobManager's epoch file does not hold an epoch.",
            detail=f"{path}: {text[:EPOCH_FILE_SIZE_MAX_BYTES]!r}",
            hint="Stop every TaskManager and client of this cluster, then delete the file.",
        )
    return int(digits)


def _write(directory: Path, path: Path, epoch: int) -> None:
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        file.write(b"%d\n" % epoch)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    # The rename itself lasts only once the directory is on the disk too.
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
