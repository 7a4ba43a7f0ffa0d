"""The split enumerator of a source, on a thread of its own in the worker of subtask 0 (design D6).

It outlives the readers: one that was restarted, subtask 0's too, asks again and finds it where it was. It
begins anew, with a higher ``coordinator_number``, when its worker is lost or every reader restarts.
"""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from zmflow.api.sources import SplitEnumerator
from zmflow.protocol.messages import TaskDeployment, TaskFailure
from zmflow.runtime.shipped_code import install_classes, load_chain
from zmflow.runtime.sources.split_assignments import Asking, SplitAssignments
from zmflow.runtime.task_failure import describe_failure
from zmflow.telemetry.logs import get_logger, task_context

__all__ = [
    "ADD_SPLITS",
    "ALLOW_WATERMARK",
    "ENUMERATOR_FAILED",
    "NO_MORE_SPLITS",
    "REPORT_WATERMARK",
    "REQUEST_SPLIT",
    "SourceCoordinator",
    "decode_event",
    "encode_event",
]

REQUEST_SPLIT = "request"
ADD_SPLITS = "add"
NO_MORE_SPLITS = "no_more"
ENUMERATOR_FAILED = "failed"
REPORT_WATERMARK = "report"  # from a reader to where its alignment group is kept
ALLOW_WATERMARK = "allow"  # and the answer

STOP_TIMEOUT_S = 1.0
"""The job is over: an enumerator that hangs in ``close`` must not keep the slot from the next one."""

Event = tuple[str, Any, int]


def encode_event(verb: str, argument: Any = None, number: int = 0) -> bytes:
    """The payload of an ``OperatorEvent``.

    Args:
        verb: what it is about.
        argument: what it says.
        number: of an assignment, the checkpoint that the enumerator's last snapshot before it is of; of a
            request, the checkpoint that the reader goes on from.
    """
    return pickle.dumps((verb, argument, number), protocol=5)


def decode_event(payload: bytes) -> Event:
    """What is in the payload of an ``OperatorEvent``."""
    event: Event = pickle.loads(payload)
    return event


class _PeriodicCall:
    """A function of an enumerator, and when it is called next."""

    def __init__(self, interval_s: float, function: Callable[[], None]) -> None:
        self._interval_s = interval_s
        self._function = function
        self.due = time.monotonic() + interval_s

    def __call__(self) -> None:
        self._function()
        self.due = time.monotonic() + self._interval_s


