"""``TaskInbox``: what a task reads next, and what it does while nothing comes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any, Protocol

from zmflow.runtime.channels import Mailbox

__all__ = ["LookAhead", "TaskInbox"]

NOTHING: tuple[Any, Any] = (None, None)


class LookAhead(Protocol):
    """Who looks at what is in the mailbox before its turn."""

    @property
    def active(self) -> bool:
        """Whether there is a reason to."""
        ...

    def look_ahead(self) -> bool:
        """Put everything aside that is there. True when that has done something."""
        ...

    def took(self, sender: Any, item: Any) -> tuple[Any, Any]:
        """Something came out of the mailbox: what the task is to make of it."""
        ...


class TaskInbox:
    """The mailbox of a task, and before it what was put aside. On the task's thread.

    Args:
        mailbox: what others put something into.
        deferred: what is read before it.
        idle_wait_s: how long nothing has to be done while nothing comes, at most until an instant
            (``time.perf_counter``); None: for ever.
        idle: does what is due.
    """

    def __init__(
        self,
        mailbox: Mailbox,
        deferred: deque[tuple[Any, Any]],
        idle_wait_s: Callable[[float | None], float | None],
        idle: Callable[[float], None],
    ) -> None:
        self._mailbox = mailbox
        self._deferred = deferred
        self._idle_wait_s = idle_wait_s
        self._idle = idle

    @property
    def empty(self) -> bool:
        """Whether nothing is there."""
        return not self._deferred and self._mailbox.empty()

    def next(self, ahead: LookAhead, until: float | None = None) -> tuple[Any, Any]:
        """The next sender and item; while it waits, does what is due. Nothing, (None, None), where it has
        waited until then, or something was done instead."""
        if ahead.active and ahead.look_ahead():
            return NOTHING
        if self._deferred:
            return self._deferred.popleft()
        mailbox = self._mailbox
        while mailbox.empty():
            wait_s = self._idle_wait_s(until)
            if wait_s is None:
                break
            try:
                item = mailbox.get(timeout=wait_s)
            except Empty:
                self._idle(now := time.perf_counter())
                if until is not None and until <= now:
                    return NOTHING
                continue
            return ahead.took(*item) if ahead.active else item
        item = mailbox.get()
        return ahead.took(*item) if ahead.active else item
