"""Lanes of jobs: each runs one job after another, watches it as a client does, and checks what it wrote."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cluster import ChaosCluster, wall_ms
from tests.chaos.in_flight import InFlight, InFlightWatch
from tests.chaos.jobs import JobOrder, Workload
from zmflow import StreamExecutionEnvironment
from zmflow.api.environment import environment_context
from zmflow.errors import ZmflowError
from zmflow.protocol.messages import JobStatus
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.job_client import RemoteJobClient

__all__ = ["JobLane", "JobRun", "Recovery"]

RUNNING_STATES = frozenset({"RUNNING", "FINISHED"})

EXPECTED_FAILURES = frozenset({"worker", "taskmanager", "slots"})
"""Kinds of failure that a kill is. An error of a task beside it deserves a look, though the job recovers."""

_submitting = threading.Lock()
"""Pickling a job's functions registers their modules for the whole process."""


@dataclass(frozen=True)
class Recovery:
    """A restart that reached the state in which all tasks run; wall clock, milliseconds."""

    restart: int
    failed_ms: float  # of the first failure it answers
    backoff_ms: float
    running_ms: float


@dataclass
class JobRun:
    """One job and what became of it. ``fault`` is a sentence about what is wrong; "" when nothing is."""

    order: JobOrder
    job_id: str = ""
    submitted_ms: float = 0.0
    ended_ms: float = 0.0
    state: str = ""
    restarts: int = 0
    checkpoints: int = 0  # complete ones
    in_flight: InFlight = field(default_factory=InFlight)
    fault: str = ""
    odd_failure: str = ""  # the last one that is no kill's
    recoveries: list[Recovery] = field(default_factory=list)

    def observe(self, status: JobStatus) -> None:
        """Take note of a status."""
        summary = status.summary
        self.state, self.restarts = summary.state, summary.restarts
        if status.checkpoints is not None:
            self.checkpoints = status.checkpoints.completed
        for entry in status.exceptions[-1:]:
            for failure in (entry.failure, *entry.concurrent):
                if failure.kind not in EXPECTED_FAILURES:
                    self.odd_failure = failure.summary
        seen = self.recoveries[-1].restart if self.recoveries else 0
        if summary.restarts <= seen or summary.state != "RUNNING" or not status.exceptions:
            return
        subtasks = [subtask for vertex in status.vertices for subtask in vertex.subtasks]
        if any(subtask.state not in RUNNING_STATES for subtask in subtasks):
            return
        entry = status.exceptions[-1]
        if entry.failure.kind == "slots":
            return  # it waited for another job to end, and the wait is what failed
        since = [s.since_ms for s in subtasks if s.state == "RUNNING" and s.since_ms >= entry.at_ms]
        if since:  # else what was restarted has finished already, and its beginning is not known
            running_ms = float(max(since))
            self.recoveries.append(Recovery(summary.restarts, entry.at_ms, entry.backoff_ms, running_ms))

    def end(self, status: JobStatus, workload: Workload) -> None:
        """The job has ended: it must be FINISHED with the right output."""
        self.ended_ms = wall_ms()
        if self.state == "FINISHED":
            self.fault = self.order.kind.fault(workload)
        else:
            cause = status.failure.summary if status.failure is not None else status.reason
            self.fault = f"it is {self.state}: {cause}"


class JobLane:
    """A thread that runs one job after another until it is told that the current one is the last.

    Args:
        on_end: called, in the lane's thread, with each job that has ended.
    """

    def __init__(
        self,
        cluster: ChaosCluster,
        number: int,
        orders: Iterator[JobOrder],
        texts: Path,
        on_end: Callable[[JobRun], None],
    ) -> None:
        self.number = number
        self.runs: list[JobRun] = []
        self._cluster = cluster
        self._orders = orders
        self._texts = texts
        self._on_end = on_end
        self._last = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"lane-{number}", daemon=True)

    def start(self) -> None:
        """Begin with the first job."""
        self._thread.start()

    def finish(self) -> None:
        """No more jobs after the one that runs."""
        self._last.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the last job. One that does not end in time is a fault, and its reason is asked for."""
        deadline = time.monotonic() + timeout_s
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            run = self.runs[-1]
            run.fault = f"it does not end: {self._reason(run)}"

    def _reason(self, run: JobRun) -> str:
        try:
            client = ClusterClient(self._cluster.settings)
        except ZmflowError as error:
            return str(error)
        try:
            status = client.get_job(run.job_id)
            states: dict[str, int] = {}
            for vertex in status.vertices:
                for subtask in vertex.subtasks:
                    states[subtask.state] = states.get(subtask.state, 0) + 1
            tasks = ", ".join(f"{count} {state}" for state, count in states.items())
            return f"{status.summary.state} with tasks {tasks}; {status.reason}"
        except ZmflowError as error:
            return str(error)
        finally:
            client.close()

    def _run(self) -> None:
        while not self._last.is_set():
            order = next(self._orders)
            run = JobRun(order)
            self.runs.append(run)
            output = self._cluster.root / "output" / order.name
            workload = Workload(output, self._texts, order.work_ms, order.overwrite)
            try:
                self._run_job(run, workload)
            except Exception as error:
                run.fault = run.fault or f"{type(error).__name__}: {error}"
            run.ended_ms = run.ended_ms or wall_ms()
            self._on_end(run)
            shutil.rmtree(output, ignore_errors=True)

    def _run_job(self, run: JobRun, workload: Workload) -> None:
        with environment_context(self._cluster.settings), _submitting:
            env = StreamExecutionEnvironment.get_execution_environment(run.order.configuration())
            run.order.kind.build(env, workload)
            run.submitted_ms = wall_ms()
            client = env.execute_async(run.order.name)
        assert isinstance(client, RemoteJobClient)
        run.job_id = client.get_job_id()
        in_flight = InFlightWatch(self._cluster.client(), run.job_id, run.in_flight)
        try:
            for status in client.watch():
                run.observe(status)
                in_flight.observe(status)
            run.end(client.status(), workload)
        finally:
            in_flight.close()
            client.close()
