"""The enumerator's thread: requests in, assignments out, and failures that nobody waits for in vain."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import pytest

from zmflow.api.functions import RuntimeContext
from zmflow.api.sources import Source, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.protocol.messages import TaskFailure
from zmflow.runtime.source_coordinator import (
    ADD_SPLITS,
    ENUMERATOR_FAILED,
    NO_MORE_SPLITS,
    SourceCoordinator,
    decode_event,
)

WAIT_S = 20.0


class Letters(Source[str, str]):
    """One split for each subtask, then no more; fails where it is told to."""

    def __init__(self, fails_in: str) -> None:
        self.fails_in = fails_in

    def create_enumerator(self, context: SplitEnumeratorContext[str]) -> SplitEnumerator[str]:
        return LettersEnumerator(context, self.fails_in)

    def create_reader(self, context: RuntimeContext) -> SourceReader[str, str]:
        raise AssertionError("only the enumerator is tested")


class LettersEnumerator(SplitEnumerator[str]):
    def __init__(self, context: SplitEnumeratorContext[str], fails_in: str) -> None:
        self.context = context
        self.fails_in = fails_in
        self.seen: set[int] = set()

    def step(self, name: str) -> None:
        if name == self.fails_in:
            raise ValueError(f"failed in {name}")

    def start(self) -> None:
        self.step("start")

    def handle_split_request(self, subtask: int) -> None:
        self.step("request")
        if subtask in self.seen:
            self.context.signal_no_more_splits(subtask)
        else:
            self.seen.add(subtask)
            self.context.assign_splits([f"split of {subtask}"], subtask)

    def close(self) -> None:
        self.step("close")


class Running:
    def __init__(self, fails_in: str = "nothing") -> None:
        self.inbox: SimpleQueue[int | None] = SimpleQueue()
        self.sent: SimpleQueue[tuple[int, str, Any]] = SimpleQueue()
        self.failures: SimpleQueue[BaseException] = SimpleQueue()
        self.coordinator = SourceCoordinator(Letters(fails_in), 3, self.inbox, self._send, self._fail)
        self.coordinator.start()

    def _fail(self, error: BaseException) -> TaskFailure:
        self.failures.put(error)
        return TaskFailure("user", f"failed: {error}")

    def _send(self, subtask: int, payload: bytes) -> None:
        self.sent.put((subtask, *decode_event(payload)))


def test_requests_are_answered_in_order() -> None:
    """Each request leads to what the enumerator decides, for the subtask that asked."""
    running = Running()
    for subtask in (2, 0, 2):
        running.inbox.put(subtask)
    answers = [running.sent.get(timeout=WAIT_S) for _ in range(3)]
    assert answers == [
        (2, ADD_SPLITS, ["split of 2"]),
        (0, ADD_SPLITS, ["split of 0"]),
        (2, NO_MORE_SPLITS, None),
    ]
    running.coordinator.stop()
    assert running.failures.empty()


@pytest.mark.parametrize("where", ["start", "request", "close"])
def test_a_failing_enumerator_fails_every_reader(where: str) -> None:
    """The task beside it gets the error, the others its text: also those that outlive that task."""
    running = Running(where)
    running.inbox.put(1)
    if where == "close":
        running.sent.get(timeout=WAIT_S)
        running.coordinator.stop()
    error = running.failures.get(timeout=WAIT_S)
    assert str(error) == f"failed in {where}"
    told = [running.sent.get(timeout=WAIT_S) for _ in range(2)]
    assert [(subtask, verb) for subtask, verb, _ in told] == [(1, ENUMERATOR_FAILED), (2, ENUMERATOR_FAILED)]
    assert all(failure.summary == f"failed: failed in {where}" for _, _, failure in told)
