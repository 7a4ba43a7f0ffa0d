"""The client's connection to a JobManager: questions and answers, and waiting for a job.

Nothing here waits for ever on silence: a JobManager that has not been heard for ``client.timeout``
while an answer is due is an error that names its address.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import zmq

from zmflow.config import Settings
from zmflow.config.options import CLIENT_TIMEOUT, JOBMANAGER_ADDRESS, JOBMANAGER_PORT
from zmflow.errors import ConfigurationError, JobError, JobGraphError, JobManagerUnreachableError
from zmflow.graph.job_graph import JobGraph, encode_job_graph
from zmflow.protocol.checkpoints import CheckpointKind
from zmflow.protocol.messages import (
    MESSAGE_SIZE_MAX_BYTES,
    CancelJob,
    CheckpointStatistics,
    ClusterStatus,
    CollectAck,
    CollectedRows,
    DrainAccepted,
    DrainTaskManager,
    GetCheckpoints,
    GetCluster,
    GetJob,
    GetLogs,
    Hello,
    JobAccepted,
    JobList,
    JobStatus,
    JobSummary,
    ListJobs,
    LogChunk,
    Message,
    Refused,
    RescaleDone,
    RescaleJob,
    SavepointBegun,
    SavepointDone,
    SubmitJob,
    TriggerSavepoint,
    WatchJob,
    Welcome,
)
from zmflow.protocol.resources import size_text
from zmflow.protocol.versions import Versions, check_compatible, local_versions
from zmflow.runtime.control import ControlClient, refusal
from zmflow.runtime.security import load_keys

__all__ = ["ENDED_STATES", "ClusterClient"]

ENDED_STATES = frozenset({"FINISHED", "FAILED", "CANCELED"})
"""States of a job that nothing follows."""

REFUSED_CONNECTION_PATIENCE_MS = 2000
"""How long to go on dialling a port nobody listens on. The kernel's refusal is an answer, so waiting
the whole ``client.timeout`` tells nothing more; a daemon that is being restarted is back by then."""

LOGS_SIZE_MAX_BYTES = 4 * 2**20
"""Log lines asked of each TaskManager."""

SUBMISSION_MARGIN_BYTES = 1024
"""Room for what is around the JobGraph in its message."""

T = TypeVar("T", bound=Message)


class ClusterClient:
    """One connection to the JobManager the settings name; for one thread at a time.

    Args:
        endpoint: an ``inproc://`` or ``ipc://`` endpoint instead of the settings' address.
        context: the caller's, for inproc endpoints; by default an own one.
        versions: what this side claims to run; by default the truth.

    Raises:
        ConfigurationError: the settings name no JobManager.
        JobManagerUnreachableError: none answered within ``client.timeout``.
        IncompatiblePeerError: it runs other versions; says both.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        endpoint: str | None = None,
        context: zmq.Context[zmq.Socket[bytes]] | None = None,
        versions: Versions | None = None,
    ) -> None:
        if endpoint is None:
            host = settings[JOBMANAGER_ADDRESS]
            if not host:
                raise ConfigurationError(
                    "No JobManager is configured.",
                    hint="Set jobmanager.rpc.address, give --jobmanager HOST:PORT, or run "
                    "'zmflow cluster start'.",
                )
            endpoint = f"tcp://{host}:{settings[JOBMANAGER_PORT]}"
        self.endpoint = endpoint
        self.timeout_ms = settings[CLIENT_TIMEOUT]
        self._keys = load_keys(settings) if endpoint.startswith("tcp:") else None
        self._own_context = context is None
        self._context = context or zmq.Context()
        self._versions = versions or local_versions()
        self._requests = 0
        self._pushed: deque[Message] = deque()
        self._heard_ms = 0
        self._connection: ControlClient | None = None
        try:
            self._connect()
        except BaseException:
            self.close()
            raise

    # -- the connection ---------------------------------------------------------------------------

    def _connect(self) -> None:
        if self._connection is not None:
            self._connection.close(linger_ms=0)
        self._pushed.clear()
        self._connection = ControlClient(
            self._context, self.endpoint, log=lambda _sentence: None, keys=self._keys
        )
        name = f"{socket.gethostname()}/{os.getpid()}"
        self._connection.send(Hello(0, self._versions, "client", name))
        reply = self._await(lambda message: isinstance(message, (Welcome, Refused)), patient=False)
        if isinstance(reply, Refused):
            raise refusal(reply)
        assert isinstance(reply, Welcome)
        check_compatible(
            self._versions,
            reply.versions,
            our_name="this client",
            their_name=f"the JobManager {reply.jobmanager}",
        )

    @property
    def _wire(self) -> ControlClient:
        if self._connection is None:
            raise JobManagerUnreachableError("The connection to the JobManager is closed.")
        return self._connection

    @property
    def epoch(self) -> int:
        """The leader's term."""
        return self._wire.epoch

    @property
    def connected(self) -> bool:
        """Whether the connection still stands."""
        return self._connection is not None and self._connection.poll_connection()

    def reconnect(self) -> None:
        """Dial again, with a new handshake; what was watched is to be watched anew.

        Raises:
            JobManagerUnreachableError: none answered within ``client.timeout``.
        """
        self._connect()

    def unreachable(self) -> JobManagerUnreachableError:
        """The error for a JobManager that does not answer."""
        refused = self._connection is not None and self._connection.refusals > 0
        detail = f"{self.endpoint}: " + (
            "no connection could be made."
            if refused
            else f"nothing was heard for {self.timeout_ms / 1000:g} s."
        )
        return JobManagerUnreachableError(
            f"The JobManager at {self.endpoint.removeprefix('tcp://')} cannot be reached.",
            detail=detail,
            hint="Check that it runs ('zmflow cluster start' starts one here), that jobmanager.rpc.address "
            "and jobmanager.rpc.port name it, and that security.curve.key-file is the same on both sides.",
        )

    def poll(self, timeout_ms: int) -> list[Message]:
        """The messages that arrive within this time; returns with the first ones."""
        if self._pushed:
            taken = list(self._pushed)
            self._pushed.clear()
            return taken
        poller = zmq.Poller()
        poller.register(self._wire.socket, zmq.POLLIN)
        poller.register(self._wire.monitor, zmq.POLLIN)
        poller.poll(max(0, timeout_ms))
        return list(self._wire.receive())

    def send(self, message: Message) -> None:
        """Send without waiting for an answer."""
        if not self._wire.send(message):
            raise self.unreachable()

    def next_request(self) -> int:
        """A new request id."""
        self._requests += 1
        return self._requests

    def _await(
        self, wanted: Callable[[Message], bool], *, patient: bool = True, timeout_ms: int = 0
    ) -> Message:
        """The first message that is wanted; others wait for ``poll``."""
        began = time.monotonic()
        limit_ms = left_ms = timeout_ms or self.timeout_ms
        others: list[Message] = []
        try:
            while left_ms > 0:
                for message in (found := self.poll(left_ms)):
                    if wanted(message):
                        others += found[found.index(message) + 1 :]
                        return message
                    others.append(message)
                waited_ms = int((time.monotonic() - began) * 1000)
                left_ms = limit_ms - waited_ms
                if not self.connected:
                    break
                if not patient and self._wire.refusals and waited_ms >= REFUSED_CONNECTION_PATIENCE_MS:
                    break
        finally:
            self._pushed.extend(others)
        raise self.unreachable()

    def _await_end(self, wanted: Callable[[Message], bool], job_id: str) -> Message:
        """The first message that is wanted, however long that takes: a JobManager that is silent is asked
        whether it lives."""
        while True:
            try:
                return self._await(wanted, timeout_ms=max(1, self.timeout_ms // 2))
            except JobManagerUnreachableError:
                self.get_job(job_id)

    def _ask(self, question: Message, request_id: int, kind: type[T]) -> T:
        self.send(question)

        def wanted(message: Message) -> bool:
            return isinstance(message, (kind, Refused)) and getattr(message, "request_id", -1) == request_id

        reply = self._await(wanted)
        if isinstance(reply, Refused):
            raise refusal(reply)
        assert isinstance(reply, kind)
        return reply

    # -- questions --------------------------------------------------------------------------------

    def submit(self, graph: JobGraph, job_id: str) -> None:
        """Submit a job under a new id; returns when the JobManager has taken it.

        Raises:
            JobGraphError: it is larger than a message can be.
        """
        encoded = encode_job_graph(graph)
        if len(encoded) > MESSAGE_SIZE_MAX_BYTES - SUBMISSION_MARGIN_BYTES:
            files = sum(file.size_bytes for file in graph.files)
            raise JobGraphError(
                f"The job {graph.name!r} is too large to submit: {size_text(len(encoded))}.",
                detail=f"{size_text(files)} of it are files. "
                f"At most {size_text(MESSAGE_SIZE_MAX_BYTES)} travel in one message.",
                hint="Read large collections from files instead of from_collection(), and put large files "
                "where every machine can read them.",
            )
        request = self.next_request()
        self._ask(SubmitJob(self.epoch, request, job_id, encoded), request, JobAccepted)

    def get_job(self, job_id: str) -> JobStatus:
        """One job in full."""
        request = self.next_request()
        return self._ask(GetJob(self.epoch, request, job_id), request, JobStatus)

    def checkpoints(self, job_id: str, checkpoint_id: int = 0) -> CheckpointStatistics:
        """The newest checkpoints of a job.

        Args:
            checkpoint_id: the one that is wanted task by task; 0: none.
        """
        request = self.next_request()
        return self._ask(
            GetCheckpoints(self.epoch, request, job_id, checkpoint_id), request, CheckpointStatistics
        )

    def savepoint(self, job_id: str, directory: str = "", kind: CheckpointKind = "savepoint") -> str:
        """Take a savepoint and wait until it is complete; where it is.

        Args:
            directory: it gets a directory of its own in this one; empty: where the settings say.
            kind: ``stop`` and ``drain`` end the job with it, which is waited for.

        Raises:
            JobError: there is none, or the job did not stop.
        """
        request = self.next_request()
        question = TriggerSavepoint(self.epoch, request, job_id, directory, kind)
        begun = self._ask(question, request, SavepointBegun)
        done = self._await_end(
            lambda message: isinstance(message, SavepointDone) and message.request_id == request, job_id
        )
        assert isinstance(done, SavepointDone)
        if done.failure:
            what = "did not stop" if done.complete else "has no savepoint"
            raise JobError(
                f"Job {job_id} {what}: {done.failure}",
                detail=f"The savepoint is {begun.location}." if done.complete else None,
                hint=f"'zmflow checkpoints {job_id[:8]}' shows what became of it.",
            )
        return done.location

    def rescale(self, job_id: str, parallelism: int) -> None:
        """Let a running job go on at another parallelism, and wait until its tasks run so.

        Raises:
            ClusterError: it cannot.
            JobError: it could not.
        """
        request = self.next_request()
        self.send(RescaleJob(self.epoch, request, job_id, parallelism))
        done = self._await_end(
            lambda m: isinstance(m, (RescaleDone, Refused)) and m.request_id == request, job_id
        )
        if isinstance(done, Refused):
            raise refusal(done)
        assert isinstance(done, RescaleDone)
        if done.failure:
            raise JobError(f"Job {job_id} was not rescaled: {done.failure}")

    def watch_job(self, job_id: str, *, collect: bool = False) -> JobStatus:
        """The job's status now; every change of it is pushed from now on."""
        request = self.next_request()
        return self._ask(WatchJob(self.epoch, request, job_id, collect), request, JobStatus)

    def cancel_job(self, job_id: str) -> None:
        """Ask for a job's cancellation."""
        request = self.next_request()
        self._ask(CancelJob(self.epoch, request, job_id), request, JobStatus)

    def list_jobs(self) -> list[JobSummary]:
        """All jobs this JobManager knows."""
        request = self.next_request()
        return self._ask(ListJobs(self.epoch, request), request, JobList).jobs

    def cluster_status(self) -> ClusterStatus:
        """TaskManagers, slots and jobs."""
        request = self.next_request()
        return self._ask(GetCluster(self.epoch, request), request, ClusterStatus)

    def drain(self, taskmanager: str, drain: bool) -> list[str]:
        """Start nothing new on a TaskManager and move its tasks, or take that back; returns at once.

        Args:
            taskmanager: its id, a unique beginning of it, or a host.
            drain: False takes it back.

        Returns:
            The ids of the TaskManagers it is about.
        """
        request = self.next_request()
        question = DrainTaskManager(self.epoch, request, taskmanager, drain)
        return self._ask(question, request, DrainAccepted).taskmanagers

    def logs(self, job_id: str, size_max_bytes: int = LOGS_SIZE_MAX_BYTES) -> list[str]:
        """The newest log lines of a job's tasks, as JSON texts in the order of their time.

        Args:
            size_max_bytes: how much to ask of each TaskManager.
        """
        request = self.next_request()
        lines: list[str] = []
        chunk = self._ask(GetLogs(self.epoch, request, job_id, size_max_bytes), request, LogChunk)
        while True:
            lines += chunk.text.decode("utf-8", "replace").splitlines()
            if chunk.pending == 0:
                return sorted(lines)
            following = self._await(
                lambda message: isinstance(message, LogChunk) and message.request_id == request
            )
            assert isinstance(following, LogChunk)
            chunk = following

    def updates(self, job_id: str, *, collect: bool = False) -> Iterator[JobStatus | CollectedRows]:
        """What happens to a job until it has ended: its status on every change, and its rows.

        Rows precede the job's last status; each is to be given to ``acknowledge``. A silent JobManager
        is asked, and a broken connection is dialled again.

        Raises:
            JobManagerUnreachableError: it did not answer for ``client.timeout``.
        """
        status = self.watch_job(job_id, collect=collect)
        heard = time.monotonic()
        asked = False
        waiting: deque[Message] = deque([status])
        while True:
            while waiting:
                message = waiting.popleft()
                if isinstance(message, CollectedRows) and message.job_id == job_id:
                    yield message
                elif isinstance(message, JobStatus) and message.summary.job_id == job_id:
                    if message.summary.state in ENDED_STATES:
                        waiting.extend(self.poll(0))
                        for row in waiting:
                            if isinstance(row, CollectedRows):
                                yield row
                        yield message
                        return
                    yield message
                elif isinstance(message, Refused):
                    raise refusal(message)
            silent_ms = int((time.monotonic() - heard) * 1000)
            due_ms = self.timeout_ms if asked else self.timeout_ms // 2
            if silent_ms >= self.timeout_ms and asked:
                raise self.unreachable()
            if silent_ms >= due_ms and not asked:
                self.send(GetJob(self.epoch, self.next_request(), job_id))
                asked = True
                continue
            waiting.extend(self.poll(due_ms - silent_ms))
            if waiting:
                heard, asked = time.monotonic(), False
            elif not self.connected:
                self.reconnect()
                waiting.append(self.watch_job(job_id, collect=collect))
                heard, asked = time.monotonic(), False

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """A job's status, now and on every change, until it has ended."""
        for update in self.updates(job_id):
            if isinstance(update, JobStatus):
                yield update

    def acknowledge(self, rows: CollectedRows) -> None:
        """Say that these rows were taken; their subtask may then send more."""
        self.send(
            CollectAck(
                self.epoch, rows.job_id, rows.vertex_id, rows.collect_id, rows.subtask_index, rows.sequence
            )
        )

    def close(self) -> None:
        """Let go of the connection. Jobs go on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        if self._own_context:
            with contextlib.suppress(zmq.ZMQError):
                self._context.term()
