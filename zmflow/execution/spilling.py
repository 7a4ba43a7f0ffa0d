"""What an operator asks for that holds more than it may keep in memory: runs of blocks, read once.

The task brings the implementation, on files; here is only what is asked of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

__all__ = ["Spill", "SpillRun"]


class SpillRun(Protocol):
    """Blocks in the order in which they were appended."""

    def append(self, block: bytes) -> None:
        """Write a block."""
        ...

    def blocks(self) -> Iterator[bytes]:
        """All blocks. No block is appended after this was called."""
        ...


class Spill(Protocol):
    """Runs of one operator. They are gone with it, however it ends."""

    def new_run(self) -> SpillRun:
        """Begin a run."""
        ...

    def close(self) -> None:
        """Nobody reads or writes any more. May be called twice."""
        ...
