"""The fork server: a preloaded process without threads that forks slot workers in milliseconds.

``ForkServer`` is the TaskManager's side: it starts ``python -m zmflow.runtime.fork_server`` and talks with
it over a pair of local sockets, one message per packet. The process imports what workers need once and
then forks a child per ``WorkerBoot``. Nobody outlives anybody: the fork server sees the end of its
socket when the TaskManager dies, however it dies, kills its workers and goes; the workers are killed by the
kernel when the fork server dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import traceback
from typing import NoReturn, TypeAlias

import msgspec

from zmflow.runtime.worker_boot import WorkerBoot

__all__ = ["Exited", "ForkServer", "Forked", "exit_reason"]

PACKET_SIZE_MAX_BYTES = 128 * 1024
"""A ``WorkerBoot`` with every setting is below 10 KiB; Linux's default socket buffer takes this size."""

WORKER_ENTRY = "zmflow.runtime.worker:run_worker"

_PR_SET_PDEATHSIG = 1

EXIT_STATUS_CRASHED = 70
"""Exit status of a worker whose entry raised; sysexits calls it EX_SOFTWARE."""

DATA_LIMIT_FACTOR = 4
"""What the kernel lets a worker with a memory limit map, as a multiple of the limit. The limit itself is
watched by the TaskManager, ten times a second; this only stops an allocation that is faster. It cannot be
tight, because it counts what is mapped and not what is used: 8 MiB of stack for every thread, the arenas of
the allocator, and the freed memory that neither gives back. Twenty threads of a slot with 128 MiB map 160 MiB
before they do anything."""


class Preload(msgspec.Struct, frozen=True, tag=True):
    """First packet: where to import from, and the function that is a worker's life."""

    sys_path: list[str]
    entry: str


class Fork(msgspec.Struct, frozen=True, tag=True):
    """Fork a worker."""

    boot: WorkerBoot


class Kill(msgspec.Struct, frozen=True, tag=True):
    """SIGKILL the worker of an allocation. Only the parent can name it without hitting a recycled pid."""

    allocation_id: str


class Forked(msgspec.Struct, frozen=True, tag=True):
    """A worker exists."""

    allocation_id: str
    pid: int


class Exited(msgspec.Struct, frozen=True, tag=True):
    """A worker is gone, or (pid 0) could not be forked. ``status`` is as from ``os.waitpid``."""

    allocation_id: str
    pid: int
    status: int
    error: str = ""


_Request: TypeAlias = Preload | Fork | Kill
_Reply: TypeAlias = Forked | Exited

_encoder = msgspec.msgpack.Encoder()
_request_decoder: msgspec.msgpack.Decoder[_Request] = msgspec.msgpack.Decoder(_Request)
_reply_decoder: msgspec.msgpack.Decoder[_Reply] = msgspec.msgpack.Decoder(_Reply)


def exit_reason(exited: Exited) -> str:
    """A sentence about how a worker went.

    >>> exit_reason(Exited("a1-1", 4711, 9))
    'worker 4711 was killed by signal 9 (SIGKILL)'
    >>> exit_reason(Exited("a1-1", 4711, 256))
    'worker 4711 exited with status 1'
    """
    if exited.error:
        return f"a worker could not be forked: {exited.error}"
    if os.WIFSIGNALED(exited.status):
        number = os.WTERMSIG(exited.status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = "unnamed"
        return f"worker {exited.pid} was killed by signal {number} ({name})"
    return f"worker {exited.pid} exited with status {os.waitstatus_to_exitcode(exited.status)}"


class ForkServer:
    """The TaskManager's handle of its fork server. Starting does not wait for the imports.

    Args:
        sys_path: where workers import from; the embedded cluster gives its client's, daemons their own.
        entry: ``module:function`` called with the ``WorkerBoot`` in each worker.
    """

    def __init__(self, *, sys_path: list[str] | None = None, entry: str = WORKER_ENTRY) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Its own process group: Ctrl-C at the terminal belongs to the client.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "zmflow.runtime.fork_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                process_group=0,
            )
        self._socket = ours
        self.pid = self._process.pid
        self._send(Preload(sys_path if sys_path is not None else list(sys.path), entry))
        ours.setblocking(False)

    def fileno(self) -> int:
        """Readable when ``receive`` has something to say."""
        return self._socket.fileno()

    def _send(self, request: _Request) -> bool:
        try:
            self._socket.send(_encoder.encode(request))
        except OSError:  # it has died, which receive() reports; or its queue is full because it hangs
            return False
        return True

    def fork(self, boot: WorkerBoot) -> bool:
        """Ask for a worker; ``Forked`` or ``Exited`` follows. False: the fork server does not listen."""
        return self._send(Fork(boot))

    def kill(self, allocation_id: str) -> bool:
        """Ask for a worker's SIGKILL; ``Exited`` follows when there was one."""
        return self._send(Kill(allocation_id))

    def receive(self) -> list[Forked | Exited] | None:
        """What it said since the last call, never waiting; None when it has died."""
        replies: list[Forked | Exited] = []
        while True:
            try:
                packet = self._socket.recv(PACKET_SIZE_MAX_BYTES)
            except BlockingIOError:
                return replies
            except OSError:
                return replies or None
            if not packet:
                return replies or None
            replies.append(_reply_decoder.decode(packet))

    def close(self) -> None:
        """End the fork server and with it every worker; returns when the server process is gone."""
        self._socket.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


