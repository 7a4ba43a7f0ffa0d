"""A JobManager, TaskManagers and scripted workers in one thread, under virtual time.

The brains are the real ones; sockets, processes and clocks are not there. Messages travel on links that
keep their order, as connections do; which link delivers next is the caller's choice, so a test can try
many interleavings. After every step the brains' invariants are checked.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from zmflow.config import Settings
from zmflow.coordination.dispatcher import Dispatcher
from zmflow.coordination.effects import (
    CheckpointLoaded,
    CheckpointStored,
    DeadlinePassed,
    DiscardCheckpoint,
    DropFiles,
    Effect,
    Event,
    FromJobManager,
    FromWorker,
    GiveUp,
    JobManagerLost,
    KillWorker,
    LoadCheckpoint,
    Log,
    MessageReceived,
    PeerGone,
    ReadLogs,
    Send,
    SendToJobManager,
    SendToWorker,
    StartWorker,
    StoreCheckpoint,
    StoreFile,
    WorkerExited,
)
from zmflow.coordination.task_executor import TaskExecutor
from zmflow.ids import Epoch, TaskManagerId
from zmflow.protocol.checkpoint_metadata import CheckpointMetadata
from zmflow.protocol.messages import (
    DeployTasks,
    FreeSlot,
    Hello,
    LogChunk,
    Message,
    ResourceProfile,
    TriggerCheckpoint,
)
from zmflow.protocol.versions import Versions
from zmflow.testing.scripted_worker import Behaviour, ScriptedWorker

__all__ = [
    "RESOURCES",
    "VERSIONS",
    "Behaviour",
    "Client",
    "ControlPlane",
    "ScriptedTaskManager",
    "ScriptedWorker",
]

M = TypeVar("M", bound=Message)

STEPS_MAX = 100_000
"""Deliveries in one ``settle``. More means that two brains answer each other for ever."""

VERSIONS = Versions(1, "3.11", "0.1.0")
"""What everybody in the simulated cluster runs."""

RESOURCES = ResourceProfile(4_000, 8 * 2**30, 2 * 2**30)
"""What a TaskManager has: 4 cores, 8 GiB, of which 2 GiB managed."""


@dataclass(slots=True)
class ScriptedTaskManager:
    """A real ``TaskExecutor`` with scripted workers. ``cut``: what travels to and from it is held up."""

    brain: TaskExecutor
    peer: bytes
    workers: dict[str, ScriptedWorker] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    given_up: list[GiveUp] = field(default_factory=list)
    started: int = 0
    stored: list[tuple[str, str]] = field(default_factory=list)  # job and file name, each time one is written
    files: dict[str, set[str]] = field(default_factory=dict)  # digests of each job, as long as they are there
    dropped: list[str] = field(default_factory=list)  # jobs of which nothing is to be left
    cut: bool = False


@dataclass(slots=True)
class Client:
    """A client's connection: what it received, newest last."""

    peer: bytes
    received: list[Message] = field(default_factory=list)

    def all(self, kind: type[M]) -> list[M]:
        """Every message of a kind that was received."""
        return [message for message in self.received if isinstance(message, kind)]

    def last(self, kind: type[M]) -> M:
        """The newest message of a kind; fails when there is none."""
        found = self.all(kind)
        assert found, f"no {kind.__name__} in {[type(message).__name__ for message in self.received]}"
        return found[-1]


def _oldest(heads: Sequence[int]) -> int:
    return min(range(len(heads)), key=heads.__getitem__)


