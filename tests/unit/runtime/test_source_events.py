"""Which way events between enumerators and readers take, and which are dropped where they arrive."""

from __future__ import annotations

from queue import SimpleQueue
from typing import Any

import cloudpickle
import msgspec
import pytest

from zmflow.api.collections import SequenceSource
from zmflow.api.operators import SourceOperator
from zmflow.graph.job_graph import ChainNode, ChainSpec
from zmflow.protocol.messages import OperatorEvent, TaskDeployment
from zmflow.runtime.sources.source_coordinator import (
    ADD_SPLITS,
    NO_MORE_SPLITS,
    REQUEST_SPLIT,
    decode_event,
    encode_event,
)
from zmflow.runtime.sources.source_events import SourceEvents

WAIT_S = 20.0

SPEC = ChainSpec([ChainNode("o0", "numbers", SourceOperator(SequenceSource(1, 2)), -1)])


def deployment(subtask: int, attempt: int = 0, coordinator: int = 0) -> TaskDeployment:
    """One of two readers of the source v1."""
    return TaskDeployment(
        attempt_id=f"j/v1/{subtask}/{attempt}",
        job_id="j",
        job_name="job",
        vertex_id="v1",
        vertex_name="numbers",
        subtask_index=subtask,
        parallelism=2,
        max_parallelism=128,
        attempt_number=attempt,
        operators=cloudpickle.dumps(SPEC),
        gate_channels=[],
        partitions=[],
        settings={},
        py_files=[],
        coordinator_number=coordinator,
    )


class Reader:
    """A task as far as events go to it."""

    def __init__(self, deployment: TaskDeployment) -> None:
        self.deployment = deployment
        self.events: SimpleQueue[bytes] = SimpleQueue()

    def operator_event(self, payload: bytes) -> None:
        self.events.put(payload)

    def next(self) -> tuple[str, Any]:
        """The next event."""
        return decode_event(self.events.get(timeout=WAIT_S))


class Worker:
    """The events of one worker; ``posted`` is what leaves it."""

    def __init__(self) -> None:
        self.readers: dict[int, Reader] = {}
        self.posted: SimpleQueue[OperatorEvent] = SimpleQueue()
        self.events = SourceEvents("here", self._reader, self.posted.put)

    def _reader(self, vertex: str, subtask: int) -> Any:
        assert vertex == "v1"
        return self.readers.get(subtask)

    def deploy(self, subtask: int, attempt: int = 0, coordinator: int = 0) -> Reader:
        made = deployment(subtask, attempt, coordinator)
        self.readers[subtask] = Reader(made)
        self.events.deployed(made)
        return self.readers[subtask]

    def posted_next(self) -> OperatorEvent:
        return self.posted.get(timeout=WAIT_S)


def request(subtask: int, attempt: int = 0, coordinator: int = 0) -> OperatorEvent:
    """A request that comes from another worker."""
    payload = encode_event(REQUEST_SPLIT)
    return OperatorEvent(1, "j", "v1", 0, subtask, -1, payload, attempt, coordinator)


@pytest.fixture
def worker() -> Any:
    made = Worker()
    yield made
    made.events.stop()


def test_what_stays_in_a_worker_does_not_leave_it(worker: Worker) -> None:
    """Reader and enumerator in one process talk without messages."""
    reader = worker.deploy(0)
    worker.events.request_split(reader.deployment)
    assert reader.next()[0] == ADD_SPLITS
    assert worker.posted.empty()


def test_requests_and_answers_between_workers_name_attempt_and_enumerator(worker: Worker) -> None:
    """Both directions."""
    worker.deploy(0, coordinator=3)
    worker.events.receive(request(1, attempt=5, coordinator=3))
    answer = worker.posted_next()
    assert (answer.from_subtask, answer.to_subtask) == (-1, 1)
    assert (answer.attempt_number, answer.coordinator_number) == (5, 3)
    elsewhere = Worker()
    reader = elsewhere.deploy(1, attempt=5, coordinator=3)
    elsewhere.events.receive(answer)
    assert reader.next()[0] == ADD_SPLITS
    elsewhere.events.request_split(reader.deployment)
    asked = elsewhere.posted_next()
    assert msgspec.structs.replace(asked, epoch=1) == request(1, attempt=5, coordinator=3)


@pytest.mark.parametrize(("attempt", "coordinator"), [(4, 3), (6, 3), (5, 2), (5, 4)])
def test_events_for_another_attempt_or_of_another_enumerator_are_dropped(
    worker: Worker, attempt: int, coordinator: int
) -> None:
    """The reader gets only what is meant for it."""
    reader = worker.deploy(1, attempt=5, coordinator=3)
    payload = encode_event(NO_MORE_SPLITS)
    worker.events.receive(OperatorEvent(1, "j", "v1", 0, -1, 1, payload, attempt, coordinator))
    assert reader.events.empty()
    worker.events.receive(OperatorEvent(1, "j", "v1", 0, -1, 1, payload, 5, 3))
    assert reader.next()[0] == NO_MORE_SPLITS


def test_requests_to_an_enumerator_that_began_anew_since_are_dropped(worker: Worker) -> None:
    """They come from readers that have been replaced with it."""
    worker.deploy(0, coordinator=0)
    worker.deploy(0, attempt=1, coordinator=1)
    worker.events.receive(request(1, attempt=0, coordinator=0))
    worker.events.receive(request(1, attempt=1, coordinator=1))
    answer = worker.posted_next()
    assert (answer.attempt_number, answer.coordinator_number) == (1, 1)
    assert worker.posted.empty()


def test_the_enumerator_outlives_the_reader_beside_it(worker: Worker) -> None:
    """Subtask 0 restarts with the same number: its splits went back, those of others are not given again."""
    worker.deploy(0)
    worker.events.receive(request(1))
    (first,) = decode_event(worker.posted_next().payload)[1]
    restarted = worker.deploy(0, attempt=1)
    worker.events.request_split(restarted.deployment)
    (second,) = restarted.next()[1]
    assert {*first} != {*second}
    worker.events.request_split(restarted.deployment)
    assert restarted.next()[0] == NO_MORE_SPLITS


def test_an_answer_follows_a_reader_that_moved(worker: Worker) -> None:
    """An older attempt that is still known here does not keep it."""
    stays = worker.deploy(0)
    old = worker.deploy(1)
    worker.events.receive(request(1, attempt=1))
    assert worker.posted_next().attempt_number == 1
    assert old.events.empty()
    assert stays.events.empty()


def test_a_reader_deployed_with_a_higher_number_ends_the_enumerator_here(worker: Worker) -> None:
    """The new one lives elsewhere, with subtask 0."""
    worker.deploy(0)
    reader = worker.deploy(1, attempt=1, coordinator=1)
    worker.events.request_split(reader.deployment)
    assert worker.posted_next().coordinator_number == 1
