"""A TaskManager with real workers, seen from the JobManager's socket: memory limits, and how it leaves."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import cloudpickle
import pytest
import zmq

from zmflow.api.collections import SequenceSource
from zmflow.api.operators import MapOperator, SinkFunctionOperator, SourceOperator
from zmflow.config import Settings
from zmflow.graph.job_graph import ChainNode, ChainSpec
from zmflow.protocol.messages import (
    AcceptSlot,
    AllocateSlot,
    DeployTasks,
    DeregisterTaskManager,
    Hello,
    Message,
    OfferSlot,
    RegisterTaskManager,
    ResourceProfile,
    SlotLost,
    TaskDeployment,
    TaskManagerRegistered,
    TaskStateChanged,
    Welcome,
)
from zmflow.protocol.versions import local_versions
from zmflow.runtime.control import Arrival, ControlServer
from zmflow.runtime.run_directory import RunDirectory
from zmflow.runtime.taskmanager import TaskManagerServer

WAIT_S = 30.0
MIB = 2**20

T = TypeVar("T", bound=Message)


class JobManager:
    """The socket of a JobManager, and a TaskManager on a thread that has registered there."""

    def __init__(self, **settings: str) -> None:
        keys = {"limit": "taskmanager.memory.slot-limit", "external": "taskmanager.external-resources"}
        given = Settings().with_values({keys[name]: text for name, text in settings.items()}, "a test")
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.control = ControlServer(self.context, log=print)
        self.run = RunDirectory(given)
        self.control.bind("inproc://jobmanager")
        self.taskmanager = TaskManagerServer(
            given,
            self.context,
            "inproc://jobmanager",
            run_directory=self.run,
            log_dir=self.run.path / "logs",
            slots=2,
        )
        self.heard: list[Message] = []
        self.peer = b""
        self.thread = threading.Thread(target=self.taskmanager.run, daemon=True)
        self.thread.start()
        self.wait_for(Hello)
        self.send(Welcome(1, local_versions(), "jm"))
        self.wait_for(RegisterTaskManager)
        self.send(TaskManagerRegistered(1, self.taskmanager.taskmanager_id, 1000, 600_000))

    def send(self, message: Message) -> None:
        assert self.control.send(self.peer, message)

    def wait_for(self, kind: type[T], check: Callable[[T], bool] = lambda _message: True) -> T:
        """The first message of this kind that has come or will come."""
        deadline = time.monotonic() + WAIT_S
        while True:
            for message in self.heard:
                if isinstance(message, kind) and check(message):
                    return message
            assert time.monotonic() < deadline, self.heard
            self.control.socket.poll(1000)
            self.listen()

    def listen(self) -> None:
        for news in self.control.receive():
            if isinstance(news, Arrival):
                self.peer = news.peer
                self.heard.append(news.message)

    def slot(self, allocation: str, index: int, profile: ResourceProfile | None = None) -> OfferSlot:
        """Allocate a slot and take it."""
        profile = profile or ResourceProfile(1000, 512 * MIB, 128 * MIB)
        self.send(AllocateSlot(1, allocation, index, f"job-{allocation}", profile))
        offer = self.wait_for(OfferSlot, lambda offer: offer.allocation_id == allocation)
        self.send(AcceptSlot(1, allocation))
        return offer

    def deploy(self, allocation: str, function: Callable[[int], object]) -> str:
        """Deploy an endless source with a map; its attempt."""
        operators = [
            SourceOperator(SequenceSource(1, 10**12)),
            MapOperator(function),
            SinkFunctionOperator(len),
        ]
        nodes = [ChainNode(f"o{i}", f"op{i}", operator, i - 1) for i, operator in enumerate(operators)]
        attempt = f"job-{allocation}/v1/0/0"
        cloudpickled = cloudpickle.dumps(ChainSpec(nodes))
        task = TaskDeployment(
            attempt, f"job-{allocation}", "job", "v1", "chain", 0, 1, 128, 0, cloudpickled, [], [], {}, []
        )
        self.send(DeployTasks(1, allocation, [task]))
        return attempt

    def wait_for_state(self, attempt: str, state: str) -> TaskStateChanged:
        return self.wait_for(TaskStateChanged, lambda m: m.attempt_id == attempt and m.state == state)

    def close(self) -> None:
        self.taskmanager.stop()
        self.thread.join(WAIT_S)
        self.control.close()
        self.context.destroy(linger=0)
        self.run.close()


@pytest.fixture
def start() -> Iterator[Callable[..., JobManager]]:
    """Starts a JobManager's socket with a TaskManager."""
    made: list[JobManager] = []

    def make(**settings: str) -> JobManager:
        made.append(JobManager(**settings))
        return made[-1]

    yield make
    for jobmanager in made:
        jobmanager.close()


