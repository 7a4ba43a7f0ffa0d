"""A JobManager that answers with prepared statuses: real sockets, no brain."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Sequence

import zmq

from zmflow.protocol import messages as m
from zmflow.protocol.versions import local_versions
from zmflow.runtime.control import Arrival, ControlServer

EPOCH = 1


class ScriptedLeader:
    """Answers each question about the cluster with the next status, the last one again and again.

    Attributes:
        port: where it listens, on loopback.
        asked: the drains it was asked for, as (name, drain).
        drains: the ids each drain is about; empty: it refuses.
    """

    def __init__(self, statuses: Sequence[m.ClusterStatus], drains: Sequence[str]) -> None:
        self.asked: list[tuple[str, bool]] = []
        self.drains = list(drains)
        self._statuses = list(statuses)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._server = ControlServer(self._context, log=lambda _sentence: None, epoch=EPOCH)
        self.port = self._server.bind_tcp("127.0.0.1", 0, setting="jobmanager.rpc.port")
        self._stop = os.eventfd(0)
        self._thread = threading.Thread(target=self._serve, name="scripted leader")

    def _serve(self) -> None:
        poller = zmq.Poller()
        poller.register(self._server.socket, zmq.POLLIN)
        poller.register(self._stop, zmq.POLLIN)
        while self._stop not in dict(poller.poll()):
            for news in self._server.receive():
                if isinstance(news, Arrival):
                    self._server.send(news.peer, self._answer(news.message))
        self._server.close()

    def _answer(self, message: m.Message) -> m.Message:
        match message:
            case m.Hello():
                return m.Welcome(EPOCH, local_versions(), "scripted")
            case m.GetCluster(request_id=request):
                status = self._statuses.pop(0) if len(self._statuses) > 1 else self._statuses[0]
                return m.ClusterStatus(
                    EPOCH, request, status.jobmanager, status.started_ms, status.taskmanagers, status.jobs
                )
            case m.DrainTaskManager(request_id=request, taskmanager=name, drain=drain) if self.drains:
                self.asked.append((name, drain))
                return m.DrainAccepted(EPOCH, request, self.drains)
            case m.DrainTaskManager(request_id=request):
                return m.Refused(EPOCH, request, "ConfigurationError", "There is no such TaskManager.")
        raise AssertionError(f"Nothing is prepared for {message}.")

    @contextlib.contextmanager
    def serving(self) -> Iterator[ScriptedLeader]:
        """Serve on a thread until it is left."""
        self._thread.start()
        try:
            yield self
        finally:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._stop)
            self._context.term()
