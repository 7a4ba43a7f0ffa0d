"""The split enumerator of a source, on a thread of its own in the worker of subtask 0 (design D6)."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

from zmflow.api.sources import Source, SplitEnumerator
from zmflow.protocol.messages import TaskFailure

__all__ = [
    "ADD_SPLITS",
    "ENUMERATOR_FAILED",
    "NO_MORE_SPLITS",
    "REQUEST_SPLIT",
    "SourceCoordinator",
    "decode_event",
    "encode_event",
]

REQUEST_SPLIT = "request"
ADD_SPLITS = "add"
NO_MORE_SPLITS = "no_more"
ENUMERATOR_FAILED = "failed"

STOP_TIMEOUT_S = 1.0
"""The job is over: an enumerator that hangs in ``close`` must not keep the slot from the next one."""

Event = tuple[str, Any]


def encode_event(verb: str, argument: Any = None) -> bytes:
    """The payload of an ``OperatorEvent``."""
    return pickle.dumps((verb, argument), protocol=5)


def decode_event(payload: bytes) -> Event:
    """What is in the payload of an ``OperatorEvent``."""
    event: Event = pickle.loads(payload)
    return event


class SourceCoordinator:
    """Runs the enumerator: split requests in, assignments out.

    Args:
        source: a copy of the source that no reader shares.
        parallelism: readers.
        inbox: split requests as (subtask,); ``None`` ends the thread. May hold requests already.
        send: sends an event payload to a subtask.
        fail: told what the enumerator raised; fails the task beside it and answers with the failure.
    """

    def __init__(
        self,
        source: Source[Any, Any],
        parallelism: int,
        inbox: SimpleQueue[int | None],
        send: Callable[[int, bytes], None],
        fail: Callable[[BaseException], TaskFailure],
    ) -> None:
        self._source = source
        self._parallelism = parallelism
        self._inbox = inbox
        self._send = send
        self._fail = fail
        self._thread = threading.Thread(target=self._run, name="zmflow-enumerator", daemon=True)

    @property
    def parallelism(self) -> int:
        """How many readers there are."""
        return self._parallelism

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        """Give splits to a reader."""
        self._send(subtask, encode_event(ADD_SPLITS, list(splits)))

    def signal_no_more_splits(self, subtask: int) -> None:
        """Tell a reader that it has all it will get."""
        self._send(subtask, encode_event(NO_MORE_SPLITS))

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Close the enumerator after the request it is at; waits STOP_TIMEOUT_S for that."""
        self._inbox.put(None)
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        try:
            enumerator: SplitEnumerator[Any] = self._source.create_enumerator(self)
            enumerator.start()
            while (subtask := self._inbox.get()) is not None:
                enumerator.handle_split_request(subtask)
            enumerator.close()
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; a task reports it
            failure = self._fail(error)
            # The task that runs here may have ended, so every other reader is told, too.
            for subtask in range(1, self._parallelism):
                self._send(subtask, encode_event(ENUMERATOR_FAILED, failure))
