"""A slot worker and the region restarts it lives through, seen from its TaskManager's socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import cloudpickle
import pytest
import zmq

from zmflow.api.collect import CollectSink
from zmflow.api.collections import SequenceSource
from zmflow.api.functions import MapFunction
from zmflow.api.operators import MapOperator, Operator, SinkFunctionOperator, SinkOperator, SourceOperator
from zmflow.graph.job_graph import ChainNode, ChainOutput, ChainSpec
from zmflow.graph.partitioners import ForwardPartitioner
from zmflow.protocol.job_files import named, new_job_file
from zmflow.protocol.messages import (
    CancelTasks,
    ChannelTarget,
    CollectAck,
    CollectedRows,
    DataEndpoint,
    DeployTasks,
    FreeSlot,
    Message,
    ResultPartition,
    TaskDeployment,
    TaskFailure,
    TaskMetrics,
    TaskStateChanged,
    WorkerReady,
    decode_message,
    encode_message,
)
from zmflow.runtime.job_file_store import JobFileStore
from zmflow.runtime.worker import SlotWorker
from zmflow.runtime.worker_boot import WorkerBoot

WAIT_S = 20.0
SEEN: SimpleQueue[Any] = SimpleQueue()
GATES: dict[str, SimpleQueue[None]] = {name: SimpleQueue() for name in ("v1", "v2", "v9")}

States = dict[str, list[str]]


def see(value: Any) -> None:
    SEEN.put(value)


def open_gate(name: str, times: int) -> None:
    """Let so many records pass."""
    for _ in range(times):
        GATES[name].put(None)


def wait_at_gate(name: str, value: Any) -> Any:
    while True:  # can be interrupted, unlike a get without a timeout
        try:
            GATES[name].get(timeout=0.01)
        except Empty:
            continue
        return value


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


class TaskManager:
    """The other end of a worker's control connection, and the worker on a thread."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(f"ipc://{directory}/{name}-tm")
        boot = WorkerBoot(
            allocation_id=name,
            slot_index=0,
            job_id="j",
            taskmanager_id="tm",
            host="here",
            host_id="id",
            control_endpoint=f"ipc://{directory}/{name}-tm",
            data_ipc_endpoint=f"ipc://{directory}/{name}-data",
            data_bind_host="127.0.0.1",
            data_advertised_host="127.0.0.1",
            settings={},
            log_dir="",
            echo_output=False,
            files_dir=str(directory / "files" / "j"),
        )
        self.worker = SlotWorker(boot, self.context)
        self.error: BaseException | None = None
        self.states: States = {}
        self.failures: dict[str, TaskFailure] = {}
        self.rows: list[CollectedRows] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self.endpoint = self._ready()

    def _run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error

    def _ready(self) -> DataEndpoint:
        message = self.receive()
        assert isinstance(message, WorkerReady)
        return message.endpoint

    def send(self, message: Message) -> None:
        self.socket.send_multipart([self.name.encode(), encode_message(message)])

    def receive(self) -> Message:
        assert self.socket.poll(int(WAIT_S * 1000)), "the worker says nothing"
        return decode_message(self.socket.recv_multipart()[1])

    def until(self, condition: Callable[[], bool]) -> None:
        """Listen until what was said makes this true."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, self.states
            message = self.receive()
            if isinstance(message, TaskStateChanged):
                self.states.setdefault(message.attempt_id, []).append(message.state)
                if message.failure is not None:
                    self.failures[message.attempt_id] = message.failure
            elif isinstance(message, CollectedRows):
                self.rows.append(message)
            else:
                assert isinstance(message, TaskMetrics)

    def until_state(self, attempt: str, state: str) -> None:
        self.until(lambda: state in self.states.get(attempt, []))

    def deploy(self, *tasks: TaskDeployment) -> None:
        self.send(DeployTasks(1, self.name, list(tasks)))

    def cancel(self, *attempts: str) -> None:
        self.send(CancelTasks(1, self.name, list(attempts), 5000))

    def end(self) -> None:
        self.send(FreeSlot(1, self.name, 0))
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive()

    def close(self) -> None:
        if self._thread.is_alive():
            self.end()
        self.worker._data.stop()
        self.socket.close()
        self.context.term()


@pytest.fixture
def taskmanagers(tmp_path: Path) -> Iterator[Callable[[str], TaskManager]]:
    made: list[TaskManager] = []

    def make(name: str) -> TaskManager:
        made.append(TaskManager(tmp_path, name))
        return made[-1]

    yield make
    for name in GATES:
        open_gate(name, 100)
    for taskmanager in made:
        taskmanager.close()


@pytest.fixture(autouse=True)
def _forget() -> None:
    for queue in (SEEN, *GATES.values()):
        while not queue.empty():
            queue.get()


def task(
    attempt: int,
    *operators: Operator,
    vertex: str = "v1",
    to: list[ChannelTarget] | None = None,
    gates: int = 0,
) -> TaskDeployment:
    """An attempt of the only subtask of a vertex."""
    nodes = [ChainNode(f"o{i}", f"op{i}", operator, i - 1) for i, operator in enumerate(operators)]
    outputs = [ChainOutput("e1", len(nodes) - 1, ForwardPartitioner(), 0)] if to is not None else []
    return TaskDeployment(
        attempt_id=f"j/{vertex}/0/{attempt}",
        job_id="j",
        job_name="job",
        vertex_id=vertex,
        vertex_name=vertex,
        subtask_index=0,
        parallelism=1,
        max_parallelism=128,
        attempt_number=attempt,
        operators=cloudpickle.dumps(ChainSpec(nodes, outputs)),
        gate_channels=[1] * gates,
        partitions=[ResultPartition("e1", to)] if to is not None else [],
        settings={},
        py_files=[],
        coordinator_number=attempt,  # the only reader restarts, so its enumerator does
    )


def waiting(attempt: int, vertex: str) -> TaskDeployment:
    """A source that stops at the gate with its first number."""
    source = SourceOperator(SequenceSource(1, 3))
    return task(
        attempt, source, MapOperator(partial(wait_at_gate, vertex)), SinkFunctionOperator(see), vertex=vertex
    )


def test_a_new_attempt_runs_beside_tasks_that_never_stopped(taskmanagers: Any) -> None:
    """One region of the slot restarts; the other keeps its thread, and both finish."""
    tm = taskmanagers("a1-1")
    tm.deploy(waiting(0, "v1"), waiting(0, "v2"))
    tm.until_state("j/v1/0/0", "RUNNING")
    tm.until_state("j/v2/0/0", "RUNNING")
    stays = tm.worker._tasks["j/v1/0/0"]
    tm.cancel("j/v2/0/0")
    tm.until_state("j/v2/0/0", "CANCELED")
    tm.deploy(waiting(1, "v2"))
    tm.until_state("j/v2/0/1", "RUNNING")
    assert tm.worker._tasks.get("j/v1/0/0") is stays
    open_gate("v1", 3)
    open_gate("v2", 3)
    tm.until_state("j/v1/0/0", "FINISHED")
    tm.until_state("j/v2/0/1", "FINISHED")


def test_attempts_that_are_known_are_not_run_again(taskmanagers: Any) -> None:
    """A message that comes twice, or late, after the attempt has ended or a newer one has begun."""
    tm = taskmanagers("a1-1")
    numbers = [SourceOperator(SequenceSource(1, 3)), SinkFunctionOperator(see)]
    for attempt in (0, 0, 2, 1, 2):
        tm.deploy(task(attempt, *numbers))
        if attempt != 1:
            tm.until_state(f"j/v1/0/{attempt}", "FINISHED")
    tm.deploy(task(3, *numbers))
    tm.until_state("j/v1/0/3", "FINISHED")
    assert [SEEN.get(timeout=WAIT_S) for _ in range(9)] == [1, 2, 3] * 3
    assert SEEN.empty()
    assert "j/v1/0/1" not in tm.states


class SlowToClose(MapFunction[int, int]):
    """Cleans up for as long as its gate is shut."""

    def __init__(self, gate: str) -> None:
        self.gate = gate

    def map(self, value: int) -> int:
        return value

    def close(self) -> None:
        GATES[self.gate].get()


def test_an_attempt_that_still_cleans_up_does_not_touch_its_successor(taskmanagers: Any) -> None:
    """What is addressed to the subtask reaches the newest attempt; the old one ends only itself."""
    tm = taskmanagers("a1-1")
    for attempt, gate in enumerate(("v1", "v2")):
        source, slow = SourceOperator(SequenceSource(1, 1)), MapOperator(SlowToClose(gate))
        tm.deploy(task(attempt, source, slow, SinkOperator(CollectSink("c"))))
        tm.until(lambda: len(tm.rows) == 2 + 2 * attempt)
    newest = tm.worker._tasks["j/v1/0/1"]
    assert [(rows.attempt_number, rows.sequence) for rows in tm.rows] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    open_gate("v1", 1)
    tm.until_state("j/v1/0/0", "FINISHED")
    assert tm.worker._by_subtask["v1", 0] is newest
    open_gate("v2", 1)
    tm.until_state("j/v1/0/1", "FINISHED")
    wait_until(lambda: not tm.worker._by_subtask and not tm.worker._collects._collects)


def test_a_restarted_collect_sink_waits_for_its_own_acknowledgements(taskmanagers: Any) -> None:
    """One attempt's unacknowledged batches do not count against the next one's, nor do late acks for it."""
    tm = taskmanagers("a1-1")
    chain = [SourceOperator(SequenceSource(1, 100_000)), SinkOperator(CollectSink("c"))]
    tm.deploy(task(0, *chain))
    tm.until(lambda: len(tm.rows) == 8)
    tm.cancel("j/v1/0/0")
    tm.until_state("j/v1/0/0", "CANCELED")
    tm.deploy(task(1, *chain))
    tm.until(lambda: len(tm.rows) == 16)
    tm.send(CollectAck(1, "j", "v1", "c", 0, 70))  # for the last attempt: this one has not sent so much
    sequence = 0
    while not tm.rows[-1].last:
        tm.send(CollectAck(1, "j", "v1", "c", 0, sequence))
        sequence += 1
        tm.until(lambda: len(tm.rows) == 16 + sequence)
    assert [rows.sequence for rows in tm.rows[8:]] == list(range(len(tm.rows) - 8))
    tm.until_state("j/v1/0/1", "FINISHED")


def tables(worker: SlotWorker) -> list[int]:
    """The sizes of everything a worker keeps per attempt."""
    sender, receiver = worker._data._sender, worker._data._receiver
    kept = (worker._tasks, worker._by_subtask, worker._canceled, worker._collects._collects)
    plane = (sender._connections, sender._by_socket, receiver._gates, receiver._senders, receiver._waiting)
    return [len(table) for table in (*kept, *plane)]


def test_a_worker_keeps_nothing_of_attempts_that_have_ended(taskmanagers: Any) -> None:
    """A region over two workers restarts many times, cancelled before, while or after it runs."""
    one, two = taskmanagers("a1-1"), taskmanagers("a1-2")
    one.deploy(waiting(0, "v9"))
    one.until_state("j/v9/0/0", "RUNNING")
    threads = threading.active_count()
    sink = [MapOperator(abs), SinkFunctionOperator(see)]
    for attempt in range(60):
        source, consumer = f"j/v1/0/{attempt}", f"j/v2/0/{attempt}"
        size = 10**7 if attempt % 3 else 10
        to = [ChannelTarget(consumer, 0, 0, "a1-2", two.endpoint)]
        one.deploy(task(attempt, SourceOperator(SequenceSource(1, size)), to=to))
        two.deploy(task(attempt, *sink, vertex="v2", gates=1))
        if size == 10:
            one.until_state(source, "FINISHED")
            two.until_state(consumer, "FINISHED")
            continue
        if attempt % 2:
            one.until_state(source, "RUNNING")
            SEEN.get(timeout=WAIT_S)
        one.cancel(source)
        two.cancel(consumer)
        one.until_state(source, "CANCELED")
        two.until_state(consumer, "CANCELED")
    wait_until(lambda: tables(one.worker) == [1, 1, 0, 0, 0, 0, 0, 0, 0])
    wait_until(lambda: tables(two.worker) == [0] * 9)
    assert len(one.worker._sources._coordinators) == 2
    wait_until(lambda: threading.active_count() <= threads + 1)  # the newest enumerator of v1
    open_gate("v9", 3)
    one.until_state("j/v9/0/0", "FINISHED")


def test_files_are_installed_once(taskmanagers: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later attempt finds what the first one's were, on the import path and by name."""
    import sys

    monkeypatch.setattr(sys, "path", list(sys.path))
    tm = taskmanagers("a1-1")
    store = JobFileStore(tmp_path / "files")
    module = new_job_file("shipped_once.py", "python", b"first = 1")
    words = new_job_file("words", "file", b"a b c", file_name="words.txt")
    for file in (module, words):
        store.store("j", file)
    chain = [SourceOperator(SequenceSource(1, 1)), SinkFunctionOperator(see)]
    for attempt in range(2):
        made = task(attempt, *chain)
        tm.deploy(TaskDeployment(**{**_fields(made), "files": [named(module), named(words)]}))
        tm.until_state(made.attempt_id, "FINISHED")
    assert len([path for path in sys.path if module.digest in path]) == 1
    assert Path(tm.worker.cached_files["words"]).read_bytes() == b"a b c"