class ControlPlane:
    """The cluster.

    Args:
        taskmanagers: slots of each TaskManager, in the order of their names ``tm-1``, ``tm-2``, ...
        settings: over the defaults.
        behaviour: what the worker of an allocation does.
        choose: given the sequence numbers of the messages at the head of each link, the index of the
            one that is delivered next; the oldest without.
    """

    def __init__(
        self,
        taskmanagers: Sequence[int] = (2,),
        *,
        settings: Mapping[str, str] | None = None,
        behaviour: Callable[[StartWorker], Behaviour] = lambda _start: Behaviour(),
        choose: Callable[[Sequence[int]], int] = _oldest,
        epoch: int = 1,
    ) -> None:
        self.settings = Settings().with_values(settings or {}, "test")
        self.epoch = Epoch(epoch)
        self.now_ms = 0
        self.behaviour = behaviour
        self.choose = choose
        self.dispatcher = self.new_dispatcher(self.epoch)
        self.logs: list[Log] = []
        self.taskmanagers: dict[str, ScriptedTaskManager] = {}
        self.clients: dict[bytes, Client] = {}
        self.stored: dict[str, CheckpointMetadata] = {}  # by location
        self.discarded: list[DiscardCheckpoint] = []
        self.storage_error = ""  # why no metadata can be stored
        self.storage_hangs = False
        self._links: dict[tuple[str, str], deque[tuple[int, Callable[[], None]]]] = {}
        self._sequence = itertools.count()
        self._pids = itertools.count(1000)
        for slots in taskmanagers:
            self.add_taskmanager(slots)
        self.settle()

    # -- who is there -----------------------------------------------------------------------------

    def new_dispatcher(self, epoch: Epoch) -> Dispatcher:
        """A JobManager's brain for a term; waits before restarts are neither longer nor shorter."""
        return Dispatcher(epoch, "jm", self.settings, VERSIONS, 1_000_000, lambda: 0.5)

    def add_taskmanager(
        self, slots: int, resources: ResourceProfile = RESOURCES, host: str = ""
    ) -> ScriptedTaskManager:
        """Start a TaskManager; it registers with the next ``settle``."""
        name = f"tm-{len(self.taskmanagers) + 1}"
        brain = TaskExecutor(
            TaskManagerId(name),
            host or f"host-{name}",
            next(self._pids),
            slots,
            resources,
            self.settings,
            VERSIONS,
        )
        tm = ScriptedTaskManager(brain, name.encode())
        self.taskmanagers[name] = tm
        self._carry_out(name, brain.start(self.now_ms))
        return tm

    def add_client(self, name: str = "client") -> Client:
        """Connect a client and greet the JobManager."""
        client = Client(name.encode())
        self.clients[client.peer] = client
        self.say(client, Hello(Epoch(0), VERSIONS, "client", name))
        self.settle()
        return client

    def say(self, client: Client, message: Message) -> None:
        """A client sends a message; it arrives with the next ``settle``."""
        self._post(client.peer.decode(), "jm", lambda: self._to_dispatcher(client.peer, message))

    def close(self, client: Client) -> None:
        """A client's connection closes."""
        del self.clients[client.peer]
        self._post(client.peer.decode(), "jm", lambda: self._dispatch(PeerGone(client.peer)))

    def worker(self, allocation: str) -> ScriptedWorker:
        """The living worker of an allocation."""
        return next(tm.workers[allocation] for tm in self.taskmanagers.values() if allocation in tm.workers)

    @property
    def workers(self) -> list[ScriptedWorker]:
        """Every living worker."""
        return [worker for tm in self.taskmanagers.values() for worker in tm.workers.values()]

    # -- faults -----------------------------------------------------------------------------------

    def from_worker(self, worker: ScriptedWorker, message: Message) -> None:
        """A worker says something that its behaviour does not."""
        name = self._home(worker)
        self._post(
            worker.allocation_id, name, lambda: self._execute(name, FromWorker(worker.allocation_id, message))
        )

    def kill_worker(self, worker: ScriptedWorker, reason: str = "killed by signal 9 (SIGKILL)") -> None:
        """A worker dies; its TaskManager notices with the next ``settle``."""
        name = self._home(worker)
        del self.taskmanagers[name].workers[worker.allocation_id]
        self._exit(name, worker.allocation_id, reason)

    def disconnect(self, name: str, *, noticed: bool) -> None:
        """A TaskManager's connection breaks: what was under way is lost, and it dials again.

        ``noticed``: the JobManager learns of it too.
        """
        self._links.pop((name, "jm"), None)
        self._links.pop(("jm", name), None)
        if noticed:
            self._post(name, "jm", lambda: self._dispatch(PeerGone(name.encode())))
        self._execute(name, JobManagerLost("the connection was reset"))

    def stop(self, name: str) -> None:
        """A TaskManager is stopped on purpose."""
        self._carry_out(name, self.taskmanagers[name].brain.stop("it was stopped", self.now_ms))
        self.settle()
        del self.taskmanagers[name]

    def to_dispatcher(self, peer: bytes, message: Message) -> None:
        """A message reaches the JobManager now, whoever sent it."""
        self._to_dispatcher(peer, message)

    def to_taskmanager(self, name: str, message: Message) -> None:
        """A message reaches a TaskManager now, whoever sent it."""
        self._execute(name, FromJobManager(message))

    # -- time -------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Deliver everything that is under way, at this instant."""
        for _ in range(STEPS_MAX):
            if not self.step():
                return
        raise AssertionError("the cluster does not come to rest")

    def step(self) -> bool:
        """Deliver one message. False when nothing is under way."""
        heads = [(queue[0][0], key) for key, queue in self._links.items() if queue and not self._held(key)]
        if not heads:
            return False
        _, key = heads[self.choose([number for number, _ in heads])]
        self._links[key].popleft()[1]()
        self.check()
        return True

    def _held(self, link: tuple[str, str]) -> bool:
        if "jm" not in link:
            return False
        tm = self.taskmanagers.get(link[0] if link[1] == "jm" else link[1])
        return tm is not None and tm.cut

    def advance(self, duration_ms: int) -> None:
        """Let time pass, with every deadline on the way, and settle after each."""
        end_ms = self.now_ms + duration_ms
        for _ in range(STEPS_MAX):
            self.settle()
            due_ms = min(self._deadlines(), default=end_ms + 1)
            if due_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, due_ms)
            self.fire_deadlines()
        else:
            raise AssertionError("deadlines do not come to rest")
        self.now_ms = end_ms

    def fire_deadlines(self) -> None:
        """Tell every brain whose deadline has passed."""
        due = self.dispatcher.deadline_ms()
        if due is not None and due <= self.now_ms:
            self._dispatch(DeadlinePassed())
            after = self.dispatcher.deadline_ms()
            assert after is None or after > self.now_ms, "the Dispatcher's deadline does not move on"
        for name, tm in list(self.taskmanagers.items()):
            due = tm.brain.deadline_ms()
            if due is not None and due <= self.now_ms:
                self._execute(name, DeadlinePassed())
                after = tm.brain.deadline_ms()
                assert after is None or after > self.now_ms, f"the deadline of {name} does not move on"

    def check(self) -> None:
        """The brains' invariants, and: no subtask runs twice."""
        self.dispatcher.check()
        seen: set[tuple[str, str, int]] = set()
        for tm in self.taskmanagers.values():
            tm.brain.check()
            for worker in tm.workers.values():
                for task in worker.live.values():
                    subtask = (task.job_id, task.vertex_id, task.subtask_index)
                    assert subtask not in seen, f"{subtask} runs twice"
                    seen.add(subtask)

    def _deadlines(self) -> list[int]:
        brains = [self.dispatcher.deadline_ms(), *(t.brain.deadline_ms() for t in self.taskmanagers.values())]
        return [deadline for deadline in brains if deadline is not None]

    # -- plumbing ---------------------------------------------------------------------------------

    def _post(self, source: str, target: str, deliver: Callable[[], None]) -> None:
        self._links.setdefault((source, target), deque()).append((next(self._sequence), deliver))

    def _home(self, worker: ScriptedWorker) -> str:
        return next(n for n, tm in self.taskmanagers.items() if worker.allocation_id in tm.workers)

    def _to_dispatcher(self, peer: bytes, message: Message) -> None:
        self._dispatch(MessageReceived(peer, message, 1_000_000 + self.now_ms))

    def _dispatch(self, event: Event) -> None:
        for effect in self.dispatcher.handle(event, self.now_ms):
            if isinstance(effect, Log):
                self.logs.append(effect)
            elif isinstance(effect, Send):
                self._send(effect)
            elif isinstance(effect, StoreCheckpoint):
                self._post("jm", "storage", lambda order=effect: self._store(order))  # type: ignore[misc]
            elif isinstance(effect, LoadCheckpoint):
                self._post("jm", "storage", lambda order=effect: self._load(order))  # type: ignore[misc]
            elif isinstance(effect, DiscardCheckpoint):
                self._post("jm", "storage", lambda order=effect: self._discard(order))  # type: ignore[misc]

    def _store(self, order: StoreCheckpoint) -> None:
        if self.storage_hangs:
            return
        if not self.storage_error:
            self.stored[order.location] = order.metadata
        answer = CheckpointStored(order.job_id, order.checkpoint_id, self.storage_error)
        self._post("storage", "jm", lambda: self._dispatch(answer))

    def _load(self, order: LoadCheckpoint) -> None:
        metadata = self.stored.get(order.location)
        records = (
            [] if metadata is None else [o for v in metadata.vertices if any(v.subtasks) for o in v.operators]
        )
        stateful = frozenset(record.operator_id for record in records)
        error = "" if metadata is not None else "there is none"
        answer = CheckpointLoaded(order.job_id, order.location, metadata, stateful, error)
        self._post("storage", "jm", lambda: self._dispatch(answer))

    def _discard(self, order: DiscardCheckpoint) -> None:
        self.discarded.append(order)
        if not order.names:
            self.stored.pop(order.location, None)

    def _send(self, effect: Send) -> None:
        target = effect.peer.decode()

        def deliver() -> None:
            if target in self.taskmanagers:
                self._execute(target, FromJobManager(effect.message))
            elif effect.peer in self.clients:
                self.clients[effect.peer].received.append(effect.message)

        self._post("jm", target, deliver)

    def _execute(self, name: str, event: Event) -> None:
        self._carry_out(name, self.taskmanagers[name].brain.handle(event, self.now_ms))

    def _carry_out(self, name: str, effects: list[Effect]) -> None:
        tm = self.taskmanagers[name]
        for effect in effects:
            if isinstance(effect, SendToJobManager):
                self._to_leader(name, effect.message)
            elif isinstance(effect, SendToWorker):
                self._to_worker(name, effect)
            elif isinstance(effect, StartWorker):
                self._start(name, effect)
            elif isinstance(effect, KillWorker):
                if tm.workers.pop(effect.allocation_id, None) is not None:
                    self._exit(name, effect.allocation_id, "killed by signal 9 (SIGKILL)")
            elif isinstance(effect, ReadLogs):
                r = effect.request
                text = f"log of {name}".encode()
                self._to_leader(name, LogChunk(r.epoch, r.request_id, r.job_id, r.reply_to, name, text, 0))
            elif isinstance(effect, StoreFile):
                tm.stored.append((effect.job_id, effect.file.name))
                tm.files.setdefault(effect.job_id, set()).add(effect.file.digest)
            elif isinstance(effect, DropFiles):
                tm.files.pop(effect.job_id, None)
                tm.dropped.append(effect.job_id)
            elif isinstance(effect, GiveUp):
                tm.given_up.append(effect)
            elif isinstance(effect, Log):
                tm.logs.append(effect)

    def _to_leader(self, name: str, message: Message) -> None:
        self._post(name, "jm", lambda: self._to_dispatcher(name.encode(), message))

    def _start(self, name: str, effect: StartWorker) -> None:
        worker = ScriptedWorker(effect.allocation_id, self.behaviour(effect), next(self._pids))
        self.taskmanagers[name].workers[effect.allocation_id] = worker
        self.taskmanagers[name].started += 1
        self._answer(name, worker, worker.start())

    def _to_worker(self, name: str, effect: SendToWorker) -> None:
        if isinstance(effect.message, DeployTasks):
            for task in effect.message.tasks:
                here = self.taskmanagers[name].files.get(task.job_id, set())
                missing = [file.name for file in task.files if file.digest not in here]
                assert not missing, f"{task.attempt_id} is deployed without its files {missing}"
        allocation = effect.allocation_id

        def deliver() -> None:
            worker = self.taskmanagers[name].workers.get(allocation)
            if worker is None:
                return
            self._answer(name, worker, worker.take(effect.message))
            if isinstance(effect.message, TriggerCheckpoint):
                for attempt in effect.message.attempt_ids:
                    self._pass_barrier(worker, attempt, effect.message.barrier.checkpoint_id)
            if isinstance(effect.message, FreeSlot) and worker.behaviour.leaves:
                del self.taskmanagers[name].workers[allocation]
                self._exit(name, allocation, "ended by itself")

        self._post(name, allocation, deliver)

    def _pass_barrier(self, worker: ScriptedWorker, attempt: str, checkpoint_id: int) -> None:
        """A barrier reaches a task, which answers and passes it on."""
        task = worker.live.get(attempt)
        if task is None or (attempt, checkpoint_id) in worker.barriers:
            return
        worker.barriers.add((attempt, checkpoint_id))
        self._answer(self._home(worker), worker, worker.snapshot(attempt, checkpoint_id))
        there = {other.allocation_id: other for other in self.workers}
        for partition in task.partitions:
            for target in partition.targets:
                if target.allocation_id in there:
                    self._pass_barrier(there[target.allocation_id], target.attempt_id, checkpoint_id)

    def _answer(self, name: str, worker: ScriptedWorker, messages: list[Message]) -> None:
        for message in messages:
            event = FromWorker(worker.allocation_id, message)
            self._post(worker.allocation_id, name, lambda event=event: self._execute(name, event))  # type: ignore[misc]

    def _exit(self, name: str, allocation: str, reason: str) -> None:
        self._post(allocation, name, lambda: self._execute(name, WorkerExited(allocation, reason)))
