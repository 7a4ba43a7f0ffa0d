"""A queue whose reader sleeps in a poller: how threads hand work to a thread that waits for sockets.

Posting costs a C-implemented queue operation; the system call that wakes the reader is made only when it
sleeps.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

__all__ = ["Outbox"]

T = TypeVar("T")


class Outbox(Generic[T]):
    """Many posting threads, one reading thread.

    The reader registers ``wake_fd`` with its poller and calls, in this order: ``prepare_to_sleep`` (which
    answers whether it may), poll, ``awake``, ``drain``.
    """

    def __init__(self) -> None:
        self._items: SimpleQueue[T] = SimpleQueue()
        self._sleeping = False
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def post(self, item: T) -> None:
        """Hand over an item; never blocks."""
        self._items.put(item)
        # The reader sets the flag before it looks at the queue a last time, and this looks at the flag
        # after it has put: one of the two sees the other.
        if self._sleeping:
            self._sleeping = False
            os.eventfd_write(self.wake_fd, 1)

    def prepare_to_sleep(self) -> bool:
        """Announce sleep. False: something was posted meanwhile, so do not."""
        self._sleeping = True
        return self._items.empty()

    def awake(self, *, woken: bool) -> None:
        """After polling; ``woken`` says whether ``wake_fd`` was readable."""
        self._sleeping = False
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self.wake_fd)

    def drain(self) -> Iterator[T]:
        """Everything posted so far."""
        items = self._items
        while not items.empty():
            yield items.get_nowait()

    def close(self) -> None:
        """Release the file descriptor; nothing may be posted afterwards."""
        os.close(self.wake_fd)
