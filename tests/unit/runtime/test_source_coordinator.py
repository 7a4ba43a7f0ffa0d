"""The enumerator's thread: requests in, assignments out, readers that come back, failures nobody misses."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cloudpickle
import pytest

from zmflow.api.collections import CollectionSource, SequenceSource
from zmflow.api.functions import RuntimeContext
from zmflow.api.operators import SourceOperator
from zmflow.api.sources import Source, SourceReader, SplitEnumerator, SplitEnumeratorContext
from zmflow.connectors import TextFileSource
from zmflow.graph.job_graph import ChainNode, ChainSpec
from zmflow.protocol.checkpoints import SubtaskRestore
from zmflow.protocol.messages import TaskDeployment
from zmflow.runtime.sources.source_coordinator import (
    ADD_SPLITS,
    ENUMERATOR_FAILED,
    NO_MORE_SPLITS,
    SourceCoordinator,
    decode_event,
)

WAIT_S = 20.0

FAILS_IN: list[str] = []
"""Where enumerators fail, now."""

CLOSED: SimpleQueue[str] = SimpleQueue()


class Letters(Source[str, str]):
    """Splits a, b, c, ... until there are no more; what comes back goes first."""

    def __init__(self, splits: str, first: Sequence[str] = ()) -> None:
        self.splits = splits
        self.first = first

    def create_enumerator(self, context: SplitEnumeratorContext[str]) -> SplitEnumerator[str]:
        step("create_enumerator")
        return LettersEnumerator(context, self.splits, self.first)

    def restore_enumerator(
        self, context: SplitEnumeratorContext[str], state: list[str]
    ) -> SplitEnumerator[str]:
        return LettersEnumerator(context, "".join(state), ())

    def create_reader(self, context: RuntimeContext) -> SourceReader[str, str]:
        raise AssertionError("only the enumerator is tested")


def step(name: str) -> None:
    if name in FAILS_IN:
        raise ValueError(f"failed in {name}")


class LettersEnumerator(SplitEnumerator[str]):
    def __init__(self, context: SplitEnumeratorContext[str], splits: str, first: Sequence[str]) -> None:
        self.context = context
        self.left = list(splits)
        self.first = first

    def start(self) -> None:
        step("start")
        for subtask, split in enumerate(self.first):
            self.context.assign_splits([split], subtask)

    def handle_split_request(self, subtask: int) -> None:
        step("handle_split_request")
        if self.left:
            self.context.assign_splits([self.left.pop(0)], subtask)
        else:
            self.context.signal_no_more_splits(subtask)

    def add_splits_back(self, splits: Sequence[str], subtask: int) -> None:
        step("add_splits_back")
        self.left[:0] = splits

    def snapshot_state(self, checkpoint_id: int) -> list[str]:
        step("snapshot_state")
        return list(self.left)

    def close(self) -> None:
        CLOSED.put("closed")
        step("close")


Sent = tuple[int, int, str, Any]


class Running:
    """A coordinator and what it has sent: (subtask, attempt, verb, argument)."""

    def __init__(
        self, source: Source[Any, Any], parallelism: int = 3, restore: SubtaskRestore | None = None
    ) -> None:
        self.sent: SimpleQueue[Sent] = SimpleQueue()
        spec = ChainSpec([ChainNode("o0", "Letters", SourceOperator(source), -1)])
        deployment = TaskDeployment(
            attempt_id="j/v1/0/0",
            job_id="j",
            job_name="job",
            vertex_id="v1",
            vertex_name="chain",
            subtask_index=0,
            parallelism=parallelism,
            max_parallelism=128,
            attempt_number=0,
            operators=cloudpickle.dumps(spec),
            gate_channels=[],
            partitions=[],
            settings={},
            py_files=[],
            restore=restore,
        )
        self.snapshots: SimpleQueue[tuple[int, Any, str]] = SimpleQueue()
        self.coordinator = SourceCoordinator(deployment, "here", self._send, self._snapshotted)
        self.coordinator.start()

    def _send(self, subtask: int, attempt: int, payload: bytes) -> None:
        verb, argument, number = decode_event(payload)
        self.sent.put((subtask, attempt, verb, argument))
        self.number = number

    def _snapshotted(self, checkpoint_id: int, state: bytes, failure: str) -> None:
        self.snapshots.put((checkpoint_id, pickle.loads(state) if state else None, failure))

    def snapshot(self, checkpoint_id: int) -> tuple[Any, str]:
        """A snapshot of the enumerator, or why there is none."""
        self.coordinator.snapshot(checkpoint_id)
        taken, state, failure = self.snapshots.get(timeout=WAIT_S)
        assert taken == checkpoint_id
        return state, failure

    def ask(self, subtask: int, attempt: int = 0, restored: int = 0) -> Sent:
        """A request and its answer."""
        self.coordinator.request(subtask, attempt, restored)
        return self.sent.get(timeout=WAIT_S)

    def end(self) -> None:
        self.coordinator.stop()
        self.coordinator.join()
        assert self.sent.empty()


@pytest.fixture(autouse=True)
def _healthy() -> Iterator[None]:
    FAILS_IN.clear()
    while not CLOSED.empty():
        CLOSED.get()
    yield
    FAILS_IN.clear()


def test_requests_are_answered_in_order() -> None:
    """Each request leads to what the enumerator decides, for the attempt that asked."""
    running = Running(Letters("ab"))
    assert running.ask(2) == (2, 0, ADD_SPLITS, ["a"])
    assert running.ask(0, attempt=4) == (0, 4, ADD_SPLITS, ["b"])
    assert running.ask(2) == (2, 0, NO_MORE_SPLITS, None)
    running.end()
    assert CLOSED.get(timeout=WAIT_S) == "closed"


def test_a_restarted_reader_finds_its_splits_again() -> None:
    """Everything its last attempts were given goes back before its request is served, also when all were
    told that there is no more."""
    running = Running(Letters("abcd"))
    for subtask, split in ((1, "a"), (0, "b"), (1, "c"), (1, "d")):
        assert running.ask(subtask) == (subtask, 0, ADD_SPLITS, [split])
    assert running.ask(0) == (0, 0, NO_MORE_SPLITS, None)
    assert running.ask(1) == (1, 0, NO_MORE_SPLITS, None)
    again = [running.ask(1, attempt=2) for _ in range(4)]
    assert again == [(1, 2, ADD_SPLITS, [split]) for split in "acd"] + [(1, 2, NO_MORE_SPLITS, None)]
    assert running.ask(1, attempt=3) == (1, 3, ADD_SPLITS, ["a"])
    running.end()


def test_a_late_request_of_an_older_attempt_is_not_served() -> None:
    """Its split would be read by nobody."""
    running = Running(Letters("ab"))
    assert running.ask(0, attempt=1) == (0, 1, ADD_SPLITS, ["a"])
    running.coordinator.request(0, 0, 0)
    assert running.ask(0, attempt=1) == (0, 1, ADD_SPLITS, ["b"])
    running.end()


def test_a_snapshot_has_what_is_left_and_numbers_what_follows() -> None:
    """What is assigned after the snapshot says so: the reader takes it when it has taken the checkpoint."""
    running = Running(Letters("abc"))
    running.ask(0)
    assert running.number == 0
    assert running.snapshot(5) == (["b", "c"], "")
    assert running.ask(0) == (0, 0, ADD_SPLITS, ["b"])
    assert running.number == 5
    running.end()


def test_a_reader_that_goes_on_from_a_checkpoint_gives_back_what_it_got_since() -> None:
    """Before the enumerator's snapshot: the reader has it. After it: somebody must read it."""
    running = Running(Letters("abcd"))
    running.ask(0)
    running.snapshot(1)
    running.ask(0)
    running.coordinator.completed(1)
    running.snapshot(2)  # never complete
    running.ask(0)
    assert running.ask(0, attempt=1, restored=1) == (0, 1, ADD_SPLITS, ["b"])
    assert running.ask(0, attempt=1, restored=1) == (0, 1, ADD_SPLITS, ["c"])
    assert running.ask(0, attempt=1, restored=1) == (0, 1, ADD_SPLITS, ["d"])
    assert running.ask(0, attempt=1, restored=1) == (0, 1, NO_MORE_SPLITS, None)
    running.end()


