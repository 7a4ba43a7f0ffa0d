"""The JobManager's shell: sockets and clock around the ``Dispatcher``, in one thread."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Callable, Iterable
from pathlib import Path

import zmq

from zmflow.config import Settings
from zmflow.config.options import JOBMANAGER_BIND_HOST, JOBMANAGER_PORT, LOG_DIR, LOG_LEVEL
from zmflow.coordination.dispatcher import Dispatcher
from zmflow.coordination.effects import (
    DeadlinePassed,
    DiscardCheckpoint,
    Effect,
    Event,
    LoadCheckpoint,
    Log,
    MessageReceived,
    PeerGone,
    Send,
    StoreCheckpoint,
)
from zmflow.ha.standalone import next_epoch
from zmflow.ids import Epoch
from zmflow.protocol.versions import Versions, local_versions
from zmflow.runtime.checkpoints.metadata_writer import CheckpointWriter
from zmflow.runtime.control import Arrival, ControlServer
from zmflow.runtime.run_directory import lasting_directory
from zmflow.runtime.security import CurveKeys, end_authentication, load_keys
from zmflow.runtime.shell import Waker, log_effect, monotonic_ms, stop_on_signals, timeout_ms, wall_ms
from zmflow.telemetry.logs import configure_logging, get_logger

__all__ = ["FIRST_EPOCH", "JobManagerServer", "run_jobmanager"]

FIRST_EPOCH = Epoch(1)
"""The term of a JobManager that lives and ends with all its TaskManagers and clients."""


STORAGE_WAIT_S = 5.0
"""How long the end of a JobManager waits for files to be written and deleted: a small file and some deletions
take milliseconds; a storage that hangs must not keep the process."""


class JobManagerServer:
    """One JobManager. Binding happens at construction, serving in ``run``.

    Args:
        endpoint: an ``inproc://`` or ``ipc://`` endpoint to serve instead of the settings' TCP address.
        versions: what this side claims to run; by default the truth.
        take_epoch: gives this JobManager's term. Called once, with the bound port: whoever holds the port
            is the only one to take a term for it.

    Raises:
        AddressInUseError: the configured port is taken.
        ConfigurationError: the configured address needs keys, or is not this machine's.
    """

    def __init__(
        self,
        settings: Settings,
        context: zmq.Context[zmq.Socket[bytes]],
        *,
        endpoint: str | None = None,
        keys: CurveKeys | None = None,
        versions: Versions | None = None,
        take_epoch: Callable[[int], Epoch] = lambda _port: FIRST_EPOCH,
    ) -> None:
        self._logger = get_logger()
        self._waker = Waker()
        self._stopping = False
        self._storage = CheckpointWriter(settings, self._waker.wake, self._logger.warning)
        self._control = ControlServer(context, log=self._logger.warning, keys=keys)
        self.port = 0
        try:
            if endpoint is None:
                host = settings[JOBMANAGER_BIND_HOST]
                port = settings[JOBMANAGER_PORT]
                self.port = self._control.bind_tcp(host, port, setting=JOBMANAGER_PORT.key)
                self.name = f"{socket.gethostname()}:{self.port}"
                self.endpoint = f"tcp://{host}:{self.port}"
            else:
                self._control.bind(endpoint)
                self.name = "embedded"
                self.endpoint = endpoint
            self.epoch = take_epoch(self.port)
            self._control.begin_term(self.epoch)
        except BaseException:
            self._control.close()
            self._waker.close()
            raise
        chance = random.Random()  # noqa: S311 - spreads restarts, guards nothing
        self._brain = Dispatcher(
            self.epoch, self.name, settings, versions or local_versions(), wall_ms(), chance.random
        )

    def run(self) -> None:
        """Serve until ``stop``. Closes its sockets at the end."""
        self._logger.info("The JobManager started.", endpoint=self.endpoint, epoch=self.epoch)
        poller = zmq.Poller()
        poller.register(self._control.socket, zmq.POLLIN)
        poller.register(self._control.monitor, zmq.POLLIN)
        poller.register(self._waker.fileno(), zmq.POLLIN)
        try:
            while not self._stopping:
                self._turn(poller)
        finally:
            self._control.close()
            self._storage.close(STORAGE_WAIT_S)

    def _turn(self, poller: zmq.Poller) -> None:
        wait = timeout_ms(self._brain.deadline_ms(), monotonic_ms())
        poller.poll(0 if self._control.has_departures() else wait)
        for news in self._control.receive():
            if isinstance(news, Arrival):
                self._decide(MessageReceived(news.peer, news.message, wall_ms()))
            else:
                self._decide(PeerGone(news.peer))
        self._waker.clear()
        for stored in self._storage.take():
            self._decide(stored)
        deadline = self._brain.deadline_ms()
        if deadline is not None and deadline <= monotonic_ms():
            self._decide(DeadlinePassed())

    def _decide(self, event: Event) -> None:
        self._carry_out(self._brain.handle(event, monotonic_ms()))

    def _carry_out(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(peer, message):
                    self._control.send(peer, message)
                case StoreCheckpoint() | LoadCheckpoint() | DiscardCheckpoint():
                    self._storage.order(effect)
                case Log():
                    log_effect(self._logger, effect)
                case _:
                    raise AssertionError(f"The Dispatcher asked for {type(effect).__name__}.")

    def stop(self) -> None:
        """End ``run`` soon; callable from any thread and from signal handlers."""
        self._stopping = True
        self._waker.wake()

    def close(self) -> None:
        """Give back what ``run`` does not; after it has returned, or instead of it."""
        self._control.close()
        self._waker.close()


def run_jobmanager(
    settings: Settings,
    *,
    console: bool = True,
    state_dir: Path | None = None,
    on_ready: Callable[[int], None] | None = None,
) -> int:
    """Be a JobManager until SIGTERM or SIGINT; returns the exit status.

    Args:
        console: also log readable lines to standard error.
        state_dir: where its epoch is counted; default: ``jobmanager-<port>`` in ``env.run.dir`` or, where
            that is not set, in the user's state directory.
        on_ready: called with the port once clients can connect.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    with contextlib.ExitStack() as cleanup:
        cleanup.callback(context.term)
        cleanup.callback(end_authentication, context)
        log_dir = settings[LOG_DIR]
        lasting = lasting_directory(settings)
        directory = Path(log_dir).expanduser() if log_dir else lasting / "logs"
        configure_logging("jobmanager", directory, settings[LOG_LEVEL], console)
        server = JobManagerServer(
            settings,
            context,
            keys=load_keys(settings),
            take_epoch=lambda port: next_epoch(state_dir or lasting / f"jobmanager-{port}"),
        )
        cleanup.callback(server.close)
        with stop_on_signals(server.stop):
            if on_ready is not None:
                on_ready(server.port)
            server.run()
    return 0
