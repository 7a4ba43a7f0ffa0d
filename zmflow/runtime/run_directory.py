"""Run directories: where a process keeps its sockets and temporary files, and who clears up after a kill.

A run directory belongs to one process, which holds a lock on a file in it for as long as it lives. The
kernel drops the lock when the process dies, however it dies, so whoever can take the lock of a
directory knows that its owner is gone and removes what it left.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Self

from zmflow.config import Settings
from zmflow.config.options import RUN_DIR
from zmflow.errors import ConfigurationError

__all__ = [
    "SOCKET_PATH_LENGTH_MAX",
    "RunDirectory",
    "lasting_directory",
    "remove_abandoned",
    "remove_aside",
    "state_directory",
    "worker_directory",
]

SOCKET_PATH_LENGTH_MAX = 107
"""Linux's bound on the path of a local socket, without its final zero."""

SOCKET_NAME_LENGTH_MAX = 40
"""Room for the names of sockets in a run directory: ``data-<allocation id>.ipc``."""

PREFIX = "zmflow-run-"
_LOCK_NAME = "owner.lock"


def state_directory() -> Path:
    """Where this user keeps what outlives processes: under ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "zmflow"


def lasting_directory(settings: Settings) -> Path:
    """Where a daemon keeps what its next start needs: ``env.run.dir``, or else the state directory."""
    named = settings[RUN_DIR]
    return Path(named).expanduser().resolve() if named else state_directory()


def worker_directory(run_dir: str, allocation_id: str) -> Path:
    """Where a slot worker keeps files with names, in the run directory of its TaskManager; made on use."""
    return Path(run_dir) / f"state-{allocation_id}"


def remove_aside(directory: Path) -> None:
    """Remove a directory beside the caller: there may be much in it."""
    if directory.exists():
        threading.Thread(target=shutil.rmtree, args=(directory, True), name="removal", daemon=True).start()


def _base(settings: Settings) -> Path:
    named = settings[RUN_DIR]
    base = Path(named).expanduser().resolve() if named else Path(tempfile.gettempdir())
    length = len(os.fsencode(base)) + len(PREFIX) + 10 + SOCKET_NAME_LENGTH_MAX
    if length <= SOCKET_PATH_LENGTH_MAX:
        return base
    raise ConfigurationError(
        "The directory for sockets has too long a path.",
        detail=f"{base}: local sockets have paths of at most {SOCKET_PATH_LENGTH_MAX} bytes.",
        hint="Set env.run.dir to a shorter path, such as /run/zmflow.",
    )


def remove_abandoned(settings: Settings) -> list[Path]:
    """Remove the run directories of processes that are gone; returns what was removed."""
    removed = []
    try:
        candidates = sorted(_base(settings).glob(f"{PREFIX}*"))
    except OSError:
        return []
    for path in candidates:
        try:
            lock = os.open(path / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or just being made or removed
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(path, ignore_errors=True)
            removed.append(path)
        finally:
            os.close(lock)
    return removed


class RunDirectory:
    """A new, private directory of this process; a context manager that removes it.

    Making one also removes those of killed processes.

    Raises:
        ConfigurationError: the directory cannot be made, or its path is too long for sockets.
    """

    def __init__(self, settings: Settings) -> None:
        base = _base(settings)
        remove_abandoned(settings)
        try:
            base.mkdir(parents=True, exist_ok=True)
            # Locked before it gets the name others look for: nobody may take it for abandoned.
            new = Path(tempfile.mkdtemp(prefix="zmflow-new-", dir=base))
            self._lock = os.open(new / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self.path = new.rename(base / new.name.replace("zmflow-new-", PREFIX))
        except OSError as error:
            raise ConfigurationError(
                "The run directory cannot be made.",
                detail=f"{base}: {error}",
                hint="Set env.run.dir to a directory this user can write.",
            ) from None

    def worker_ended(self, allocation_id: str) -> None:
        """Remove what a slot worker has left, beside the caller: it may be much."""
        remove_aside(worker_directory(str(self.path), allocation_id))

    def endpoint(self, name: str) -> str:
        """The ipc endpoint of a socket with this name in the directory."""
        return f"ipc://{self.path / name}"

    def close(self) -> None:
        """Remove the directory and everything in it."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
