"""What operators write away when it is too much for memory: files that nobody but their task ever sees.

A file loses its name as soon as it is made, so the kernel removes it with the process, however that ends.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO

from zmflow.errors import ZmflowError

__all__ = ["SpillFiles"]

_LENGTH_BYTES = 8


class SpillFiles:
    """Runs of blocks, a file for each; an implementation of ``zmflow.execution.spilling.Spill``.

    >>> spill = SpillFiles(tempfile.gettempdir())
    >>> run = spill.new_run()
    >>> run.append(b"some"); run.append(b"more")
    >>> list(run.blocks())
    [b'some', b'more']
    >>> spill.close()

    Args:
        directory: where the files are, without names.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._runs: list[_Run] = []

    def new_run(self) -> _Run:
        """Begin a run.

        Raises:
            ZmflowError: the directory cannot be written.
        """
        try:
            file = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise _failed(self._directory, error) from error
        run = _Run(file, self._directory)
        self._runs.append(run)
        return run

    def close(self) -> None:
        """Give the disk back."""
        while self._runs:
            self._runs.pop().close()


class _Run:
    def __init__(self, file: IO[bytes], directory: str) -> None:
        self._file = file
        self._directory = directory

    def append(self, block: bytes) -> None:
        """Write a block."""
        try:
            self._file.write(len(block).to_bytes(_LENGTH_BYTES, "big"))
            self._file.write(block)
        except OSError as error:
            raise _failed(self._directory, error) from error

    def blocks(self) -> Iterator[bytes]:
        """All blocks, from the first."""
        try:
            self._file.seek(0)  # which writes what is buffered, too
            while head := self._file.read(_LENGTH_BYTES):
                yield self._file.read(int.from_bytes(head, "big"))
        except OSError as error:
            raise _failed(self._directory, error) from error

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


def _failed(directory: str, error: OSError) -> ZmflowError:
    return ZmflowError(
        "Records that do not fit into memory cannot be kept on disk.",
        detail=f"{directory}: {error.strerror or error}",
        hint="Set env.run.dir of the TaskManager to a directory with room, or give the operator more memory "
        "with managed_memory_weight().",
    )
