"""What the shells of all brains share: the clock, the wait until a deadline, log effects, being stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from zmflow.coordination.effects import Log

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

__all__ = ["Waker", "log_effect", "monotonic_ms", "stop_on_signals", "timeout_ms", "wall_ms"]


def monotonic_ms() -> int:
    """The clock of brains: milliseconds that only go forward."""
    return time.monotonic_ns() // 1_000_000


def wall_ms() -> int:
    """Milliseconds since 1970, for what people see."""
    return time.time_ns() // 1_000_000


def timeout_ms(deadline_ms: int | None, now_ms: int) -> int | None:
    """How long to poll for a deadline; None waits for ever.

    >>> timeout_ms(None, 5), timeout_ms(9, 5), timeout_ms(1, 5)
    (None, 4, 0)
    """
    return None if deadline_ms is None else max(0, deadline_ms - now_ms)


def log_effect(logger: FilteringBoundLogger, effect: Log) -> None:
    """Carry out a brain's ``Log``."""
    fields = {("about" if name == "event" else name): value for name, value in effect.fields.items()}
    getattr(logger, effect.level)(effect.sentence, **fields)


class Waker:
    """Wakes a thread out of its poll, from any thread or signal handler."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """Readable after ``wake``."""
        return self._fd

    def wake(self) -> None:
        """Make the descriptor readable; nothing after ``close``."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def clear(self) -> None:
        """Make the descriptor unreadable again."""
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._fd)

    def close(self) -> None:
        """Give the descriptor back."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@contextlib.contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call ``stop`` on SIGTERM and SIGINT while the block runs; main thread only."""

    def handler(_number: int, _frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handler) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