def test_an_enumerator_goes_on_from_its_snapshot() -> None:
    """What it assigns first comes after that checkpoint, so a reader that falls back to it gives it back."""
    restore = SubtaskRestore(7, "", [], coordinator=pickle.dumps(["x", "y"]))
    running = Running(Letters("abc"), restore=restore)
    assert running.ask(1, attempt=3, restored=7) == (1, 3, ADD_SPLITS, ["x"])
    assert running.number == 7
    assert running.ask(1, attempt=4, restored=7) == (1, 4, ADD_SPLITS, ["x"])
    running.end()


def test_a_snapshot_that_fails_fails_the_checkpoint_alone() -> None:
    """Readers are served on."""
    FAILS_IN.append("snapshot_state")
    running = Running(Letters("a"))
    state, failure = running.snapshot(1)
    assert (state, failure) == (None, "ValueError: failed in snapshot_state")
    assert running.ask(0) == (0, 0, ADD_SPLITS, ["a"])
    running.end()


def test_splits_given_before_a_reader_asks_wait_for_it() -> None:
    """An enumerator may assign in ``start``; only the reader's first word tells which attempt lives."""
    running = Running(Letters("c", first="ab"))
    assert running.ask(1, attempt=5) == (1, 5, ADD_SPLITS, ["b"])
    assert running.sent.get(timeout=WAIT_S) == (1, 5, ADD_SPLITS, ["c"])
    assert running.ask(1, attempt=6) == (1, 6, ADD_SPLITS, ["b"])
    running.end()


