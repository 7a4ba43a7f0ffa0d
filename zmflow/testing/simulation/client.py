"""A client's process: it submits its jobs, looks after them, cancels some, and dials again when it must."""

from __future__ import annotations

from zmflow.protocol.messages import (
    CancelJob,
    CollectAck,
    CollectedRows,
    DrainTaskManager,
    GetCluster,
    GetJob,
    GetLogs,
    Hello,
    JobAccepted,
    JobList,
    JobStatus,
    ListJobs,
    Message,
    Refused,
    SubmitJob,
    WatchJob,
    Welcome,
)
from zmflow.testing.simulation.jobmanager import VERSIONS
from zmflow.testing.simulation.jobs import JobPlan, submission
from zmflow.testing.simulation.network import Connection
from zmflow.testing.simulation.world import Component, Violation, World

__all__ = ["ENDED", "LOOK_MS", "ClientProcess"]

ENDED = frozenset({"FINISHED", "FAILED", "CANCELED"})

LOOK_MS = 4_000
"""Time between two looks at the jobs; a look that was not answered by the next one means: dial again."""

SUBMITS_TWICE = 0.05
IS_CURIOUS = 0.1


class ClientProcess(Component):
    """One client with its jobs. What it wants outlives it: a restarted one goes on with the same plans."""

    __slots__ = ("_requests", "_submitted", "_waiting", "connection", "epoch", "plans")

    def __init__(self, name: str, plans: list[JobPlan], world: World) -> None:
        super().__init__(name, world)
        self.plans = plans
        self.epoch = 0
        self._requests = 0
        self._submitted: dict[int, JobPlan] = {}  # by request, until it is answered
        self._waiting = False
        self.connection: Connection = world.network.dial(self)
        self._dialled()
        world.agenda.after(world.draw_ms(1, LOOK_MS), self._look)

    def set_alarm(self) -> None:
        """A client has no brain with deadlines; it looks at its jobs now and then."""

    # -- the connection ---------------------------------------------------------------------------

    def _dialled(self) -> None:
        self.epoch = 0
        self._submitted.clear()
        self._waiting = True
        self._say(Hello(0, VERSIONS, "client", self.name))

    def _dial_again(self) -> None:
        self.world.network.hang_up(self.connection)
        self.connection = self.world.network.dial(self)
        self._dialled()

    def connection_lost(self, connection: Connection, _reason: str) -> None:
        """The connection is closed; dial again."""
        if self.alive and connection is self.connection:
            self.connection = self.world.network.dial(self)
            self._dialled()

    def _say(self, message: Message) -> None:
        self.world.network.say_up(self.connection, message)

    def _request(self) -> int:
        self._requests += 1
        return self._requests

    # -- what it does -----------------------------------------------------------------------------

    def _look(self) -> None:
        if not self.alive:
            return
        if self.stalled:
            self.postpone(self._look)
            return
        if self._waiting:
            self._dial_again()
        else:
            self._ask()
        self.world.agenda.after(LOOK_MS, self._look)

    def _ask(self) -> None:
        self._waiting = True
        self._say(ListJobs(self.epoch, self._request()))
        if self.world.happens(IS_CURIOUS):
            job_id = self.plans[0].job_id if self.plans else ""
            self._say(GetCluster(self.epoch, self._request()))
            self._say(GetJob(self.epoch, self._request(), job_id))
            self._say(GetLogs(self.epoch, self._request(), job_id, 1_000))

    def submit(self, plan: JobPlan) -> None:
        """Submit a job now; without a leader, as soon as there is one."""
        if not self.epoch or not self.alive:
            return
        request = self._request()
        self._submitted[request] = plan
        message = SubmitJob(self.epoch, request, plan.job_id, submission(plan))
        self._say(message)
        if self.world.happens(SUBMITS_TWICE):
            self._say(message)

    def cancel(self, plan: JobPlan) -> None:
        """Cancel a job, now or as soon as there is a leader."""
        plan.cancelled = True
        if self.epoch and self.alive:
            self._say(CancelJob(self.epoch, self._request(), plan.job_id))

    def drain(self, taskmanager: str) -> None:
        """Drain a TaskManager, if there is a leader to tell."""
        self._drain(taskmanager, drain=True)

    def undrain(self, taskmanager: str) -> None:
        """Take that back."""
        self._drain(taskmanager, drain=False)

    def _drain(self, taskmanager: str, *, drain: bool) -> None:
        if self.epoch and self.alive:
            self._say(DrainTaskManager(self.epoch, self._request(), taskmanager, drain))

    # -- what it hears ----------------------------------------------------------------------------

    def hear(self, connection: Connection, message: Message) -> None:
        """A message of the JobManager arrived."""
        if connection is not self.connection or not self.alive:
            return
        if isinstance(message, Welcome):
            self.epoch = message.epoch
            self._ask()
        elif isinstance(message, JobList):
            self._waiting = False
            self._look_after({job.job_id: job.state for job in message.jobs})
        elif isinstance(message, JobAccepted):
            accepted = self._submitted.pop(message.request_id, None)
            if accepted is not None and accepted.watched:
                self._say(WatchJob(self.epoch, self._request(), accepted.job_id, accepted.collected))
        elif isinstance(message, JobStatus):
            for plan in self.plans:
                if plan.job_id == message.summary.job_id and message.summary.state in ENDED:
                    plan.seen_end = message.summary.state
        elif isinstance(message, CollectedRows):
            vertex, index = message.vertex_id, message.subtask_index
            self._say(CollectAck(self.epoch, message.job_id, vertex, "c", index, message.sequence))
        elif isinstance(message, Refused):
            self._refused(message)

    def _look_after(self, states: dict[str, str]) -> None:
        for plan in self.plans:
            state = states.get(plan.job_id, "")
            if state in ENDED:
                plan.seen_end = state
            elif plan.submit_ms > self.world.agenda.now_ms or plan.seen_end:
                continue
            elif plan.cancelled:
                if state and state != "CANCELLING":
                    self.cancel(plan)
            elif not state:
                self.submit(plan)

    def _refused(self, message: Refused) -> None:
        plan = self._submitted.pop(message.request_id, None)
        if message.request_id == 0:
            raise Violation(f"{self.name} was refused: {message.message} {message.detail}", self.name)
        if plan is not None:
            if not plan.shape.impossible:
                raise Violation(f"a job was refused: {message.message} {message.detail}", plan.job_id)
            plan.seen_end = "FAILED"

    def crash(self) -> None:
        """The process is gone; its connection is closed by its machine."""
        self.alive = False
        self.world.network.hang_up(self.connection)
