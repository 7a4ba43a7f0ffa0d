"""The faults of a plan, each with what it draws when it happens."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from zmflow.coordination.effects import FromJobManager, MessageReceived
from zmflow.protocol.messages import Hello
from zmflow.testing.simulation.clock import TRUE_RATE
from zmflow.testing.simulation.cluster import Cluster
from zmflow.testing.simulation.fingerprint import fingerprint
from zmflow.testing.simulation.invariants import only_tells
from zmflow.testing.simulation.network import Dialer, Listener
from zmflow.testing.simulation.scenario import HEARTBEAT_TIMEOUT_MS
from zmflow.testing.simulation.world import Component, Violation

__all__ = ["Faults"]

T = TypeVar("T")

AWAY_MAX_MS = 5_000
"""Longest absence of a component that died: below and around the heartbeat timeout."""

SILENCE_MAX_MS = HEARTBEAT_TIMEOUT_MS * 3 // 2
"""Longest cut or stall: two out of three end before anybody is given up."""


class Faults:
    """What goes wrong in a cluster until it is healed."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._world = cluster.world
        self._agenda = cluster.world.agenda
        self._kinds: dict[str, Callable[[], bool]] = {
            "jobmanager crash": self._crash_jobmanager,
            "taskmanager crash": self._crash_taskmanager,
            "worker crash": self._crash_worker,
            "client crash": self._crash_client,
            "connection broken": self._break_connection,
            "way cut": self._cut,
            "component stalled": self._stall,
            "clock step": self._step_clock,
            "wall clock step": self._step_wall_clock,
            "taskmanager leaves": self._leave,
            "taskmanager joins": self._join,
            "taskmanager drained": self._drain,
            "user function fails": self._fail_task,
            "memory exceeded": self._exceed_memory,
            "old message": self._say_something_old,
        }
        for at_ms, kind in cluster.scenario.faults:
            self._agenda.at(at_ms, self._happen, kind)

    def _happen(self, kind: str) -> None:
        if not self._world.calm and self._kinds[kind]():
            self._world.count(kind)
            if self._world.journal.on:
                self._world.journal.note(self._agenda.now_ms, "FAULT", kind)

    # -- chance -----------------------------------------------------------------------------------

    def _coin(self) -> bool:
        return self._world.chance.random() < 0.5

    def _one(self, of: list[T]) -> T | None:
        return of[int(self._world.chance.random() * len(of))] if of else None

    def _away_ms(self) -> int:
        return self._within_faults_ms(self._world.draw_ms(1, AWAY_MAX_MS))

    def _within_faults_ms(self, duration_ms: int) -> int:
        return min(duration_ms, self._cluster.scenario.heal_ms - self._agenda.now_ms)

    def _component(self) -> Component | None:
        return self._one(self._cluster.components)

    def _taskmanager(self) -> str | None:
        return self._one(list(self._cluster.taskmanagers))

    # -- processes die ----------------------------------------------------------------------------

    def _crash_jobmanager(self) -> bool:
        if self._cluster.leader is None:
            return False
        back_ms = self._away_ms()
        self._cluster.crash_jobmanager(silently=self._coin(), back_ms=back_ms)
        # What the last leader said or was told turns up again under the new one.
        self._agenda.after(back_ms + self._world.draw_ms(100, 3_000), self._happen, "old message")
        return True

    def _crash_taskmanager(self) -> bool:
        name = self._taskmanager()
        if name is not None:
            self._cluster.crash_taskmanager(name, silently=self._coin(), back_ms=self._away_ms())
        return name is not None

    def _crash_worker(self) -> bool:
        workers = [
            worker
            for taskmanager in self._cluster.taskmanagers.values()
            for worker in taskmanager.workers.values()
            if worker.living
        ]
        worker = self._one(workers)
        if worker is not None:
            worker.die("killed by signal 11 (SIGSEGV)")
        return worker is not None

    def _crash_client(self) -> bool:
        name = self._one(list(self._cluster.clients))
        if name is not None:
            self._cluster.crash_client(name, back_ms=self._away_ms())
        return name is not None

    # -- the network ------------------------------------------------------------------------------

    def _break_connection(self) -> bool:
        leader = self._cluster.leader
        connection = self._one(list(leader.connections.values())) if leader is not None else None
        if leader is None or connection is None or not connection.listener_open:
            return False
        network, dialer = self._world.network, connection.dialer
        if self._coin():  # the JobManager's end notices
            network.shut(connection, silently=self._coin())
            self._tell(leader, leader.peer_gone, connection)
        elif connection.dialer_open:
            network.hang_up(connection, silently=self._coin())
            self._tell(dialer, dialer.connection_lost, connection, "it was reset")
        return True

    @staticmethod
    def _tell(end: Listener | Dialer, news: Callable[..., object], *arguments: object) -> None:
        if end.stalled:
            end.postpone(news, *arguments)
        else:
            news(*arguments)

    def _cut(self) -> bool:
        dialers = [*self._cluster.taskmanagers, *self._cluster.clients]
        cut = dialers if self._world.chance.random() < 0.15 else [self._one(dialers) or ""]
        until_ms = self._agenda.now_ms + self._within_faults_ms(self._world.draw_ms(200, SILENCE_MAX_MS))
        loses = self._coin()
        draw = self._world.chance.random()
        for name in cut:
            if draw < 0.7:
                self._world.network.cut(name, "up", until_ms, loses=loses)
            if draw > 0.4:
                self._world.network.cut(name, "down", until_ms, loses=loses)
        return bool(dialers)

    # -- machines ---------------------------------------------------------------------------------

    def _stall(self) -> bool:
        component = self._component()
        if component is not None:
            component.stall(self._within_faults_ms(self._world.draw_ms(100, SILENCE_MAX_MS)))
        return component is not None

    def _step_clock(self) -> bool:
        component = self._component()
        if component is not None:
            if self._coin():
                component.clock.step(self._world.draw_ms(100, SILENCE_MAX_MS))
            else:
                rate = self._world.draw_ms(TRUE_RATE * 4 // 5, TRUE_RATE * 5 // 4)
                component.clock.set_rate(self._agenda.now_ms, rate)
            if not component.stalled:
                component.set_alarm()
        return component is not None

    def _step_wall_clock(self) -> bool:
        component = self._component()
        if component is not None:
            component.clock.step_wall(self._world.draw_ms(-3_600_000, 3_600_000))
        return component is not None

    # -- slots appear and vanish ------------------------------------------------------------------

    def _leave(self) -> bool:
        name = self._taskmanager()
        if name is not None:
            self._cluster.stop_taskmanager(name)
        return name is not None

    def _join(self) -> bool:
        self._cluster.start_taskmanager(self._world.draw_ms(1, 2))
        return True

    def _drain(self) -> bool:
        name, client = self._taskmanager(), self._one(list(self._cluster.clients.values()))
        if name is None or client is None:
            return False
        client.drain(name)
        if self._coin():
            self._agenda.after(self._away_ms(), client.undrain, name)
        return True

    # -- tasks ------------------------------------------------------------------------------------

    def _fail_task(self) -> bool:
        tasks = [task for lives in self._world.invariants.live.values() for task in lives]
        task = self._one(tasks)
        if task is not None:
            task.worker.fail(task)
        return task is not None

    def _exceed_memory(self) -> bool:
        limited = [
            worker
            for taskmanager in self._cluster.taskmanagers.values()
            for worker in taskmanager.workers.values()
            if worker.living and worker.order.memory_limit_bytes
        ]
        worker = self._one(limited)
        if worker is not None:
            worker.taskmanager.memory_exceeded(worker)
        return worker is not None

    # -- the past ---------------------------------------------------------------------------------

    def _say_something_old(self) -> bool:
        """A message of an older term reaches a brain past its shell. It must change nothing."""
        leader = self._cluster.leader
        relic = self._one(self._world.network.relics)
        if relic is None or leader is None or leader.stalled:
            return False
        name, direction, message = relic
        if isinstance(message, Hello):
            return False  # it says which term its sender knows, and may be old
        if direction == "up" and message.epoch < leader.epoch:
            peers = [
                peer for peer, connection in leader.connections.items() if connection.dialer.name == name
            ]
            peer = peers[-1] if peers else self._one(list(leader.connections))
            if peer is None:
                return False
            before = fingerprint(leader.brain)
            told = only_tells(leader.decide(MessageReceived(peer, message)))
            if not told or fingerprint(leader.brain) != before:
                raise Violation(f"{message} of an older term changed the JobManager", leader.name)
            return True
        taskmanager = self._cluster.taskmanagers.get(name)
        if direction == "down" and taskmanager is not None and message.epoch < taskmanager.epoch:
            before = fingerprint(taskmanager.brain)
            told = only_tells(taskmanager.decide(FromJobManager(message)))
            if not told or fingerprint(taskmanager.brain) != before:
                raise Violation(f"{message} of an older term changed {name}", name)
            return True
        return False
