"""What is prepared is committed when its checkpoint is complete: in which order, how often, what if not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from zmflow.api.functions import RuntimeContext
from zmflow.api.sinks import CommitRequest, Committer, Sink, SinkWriter, WriterContext
from zmflow.errors import ConnectorError
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.sink_commits import COMMIT_TRIES_MAX, RETRY_DELAY_MS, SinkCommits
from zmflow.state.function_states import FunctionStates
from zmflow.state.operator_state import OperatorStateSnapshot

FIRST_MS = 1_000


class ScriptedWriter(SinkWriter[str]):
    """Prepares each record."""

    def __init__(self) -> None:
        self.records: list[str] = []
        self.flushes: list[bool] = []
        self.due_ms: int | None = None
        self.woken_ms: list[int] = []
        self.closed: bool | None = None

    def write(self, value: str) -> None:
        self.records.append(value)

    def flush(self, end_of_input: bool) -> None:
        self.flushes.append(end_of_input)

    def prepare_commit(self) -> Sequence[str]:
        prepared, self.records = self.records, []
        return prepared

    def next_processing_time_ms(self) -> int | None:
        return self.due_ms

    def advance_processing_time(self, now_ms: int) -> None:
        self.woken_ms.append(now_ms)
        self.due_ms = None

    def close(self, completed: bool) -> None:
        self.closed = completed


class ScriptedSink(Sink[str], Committer[str]):
    """Commits, puts off and refuses what the test says; its own committer."""

    name = "Scripted"

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.committed: list[str] = []
        self.put_off: set[str] = set()
        self.refused: set[str] = set()
        self.closed = False
        self.states: list[Sequence[Any]] = []

    def create_writer(self, context: WriterContext) -> ScriptedWriter:
        return ScriptedWriter()

    def restore_writer(self, context: WriterContext, states: Sequence[Any]) -> ScriptedWriter:
        self.states.append(states)
        return ScriptedWriter()

    def create_committer(self) -> Committer[str] | None:
        return self

    def commit(self, requests: Sequence[CommitRequest[str]]) -> None:
        self.calls.append([request.committable for request in requests])
        for request in requests:
            if request.committable in self.put_off:
                request.retry_later()
            elif request.committable in self.refused:
                request.signal_failed("The place is gone.")
            else:
                self.committed.append(request.committable)

    def close(self) -> None:
        self.closed = True


class Bench:
    """A SinkCommits, its sink, and a clock."""

    def __init__(
        self,
        sink: ScriptedSink | None = None,
        *,
        restored: Sequence[OperatorStateSnapshot] | None = None,
        restored_id: int = 7,
        checkpoints: bool = True,
    ) -> None:
        self.now_ms = FIRST_MS
        self.sink = sink or ScriptedSink()
        states = FunctionStates() if restored is None else FunctionStates(restored, restored_id)
        runtime = RuntimeContext(
            "0" * 32, "job", "task", "sink", 0, 1, 128, 0, "host", function_states=states
        )
        context = WriterContext(runtime, lambda *_: None, checkpoints, lambda: self.now_ms)
        self.commits = SinkCommits(
            self.sink, context, states, checkpoints=checkpoints, processing_time=lambda: self.now_ms
        )
        self.commits.begin()

    @property
    def writer(self) -> ScriptedWriter:
        """The writer the sink made."""
        writer = self.commits.writer
        assert isinstance(writer, ScriptedWriter)
        return writer

    def barrier(self, checkpoint_id: int, *records: str) -> list[OperatorStateSnapshot]:
        """Records, and a checkpoint after them; its state."""
        for record in records:
            self.writer.write(record)
        self.commits.prepare(checkpoint_id)
        context = SnapshotContext(checkpoint_id, 0)
        self.commits.snapshot_state(context)
        return context.operator

    def tick(self, passed_ms: int) -> None:
        """The clock goes on, and the chain does what is due."""
        self.now_ms += passed_ms
        due_ms = self.commits.next_processing_time_ms()
        if due_ms is not None and due_ms <= self.now_ms:
            self.commits.advance_processing_time(self.now_ms)


def test_nothing_is_committed_before_its_checkpoint_is_complete() -> None:
    """The end of the input waits for a checkpoint, too."""
    bench = Bench()
    bench.barrier(1, "a")
    assert (bench.sink.calls, bench.commits.awaits_checkpoint) == ([], True)
    bench.commits.completed(1)
    assert (bench.sink.committed, bench.commits.awaits_checkpoint) == (["a"], False)
    bench.writer.write("z")
    bench.commits.finish()
    assert (bench.sink.committed, bench.commits.awaits_checkpoint) == (["a"], True)
    bench.barrier(2)
    bench.commits.completed(2)
    assert (bench.sink.committed, bench.commits.awaits_checkpoint) == (["a", "z"], False)
    assert bench.writer.flushes == [False, True, False]


def test_a_notice_makes_up_for_those_that_were_missed_one_checkpoint_after_the_other() -> None:
    """Later checkpoints stay, and a notice that comes late does nothing."""
    bench = Bench()
    bench.barrier(1, "a", "b")
    bench.barrier(2)
    bench.barrier(3, "c")
    bench.barrier(4, "d")
    bench.commits.completed(3)
    assert bench.sink.calls == [["a", "b"], ["c"]]
    bench.commits.completed(1)
    bench.commits.completed(4)
    assert bench.sink.calls == [["a", "b"], ["c"], ["d"]]


def test_what_is_put_off_is_tried_again_and_not_overtaken() -> None:
    """Only that, after a pause; what a later checkpoint has prepared waits for it."""
    bench = Bench()
    bench.sink.put_off = {"b"}
    bench.barrier(1, "a", "b", "c")
    bench.barrier(2, "d")
    bench.commits.completed(2)
    assert bench.sink.calls == [["a", "b", "c"]]
    assert bench.commits.next_processing_time_ms() == FIRST_MS + RETRY_DELAY_MS
    bench.tick(RETRY_DELAY_MS - 1)
    assert len(bench.sink.calls) == 1
    bench.sink.put_off = set()
    bench.tick(1)
    assert bench.sink.calls[1] == ["b"]
    bench.commits.completed(3)
    assert bench.sink.committed == ["a", "c", "b", "d"]
    assert bench.commits.next_processing_time_ms() is None


def test_what_is_put_off_is_in_the_next_checkpoint_with_its_own_number() -> None:
    """So that whoever restores that commits it."""
    bench = Bench()
    bench.sink.put_off = {"a"}
    bench.barrier(1, "a")
    bench.commits.completed(1)
    (state,) = bench.barrier(2, "b")
    assert state.elements == [(1, "a"), (2, "b")]


def test_ten_tries_are_enough() -> None:
    """Then the job fails and says which checkpoint is not visible."""
    bench = Bench()
    bench.sink.put_off = {"a"}
    bench.barrier(1, "a")
    bench.commits.completed(1)
    for _ in range(COMMIT_TRIES_MAX - 1):
        bench.tick(RETRY_DELAY_MS)
    with pytest.raises(ConnectorError, match="for checkpoint 1") as caught:
        bench.tick(RETRY_DELAY_MS)
    assert caught.value.detail == f"It was put off {COMMIT_TRIES_MAX + 1} times."


def test_what_can_never_be_committed_fails_the_job_with_the_reason() -> None:
    """Records would be lost."""
    bench = Bench()
    bench.sink.refused = {"a"}
    bench.barrier(1, "a")
    with pytest.raises(ConnectorError, match="Scripted could not commit") as caught:
        bench.commits.completed(1)
    assert caught.value.detail == "The place is gone."


def test_what_was_restored_is_committed_again_at_once() -> None:
    """Whether it was is not known. In the order of checkpoints, from whichever subtasks it comes."""
    states = [OperatorStateSnapshot(name, mode, elements) for name, mode, elements in _states()]
    bench = Bench(restored=states)
    assert bench.sink.calls == [["a"], ["b", "c"]]
    assert bench.sink.states == [["state"]]
    assert not bench.commits.awaits_checkpoint
    bench.barrier(8, "d")
    bench.commits.completed(8)
    assert bench.sink.calls[2:] == [["d"]]


def test_what_was_restored_and_put_off_is_tried_again() -> None:
    """Without waiting for a checkpoint."""
    sink = ScriptedSink()
    sink.put_off = {"a"}
    bench = Bench(sink, restored=[OperatorStateSnapshot(*state) for state in _states()])
    assert bench.sink.calls == [["a"]]
    bench.sink.put_off = set()
    bench.tick(RETRY_DELAY_MS)
    assert bench.sink.calls[1] == ["a"]
    bench.commits.completed(8)
    assert bench.sink.committed == ["a", "b", "c"]


def _states() -> list[tuple[str, Any, list[Any]]]:
    """What two subtasks left: the writer's state, and what waits, out of order."""
    bench = Bench()
    bench.writer.snapshot_state = lambda checkpoint_id: ["state"]  # type: ignore[method-assign]
    written = bench.barrier(5, "a")
    names = {state.name: state for state in written}
    return [
        ("writer-states", names["writer-states"].mode, ["state"]),
        ("committables", names["committables"].mode, [(6, "b"), (5, "a"), (6, "c")]),
    ]


