"""``zmflow cluster start``: real daemons in the background of this machine, any number of clusters.

A cluster lives in a directory: ``cluster.json`` says where its JobManager listens and which processes it
is made of; ``logs/`` holds its logs and ``epoch`` its JobManager's last term, and both stay after the end.
A process is known by its pid *and* the time it started, so a recycled pid is never mistaken for a daemon,
let alone killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from zmflow.config import Settings
from zmflow.config.options import JOBMANAGER_ADDRESS, JOBMANAGER_BIND_HOST, JOBMANAGER_PORT, LOG_DIR
from zmflow.errors import AddressInUseError, ClusterError, ConfigurationError
from zmflow.protocol.messages import Refused
from zmflow.runtime.control import refusal
from zmflow.runtime.daemon import DaemonOrders, DaemonReport
from zmflow.runtime.run_directory import remove_abandoned, state_directory

__all__ = ["Daemon", "LocalCluster", "default_directory", "running_address", "start", "status", "stop"]

START_TIMEOUT_S = 30.0
"""A daemon starts within a second; a machine that is busy with something else may take longer."""

STOP_TIMEOUT_S = 10.0
"""A TaskManager that stops ends its workers and takes leave: well below a second. Then it is killed."""

_RECORD = "cluster.json"
_LOCK = "cluster.lock"


class Daemon(msgspec.Struct, frozen=True):
    """A process of a local cluster."""

    name: str
    pid: int
    started_ticks: int  # clock ticks after the boot of the machine

    def is_alive(self) -> bool:
        """Whether this very process, and not a later one with its pid, is there."""
        return _started_ticks(self.pid) == self.started_ticks


class LocalCluster(msgspec.Struct, frozen=True):
    """A cluster on this machine: where it lives, where it listens (port 0: not yet), its processes."""

    directory: str
    host: str
    port: int
    daemons: list[Daemon]


def default_directory() -> Path:
    """Where this user's cluster lives: under ``$XDG_STATE_HOME`` or ``~/.local/state``."""
    return state_directory() / "cluster"


def _started_ticks(pid: int) -> int:
    """When a living process started; -1 when there is none, or only its remains."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return -1
    fields = text.rpartition(")")[2].split()  # the name before it may contain anything
    return -1 if fields[0] in ("Z", "X") else int(fields[19])


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Only one start or stop at a time works in a directory."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            "The cluster's directory cannot be used.",
            detail=f"{directory}: {error}",
            hint="Choose another with --dir.",
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _read(directory: Path) -> LocalCluster | None:
    try:
        return msgspec.json.decode((directory / _RECORD).read_bytes(), type=LocalCluster)
    except (OSError, msgspec.DecodeError):
        return None


def _write(cluster: LocalCluster) -> None:
    path = Path(cluster.directory) / _RECORD
    new = path.with_suffix(".new")
    new.write_bytes(msgspec.json.encode(cluster))
    new.replace(path)


# -- starting -------------------------------------------------------------------------------------


def start(settings: Settings, taskmanagers: int, directory: Path | None = None) -> LocalCluster:
    """Start a JobManager and TaskManagers and return when every TaskManager is registered.

    What a killed cluster left in the same directory is cleared away first.

    Args:
        settings: of all daemons; ``taskmanager.numberOfTaskSlots`` are the slots of each TaskManager. When
            ``jobmanager.rpc.port`` is not set and its default is taken, a free port is used.

    Raises:
        AddressInUseError: the port that was set is taken.
        ClusterError: a cluster runs in this directory, or a daemon did not start.
    """
    directory = (directory or default_directory()).absolute()
    with _locked(directory):
        before = _read(directory)
        if before is not None and any(daemon.is_alive() for daemon in before.daemons[:1]):
            raise ClusterError(
                "A cluster runs in this directory already.",
                detail=f"{directory}: JobManager at {before.host}:{before.port}, "
                f"pid {before.daemons[0].pid}.",
                hint="'zmflow cluster stop' stops it; --dir starts another one beside it.",
            )
        _clear(before, directory, settings)
        if not settings.is_set(LOG_DIR):
            shutil.rmtree(directory / "logs", ignore_errors=True)
            settings = settings.with_values({LOG_DIR.key: str(directory / "logs")}, "zmflow cluster start")
        try:
            return _Starter(settings, directory).start(taskmanagers)
        except BaseException:
            _clear(_read(directory), directory, settings)
            raise


class _Starter:
    """Starts the daemons one after another, and records each before it is waited for."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self._settings = settings
        self._directory = directory
        bind = settings[JOBMANAGER_BIND_HOST]
        host = "127.0.0.1" if bind in ("0.0.0.0", "*") else bind  # noqa: S104
        self._cluster = LocalCluster(str(directory), host, 0, [])

    def start(self, taskmanagers: int) -> LocalCluster:
        port = self._start_jobmanager()
        self._cluster = msgspec.structs.replace(self._cluster, port=port)
        address = {JOBMANAGER_ADDRESS.key: self._cluster.host, JOBMANAGER_PORT.key: str(port)}
        started = [self._spawn("taskmanager", f"taskmanager-{i + 1}", address) for i in range(taskmanagers)]
        for name, ready in started:
            self._await(name, ready)
        return self._cluster

    def _start_jobmanager(self) -> int:
        try:
            return self._await(*self._spawn("jobmanager", "jobmanager", {})).port
        except AddressInUseError:
            if self._settings.is_set(JOBMANAGER_PORT):
                raise
        self._cluster = msgspec.structs.replace(self._cluster, daemons=[])
        return self._await(*self._spawn("jobmanager", "jobmanager", {JOBMANAGER_PORT.key: "0"})).port

    def _spawn(self, role: str, name: str, values: dict[str, str]) -> tuple[str, int]:
        """Start a daemon; gives its name and the descriptor on which it will report."""
        settings = self._settings.with_values(values, "zmflow cluster start")
        ready, theirs = os.pipe()
        try:
            output = str(self._directory / f"{name}.out")
            orders = {
                "role": role,
                "settings": settings.texts(),
                "ready_fd": 3,
                "state_dir": str(self._directory),
            }
            argument = msgspec.json.encode(msgspec.convert(orders, DaemonOrders)).decode()
            # dup2 last: the descriptors it reads from must not have been replaced.
            pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-P", "-m", "zmflow.runtime.daemon", argument],
                os.environ,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, theirs, 3),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        finally:
            os.close(theirs)
        daemons = [*self._cluster.daemons, Daemon(name, pid, _started_ticks(pid))]
        self._cluster = msgspec.structs.replace(self._cluster, daemons=daemons)
        _write(self._cluster)
        return name, ready

    def _await(self, name: str, ready: int) -> DaemonReport:
        with os.fdopen(ready, "rb", buffering=0) as stream:
            if not select.select([stream], [], [], START_TIMEOUT_S)[0]:
                raise ClusterError(
                    f"The {name} did not start within {START_TIMEOUT_S:g} s.",
                    detail=self._output(name) or None,
                    hint=f"Its logs are in {self._settings[LOG_DIR]}.",
                )
            line = stream.readline()
        if not line:
            raise ClusterError(f"The {name} ended while it started.", detail=self._output(name) or None)
        report = msgspec.json.decode(line, type=DaemonReport)
        if report.error:
            raise refusal(Refused(0, 0, report.error, report.message, report.detail, report.hint))
        return report

    def _output(self, name: str) -> str:
        try:
            text = (self._directory / f"{name}.out").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-20:])


