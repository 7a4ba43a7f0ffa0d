"""What a state machine is: a table of transitions, and what of the rest is ignored and what rejected.

Every pair of a state and an event is in exactly one of the three, which the tests hold. *Ignored* is late or
repeated news that changes nothing. *Rejected* means that somebody broke the protocol, which is told and
otherwise harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

__all__ = ["Machine", "Outcome"]

StateT = TypeVar("StateT", bound=str)
EventT = TypeVar("EventT", bound=str)

Outcome: TypeAlias = Literal["changed", "ignored", "rejected"]


class Machine(Generic[StateT, EventT]):
    """One machine as data.

    Args:
        name: one word, for anchors and errors.
        title: what it is about, for the documents.
        states, events: the ``Literal`` types of both, or their values.
        transitions: ``{(state, event): next state}``; the initial state is that of the first row.
        ignored: pairs that change nothing.
        rejected: pairs that only a broken peer brings about. Listed like the others, so that who adds a state
            or an event has to decide each pair.
    """

    def __init__(
        self,
        name: str,
        title: str,
        states: object,
        events: object,
        transitions: Mapping[tuple[StateT, EventT], StateT],
        ignored: Iterable[tuple[StateT, EventT]],
        rejected: Iterable[tuple[StateT, EventT]],
    ) -> None:
        self.name = name
        self.title = title
        self.states: tuple[StateT, ...] = _values(states)
        self.events: tuple[EventT, ...] = _values(events)
        self.transitions: dict[tuple[StateT, EventT], StateT] = dict(transitions)
        self.ignored: frozenset[tuple[StateT, EventT]] = frozenset(ignored)
        self.initial: StateT = next(iter(self.transitions))[0]
        left = {state for state, _ in self.transitions}
        self.terminal: frozenset[StateT] = frozenset(state for state in self.states if state not in left)
        self.rejected: frozenset[tuple[StateT, EventT]] = frozenset(rejected)
        known = {(state, event) for state in self.states for event in self.events}
        assert set(self.transitions) | self.ignored | self.rejected <= known, f"{name} has unknown names"
        assert not self.ignored & set(self.transitions), f"{name} ignores what it does"
        assert set(self.transitions.values()) <= set(self.states), f"{name} leads to unknown states"

    def after(self, state: StateT, event: EventT) -> StateT | None:
        """The next state; None where the event does not lead anywhere."""
        return self.transitions.get((state, event))

    def outcome(self, state: StateT, event: EventT) -> Outcome:
        """What becomes of an event in a state."""
        if (state, event) in self.transitions:
            return "changed"
        return "ignored" if (state, event) in self.ignored else "rejected"


def _values(names: object) -> tuple[Any, ...]:
    return tuple(names) if isinstance(names, Sequence) else get_args(names)