# Made in functions, so that they travel by value: workers cannot import this module.


def idle() -> Callable[[int], object]:
    def idle(_: int) -> str:
        time.sleep(0.01)
        return ""

    return idle


def leak() -> Callable[[int], object]:
    kept = []

    def leak(_: int) -> str:
        kept.append(bytearray(os.urandom(1) * MIB))
        time.sleep(0.001)
        return ""

    return leak


def allocate_at_once() -> Callable[[int], object]:
    def allocate_at_once(_: int) -> str:
        return "" * len(bytearray(4096 * MIB))

    return allocate_at_once


def test_a_worker_that_leaks_dies_alone(start: Callable[..., JobManager]) -> None:
    """Its slot is lost with a sentence that names both sizes and the setting; its neighbour goes on."""
    jobmanager = start(limit="256 m")
    neighbour = jobmanager.slot("good", 0)
    jobmanager.wait_for_state(jobmanager.deploy("good", idle()), "RUNNING")
    jobmanager.slot("bad", 1)
    jobmanager.deploy("bad", leak())
    lost = jobmanager.wait_for(SlotLost)
    assert lost.allocation_id == "bad"
    assert "256 MiB" in lost.reason
    assert "MiB of memory" in lost.reason
    assert "taskmanager.memory.slot-limit" in lost.reason
    os.kill(neighbour.pid, 0)
    assert not [m for m in jobmanager.heard if isinstance(m, TaskStateChanged) and m.state == "FAILED"]


def test_one_huge_allocation_fails_before_it_is_sampled(start: Callable[..., JobManager]) -> None:
    """The kernel refuses it: the user's own line raises, the worker and its other tasks live."""
    jobmanager = start(limit="256 m")
    offer = jobmanager.slot("huge", 0)
    failed = jobmanager.wait_for_state(jobmanager.deploy("huge", allocate_at_once()), "FAILED")
    assert failed.failure is not None
    assert "MemoryError" in failed.failure.summary
    assert "taskmanager.memory.slot-limit" in failed.failure.hint
    assert "allocate_at_once" in failed.failure.user_traceback
    os.kill(offer.pid, 0)


def test_slots_get_pieces_of_external_resources_of_their_own(start: Callable[..., JobManager]) -> None:
    """Two slots with a GPU each see different ones."""
    jobmanager = start(external="gpu:2")

    def see() -> Callable[[int], object]:
        from zmflow.api.functions import MapFunction, RuntimeContext

        class See(MapFunction[int, object]):
            def open(self, runtime_context: RuntimeContext) -> None:
                infos = runtime_context.get_external_resource_infos("gpu")
                raise ValueError(f"pieces {[info.index for info in infos]}")

            def map(self, value: int) -> object:
                return value

        return See()  # type: ignore[return-value]

    seen = []
    for index, allocation in enumerate(("one", "two")):
        jobmanager.slot(allocation, index, ResourceProfile(1000, MIB, MIB, (("gpu", 1),)))
        failed = jobmanager.wait_for_state(jobmanager.deploy(allocation, see()), "FAILED")
        assert failed.failure is not None
        seen.append(failed.failure.summary.rpartition("pieces ")[2])
    assert sorted(seen) == ["[0]", "[1]"]


def test_a_taskmanager_that_is_stopped_takes_leave_before_its_workers_die(
    start: Callable[..., JobManager],
) -> None:
    """With tasks running: the leave is the last that is heard, and no slot is reported lost after it."""
    jobmanager = start()
    offers = [jobmanager.slot(name, index) for index, name in enumerate(("one", "two"))]
    for offer in offers:
        jobmanager.wait_for_state(jobmanager.deploy(offer.allocation_id, idle()), "RUNNING")
    before = len(jobmanager.heard)
    jobmanager.taskmanager.stop()
    jobmanager.wait_for(DeregisterTaskManager)
    jobmanager.thread.join(WAIT_S)
    assert not jobmanager.thread.is_alive()
    jobmanager.listen()
    kinds = [type(message) for message in jobmanager.heard[before:]]
    assert kinds.index(DeregisterTaskManager) == len(kinds) - 1
    assert not {SlotLost, TaskStateChanged} & {*kinds}
    for offer in offers:
        with pytest.raises(ProcessLookupError):
            os.kill(offer.pid, 0)
