"""A TaskManager's process: the real brain, its connection to the JobManager, and simulated workers."""

from __future__ import annotations

from zmflow.config import Settings
from zmflow.coordination.effects import (
    DeadlinePassed,
    DropFiles,
    Effect,
    Event,
    FromJobManager,
    FromWorker,
    GiveUp,
    JobManagerLost,
    KillWorker,
    Log,
    MemoryExceeded,
    ReadLogs,
    SendToJobManager,
    SendToWorker,
    StartWorker,
    StoreFile,
    WorkerExited,
)
from zmflow.coordination.task_executor import TaskExecutor
from zmflow.ids import TaskManagerId
from zmflow.protocol.messages import (
    CheckpointAcknowledged,
    CheckpointDeclined,
    CoordinatorSnapshot,
    DeployTasks,
    LogChunk,
    Message,
    NotifyCheckpoint,
    OperatorEvent,
    ResourceProfile,
    SnapshotCoordinator,
    TaskMetrics,
    TriggerCheckpoint,
    Welcome,
)
from zmflow.testing.simulation.jobmanager import VERSIONS
from zmflow.testing.simulation.network import Connection
from zmflow.testing.simulation.worker import WorkerProcess
from zmflow.testing.simulation.world import Component, Violation, World

__all__ = ["TaskManagerProcess"]


PASSED_ON = frozenset(
    {
        CheckpointAcknowledged,
        CheckpointDeclined,
        CoordinatorSnapshot,
        NotifyCheckpoint,
        OperatorEvent,
        SnapshotCoordinator,
        TaskMetrics,
        TriggerCheckpoint,
    }
)
"""What goes through a TaskManager and changes nothing there that ``check`` could find wrong."""


class TaskManagerProcess(Component):
    """One TaskManager. A restarted one has another id."""

    __slots__ = ("brain", "connection", "epoch", "files", "resources", "slots", "workers")

    def __init__(
        self, name: str, slots: int, resources: ResourceProfile, settings: Settings, world: World
    ) -> None:
        super().__init__(name, world)
        self.slots = slots
        self.resources = resources
        self.epoch = 0  # of the leader that last welcomed it
        self.files: dict[str, set[str]] = {}  # digests of the files of each job that are on its disk
        self.workers: dict[str, WorkerProcess] = {}  # those its brain has not been told the end of
        self.brain = TaskExecutor(
            TaskManagerId(name), f"host-{name}", 1, slots, resources, settings, VERSIONS
        )
        self.connection: Connection = world.network.dial(self)

    def start(self) -> None:
        """Say Hello."""
        self._carry_out(self.brain.start(self.clock.read(self.world.agenda.now_ms)))
        self.set_alarm()

    def local_deadline_ms(self) -> int | None:
        return self.brain.deadline_ms()

    def deadline_passed(self) -> None:
        self._carry_out(self.decide(DeadlinePassed()))

    # -- what happens to it -----------------------------------------------------------------------

    def hear(self, connection: Connection, message: Message) -> None:
        """A message of the JobManager arrived."""
        if connection is self.connection and self.alive:
            if type(message) is Welcome:
                self.epoch = message.epoch
            self._feed(FromJobManager(message))

    def connection_lost(self, connection: Connection, reason: str) -> None:
        """The connection is closed; dial a new one, over which the brain begins anew."""
        if connection is self.connection and self.alive:
            self.connection = self.world.network.dial(self)
            self._feed(JobManagerLost(reason))

    def hear_worker(self, worker: WorkerProcess, message: Message) -> None:
        """A worker said something."""
        if not self.alive:
            return
        if self.stalled:
            self.postpone(self.hear_worker, worker, message)
        elif self.workers.get(worker.allocation_id) is worker:
            self._feed(FromWorker(worker.allocation_id, message))

    def worker_exited(self, worker: WorkerProcess, reason: str) -> None:
        """A worker is gone, and this process has been told."""
        if not self.alive:
            return
        if self.stalled:
            self.postpone(self.worker_exited, worker, reason)
        elif self.workers.get(worker.allocation_id) is worker:
            del self.workers[worker.allocation_id]
            self._feed(WorkerExited(worker.allocation_id, reason))

    def memory_exceeded(self, worker: WorkerProcess) -> None:
        """A worker is seen to use more memory than it may."""
        if self.alive and not self.stalled and worker.living:
            limit_bytes = worker.order.memory_limit_bytes
            self._feed(MemoryExceeded(worker.allocation_id, limit_bytes + 1))

    def decide(self, event: Event) -> list[Effect]:
        """The brain handles an event; returns what it wants done, in order."""
        world = self.world
        world.steps += 1
        if world.journal.on:
            world.journal.note(world.agenda.now_ms, self.name, event)
        effects = self.brain.handle(event, self.clock.read(world.agenda.now_ms))
        if not (isinstance(event, (FromJobManager, FromWorker)) and type(event.message) in PASSED_ON):
            self.brain.check()
        return effects

    def _feed(self, event: Event) -> None:
        self._carry_out(self.decide(event))
        self.set_alarm()

    # -- what it does -----------------------------------------------------------------------------

    def _carry_out(self, effects: list[Effect]) -> None:
        world = self.world
        for effect in effects:
            kind = type(effect)
            if world.journal.on and kind is not Log:
                world.journal.note(world.agenda.now_ms, self.name, f"-> {effect}")
            if isinstance(effect, SendToJobManager):
                world.network.say_up(self.connection, effect.message)
            elif isinstance(effect, SendToWorker):
                worker = self.workers.get(effect.allocation_id)
                if isinstance(effect.message, DeployTasks):
                    world.invariants.tasks_sent(self, effect.message)
                if worker is not None and worker.living:
                    worker.tell(effect.message)
            elif isinstance(effect, StartWorker):
                worker = WorkerProcess(self, effect, world)
                world.invariants.worker_starts(worker)
                self.workers[effect.allocation_id] = worker
            elif isinstance(effect, KillWorker):
                worker = self.workers.get(effect.allocation_id)
                if worker is not None:
                    worker.die("killed by signal 9 (SIGKILL)")
            elif isinstance(effect, StoreFile):
                self.files.setdefault(effect.job_id, set()).add(effect.file.digest)
            elif isinstance(effect, DropFiles):
                self.files.pop(effect.job_id, None)
            elif isinstance(effect, Log):
                world.invariants.logged(self.name, effect)
            elif isinstance(effect, ReadLogs):
                self._answer_logs(effect)
            elif isinstance(effect, GiveUp):
                raise Violation(f"{self.name} gives up: {effect.refused.message}", self.name)
            else:
                raise TypeError(f"the TaskExecutor asked for {kind.__name__}")

    def _answer_logs(self, effect: ReadLogs) -> None:
        asked = effect.request
        chunk = LogChunk(asked.epoch, asked.request_id, asked.job_id, asked.reply_to, self.name, b"", 0)
        self.world.network.say_up(self.connection, chunk)

    # -- its end ----------------------------------------------------------------------------------

    def leave(self) -> None:
        """It is stopped on purpose: it takes leave, ends its workers and goes."""
        self._carry_out(self.brain.stop("it was stopped", self.clock.read(self.world.agenda.now_ms)))
        self.crash(silently=False)

    def crash(self, *, silently: bool) -> None:
        """It is gone with its workers; ``silently``: and its machine, so that nobody is told."""
        self.alive = False
        for worker in self.workers.values():
            if worker.living:
                worker.vanish()
        self.workers.clear()
        self.world.network.hang_up(self.connection, silently=silently)