class SourceCoordinator:
    """Runs the enumerator: split requests in, assignments out. It is the enumerator's context.

    Args:
        deployment: of subtask 0 of the source; the enumerator is made from its own copy of the source.
        host: for failures.
        send: sends an event payload to an attempt of a subtask: (subtask, attempt, payload).
        snapshotted: takes a snapshot: (checkpoint, state, why there is none).
    """

    def __init__(
        self,
        deployment: TaskDeployment,
        host: str,
        send: Callable[[int, int, bytes], None],
        snapshotted: Callable[[int, bytes, str], None],
    ) -> None:
        self.number = deployment.coordinator_number
        self._deployment = deployment
        self._host = host
        self._send = send
        self._snapshotted = snapshotted
        self._inbox: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        restore = deployment.restore
        restored = 0 if restore is None or restore.coordinator is None else restore.checkpoint_id
        self._books: SplitAssignments[Any] = SplitAssignments(restored)
        self._periodic: list[_PeriodicCall] = []
        self._early: dict[int, list[bytes]] = {}  # events for readers that were not heard of yet
        self._enumerator: SplitEnumerator[Any] | None = None
        self._failure: TaskFailure | None = None
        self._operator_name = ""
        self._stopped = False
        self._thread = threading.Thread(
            target=self._run, name=f"enumerator-{deployment.vertex_id}", daemon=True
        )

    @property
    def parallelism(self) -> int:
        """How many readers there are."""
        return self._deployment.parallelism

    def assign_splits(self, splits: Sequence[Any], subtask: int) -> None:
        """Give splits to a reader."""
        splits = list(splits)
        payload = encode_event(ADD_SPLITS, splits, self._books.snapshot)
        self._books.give(subtask, splits)
        self._tell(subtask, payload)

    def signal_no_more_splits(self, subtask: int) -> None:
        """Tell a reader that it has all it will get."""
        self._tell(subtask, encode_event(NO_MORE_SPLITS, None, self._books.snapshot))

    def call_periodically(self, interval_ms: int, function: Callable[[], None]) -> None:
        """Call a function every so often, between two requests."""
        self._periodic.append(_PeriodicCall(max(1, interval_ms) / 1000, function))

    # -- called by the worker ----------------------------------------------------------------------

    def start(self) -> None:
        """Begin to serve."""
        self._thread.start()

    def request(self, subtask: int, attempt: int, restored: int) -> None:
        """An attempt of a reader, which goes on from this checkpoint, asks for a split."""
        self._inbox.put(lambda: self._guard(self._serve, subtask, attempt, restored))

    def snapshot(self, checkpoint_id: int) -> None:
        """Take a snapshot; what is assigned afterwards is not part of it."""
        self._inbox.put(lambda: self._snapshot(checkpoint_id))

    def completed(self, checkpoint_id: int) -> None:
        """A checkpoint is complete."""
        self._inbox.put(lambda: self._guard(self._completed, checkpoint_id))

    def stop(self) -> None:
        """Close the enumerator after the request it is at; does not wait for that."""
        self._stopped = True
        self._inbox.put(None)

    def join(self) -> None:
        """Wait STOP_TIMEOUT_S for the end, after ``stop``."""
        self._thread.join(STOP_TIMEOUT_S)

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        deployment = self._deployment
        with task_context(
            job_id=deployment.job_id,
            vertex=deployment.vertex_name,
            subtask=deployment.subtask_index,
            attempt=deployment.attempt_number,
        ):
            self._guard(self._begin)
            while (action := self._next_action()) is not None and not self._stopped:
                action()
            try:
                if self._enumerator is not None:
                    self._enumerator.close()
            except BaseException as error:  # noqa: BLE001 - user code may raise anything
                get_logger().warning("closing a split enumerator failed", why=repr(error))

    def _next_action(self) -> Callable[[], None] | None:
        """What to do next: what came in, or else a periodic call that is due. One that is overdue when
        something else was done goes first, so that many requests cannot keep it from its turn."""
        while True:
            call = min(self._periodic, key=lambda call: call.due, default=None)
            if call is None:
                return self._inbox.get()
            wait_s = call.due - time.monotonic()
            if wait_s <= 0:
                return lambda: self._guard(call)
            try:
                return self._inbox.get(timeout=wait_s)
            except Empty:
                continue

    def _guard(self, action: Callable[..., None], *arguments: int) -> None:
        try:
            action(*arguments)
        except BaseException as error:  # noqa: BLE001 - user code may raise anything; the readers report it
            self._fail(error)

    def _begin(self) -> None:
        spec = load_chain(self._deployment.operators)  # shares nothing with a reader's
        install_classes(spec.classes)
        self._operator_name = spec.nodes[0].name
        self._periodic = []
        source = spec.nodes[0].operator.source  # type: ignore[attr-defined]
        restore = self._deployment.restore
        if restore is not None and restore.coordinator is not None:
            enumerator = source.restore_enumerator(self, pickle.loads(restore.coordinator))
        else:
            enumerator = source.create_enumerator(self)
        enumerator.start()
        self._enumerator, self._failure = enumerator, None

    def _snapshot(self, checkpoint_id: int) -> None:
        if self._enumerator is None:
            self._snapshotted(checkpoint_id, b"", "The split enumerator has failed.")
            return
        try:
            state = pickle.dumps(self._enumerator.snapshot_state(checkpoint_id), protocol=5)
        except Exception as error:  # noqa: BLE001 - user code may raise anything; the checkpoint fails, no more
            self._snapshotted(checkpoint_id, b"", f"{type(error).__name__}: {error}")
            return
        self._books.snapshot = max(self._books.snapshot, checkpoint_id)
        self._snapshotted(checkpoint_id, state, "")

    def _completed(self, checkpoint_id: int) -> None:
        self._books.completed(checkpoint_id)
        if self._enumerator is not None:
            self._enumerator.notify_checkpoint_complete(checkpoint_id)

    def _serve(self, subtask: int, attempt: int, restored: int) -> None:
        asking = self._books.asks(subtask, attempt)
        if asking is Asking.STALE:
            return
        back: list[Any] = []
        if asking is Asking.FIRST:
            for payload in self._early.pop(subtask, ()):
                self._tell(subtask, payload)
        elif asking is Asking.RESTARTED:
            back = self._books.take_back(subtask, restored)
        if self._failure is not None:
            # What it had decided is unknown. It may be made anew when no reader has anything of the last one.
            if asking is not Asking.RESTARTED or not self._books.nothing_given:
                self._tell(subtask, encode_event(ENUMERATOR_FAILED, self._failure))
                return
            back = []
            self._begin()
        assert self._enumerator is not None
        if back:
            self._enumerator.add_splits_back(back, subtask)
        self._enumerator.handle_split_request(subtask)

    def _tell(self, subtask: int, payload: bytes) -> None:
        attempt = self._books.attempt_of(subtask)
        if attempt is None:
            self._early.setdefault(subtask, []).append(payload)
        else:
            self._send(subtask, attempt, payload)

    def _fail(self, error: BaseException) -> None:
        """Let every reader that was heard of fail; the others are told when they ask."""
        self._enumerator, self._early, self._periodic = None, {}, []
        self._failure = describe_failure(
            error,
            host=self._host,
            vertex_name=self._deployment.vertex_name,
            operator_name=self._operator_name,
            subtask_index=self._deployment.subtask_index,
        )
        payload = encode_event(ENUMERATOR_FAILED, self._failure)
        for subtask in self._books.readers:
            self._tell(subtask, payload)
