"""What every simulated component shares: time, chance, the network, the rules, and the trace."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING

from zmflow.testing.simulation.agenda import Agenda
from zmflow.testing.simulation.clock import Clock
from zmflow.testing.simulation.network import Network

if TYPE_CHECKING:
    from zmflow.testing.simulation.invariants import Invariants

__all__ = ["Component", "Journal", "Violation", "World"]


WAKINGS_MAX = 4
"""Deadlines of a brain at one instant. What it does at one may make another one due, not many."""


class Violation(Exception):  # noqa: N818 - what was found, not what went wrong in the simulator
    """Something that must hold does not. ``about``: the ids whose stories tell how it came."""

    def __init__(self, sentence: str, *about: str) -> None:
        super().__init__(sentence)
        self.about = about


class Journal:
    """The trace, when one was asked for: a line for everything that happens."""

    __slots__ = ("lines", "on")

    def __init__(self, *, on: bool) -> None:
        self.on = on
        self.lines: list[str] = []

    def note(self, at_ms: int, who: str, what: object) -> None:
        """A line; call it only when ``on``."""
        self.lines.append(f"{at_ms:>7} {who:<10} {what}")


class World:
    """Shared by all components of one simulated cluster."""

    __slots__ = ("agenda", "calm", "chance", "faults", "invariants", "journal", "network", "steps")

    def __init__(self, seed: int, journal: Journal) -> None:
        self.agenda = Agenda()
        self.chance = Random(seed)  # noqa: S311 - reproducible is what it must be
        self.network = Network(self.agenda, self.chance)
        self.journal = journal
        self.calm = False  # faults are over: everything behaves from now on
        self.faults: dict[str, int] = self.network.counted
        self.steps = 0  # events that brains handled
        self.invariants: Invariants

    def draw_ms(self, least_ms: int, most_ms: int) -> int:
        """A duration between these; far cheaper than ``randint``."""
        return least_ms + int(self.chance.random() * (most_ms - least_ms + 1))

    def happens(self, probability: float) -> bool:
        """Whether a fault of this probability happens; nothing does once it is calm."""
        return not self.calm and self.chance.random() < probability

    def count(self, kind: str) -> None:
        """One more fault of this kind."""
        self.faults[kind] = self.faults.get(kind, 0) + 1


class Component:
    """A process that can be slow and can die. Another start of it is another object."""

    __slots__ = ("_inbox", "_stalls", "_wake_ms", "alive", "clock", "name", "stalled", "world")

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world
        self.alive = True
        self.stalled = False
        chance = world.chance.random()
        self.clock = Clock(int(chance * 10_000_000))
        self._inbox: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self._stalls = 0
        self._wake_ms = -1  # when its next deadline is to be looked at; -1: never

    # -- slowness ---------------------------------------------------------------------------------

    def stall(self, duration_ms: int) -> None:
        """From now on it handles nothing, then everything that came, in order."""
        self._stalls += 1
        self.stalled = True
        self.world.agenda.after(duration_ms, self._resume, self._stalls)

    def postpone(self, action: Callable[..., object], *arguments: object) -> None:
        """Do this when it goes on."""
        self._inbox.append((action, arguments))

    def _resume(self, stall: int) -> None:
        if stall != self._stalls:
            return  # it stalled again meanwhile
        self.stalled = False
        inbox, self._inbox = self._inbox, []
        for action, arguments in inbox:
            if self.alive:
                action(*arguments)

    # -- deadlines --------------------------------------------------------------------------------

    def local_deadline_ms(self) -> int | None:
        """When its brain wants to be woken, by its own clock."""
        raise NotImplementedError

    def deadline_passed(self) -> None:
        """Wake the brain."""
        raise NotImplementedError

    def set_alarm(self) -> None:
        """Look at the brain's deadline; to be called after everything it handled."""
        local_ms = self.local_deadline_ms()
        if local_ms is None:
            self._wake_ms = -1
            return
        agenda = self.world.agenda
        at_ms = max(self.clock.when(local_ms), agenda.now_ms)
        # A later deadline needs no new alarm: the earlier one finds out and sets it.
        if self._wake_ms < 0 or at_ms < self._wake_ms:
            self._wake_ms = at_ms
            agenda.at(at_ms, self._alarm, at_ms)

    def _alarm(self, at_ms: int) -> None:
        if not self.alive or at_ms != self._wake_ms:
            return
        if self.stalled:
            self.postpone(self._alarm, at_ms)
            return
        self._wake_ms = -1
        now_ms = self.clock.read(self.world.agenda.now_ms)
        for _ in range(WAKINGS_MAX):
            local_ms = self.local_deadline_ms()
            if local_ms is None or local_ms > now_ms:
                self.set_alarm()
                return
            self.deadline_passed()
        raise Violation(f"the deadline of {self.name} does not move on", self.name)
