"""A task on its thread, with an environment that records what it asks for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import cloudpickle
import pytest

from zmflow.api import metric_registry
from zmflow.api.functions import MapFunction, RuntimeContext
from zmflow.api.operators import MapOperator, SinkFunctionOperator, SinkOperator, SourceOperator
from zmflow.api.sinks import Sink, SinkWriter, WriterContext
from zmflow.api.sources import (
    EndOfInput,
    Source,
    SourceReader,
    SplitEnumerator,
    SplitEnumeratorContext,
)
from zmflow.api.watermark_strategy import WatermarkAlignment, WatermarksOperator, WatermarkStrategy
from zmflow.config import Settings
from zmflow.errors import ProtocolError
from zmflow.graph.job_graph import ChainNode, ChainSpec
from zmflow.protocol.messages import OperatorEvent, TaskDeployment, TaskFailure, TaskState
from zmflow.runtime.channels import END, LocalChannel, Permits
from zmflow.runtime.sources.source_coordinator import (
    ADD_SPLITS,
    ALLOW_WATERMARK,
    ENUMERATOR_FAILED,
    NO_MORE_SPLITS,
    REPORT_WATERMARK,
    decode_event,
    encode_event,
)
from zmflow.runtime.task import Task

WAIT_S = 20.0

SEEN: list[Any] = []
GATE: SimpleQueue[None] = SimpleQueue()


class Environment:
    """The worker as a task sees it."""

    host = "here"
    state_dir = ""
    copies_dir = ""

    def __init__(self) -> None:
        self.external_resources = {"gpu": [1, 3]}
        self.cached_files = {"words": "/files/words.txt"}
        self.states: SimpleQueue[tuple[TaskState, TaskFailure | None]] = SimpleQueue()
        self.requests: SimpleQueue[int] = SimpleQueue()
        self.posted: SimpleQueue[OperatorEvent] = SimpleQueue()

    def report(self, task: Task, state: TaskState, failure: TaskFailure | None) -> None:
        self.states.put((state, failure))

    def request_split(self, task: Task) -> None:
        self.requests.put(task.deployment.subtask_index)

    def post_event(self, event: OperatorEvent) -> None:
        self.posted.put(event)

    def reported(self) -> int | None:
        """The watermark of the next report of an aligned source, which goes to both sources of its group."""
        events = [self.posted.get(timeout=WAIT_S) for _ in ("v1", "v2")]
        assert [event.vertex_id for event in events] == ["v1", "v2"]
        assert {(event.from_subtask, event.to_subtask) for event in events} == {(0, -1)}
        verb, (vertex, alignment, watermark_ms), _ = decode_event(events[0].payload)
        assert (verb, vertex, alignment.group) == (REPORT_WATERMARK, "v1", "g")
        return None if watermark_ms is None else int(watermark_ms)

    def emit_to_client(
        self, task: Task, collect_id: str, rows: Sequence[Any], finished: bool, transactional: bool
    ) -> int:
        raise AssertionError("no collect sink here")

    def commit_at_client(
        self, task: Task, collect_id: str, subtask: int, attempt: int, sequence: int
    ) -> None:
        raise AssertionError("no collect sink here")

    def end(self) -> tuple[TaskState, TaskFailure | None]:
        """The state the task ends in, and why."""
        while True:
            state, failure = self.states.get(timeout=WAIT_S)
            if state in ("FINISHED", "FAILED", "CANCELED"):
                return state, failure


def task(
    environment: Environment,
    *operators: Any,
    gates: tuple[int, ...] = (),
    aligned: dict[int, list[str]] | None = None,
) -> Task:
    nodes = [ChainNode(f"o{i}", f"op{i}", operator, i - 1) for i, operator in enumerate(operators)]
    made = Task(
        TaskDeployment(
            attempt_id="j/v1/0/0",
            job_id="j",
            job_name="job",
            vertex_id="v1",
            vertex_name="chain",
            subtask_index=0,
            parallelism=1,
            max_parallelism=128,
            attempt_number=0,
            operators=cloudpickle.dumps(ChainSpec(nodes, aligned=aligned or {})),
            gate_channels=list(gates),
            partitions=[],
            settings={},
            py_files=[],
            managed_memory={"OPERATOR": 70},
        ),
        Settings(),
        environment,
    )
    made.connect([])
    return made


@pytest.fixture(autouse=True)
def _forget() -> None:
    SEEN.clear()
    while not GATE.empty():
        GATE.get()


class Numbers(Source[int, range]):
    """Each split is a range; the reader waits at a gate before each batch."""

    def create_enumerator(self, context: SplitEnumeratorContext[range]) -> SplitEnumerator[range]:
        raise AssertionError("the test assigns splits")

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, range]:
        return NumbersReader()


class NumbersReader(SourceReader[int, range]):
    def __init__(self) -> None:
        self.splits: list[range] = []
        self.complete = False

    def add_splits(self, splits: Sequence[range]) -> None:
        assert not self.complete
        self.splits += splits

    def notify_no_more_splits(self) -> None:
        self.complete = True

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        if not self.splits:
            return EndOfInput.END if self.complete else None
        assert len(self.splits) == 1, "a reader is given what it can read now"
        GATE.get(timeout=WAIT_S)
        return self.splits.pop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


def test_a_source_asks_for_one_split_ahead_and_no_more() -> None:
    """A reader that is busy with a split holds one more, so another reader finds the rest."""
    environment = Environment()
    running = task(environment, SourceOperator(Numbers()), SinkFunctionOperator(SEEN_APPEND))
    running.start()
    assert environment.requests.get(timeout=WAIT_S) == 0
    running.operator_event(encode_event(ADD_SPLITS, [range(3)]))
    environment.requests.get(timeout=WAIT_S)
    running.operator_event(encode_event(ADD_SPLITS, [range(3, 5)]))
    GATE.put(None)
    environment.requests.get(timeout=WAIT_S)
    running.operator_event(encode_event(NO_MORE_SPLITS))
    assert environment.requests.empty(), "it reads the second split and has asked for the one after it"
    GATE.put(None)
    assert environment.end() == ("FINISHED", None)
    assert SEEN == [0, 1, 2, 3, 4]
    assert environment.requests.empty()
    assert running.counters().records_in == 5


def paused_source(environment: Environment) -> Task:
    """A source of two splits that is ahead of its group: it has read 0 and 100, and may read 101 later."""
    strategy: WatermarkStrategy[int] = WatermarkStrategy(
        bound_ms=0,
        timestamp_assigner=lambda value, _: value,
        idle_timeout_ms=20,
        alignment=WatermarkAlignment("g", max_drift_ms=10, update_interval_ms=5),
    )
    running = task(
        environment,
        SourceOperator(Numbers()),
        WatermarksOperator(strategy, interval_ms=1),
        SinkFunctionOperator(SEEN_APPEND),
        aligned={1: ["v1", "v2"]},
    )
    running.start()
    for split in (range(1), range(100, 101), range(101, 102)):
        environment.requests.get(timeout=WAIT_S)
        running.operator_event(encode_event(ADD_SPLITS, [split]))
        GATE.put(None)
    while environment.reported() != 99:
        pass
    return running


def test_an_aligned_source_that_is_ahead_pauses_until_it_is_allowed_more() -> None:
    """Meanwhile it reports, is not idle however long that takes, and does not read; in the end it leaves."""
    environment = Environment()
    running = paused_source(environment)
    assert [environment.reported() for _ in range(20)] == [99] * 20
    running.operator_event(encode_event(ALLOW_WATERMARK, (1, "v1", 98)))
    assert [environment.reported() for _ in range(3)] == [99] * 3
    assert SEEN == [0, 100]
    assert GATE.qsize() == 1
    running.operator_event(encode_event(ALLOW_WATERMARK, (1, "v1", 99)))
    while environment.reported() != 100:
        pass
    assert SEEN == [0, 100, 101]
    running.operator_event(encode_event(ALLOW_WATERMARK, (1, "v1", 100)))
    running.operator_event(encode_event(NO_MORE_SPLITS))
    assert environment.end() == ("FINISHED", None)
    while environment.reported() is not None:
        pass
    assert environment.posted.empty()


def test_a_source_that_pauses_can_be_cancelled() -> None:
    """It does not leave its group: the next attempt reads on, and is waited for until then."""
    environment = Environment()
    paused_source(environment).cancel()
    assert environment.end() == ("CANCELED", None)
    while not environment.posted.empty():
        assert environment.reported() == 99


def SEEN_APPEND(value: Any) -> None:
    SEEN.append(value)


def test_rows_pass_once_however_slow_the_function() -> None:
    """While slices shrink and grow within one batch, no row is dropped or repeated."""

    def sometimes_slow(value: int) -> int:
        if value < 200:
            time.sleep(0.001)
        return value

    environment = Environment()
    running = task(environment, MapOperator(sometimes_slow), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    channel = LocalChannel(running.gates[0][0], permits=100)
    running.start()
    for begin in range(0, 20_000, 5_000):
        channel.send(list(range(begin, begin + 5_000)))
    channel.end()
    assert environment.end() == ("FINISHED", None)
    assert list(range(20_000)) == SEEN


class Writer(SinkWriter[int]):
    def write(self, value: int) -> None:
        raise ValueError(f"cannot write {value}")

    def close(self, completed: bool) -> None:
        SEEN.append(("closed", completed))
        raise RuntimeError("cannot close either")


class Unwilling(Sink[int]):
    def create_writer(self, context: WriterContext) -> SinkWriter[int]:
        return Writer()


def test_the_first_error_and_its_operator_survive_closing() -> None:
    """A sink that fails to write and then to close is reported for the write."""
    environment = Environment()
    running = task(environment, MapOperator(abs), SinkOperator(Unwilling()), gates=(1,))
    channel = LocalChannel(running.gates[0][0], permits=1)
    running.start()
    channel.send([-7])
    state, failure = environment.end()
    assert state == "FAILED"
    assert failure is not None
    assert failure.operator_name == "op1"
    assert "cannot write 7" in failure.summary
    assert SEEN == [("closed", False)]


class Resources(MapFunction[int, Any]):
    """What the context says of resources."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.context = runtime_context

    def map(self, value: int) -> Any:
        context = self.context
        gpus = [gpu.get_property("index") for gpu in context.get_external_resource_infos("gpu")]
        return context.get_managed_memory_bytes(), context.get_managed_memory_bytes("STATE_BACKEND"), gpus