@pytest.mark.parametrize("where", ["create_enumerator", "start", "handle_split_request"])
def test_a_failing_enumerator_fails_every_reader(where: str) -> None:
    """Each hears of it: those that have asked at once, the others when they ask."""
    FAILS_IN.append(where)
    running = Running(Letters("ab"))
    told = [running.ask(subtask) for subtask in (1, 0, 2)]
    assert [(subtask, verb) for subtask, _, verb, _ in told] == [(n, ENUMERATOR_FAILED) for n in (1, 0, 2)]
    for *_, failure in told:
        assert failure.operator_name == "Letters"
        assert f"failed in {where}" in failure.summary
    running.end()


def test_an_enumerator_that_failed_begins_anew_when_nobody_has_splits_of_it() -> None:
    """Restarted readers get a new one; until the last split of the old one is back, they fail again."""
    running = Running(Letters("abc"))
    assert running.ask(0)[2] == ADD_SPLITS
    assert running.ask(1)[2] == ADD_SPLITS
    FAILS_IN.append("handle_split_request")
    told = [running.ask(1), running.sent.get(timeout=WAIT_S)]
    assert sorted(subtask for subtask, *_ in told) == [0, 1]
    FAILS_IN.clear()
    assert running.ask(0, attempt=1)[2] == ENUMERATOR_FAILED
    assert running.ask(1, attempt=1) == (1, 1, ADD_SPLITS, ["a"])
    assert running.ask(0, attempt=2) == (0, 2, ADD_SPLITS, ["b"])
    running.end()


def test_failing_to_take_splits_back_is_a_failure_of_the_enumerator() -> None:
    """The reader that came back hears of it instead of waiting."""
    FAILS_IN.append("add_splits_back")
    running = Running(Letters("ab"))
    running.ask(1)
    _, attempt, verb, failure = running.ask(1, attempt=1)
    assert (attempt, verb) == (1, ENUMERATOR_FAILED)
    assert "failed in add_splits_back" in failure.summary
    running.end()


