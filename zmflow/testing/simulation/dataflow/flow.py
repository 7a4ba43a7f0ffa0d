"""``Flow``: one job with its data plane in one thread, from one seed: what may happen next, and what does."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from zmflow.api.sinks import CommitRequest
from zmflow.coordination.effects import StoreCheckpoint
from zmflow.protocol.checkpoints import NotifyCheckpoint, TriggerCheckpoint
from zmflow.protocol.messages import TaskDeployment
from zmflow.testing.simulation.dataflow.master import Master
from zmflow.testing.simulation.dataflow.plan import draw_plan
from zmflow.testing.simulation.dataflow.rules import FlowRules
from zmflow.testing.simulation.dataflow.slot import FlowSlot
from zmflow.testing.simulation.dataflow.task import FlowTask, SimulatedFailureError
from zmflow.testing.simulation.world import Journal, Violation

__all__ = ["Flow"]

STEPS_MAX = 30_000
"""Steps of one seed, many times the usual number: more mean that the job does not come to its end."""

RECENT_LINES = 80
"""What happened last is kept for the story of a seed that fails."""


class Flow:
    """Everything of one seed."""

    def __init__(self, seed: int, journal: Journal) -> None:
        self.chance = Random(seed)  # noqa: S311 - reproducible is what it must be
        self.journal = journal
        alignment = Random(f"alignment {seed}")  # noqa: S311 - as above
        self.plan = draw_plan(self.chance, alignment)
        self.now_ms = 0
        self.steps = 0
        self.calm = False
        self.faults: dict[str, int] = {}
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)
        self.storing: deque[StoreCheckpoint] = deque()
        self.rules = FlowRules(self)
        spread = self.plan.spread
        self._due = sorted(self.chance.randrange(spread) for _ in range(self.plan.faults))
        # Some kinds of events lag behind in this seed: messages that are slow, tasks that are.
        self._lag = {
            kind: self.chance.choice((0.0, 0.0, 0.6, 0.9)) for kind in ("up", "down", "aside", "task")
        }
        self._lag["input"] = 0.95 if self.plan.pressed else self._lag["task"]
        self.master = Master(self, self.chance)

    def note(self, who: str, what: str) -> None:
        """Something happens."""
        if self.journal.on:
            self.journal.note(self.now_ms, who, what)
        self.recent.append(f"{self.now_ms:>7} {who}: {what}")

    def count(self, fault: str) -> None:
        """A fault happens."""
        self.faults[fault] = self.faults.get(fault, 0) + 1
        self.note("fault", fault)

    def strikes(self, fault: str, likely: float) -> bool:
        """Whether a fault happens here."""
        if self.calm or not self.plan.faults or self.chance.random() >= likely:
            return False
        self.count(fault)
        return True

    def commit(self, task: FlowTask, request: CommitRequest[Any]) -> None:
        """The place that the sink writes to is asked to make a transaction visible."""
        if self.strikes("commit fails", 0.02):
            raise SimulatedFailureError
        if request.tries < 3 and self.strikes("commit is put off", 0.05):
            request.retry_later()
            return
        name, rows = request.committable
        self.rules.committed(task.deployment.vertex_id, request.checkpoint_id, name, rows)
        if self.strikes("commit fails after it was done", 0.02):
            raise SimulatedFailureError

    # -- running --------------------------------------------------------------------------------------

    def run(self) -> None:
        """From the first deployment until the job has finished."""
        self.master.tick()
        while self.master.state != "FINISHED":
            self.steps += 1
            if self.steps > STEPS_MAX:
                raise Violation(f"the job does not come to its end: {self._stuck()}")
            if self._due and self.steps >= self._due[0]:
                self._due.pop(0)
                self._strike()
            self.calm = not self._due
            self._step()
        self.rules.ended()

    def _stuck(self) -> str:
        tasks = [task.stuck() for slot in self.master.slots.values() for task in slot.tasks.values()]
        return f"{self.master.state}; {'; '.join(tasks)}"

    def _step(self) -> None:
        # When the faults are over everything is quick: no checkpoint is given up because of the clock.
        self.now_ms += self.chance.randrange(3) if not self.calm else self.chance.random() < 0.1
        deadline_ms = self.master.deadline_ms()
        if deadline_ms is not None and deadline_ms <= self.now_ms:
            self.master.tick()
            return
        happens = self._possible()
        if not happens:
            self._let_time_pass(deadline_ms)
            return
        for _ in range(4):
            kind, action = self.chance.choice(happens)
            if self.calm or self.chance.random() >= self._lag.get(kind, 0.0):
                action()
                return

    def _possible(self) -> list[tuple[str, Callable[[], None]]]:
        happens: list[tuple[str, Callable[[], None]]] = []
        for slot in self.master.slots.values():
            if slot.up:
                happens.append(("up", partial(self.master.receive, slot)))
            if not slot.alive:
                continue
            if slot.down:
                happens.append(("down", partial(self._deliver, slot)))
            happens += [("enumerator", partial(self._enumerate, each)) for each in slot.busy_enumerators()]
            for task in slot.tasks.values():
                if task.ready:
                    happens.append(("input" if task.inputs else "task", task.step))
                if task.aside.waiting:
                    happens.append(("aside", partial(self._acknowledge, slot, task)))
        if self.storing:
            happens.append(("storage", self._store))
        return happens

    def _let_time_pass(self, deadline_ms: int | None) -> None:
        instants = [deadline_ms] if deadline_ms is not None else []
        for slot in self.master.slots.values():
            instants += [due for task in slot.tasks.values() if (due := task.due_ms()) is not None]
        if not instants:
            raise Violation(f"nothing can happen any more: {self._stuck()}")
        self.now_ms = max(self.now_ms, min(instants))

    def _deliver(self, slot: FlowSlot) -> None:
        if self.journal.on:
            message = slot.down[0]
            self.note(slot.name, f"receives {_told(message)}")
        slot.receive()

    def _enumerate(self, enumerator: Any) -> None:
        action = enumerator._inbox.get_nowait()
        action()
        if enumerator._failure is not None:
            raise Violation(f"an enumerator fails: {enumerator._failure.summary}")
        self.rules.splits_moved(enumerator._deployment.vertex_id)

    def _acknowledge(self, slot: FlowSlot, task: FlowTask) -> None:
        waiting = task.aside.waiting
        message = waiting.pop(self.chance.randrange(len(waiting)))
        self.note(f"{task!r}", f"{type(message).__name__} {message.checkpoint_id}")
        slot.say(message)

    def _store(self) -> None:
        effect = self.storing.popleft()
        error = "The disk is full." if self.strikes("storage fails", 0.05) else ""
        self.master.stored(effect.checkpoint_id, error)

    # -- faults ---------------------------------------------------------------------------------------

    def _strike(self) -> None:
        slots = [slot for slot in self.master.slots.values() if slot.alive]
        kind = self.chance.choice(("task", "task", "worker", "rescale", "savepoint"))
        if kind == "savepoint":
            if self.master.savepoint():
                self.count("savepoint is taken")
        elif kind == "rescale":
            if self.master.rescale():
                self.count("job is rescaled")
        elif slots:
            slot = self.chance.choice(slots)
            if kind == "worker":
                self.count("worker dies")
                slot.die()
            elif slot.tasks:
                self.count("task fails")
                self.chance.choice(list(slot.tasks.values())).fail()


def _told(message: Any) -> str:
    """A message in one line."""
    if isinstance(message, tuple):
        return " ".join(
            part.attempt_id.partition("/")[2] if isinstance(part, TaskDeployment) else f"{part}"
            for part in message
            if isinstance(part, (str, int, TaskDeployment))
        )
    if isinstance(message, NotifyCheckpoint):
        return f"{message.checkpoint_id} is {'complete' if message.completed else 'given up'}"
    if isinstance(message, TriggerCheckpoint):
        return f"trigger {message.barrier.checkpoint_id}"
    return type(message).__name__