# -- looking and stopping -------------------------------------------------------------------------


def status(directory: Path | None = None) -> LocalCluster | None:
    """The cluster that was started in this directory and whose JobManager is alive; None otherwise."""
    cluster = _read((directory or default_directory()).absolute())
    if cluster is None or not cluster.port or not cluster.daemons or not cluster.daemons[0].is_alive():
        return None
    return cluster


def running_address(settings: Settings, directory: Path | None = None) -> tuple[str, int] | None:
    """Host and port of the JobManager that runs in this directory, or None.

    Args:
        settings: ``jobmanager.rpc.port``, when set, must be the one it listens on.
    """
    cluster = status(directory)
    if cluster is None or (settings.is_set(JOBMANAGER_PORT) and settings[JOBMANAGER_PORT] != cluster.port):
        return None
    return cluster.host, cluster.port


def stop(directory: Path | None = None, settings: Settings | None = None) -> LocalCluster | None:
    """Stop the cluster in this directory, its jobs included; gives what was stopped, None when none was.

    TaskManagers first, then the JobManager: asked, and after ``STOP_TIMEOUT_S`` killed. Clears away what
    they leave; ``logs/`` and ``epoch`` stay.
    """
    directory = (directory or default_directory()).absolute()
    if not (directory / _RECORD).exists():
        return None
    with _locked(directory):
        cluster = _read(directory)
        _clear(cluster, directory, settings or Settings())
        (directory / _LOCK).unlink(missing_ok=True)
    return cluster


def _clear(cluster: LocalCluster | None, directory: Path, settings: Settings) -> None:
    """End every process of a cluster and remove what they left, but the logs."""
    if cluster is not None:
        _end([daemon for daemon in cluster.daemons if daemon.name != "jobmanager"])
        _end([daemon for daemon in cluster.daemons if daemon.name == "jobmanager"])
    remove_abandoned(settings)
    for path in [directory / _RECORD, *directory.glob("*.out"), *directory.glob("*.new")]:
        path.unlink(missing_ok=True)


def _end(daemons: list[Daemon]) -> None:
    living: dict[int, Daemon] = {}
    for daemon in daemons:
        with contextlib.suppress(OSError):
            # The descriptor pins the process: checked after opening, it cannot be another one's.
            descriptor = os.pidfd_open(daemon.pid)
            if daemon.is_alive():
                living[descriptor] = daemon
                signal.pidfd_send_signal(descriptor, signal.SIGTERM)
            else:
                os.close(descriptor)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while living:
        ready, _, _ = select.select(list(living), [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            for descriptor, daemon in living.items():
                if daemon.is_alive():
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            ready = select.select(list(living), [], [], STOP_TIMEOUT_S)[0] or list(living)
        for descriptor in ready:
            del living[descriptor]
            os.close(descriptor)
    for daemon in daemons:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(daemon.pid, os.WNOHANG)  # when this very process started it
