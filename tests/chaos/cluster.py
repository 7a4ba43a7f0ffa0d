"""A cluster of daemons that are killed and replaced one by one; nothing of it is left in the end."""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec

from tests.chaos.processes import MARK, Process, is_alive, marked_processes, signal_marked, wait_until
from zmflow.config import Settings
from zmflow.protocol.messages import ClusterStatus
from zmflow.protocol.statuses import TaskManagerStatus
from zmflow.runtime.client import ClusterClient
from zmflow.runtime.daemon import DaemonReport

__all__ = ["ChaosCluster", "Daemon", "wall_ms"]

START_TIMEOUT_S = 30.0
"""A daemon starts within a second; a machine that is busy with something else may take longer."""

STOP_TIMEOUT_S = 10.0
"""A daemon that is asked to stop takes well below a second; after this it is killed."""

GONE_TIMEOUT_S = 2.0
"""How long the descendants of a killed daemon have: the kernel kills them, which takes milliseconds."""


def wall_ms() -> float:
    """The clock that the JobManager's instants are of."""
    return time.time() * 1000


@dataclass(eq=False)
class Daemon:
    """A daemon's process. ``registered_ms`` is the wall clock when it said that it serves; 0 before."""

    name: str
    process: subprocess.Popen[bytes]
    ready: int  # descriptor on which it reports; -1 when it has
    started_ms: float
    registered_ms: float = 0.0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def report(self) -> DaemonReport:
        """Wait for what it says when it serves.

        Raises:
            RuntimeError: it could not start.
        """
        with os.fdopen(self.ready, "rb", buffering=0) as stream:
            self.ready = -1
            heard = select.select([stream], [], [], START_TIMEOUT_S)[0]
            line = stream.readline() if heard else b""
        self.registered_ms = wall_ms()
        report = msgspec.json.decode(line, type=DaemonReport) if line else DaemonReport(0, "died")
        if report.error:
            raise RuntimeError(f"The {self.name} did not start: {report.error} {report.message}")
        return report

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal. It is a child of this process, so its pid is its own until it was waited for."""
        self.process.send_signal(number)


@dataclass
class ChaosCluster:
    """A JobManager and TaskManagers as daemons; a context manager that ends all of it.

    A TaskManager has a *place*, a number that its successor takes over.

    Args:
        taskmanagers: how many places there are.
        slots: of each TaskManager.
        values: settings of all daemons.
    """

    taskmanagers: int = 4
    slots: int = 2
    values: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.mark = secrets.token_hex(8)
        self.root = Path(tempfile.mkdtemp(prefix="zc"))  # short: the paths of sockets have little room
        self.places: list[Daemon | None] = [None] * self.taskmanagers
        self.registrations: list[float] = []
        """When TaskManagers were registered; wall clock."""
        self.left: list[Process] = []
        """What had to be killed in the end although everything had been asked to stop."""
        self.settings = Settings().with_values(
            {
                "env.log.dir": str(self.root / "logs"),
                **self.values,
                "jobmanager.rpc.port": "0",
                "jobmanager.rpc.address": "127.0.0.1",
                "taskmanager.numberOfTaskSlots": str(self.slots),
                "env.run.dir": str(self.root / "r"),
            },
            "chaos",
        )
        self._jobmanager: Daemon | None = None

    # -- life -------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._jobmanager = self._spawn("jobmanager", "jobmanager")
            port = self._jobmanager.report().port
            self.settings = self.settings.with_values({"jobmanager.rpc.port": str(port)}, "chaos")
            for place in range(self.taskmanagers):
                self.start_taskmanager(place)
            self.wait_registered()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the daemons, kill what remains, remove the directory. Twice does nothing."""
        if not self.root.exists():
            return
        try:
            self._stop([daemon for daemon in self.places if daemon is not None])
            self._stop([self._jobmanager] if self._jobmanager is not None else [])
            wait_until(lambda: not marked_processes(self.mark), GONE_TIMEOUT_S)
            self.left = marked_processes(self.mark)
        finally:
            while found := marked_processes(self.mark):
                for process in found:
                    signal_marked(process.pid, self.mark)
            shutil.rmtree(self.root, ignore_errors=True)

    @staticmethod
    def _stop(daemons: list[Daemon]) -> None:
        for daemon in daemons:
            daemon.signal(signal.SIGTERM)
            daemon.signal(signal.SIGCONT)  # one that was stopped hears nothing else
        for daemon in daemons:
            if daemon.ready >= 0:
                os.close(daemon.ready)
                daemon.ready = -1
            try:
                daemon.process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                daemon.process.kill()
                daemon.process.wait()

    def _spawn(self, role: str, name: str) -> Daemon:
        read, write = os.pipe()
        orders = {
            "role": role,
            "settings": self.settings.texts(),
            "ready_fd": write,
            "state_dir": str(self.root / role),
        }
        environment = {key: value for key, value in os.environ.items() if not key.startswith("ZMFLOW_")}
        try:
            with (self.root / f"{name}.out").open("ab") as output:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-P",
                        "-m",
                        "zmflow.runtime.daemon",
                        msgspec.json.encode(orders).decode(),
                    ],
                    env={**environment, MARK: self.mark},
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=[write],
                    start_new_session=True,
                )
        except BaseException:
            os.close(read)
            raise
        finally:
            os.close(write)
        return Daemon(name, process, read, wall_ms())

    # -- TaskManagers -----------------------------------------------------------------------------

    def start_taskmanager(self, place: int) -> Daemon:
        """Start a TaskManager in an empty place; ``poll`` notices when it is registered."""
        assert self.places[place] is None
        daemon = self.places[place] = self._spawn("taskmanager", f"taskmanager-{place}")
        return daemon

    def forget(self, place: int) -> Daemon:
        """A TaskManager was told to end, or killed: wait for its process and empty its place."""
        daemon = self.places[place]
        assert daemon is not None
        daemon.process.wait(STOP_TIMEOUT_S)
        if daemon.ready >= 0:
            os.close(daemon.ready)
        self.places[place] = None
        return daemon

    @property
    def registered(self) -> list[int]:
        """The places whose TaskManager serves."""
        return [place for place, daemon in enumerate(self.places) if daemon and daemon.registered_ms]

    def poll(self, timeout_s: float) -> None:
        """Let this time pass, but not after a TaskManager has said that it is registered."""
        starting = {daemon.ready: daemon for daemon in self.places if daemon and daemon.ready >= 0}
        for ready in select.select(list(starting), [], [], max(0.0, timeout_s))[0]:
            daemon = starting[ready]
            daemon.report()
            self.registrations.append(daemon.registered_ms)

    def wait_registered(self) -> None:
        """Wait until every place has a TaskManager that serves."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while len(self.registered) < self.taskmanagers:
            assert time.monotonic() < deadline, f"registered: {self.registered} of {self.taskmanagers}"
            self.poll(deadline - time.monotonic())

    def status_of(self, place: int, status: ClusterStatus) -> TaskManagerStatus | None:
        """What the JobManager says of the TaskManager in a place; None while it does not know it."""
        daemon = self.places[place]
        pid = daemon.pid if daemon is not None else -1
        return next((found for found in status.taskmanagers if found.pid == pid), None)

    # -- looking ----------------------------------------------------------------------------------

    def client(self) -> ClusterClient:
        """A new connection to the JobManager."""
        return ClusterClient(self.settings)

    def orphans(self) -> list[Process]:
        """Processes of this cluster that no living daemon answers for."""
        daemons = {daemon.pid for daemon in [self._jobmanager, *self.places] if daemon is not None}
        found = marked_processes(self.mark)
        parents = {process.pid: process.parent for process in found}
        return [process for process in found if not _descends(process.pid, parents, daemons)]

    def worker_pids(self) -> list[int]:
        """The living slot workers: children of the fork servers, which are children of the TaskManagers."""
        found = marked_processes(self.mark)
        daemons = {daemon.pid for daemon in self.places if daemon is not None}
        fork_servers = {process.pid for process in found if process.parent in daemons}
        return [process.pid for process in found if process.parent in fork_servers]

    def wait_for_orphans_to_end(self) -> list[Process]:
        """The orphans that are still there after the time the kernel may take to end them."""
        wait_until(lambda: not self.orphans(), GONE_TIMEOUT_S)
        return [process for process in self.orphans() if is_alive(process.pid)]


def _descends(pid: int, parents: Mapping[int, int], ancestors: set[int]) -> bool:
    while pid in parents:
        if pid in ancestors:
            return True
        pid = parents[pid]
    return False
