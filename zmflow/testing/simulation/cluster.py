"""A whole simulated cluster: its components, and the story of one seed from start to rest."""

from __future__ import annotations

from zmflow.testing.simulation.client import ClientProcess
from zmflow.testing.simulation.invariants import Invariants
from zmflow.testing.simulation.jobmanager import JobManagerProcess
from zmflow.testing.simulation.jobs import JobPlan
from zmflow.testing.simulation.scenario import Scenario, draw_scenario, total_resources
from zmflow.testing.simulation.taskmanager import TaskManagerProcess
from zmflow.testing.simulation.world import Component, Journal, World

__all__ = ["Cluster"]

TASKMANAGERS_START_MS = 300
"""TaskManagers start within this time of each other, and clients within a little more."""


class Cluster:
    """Everybody, and who comes back when somebody goes."""

    def __init__(self, seed: int, journal: Journal) -> None:
        self.world = World(seed, journal)
        self.scenario: Scenario = draw_scenario(self.world.chance)
        self.world.invariants = Invariants(self.scenario.plans)
        self.epochs = 0  # the durable store: the term of the newest leader
        self.leader: JobManagerProcess | None = None
        self.taskmanagers: dict[str, TaskManagerProcess] = {}
        self.clients: dict[str, ClientProcess] = {}
        self.past: list[Component] = []  # those that died: their stories are still told
        self.emptied = ""  # the TaskManager that stays drained when the faults are over
        self._started = 0
        self.world.network.weather = self.scenario.weather
        self.start_jobmanager()
        agenda = self.world.agenda
        for slots in self.scenario.slots:
            agenda.after(self.world.draw_ms(0, TASKMANAGERS_START_MS), self.start_taskmanager, slots)
        for number in range(self.scenario.clients):
            agenda.after(self.world.draw_ms(0, TASKMANAGERS_START_MS), self._start_client, f"client-{number}")
        for plan in self.scenario.plans:
            agenda.at(plan.submit_ms, self._submit, plan)
            if plan.cancel_ms >= 0:
                agenda.at(plan.cancel_ms, self.cancel, plan)

    # -- who is there -----------------------------------------------------------------------------

    @property
    def components(self) -> list[Component]:
        """Everybody that lives."""
        leader: list[Component] = [self.leader] if self.leader is not None else []
        return [*leader, *self.taskmanagers.values(), *self.clients.values()]

    def start_jobmanager(self) -> None:
        """A JobManager starts: it takes the next term and knows nothing of the last."""
        if self.leader is not None:
            return
        self.epochs += 1
        self.leader = JobManagerProcess(self.epochs, self.scenario.settings, self.world)
        self.world.network.listener = self.leader
        self.world.invariants.leader = self.leader

    def crash_jobmanager(self, *, silently: bool, back_ms: int) -> None:
        """The JobManager dies; another one starts after a while."""
        if self.leader is not None:
            self.past.append(self.leader)
            self.leader.crash(silently=silently)
            self.world.invariants.leader_ended()
            self.leader = None
            self.world.agenda.after(back_ms, self.start_jobmanager)

    def start_taskmanager(self, slots: int) -> None:
        """One more TaskManager."""
        self._started += 1
        name = f"tm-{self._started}"
        taskmanager = TaskManagerProcess(
            name, slots, total_resources(slots), self.scenario.settings, self.world
        )
        self.taskmanagers[name] = taskmanager
        taskmanager.start()

    def crash_taskmanager(self, name: str, *, silently: bool, back_ms: int) -> None:
        """A TaskManager dies with its workers; another one starts on its machine after a while."""
        taskmanager = self.taskmanagers.pop(name)
        self.past.append(taskmanager)
        taskmanager.crash(silently=silently)
        self.world.agenda.after(back_ms, self.start_taskmanager, taskmanager.slots)

    def stop_taskmanager(self, name: str) -> None:
        """A TaskManager is stopped on purpose and does not come back by itself."""
        taskmanager = self.taskmanagers.pop(name)
        self.past.append(taskmanager)
        taskmanager.leave()

    def crash_client(self, name: str, *, back_ms: int) -> None:
        """A client dies; it starts again after a while and wants the same as before."""
        client = self.clients.pop(name)
        client.crash()
        self.world.agenda.after(back_ms, self._start_client, name)

    def _start_client(self, name: str) -> None:
        plans = [plan for plan in self.scenario.plans if self._client_of(plan) == name]
        self.clients[name] = ClientProcess(name, plans, self.world)

    def _client_of(self, plan: JobPlan) -> str:
        return f"client-{int(plan.job_id.removeprefix('job')) % self.scenario.clients}"

    def _submit(self, plan: JobPlan) -> None:
        client = self.clients.get(self._client_of(plan))
        if client is not None:
            client.submit(plan)

    def cancel(self, plan: JobPlan) -> None:
        """The job's client changes its mind, now or when it is back."""
        plan.cancelled = True
        client = self.clients.get(self._client_of(plan))
        if client is not None:
            client.cancel(plan)
