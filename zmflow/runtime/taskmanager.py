"""The TaskManager's shell: sockets, clock, processes and files around the ``TaskExecutor``, in one thread."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import zmq

from zmflow.config import Settings
from zmflow.config.options import (
    JOBMANAGER_ADDRESS,
    JOBMANAGER_PORT,
    LOG_DIR,
    LOG_LEVEL,
    TASK_SLOTS,
    TASKMANAGER_BIND_HOST,
    TASKMANAGER_HOST,
)
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
from zmflow.errors import ConfigurationError, ProtocolError, ZmflowError
from zmflow.ids import TaskManagerId
from zmflow.protocol.messages import (
    GetLogs,
    LogChunk,
    Message,
    TaskManagerRegistered,
)
from zmflow.protocol.versions import Versions, local_versions
from zmflow.runtime.control import Arrival, ControlClient, ControlServer, refusal
from zmflow.runtime.fork_server import Exited, ForkServer, exit_reason
from zmflow.runtime.job_file_store import JobFileStore
from zmflow.runtime.memory_watch import MemoryWatch
from zmflow.runtime.run_directory import RunDirectory, lasting_directory, remove_aside
from zmflow.runtime.security import CurveKeys, end_authentication, load_keys, require_keys_or_loopback
from zmflow.runtime.shell import Waker, log_effect, monotonic_ms, stop_on_signals, timeout_ms
from zmflow.runtime.task_logs import TaskLogs
from zmflow.runtime.taskmanager_resources import machine_cores, machine_memory_bytes, taskmanager_resources
from zmflow.runtime.worker_boot import WorkerBoot
from zmflow.telemetry.logs import configure_logging, get_logger

__all__ = ["TaskManagerServer", "host_identity", "new_taskmanager_id", "run_taskmanager"]

LOG_CHUNK_SIZE_MAX_BYTES = 16 * 2**20
"""Log lines one TaskManager sends in answer to one question, whatever was asked for."""


EXIT_HELD_MAX_MS = 500
"""How long the news of a worker's end waits for its last messages. They are in this machine's memory
when it ends, and take the transport's thread below a millisecond."""


def new_taskmanager_id() -> TaskManagerId:
    """``<host>-<random>``: a TaskManager that restarts is another one."""
    return TaskManagerId(f"{socket.gethostname()}-{secrets.token_hex(3)}")