def test_an_error_in_close_concerns_nobody() -> None:
    """The enumerator is not needed any more."""
    FAILS_IN.append("close")
    running = Running(Letters("a"))
    running.ask(0)
    running.end()


def drain(running: Running, subtask: int, attempt: int) -> list[list[Any]]:
    """All a reader gets until it is told that there is no more."""
    got = []
    while (answer := running.ask(subtask, attempt))[2] == ADD_SPLITS:
        got.append(answer[3])
    return got


@pytest.mark.parametrize("kind", ["collection", "sequence", "files"])
def test_built_in_enumerators_give_a_restarted_reader_the_same_splits(kind: str, tmp_path: Path) -> None:
    """In the same order and the same portions."""
    sources: dict[str, Source[Any, Any]] = {
        "collection": CollectionSource("abc"),
        "sequence": SequenceSource(1, 1000),
    }
    if kind == "files":
        for number, size in enumerate((30, 0, 7, 1, 1, 95)):
            (tmp_path / f"{number}.txt").write_text("x" * size)
        sources["files"] = TextFileSource(tmp_path, split_size_bytes=10)
    running = Running(sources[kind], parallelism=2)
    first = [running.ask(0)[3], *drain(running, 1, 0)]
    again = drain(running, 1, 1)
    assert again == first[1:]
    assert drain(running, 0, 1) == first[:1]
    if kind == "files":
        assert any(len(bundle) > 1 for bundle in first)
        assert all(re.search(r"\d\.txt$", split.path) for bundle in first for split in bundle)
    running.end()


class Patient(Letters):
    """Has nothing at first, and finds a letter with every look."""

    def create_enumerator(self, context: SplitEnumeratorContext[str]) -> SplitEnumerator[str]:
        return PatientEnumerator(context, self.splits)


class PatientEnumerator(SplitEnumerator[str]):
    def __init__(self, context: SplitEnumeratorContext[str], splits: str) -> None:
        self.context = context
        self.unseen = list(splits)
        self.back: list[str] = []
        self.waiting: list[int] = []

    def start(self) -> None:
        self.context.call_periodically(1, self.look)

    def look(self) -> None:
        step("look")
        if self.waiting and (self.back or self.unseen):
            split = (self.back or self.unseen).pop(0)
            self.context.assign_splits([split], self.waiting.pop(0))

    def handle_split_request(self, subtask: int) -> None:
        self.waiting.append(subtask)

    def add_splits_back(self, splits: Sequence[str], subtask: int) -> None:
        self.back += splits


def test_a_request_may_be_answered_later() -> None:
    """An enumerator that looks for splits periodically assigns one to the reader that has waited longest."""
    running = Running(Patient("ab"))
    running.coordinator.request(2, 0, 0)
    running.coordinator.request(1, 0, 0)
    assert running.sent.get(timeout=WAIT_S) == (2, 0, ADD_SPLITS, ["a"])
    assert running.sent.get(timeout=WAIT_S) == (1, 0, ADD_SPLITS, ["b"])
    running.end()


def test_a_reader_that_restarts_while_it_waits_is_answered_as_it_is_now() -> None:
    """What is assigned to a waiting reader goes to its newest attempt."""
    running = Running(Patient("a"))
    assert running.ask(0) == (0, 0, ADD_SPLITS, ["a"])
    running.coordinator.request(0, 0, 0)  # nothing is left: it waits, and then restarts
    assert running.ask(0, attempt=1) == (0, 1, ADD_SPLITS, ["a"])
    running.end()


def test_a_periodic_call_that_fails_fails_the_readers() -> None:
    """As any method of the enumerator; it is not called again, and begins anew with a new enumerator."""
    running = Running(Patient("a"))
    FAILS_IN.append("look")
    subtask, attempt, verb, failure = running.ask(0)
    assert (subtask, attempt, verb) == (0, 0, ENUMERATOR_FAILED)
    assert "failed in look" in failure.summary
    FAILS_IN.clear()
    assert running.ask(0, attempt=1) == (0, 1, ADD_SPLITS, ["a"])
    running.end()
