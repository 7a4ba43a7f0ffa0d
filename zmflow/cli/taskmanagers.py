"""TaskManagers for people: which one a name means, how it does, what it still has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zmflow.errors import ConfigurationError

if TYPE_CHECKING:
    from zmflow.protocol.messages import TaskManagerStatus

__all__ = [
    "drain_sentence",
    "find_taskmanagers",
    "slots_in_use",
    "slots_sentence",
    "state_text",
    "trouble_lines",
]


def find_taskmanagers(taskmanagers: Sequence[TaskManagerStatus], wanted: str) -> list[TaskManagerStatus]:
    """Those that ``wanted`` names: one by its id or a unique beginning of it, or all of a host.

    Raises:
        ConfigurationError: none, or a beginning that several share; lists those there are.
    """
    named = [found for found in taskmanagers if found.taskmanager_id == wanted] or [
        found for found in taskmanagers if found.host == wanted
    ]
    if named:
        return named
    beginning = [found for found in taskmanagers if wanted and found.taskmanager_id.startswith(wanted)]
    if len(beginning) == 1:
        return beginning
    if beginning:
        raise ConfigurationError(
            f"{wanted!r} names {len(beginning)} TaskManagers.",
            detail=_known(beginning),
            hint="Give more of the id, or the host for all that run on it.",
        )
    raise ConfigurationError(
        f"The cluster knows no TaskManager {wanted!r}.",
        detail=f"It knows:\n{_known(taskmanagers)}" if taskmanagers else "It knows none at all.",
        hint="Give the id of one, the first characters of it, or a host; 'zmflow slots' shows them.",
    )


def _known(taskmanagers: Sequence[TaskManagerStatus]) -> str:
    return "\n".join(
        f"{known.taskmanager_id}  on {known.host}  {state_text(known)}" for known in taskmanagers
    )


def state_text(taskmanager: TaskManagerStatus) -> str:
    """alive, late, draining, or both of the last two."""
    if not taskmanager.draining:
        return taskmanager.state
    return "draining" if taskmanager.state == "alive" else f"{taskmanager.state}, draining"


def slots_in_use(taskmanager: TaskManagerStatus) -> int:
    """How many of its slots a job holds, awaits or is still leaving."""
    return sum(slot.state != "free" for slot in taskmanager.slots)


def slots_sentence(taskmanagers: Sequence[TaskManagerStatus]) -> str:
    """A cluster's slots in one line; free ones where nothing new may start are counted apart."""
    slots = sum(len(taskmanager.slots) for taskmanager in taskmanagers)
    free = sum(len(found.slots) - slots_in_use(found) for found in taskmanagers if not found.draining)
    closed = sum(len(found.slots) - slots_in_use(found) for found in taskmanagers if found.draining)
    return (
        f"{_count(slots, 'slot')}, {free} free"
        + (f", {closed} free but draining" if closed else "")
        + f", {_count(len(taskmanagers), 'TaskManager')}"
    )


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def trouble_lines(taskmanagers: Sequence[TaskManagerStatus]) -> list[str]:
    """A line for each TaskManager that is late or draining, with what it waits for."""
    lines = []
    for one in taskmanagers:
        place = f"{one.taskmanager_id} on {one.host}"
        if one.state == "late":
            lines.append(f"{place} is late: nothing was heard of it for {one.heartbeat_age_ms / 1000:.1f} s.")
        if one.draining:
            lines.append(f"{place} {drain_sentence(one)}")
    return lines


def drain_sentence(taskmanager: TaskManagerStatus) -> str:
    """How far a draining TaskManager is."""
    used = slots_in_use(taskmanager)
    if not used:
        return "is drained: no slot is in use, nothing new starts there."
    note = f": {taskmanager.note}" if taskmanager.note else "."
    return f"drains, {used} of {_count(len(taskmanager.slots), 'slot')} in use{note}"