def test_functions_see_their_memory_and_the_pieces_of_their_slot() -> None:
    """What nobody asked for is none."""
    environment = Environment()
    running = task(environment, MapOperator(Resources()), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    running.start()
    channel = LocalChannel(running.gates[0][0], permits=1)
    channel.send([1])
    channel.end()
    assert environment.end() == ("FINISHED", None)
    assert SEEN == [(70, 0, ["1", "3"])]


@pytest.mark.parametrize("forgiving", [False, True])
def test_a_function_that_never_returns_is_interrupted(forgiving: bool) -> None:
    """Cancelling ends user code between bytecodes, also when it catches every Exception."""

    def endless(value: int) -> int:
        SEEN.append("began")
        while True:
            try:
                sum(range(100))
            except Exception:
                if not forgiving:
                    raise

    environment = Environment()
    running = task(environment, MapOperator(endless), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    running.start()
    LocalChannel(running.gates[0][0], permits=1).send([1])
    wait_until(lambda: running.counters().records_in == 1)
    running.cancel()
    running.interrupt()
    assert environment.end() == ("CANCELED", None)


def test_cancelling_ends_a_task_that_waits_for_input() -> None:
    """An idle task ends at once."""
    environment = Environment()
    running = task(environment, MapOperator(abs), SinkFunctionOperator(SEEN_APPEND), gates=(2,))
    running.start()
    running.cancel()
    assert environment.end() == ("CANCELED", None)


def test_a_damaged_peer_fails_the_task_as_the_engines_fault() -> None:
    """An error from the network thread ends the task; it is not the user's."""
    environment = Environment()
    running = task(environment, MapOperator(abs), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    running.start()
    running.fail(ProtocolError("A frame's payload is damaged."))
    state, failure = environment.end()
    assert state == "FAILED"
    assert failure is not None
    assert failure.kind == "engine"


def test_a_channel_that_ends_twice_is_refused() -> None:
    """The end of a channel is counted once."""
    environment = Environment()
    running = task(environment, MapOperator(abs), SinkFunctionOperator(SEEN_APPEND), gates=(2,))
    running.start()
    channel = LocalChannel(running.gates[0][0], permits=1)
    channel.end()
    running.mailbox.put((running.gates[0][0], END))
    state, failure = environment.end()
    assert state == "FAILED"
    assert failure is not None
    assert "ended twice" in failure.summary


def test_a_reader_hears_that_its_enumerator_failed() -> None:
    """A source task whose enumerator is elsewhere fails with the enumerator's own failure."""
    environment = Environment()
    running = task(environment, SourceOperator(Numbers()), SinkFunctionOperator(SEEN_APPEND))
    running.start()
    failure = TaskFailure("user", "operator 'Bucket' failed: no such bucket", operator_name="Bucket")
    running.operator_event(encode_event(ENUMERATOR_FAILED, failure))
    assert environment.end() == ("FAILED", failure)


def test_back_pressure_counts_the_wait_that_is_not_over() -> None:
    """A task that has been stuck for a while shows it while it is stuck."""
    permits = Permits(0)
    waiting = threading.Thread(target=permits.take, daemon=True)
    waiting.start()
    wait_until(lambda: permits.blocked_s > 0.02)
    permits.give()
    waiting.join(WAIT_S)
    settled = permits.blocked_s
    assert settled > 0.02
    assert permits.blocked_s == settled


class Watched(MapFunction[int, int]):
    """Registers a gauge that is an index into what it has been asked."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.asked = 0
        self.thread = threading.get_ident()
        group = runtime_context.get_metrics_group()
        group.gauge("asked", self.ask)
        self.calls = group.counter("calls")

    def ask(self) -> int:
        assert threading.get_ident() == self.thread
        self.asked += 1
        return self.asked

    def map(self, value: int) -> int:
        self.calls.inc(value)
        return value


def shown(running: Task) -> dict[str, Any]:
    """The task's metrics by name."""
    return {
        sample.name: sample.value if sample.kind == "gauge" else sample.count
        for sample in running.counters().metrics
    }


def test_gauges_are_asked_while_no_input_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the task's own thread, again and again; a last time when the input has ended."""
    monkeypatch.setattr(metric_registry, "GAUGE_INTERVAL_S", 0.01)
    environment = Environment()
    running = task(environment, MapOperator(Watched()), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    channel = LocalChannel(running.gates[0][0], permits=100)
    running.start()
    wait_until(lambda: shown(running).get("asked", 0) >= 3)
    assert shown(running)["calls"] == 0
    channel.send([3, 4])
    wait_until(lambda: shown(running)["calls"] == 7)
    before = shown(running)["asked"]
    channel.end()
    assert environment.end() == ("FINISHED", None)
    assert shown(running)["asked"] > before


class Hanging(MapFunction[int, int]):
    """Has a gauge that does not return."""

    def open(self, runtime_context: RuntimeContext) -> None:
        runtime_context.get_metrics_group().gauge("hangs", self.hang)

    def hang(self) -> None:
        SEEN.append("asked")
        while True:
            pass

    def map(self, value: int) -> int:
        return value


def test_a_gauge_that_never_returns_does_not_outlive_its_task() -> None:
    """It is code of the user like any other: the task waits for it, and it is interrupted."""

    environment = Environment()
    running = task(environment, MapOperator(Hanging()), SinkFunctionOperator(SEEN_APPEND), gates=(1,))
    running.start()
    wait_until(lambda: SEEN == ["asked"])
    assert running.counters().metrics == []
    running.cancel()
    running.interrupt()
    assert environment.end()[0] == "CANCELED"


class Later(Numbers):
    """Its reader has nothing yet whenever it is asked for the first time."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s

    def create_reader(self, context: RuntimeContext) -> SourceReader[int, range]:
        return LaterReader(self.after_s)


class LaterReader(NumbersReader):
    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.after_s = after_s
        self.polls = 0

    def poll_next(self) -> Sequence[int] | EndOfInput | None:
        self.polls += 1
        SEEN.append(f"poll {self.polls}")
        if self.splits and self.polls < 4:
            return None
        return super().poll_next()

    def poll_again_after_s(self) -> float | None:
        return self.after_s if self.splits else None


def test_a_reader_is_polled_again_when_it_says() -> None:
    """Without another split: it has one and cannot read it yet."""
    environment = Environment()
    running = task(environment, SourceOperator(Later(0.001)), SinkFunctionOperator(SEEN_APPEND))
    running.start()
    running.operator_event(encode_event(ADD_SPLITS, [range(2)]))
    GATE.put(None)
    wait_until(lambda: 1 in SEEN)
    assert SEEN == ["poll 1", "poll 2", "poll 3", "poll 4", 0, 1] or SEEN[6:] == ["poll 5"]
    running.operator_event(encode_event(NO_MORE_SPLITS))
    assert environment.end() == ("FINISHED", None)


def test_a_reader_that_waits_long_keeps_nobody_waiting() -> None:
    """It is given what is assigned, and cancelled, long before it wants to be polled."""
    environment = Environment()
    running = task(environment, SourceOperator(Later(3600)), SinkFunctionOperator(SEEN_APPEND))
    running.start()
    for _ in range(2):
        environment.requests.get(timeout=WAIT_S)
        running.operator_event(encode_event(ADD_SPLITS, [range(2)]))
    environment.requests.get(timeout=WAIT_S)  # it has taken the second one as well
    wait_until(lambda: "poll 3" in SEEN)
    running.cancel()
    assert environment.end() == ("CANCELED", None)