def host_identity() -> str:
    """Equal for two processes exactly where they can reach each other's ipc sockets.

    That takes the same running kernel, the same view of the file system and the same user.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot}/{Path('/proc/self/ns/mnt').readlink()}/{os.geteuid()}"


class TaskManagerServer:
    """One TaskManager. ``run`` serves until ``stop``.

    Args:
        jobmanager: endpoint of the JobManager's control connection.
        run_directory: for the sockets; the caller removes it afterwards.
        slots: how many to offer; default: the setting.
        echo_output: what user code prints also reaches this process's standard output.
        fork_server: makes a fork server; called at once, and again when one dies.
        on_registered: called, in the serving thread, when the JobManager has accepted this TaskManager.

    Raises:
        ConfigurationError: the data plane's address needs keys, or the memory settings contradict each other.
    """

    def __init__(
        self,
        settings: Settings,
        context: zmq.Context[zmq.Socket[bytes]],
        jobmanager: str,
        *,
        run_directory: RunDirectory,
        log_dir: Path,
        taskmanager_id: TaskManagerId | None = None,
        slots: int | None = None,
        keys: CurveKeys | None = None,
        echo_output: bool = False,
        fork_server: Callable[[], ForkServer] = ForkServer,
        versions: Versions | None = None,
        on_registered: Callable[[], None] | None = None,
    ) -> None:
        require_keys_or_loopback(settings[TASKMANAGER_BIND_HOST], keys)
        resources = taskmanager_resources(
            settings, cores=machine_cores(), memory_bytes=machine_memory_bytes()
        )
        self.taskmanager_id = taskmanager_id or new_taskmanager_id()
        self.slots = slots or settings[TASK_SLOTS] or os.cpu_count() or 1
        self.failure: BaseException | None = None
        self._settings = settings
        self._context = context
        self._jobmanager = jobmanager
        self._run_directory = run_directory
        self._log_dir = log_dir
        self._task_logs = TaskLogs(log_dir)
        # TaskManagers of one process share a run directory.
        self._files = JobFileStore(run_directory.path / f"files-{self.taskmanager_id}")
        self._copies = run_directory.path / f"copies-{self.taskmanager_id}"  # of snapshots, by job
        self._keys = keys
        self._echo_output = echo_output
        self._start_fork_server = fork_server
        self._fork_server = fork_server()
        self._on_registered = on_registered
        self._waker = Waker()
        self._stopping = False
        self._living: dict[str, int] = {}  # allocations whose worker was asked for: pid, 0 before it is known
        self._memory = MemoryWatch()
        self._connected: set[str] = set()
        self._held_exits: dict[str, tuple[WorkerExited, int]] = {}  # and until when they are held
        self._logger = get_logger(taskmanager=self.taskmanager_id)
        # A short name: the whole path of a local socket has little room.
        self._control_endpoint = run_directory.endpoint(f"tm-{secrets.token_hex(4)}.ipc")
        self._workers = ControlServer(context, log=self._logger.warning, numbered=False)
        self._workers.bind(self._control_endpoint)
        self._client = self._dial()
        self._brain = TaskExecutor(
            self.taskmanager_id,
            self.host,
            os.getpid(),
            self.slots,
            resources,
            settings,
            versions or local_versions(),
        )

    @property
    def host(self) -> str:
        """The name of this machine, for people."""
        return self._settings[TASKMANAGER_HOST] or socket.gethostname()

    @property
    def fork_server_pid(self) -> int:
        """The process that is the parent of this TaskManager's workers."""
        return self._fork_server.pid

    def _dial(self) -> ControlClient:
        return ControlClient(self._context, self._jobmanager, log=self._logger.warning, keys=self._keys)

    # -- the loop -----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until ``stop``; then take leave of the JobManager, end the workers and close.

        Raises:
            IncompatiblePeerError: the JobManager runs other versions; says both.
        """
        self._logger.info("The TaskManager started.", slots=self.slots, jobmanager=self._jobmanager)
        try:
            self._carry_out(self._brain.start(monotonic_ms()))
            while not self._stopping:
                self._turn()
        except BaseException as error:
            self.failure = error
            if not isinstance(error, ZmflowError):
                self._logger.exception("The TaskManager failed.")
            raise
        finally:
            self._end()

    def _turn(self) -> None:
        poller = zmq.Poller()
        for source in (
            self._client.socket,
            self._client.monitor,
            self._workers.socket,
            self._workers.monitor,
            self._fork_server.fileno(),
            self._waker.fileno(),
        ):
            poller.register(source, zmq.POLLIN)
        deadlines = [until for _, until in self._held_exits.values()]
        deadlines += [
            due for due in (self._brain.deadline_ms(), self._memory.deadline_ms()) if due is not None
        ]
        wait = timeout_ms(min(deadlines, default=None), monotonic_ms())
        poller.poll(0 if self._workers.has_departures() else wait)
        self._hear_workers()
        self._hear_fork_server()
        self._release_exits()
        for allocation_id, used_bytes in self._memory.exceeded(monotonic_ms()):
            self._decide(MemoryExceeded(allocation_id, used_bytes))
        self._hear_jobmanager()
        deadline = self._brain.deadline_ms()
        if deadline is not None and deadline <= monotonic_ms():
            self._decide(DeadlinePassed())

    def _hear_jobmanager(self) -> None:
        for message in self._client.receive():
            self._decide(FromJobManager(message))
            if isinstance(message, TaskManagerRegistered) and self._on_registered is not None:
                self._on_registered()
        # Before the first message ZeroMQ dials again by itself, ever more slowly; after it, the other side
        # would not know the new connection.
        if not self._client.poll_connection() and self._client.epoch:
            self._client.close(linger_ms=0)
            self._client = self._dial()
            self._decide(JobManagerLost(f"the connection to {self._jobmanager} was closed"))

    def _hear_workers(self) -> None:
        for news in self._workers.receive():
            allocation_id = news.peer.decode("utf-8", "replace")
            if not isinstance(news, Arrival):
                self._connected.discard(allocation_id)
            elif allocation_id in self._living or allocation_id in self._held_exits:
                self._connected.add(allocation_id)
                self._decide(FromWorker(allocation_id, news.message))

    def _hear_fork_server(self) -> None:
        replies = self._fork_server.receive()
        if replies is None:
            self._replace_fork_server()
            return
        for reply in replies:
            if not isinstance(reply, Exited):
                self._living[reply.allocation_id] = reply.pid
                self._memory.started(reply.allocation_id, reply.pid)
            elif self._living.pop(reply.allocation_id, None) is not None:
                self._memory.ended(reply.allocation_id)
                self._run_directory.worker_ended(reply.allocation_id)
                exited = WorkerExited(reply.allocation_id, exit_reason(reply))
                self._held_exits[reply.allocation_id] = exited, monotonic_ms() + EXIT_HELD_MAX_MS

    def _release_exits(self) -> None:
        """Report the ends of workers whose last words have been heard: their connection is closed too."""
        for allocation_id, (exited, until_ms) in list(self._held_exits.items()):
            if allocation_id not in self._connected or monotonic_ms() >= until_ms:
                del self._held_exits[allocation_id]
                self._connected.discard(allocation_id)
                self._decide(exited)

    def _replace_fork_server(self) -> None:
        gone, self._living = self._living, {}
        dead = self._fork_server
        self._logger.error("The fork server and its workers died.", pid=dead.pid, workers=len(gone))
        dead.close()
        self._fork_server = self._start_fork_server()
        for allocation_id, pid in gone.items():
            self._memory.ended(allocation_id)
            self._run_directory.worker_ended(allocation_id)
            reason = f"worker {pid or ''} died with its fork server {dead.pid}".replace("  ", " ")
            self._decide(WorkerExited(allocation_id, reason))

    # -- effects ------------------------------------------------------------------------------------

    def _decide(self, event: Event) -> None:
        self._carry_out(self._brain.handle(event, monotonic_ms()))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case SendToJobManager(message):
                    if not self._client.send(message):
                        self._dropped(message, "the JobManager is behind")
                case SendToWorker(allocation_id, message):
                    if not self._workers.send(allocation_id.encode(), message):
                        self._dropped(message, f"worker {allocation_id} is not connected")
                case StartWorker():
                    self._start_worker(effect)
                case KillWorker(allocation_id, reason):
                    pid = self._living.get(allocation_id, 0)
                    self._logger.info("Killing a worker.", allocation=allocation_id, pid=pid, reason=reason)
                    self._fork_server.kill(allocation_id)
                case ReadLogs(question):
                    self._answer_logs(question)
                case StoreFile():
                    self._store_file(effect)
                case DropFiles(job_id):
                    self._files.drop(job_id)
                    remove_aside(self._copies / job_id)
                case GiveUp(refused):
                    raise refusal(refused)
                case Log():
                    log_effect(self._logger, effect)
                case _:
                    raise AssertionError(f"The TaskExecutor asked for {type(effect).__name__}.")

    def _dropped(self, message: Message, why: str) -> None:
        self._logger.warning("Dropped a message.", message=type(message).__name__, why=why)

    def _store_file(self, order: StoreFile) -> None:
        try:
            self._files.store(order.job_id, order.file)
        except (OSError, ProtocolError) as error:
            # The tasks that come for it find that it is missing, and fail with a pointer to this line.
            self._logger.error(  # noqa: TRY400 - the disk's fault: a traceback says nothing more
                "A file of a job could not be written.",
                job=order.job_id,
                file=order.file.name,
                size_bytes=order.file.size_bytes,
                why=str(error),
            )

    def _start_worker(self, order: StartWorker) -> None:
        allocation_id = order.allocation_id
        self._task_logs.started(order.job_id, allocation_id)
        self._living[allocation_id] = 0
        self._memory.limit(allocation_id, order.memory_limit_bytes)
        bind_host = self._settings[TASKMANAGER_BIND_HOST]
        advertised = self._settings[TASKMANAGER_HOST] or (
            socket.gethostname() if bind_host in ("0.0.0.0", "*", "::") else bind_host  # noqa: S104
        )
        boot = WorkerBoot(
            allocation_id=allocation_id,
            slot_index=order.slot_index,
            job_id=order.job_id,
            taskmanager_id=self.taskmanager_id,
            host=self.host,
            host_id=host_identity(),
            control_endpoint=self._control_endpoint,
            data_ipc_endpoint=self._run_directory.endpoint(f"data-{allocation_id}.ipc"),
            data_bind_host=bind_host,
            data_advertised_host=advertised,
            settings=self._settings.texts(),
            log_dir=str(self._log_dir),
            echo_output=self._echo_output,
            curve_public_key=self._keys.public_key if self._keys else "",
            curve_secret_key=self._keys.secret_key if self._keys else "",
            managed_memory_bytes=max(0, order.resources.managed_memory_bytes),
            memory_limit_bytes=order.memory_limit_bytes,
            external_resources=order.external,
            run_dir=str(self._run_directory.path),
            files_dir=str(self._files.directory_of(order.job_id)),
            copies_dir=str(self._copies / order.job_id),
        )
        if not self._fork_server.fork(boot):
            # Its death is reported next, with every allocation that is living then, this one included.
            self._logger.warning("The fork server did not take an order.", allocation=allocation_id)

    def _answer_logs(self, question: GetLogs) -> None:
        size_max_bytes = max(0, min(question.size_max_bytes, LOG_CHUNK_SIZE_MAX_BYTES))
        text = self._task_logs.newest(question.job_id, size_max_bytes)
        self._client.send(
            LogChunk(
                self._client.epoch,
                question.request_id,
                question.job_id,
                question.reply_to,
                self.taskmanager_id,
                text,
                0,
            )
        )

    # -- the end ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """End ``run`` soon; callable from any thread and from signal handlers."""
        self._stopping = True
        self._waker.wake()

    def _end(self) -> None:
        if not self._client.disconnected:
            for effect in self._brain.stop("it was stopped", monotonic_ms()):
                # Its workers end with the fork server; only the leave remains to be taken.
                if isinstance(effect, SendToJobManager):
                    self._client.send(effect.message)
        self._fork_server.close()
        self._client.close()
        self._workers.close()
        self._waker.close()
        self._files.close()
        shutil.rmtree(self._copies, ignore_errors=True)


def run_taskmanager(
    settings: Settings,
    *,
    console: bool = True,
    on_registered: Callable[[], None] | None = None,
) -> int:
    """Be a TaskManager until SIGTERM or SIGINT; returns the exit status.

    Args:
        console: also log readable lines to standard error.
        on_registered: called when the JobManager has accepted this TaskManager.

    Raises:
        ConfigurationError: no JobManager is configured, or an address needs keys.
    """
    address = settings[JOBMANAGER_ADDRESS]
    if not address:
        raise ConfigurationError(
            "No JobManager is configured for this TaskManager.",
            hint="Set jobmanager.rpc.address, or give --jobmanager HOST:PORT.",
        )
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(context.term)
        cleanup.callback(end_authentication, context)
        run = cleanup.enter_context(RunDirectory(settings))
        taskmanager_id = new_taskmanager_id()
        named = settings[LOG_DIR]
        # A directory of its own: TaskManagers of several clusters may have equal allocation ids.
        log_dir = Path(named).expanduser() if named else lasting_directory(settings) / "logs" / taskmanager_id
        configure_logging(f"taskmanager-{taskmanager_id}", log_dir, settings[LOG_LEVEL], console)
        server = TaskManagerServer(
            settings,
            context,
            f"tcp://{address}:{settings[JOBMANAGER_PORT]}",
            run_directory=run,
            log_dir=log_dir,
            taskmanager_id=taskmanager_id,
            keys=load_keys(settings),
            on_registered=on_registered,
        )
        with stop_on_signals(server.stop):
            server.run()
    return 0