def _fields(deployment: TaskDeployment) -> dict[str, Any]:
    return {name: getattr(deployment, name) for name in deployment.__struct_fields__}


def test_what_cannot_be_deployed_fails_and_its_successor_runs(taskmanagers: Any) -> None:
    """A damaged file name and a missing file are the job's failure, not the worker's; nothing is left."""
    tm = taskmanagers("a1-1")
    made = task(0, SourceOperator(SequenceSource(1, 1)), SinkFunctionOperator(see))
    tm.deploy(TaskDeployment(**{**_fields(made), "files": [new_job_file("../evil.py", "python", b"")]}))
    tm.until_state("j/v1/0/0", "FAILED")
    assert "path for a name" in tm.failures["j/v1/0/0"].summary
    made = task(1, SourceOperator(SequenceSource(1, 1)), SinkFunctionOperator(see))
    tm.deploy(TaskDeployment(**{**_fields(made), "files": [new_job_file("m.py", "python", b"")]}))
    tm.until_state("j/v1/0/1", "FAILED")
    assert "'m.py' of the job is not on this TaskManager" in tm.failures["j/v1/0/1"].summary
    tm.deploy(task(2, SourceOperator(SequenceSource(1, 1)), SinkFunctionOperator(see)))
    tm.until_state("j/v1/0/2", "FINISHED")
    wait_until(lambda: tables(tm.worker) == [0] * 9)


