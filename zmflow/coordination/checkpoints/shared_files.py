"""``SharedFiles``: which checkpoints of a job use which shared file, and so when one may be deleted.

A file is used from the acknowledgement that names it until its checkpoint was given up or dropped. When the
last one that uses it goes, it goes. Nobody may begin to use a file again that is gone, or is being deleted:
such an acknowledgement is refused, whatever the task believed.
"""

from __future__ import annotations

from collections.abc import Iterable

from zmflow.protocol.checkpoints import SharedFile

__all__ = ["SharedFiles"]


class SharedFiles:
    """The shared files of one job."""

    def __init__(self) -> None:
        self._users: dict[str, dict[int, None]] = {}  # checkpoints, by the name of the file
        self._places: dict[str, str] = {}  # the location that it was written beside
        self._used: dict[int, dict[str, None]] = {}  # files, by checkpoint

    def use(self, checkpoint_id: int, location: str, files: Iterable[SharedFile]) -> str:
        """A checkpoint consists of these files, too.

        Returns:
            The name of a file that is not there any more: then nothing of it is noted. Empty otherwise.
        """
        files = list(files)
        for file in files:
            if not file.fresh and file.name not in self._users:
                return file.name
        self.claim(checkpoint_id, location, files)
        return ""

    def claim(self, checkpoint_id: int, location: str, files: Iterable[SharedFile]) -> None:
        """A checkpoint that the job begins from consists of these files, and they are the job's own now."""
        for file in files:
            self._used.setdefault(checkpoint_id, {})[file.name] = None
            self._users.setdefault(file.name, {})[checkpoint_id] = None
            self._places.setdefault(file.name, location)

    def drop(self, checkpoint_id: int) -> dict[str, list[str]]:
        """A checkpoint was given up, or is not kept any more.

        Returns:
            The names of the files that nobody uses now, by the location that they are beside.
        """
        unused: dict[str, list[str]] = {}
        for name in self._used.pop(checkpoint_id, ()):
            users = self._users[name]
            del users[checkpoint_id]
            if not users:
                del self._users[name]
                unused.setdefault(self._places.pop(name), []).append(name)
        return unused

    def names(self) -> frozenset[str]:
        """All files that somebody uses."""
        return frozenset(self._users)

    def check(self) -> None:
        """Both sides of the books agree."""
        for name, users in self._users.items():
            assert users, f"{name} is kept for nobody"
            assert all(name in self._used[checkpoint] for checkpoint in users), name
        for checkpoint, names in self._used.items():
            assert all(checkpoint in self._users[name] for name in names), checkpoint
        assert self._users.keys() == self._places.keys()