def test_without_checkpoints_the_end_of_the_input_commits() -> None:
    """There is no later: what is put off fails the job."""
    bench = Bench(checkpoints=False)
    bench.writer.write("a")
    bench.commits.finish()
    assert (bench.sink.committed, bench.commits.awaits_checkpoint) == (["a"], False)
    bench.sink.put_off = {"b"}
    bench.writer.write("b")
    with pytest.raises(ConnectorError, match="could not commit"):
        bench.commits.finish()


def test_the_writers_timers_and_the_retries_share_the_clock() -> None:
    """The earlier of the two is next, and each comes when it is due."""
    bench = Bench()
    bench.writer.due_ms = FIRST_MS + 10
    assert bench.commits.next_processing_time_ms() == FIRST_MS + 10
    bench.sink.put_off = {"a"}
    bench.barrier(1, "a")
    bench.commits.completed(1)
    bench.tick(10)
    assert (bench.writer.woken_ms, len(bench.sink.calls)) == ([FIRST_MS + 10], 1)
    bench.writer.due_ms = FIRST_MS + 2 * RETRY_DELAY_MS
    assert bench.commits.next_processing_time_ms() == FIRST_MS + RETRY_DELAY_MS
    bench.tick(RETRY_DELAY_MS)
    assert (len(bench.writer.woken_ms), len(bench.sink.calls)) == (1, 2)


def test_a_sink_that_prepares_needs_a_committer() -> None:
    """Else records would never be visible."""
    sink = ScriptedSink()
    sink.create_committer = lambda: None  # type: ignore[method-assign]
    bench = Bench(sink)
    with pytest.raises(ConnectorError, match="has no committer"):
        bench.barrier(1, "a")


def test_writer_and_committer_are_closed_both() -> None:
    """Also where closing the writer fails."""
    bench = Bench()
    bench.commits.close(True)
    assert (bench.writer.closed, bench.sink.closed) == (True, True)
    bench = Bench()

    def fail(completed: bool) -> None:
        raise RuntimeError("no")

    bench.writer.close = fail  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no"):
        bench.commits.close(False)
    assert bench.sink.closed