def test_a_worker_without_its_network_thread_ends(taskmanagers: Any) -> None:
    """Its tasks report why and it goes, so that nothing is deployed where no frame would ever arrive."""
    tm = taskmanagers("a1-1")
    tm.deploy(task(0, SinkFunctionOperator(see), gates=1))
    tm.until_state("j/v1/0/0", "RUNNING")

    def broken() -> None:
        raise OSError("too many open files")

    tm.worker._data._outbox.post(broken)
    tm.until_state("j/v1/0/0", "FAILED")
    assert "too many open files" in tm.failures["j/v1/0/0"].summary
    tm._thread.join(WAIT_S)
    assert isinstance(tm.error, OSError)


def test_a_finished_task_has_handed_over_everything(taskmanagers: Any) -> None:
    """It is RUNNING while its consumer has not taken its last frames, then its slot may be given back."""
    one, two = taskmanagers("a1-1"), taskmanagers("a1-2")
    to = [ChannelTarget("j/v2/0/0", 0, 0, "a1-2", two.endpoint)]
    one.deploy(task(0, SourceOperator(SequenceSource(1, 10)), to=to))
    one.until_state("j/v1/0/0", "RUNNING")
    wait_until(lambda: one.worker._tasks["j/v1/0/0"].counters().records_out == 10)
    with pytest.raises(Empty):
        SEEN.get(timeout=0.05)
    assert one.states["j/v1/0/0"][-1] == "RUNNING"
    two.deploy(task(0, SinkFunctionOperator(see), vertex="v2", gates=1))
    one.until_state("j/v1/0/0", "FINISHED")
    one.end()
    two.until_state("j/v2/0/0", "FINISHED")
    assert [SEEN.get(timeout=WAIT_S) for _ in range(10)] == list(range(1, 11))