# -- inside the fork server process ---------------------------------------------------------------


def _die_with(parent_pid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0 or os.getppid() != parent_pid:
        os._exit(EXIT_STATUS_CRASHED)


def _limit_data(size_bytes: int) -> None:
    """Let allocations beyond this fail: Python raises MemoryError."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        size_bytes = min(size_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size_bytes, size_bytes))


class _Server:
    """The loop of the fork server process."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._workers: dict[int, str] = {}
        self._entry = WORKER_ENTRY
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> NoReturn:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # its end is the end of its socket
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        poller = select.poll()
        poller.register(self._connection, select.POLLIN)
        poller.register(self._wake_read, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake_read in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
                self._reap()
            if self._connection.fileno() in ready:
                try:
                    packet = self._connection.recv(PACKET_SIZE_MAX_BYTES)
                except OSError:
                    packet = b""
                if not packet:
                    self._end()
                self._handle(_request_decoder.decode(packet))

    def _handle(self, request: _Request) -> None:
        match request:
            case Preload(sys_path, entry):
                sys.path[:] = sys_path
                self._entry = entry
                importlib.import_module(entry.partition(":")[0])
                gc.collect()
                gc.freeze()  # children share these pages as long as the collector leaves them alone
            case Fork(boot):
                self._fork(boot)
            case Kill(allocation_id):
                for pid, allocation in self._workers.items():
                    if allocation == allocation_id:
                        os.kill(pid, signal.SIGKILL)

    def _fork(self, boot: WorkerBoot) -> None:
        parent_pid = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            self._reply(Exited(boot.allocation_id, 0, 0, str(error)))
            return
        if pid == 0:
            self._become_worker(boot, parent_pid)
        self._workers[pid] = boot.allocation_id
        self._reply(Forked(boot.allocation_id, pid))

    def _become_worker(self, boot: WorkerBoot, parent_pid: int) -> NoReturn:
        status = EXIT_STATUS_CRASHED
        try:
            _die_with(parent_pid)
            if boot.memory_limit_bytes:
                _limit_data(boot.memory_limit_bytes * DATA_LIMIT_FACTOR)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._connection.close()
            os.close(self._wake_read)
            os.close(self._wake_write)
            module, _, function = self._entry.partition(":")
            getattr(importlib.import_module(module), function)(boot)
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else EXIT_STATUS_CRASHED
        except BaseException:  # noqa: BLE001  this frame is the worker's last: say why, and end
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                _flush()
            os._exit(status)

    def _reap(self) -> None:
        while self._workers:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            allocation_id = self._workers.pop(pid, None)
            if allocation_id is not None:
                self._reply(Exited(allocation_id, pid, status))

    def _reply(self, reply: _Reply) -> None:
        with contextlib.suppress(OSError):  # the TaskManager is gone: the next recv says so
            self._connection.send(_encoder.encode(reply))

    def _end(self) -> NoReturn:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
        for pid in self._workers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)
        os._exit(0)


def _flush() -> None:
    logs = sys.modules.get("zmflow.telemetry.logs")
    if logs is not None:  # a worker that has not imported it has nothing to flush
        logs.flush_output()


def main() -> NoReturn:
    """Serve on the descriptor the command line names."""
    _Server(socket.socket(fileno=int(sys.argv[1]))).run()


if __name__ == "__main__":
    main()
