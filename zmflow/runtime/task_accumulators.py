"""The accumulators of one task: changed by its thread, asked for by the worker's."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from zmflow.api.accumulators import Accumulator, pack_accumulators
from zmflow.errors import ZmflowError
from zmflow.runtime.channels import Mailbox

__all__ = ["TaskAccumulators"]


class TaskAccumulators:
    """What functions have registered, and how it was when it was packed last.

    As an item of the mailbox it means: pack what has been accumulated. Only the task's own thread may read
    accumulators, which a function of the program's may be changing at any other time.
    """

    def __init__(self) -> None:
        self.registered: dict[str, Accumulator[Any, Any]] = {}
        self.packed = b""
        self._wanted = False

    def want(self, mailbox: Mailbox) -> None:
        """From any thread: let the task pack them when it comes to it."""
        if self.registered and not self._wanted:
            self._wanted = True
            mailbox.put((None, self))

    def pack_running(self) -> None:
        """On the task's thread, when it finds this in its mailbox."""
        self._wanted = False
        with suppress(ZmflowError):  # it is raised at the end, unless they have shrunk by then
            self.packed = pack_accumulators(self.registered)

    def pack_last(self) -> None:
        """On the task's thread, when everything is closed.

        Raises:
            ZmflowError: they cannot be pickled, or are too large.
        """
        self.packed = pack_accumulators(self.registered)
