"""Slot sharing: which vertices may share a slot, which must, how many slots that takes and what each has.

One slot holds at most one subtask of each vertex of a group, so a group needs as many slots as its
widest vertex has subtasks, and groups never share. Subtask i of every member of a co-location group is
in one slot, so its members are in one sharing group and equally parallel. What ``zmflow explain`` shows
and what the JobManager asks for is computed here, once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

from zmflow.errors import JobGraphError
from zmflow.protocol.resources import EQUAL_SHARE, ResourceProfile, profile_text

if TYPE_CHECKING:
    from zmflow.graph.job_graph import JobGraph

__all__ = [
    "CPU_MILLIS_MAX",
    "DEFAULT_GROUP",
    "EXTERNAL_AMOUNT_MAX",
    "MEMORY_MAX_BYTES",
    "check_co_location",
    "check_one_specification",
    "co_location_groups",
    "impossible_amount",
    "inherited_group",
    "resources_by_group",
    "slots_by_group",
    "slots_required",
]

DEFAULT_GROUP = "default"

CPU_MILLIS_MAX = 65_536_000
"""Most CPU of a slot: 65536 cores, the most ``taskmanager.cpu.cores`` allows a whole TaskManager."""

MEMORY_MAX_BYTES = 2**50
"""Most memory of a slot: 1 PiB, some ten times the largest machine there is. What is larger is a mistake."""

EXTERNAL_AMOUNT_MAX = 999_999_999
"""Most of one external resource: what ``taskmanager.external-resources`` can write."""

EXTERNAL_NAMES_MAX = 64
"""Most external resources of a slot. A machine has a handful; each is compared for every free slot."""

_EXTERNAL_NAME = re.compile(r"[A-Za-z][\w.-]{0,127}")


class _InGroup(Protocol):
    @property
    def sharing_group(self) -> str: ...

    @property
    def parallelism(self) -> int: ...


class _CoLocated(_InGroup, Protocol):
    @property
    def name(self) -> str: ...

    @property
    def co_location_group(self) -> str: ...


def inherited_group(groups_of_inputs: Sequence[str]) -> str:
    """The group of an operator that names none: its inputs' where they agree, else ``default``.

    >>> inherited_group(["a", "a"]), inherited_group(["a", "b"]), inherited_group([])
    ('a', 'default', 'default')
    """
    return groups_of_inputs[0] if len(set(groups_of_inputs)) == 1 else DEFAULT_GROUP


def slots_by_group(vertices: Iterable[_InGroup]) -> dict[str, int]:
    """Slots each sharing group needs, in the order the groups first appear."""
    slots: dict[str, int] = {}
    for vertex in vertices:
        slots[vertex.sharing_group] = max(slots.get(vertex.sharing_group, 0), vertex.parallelism)
    return slots


def slots_required(vertices: Iterable[_InGroup]) -> int:
    """Slots a job needs: the sum over its groups of the largest parallelism."""
    return sum(slots_by_group(vertices).values())


def resources_by_group(graph: JobGraph) -> dict[str, ResourceProfile]:
    """What a slot of each sharing group is asked to have, in the order the groups first appear."""
    asked = {group.name: group.resources for group in graph.sharing_groups}
    plain = ResourceProfile()
    return {name: asked.get(name, plain) for name in slots_by_group(graph.vertices)}


def co_location_groups(graph: JobGraph) -> dict[str, list[str]]:
    """The vertices of each co-location group, by id, in the order of the graph."""
    groups: dict[str, list[str]] = {}
    for vertex in graph.vertices:
        if vertex.co_location_group:
            groups.setdefault(vertex.co_location_group, []).append(vertex.vertex_id)
    return groups


def check_co_location(members: Iterable[_CoLocated]) -> None:
    """Refuse co-location that no slot can keep; operators and vertices alike.

    Raises:
        JobGraphError: members in two sharing groups or of unequal parallelism; names both.
    """
    first: dict[str, _CoLocated] = {}
    for member in members:
        group = member.co_location_group
        if not group:
            continue
        other = first.setdefault(group, member)
        if other.sharing_group != member.sharing_group:
            raise JobGraphError(
                f"The co-location group {group!r} has members in two slot sharing groups: "
                f"{other.name!r} and {member.name!r}.",
                detail=f"{other.name!r} is in the slot sharing group {other.sharing_group!r}, "
                f"{member.name!r} in {member.sharing_group!r}; slots are never shared between groups.",
                hint="Call slot_sharing_group() on both with the same name, or take one of them out of the "
                "co-location group.",
            )
        if other.parallelism != member.parallelism:
            raise JobGraphError(
                f"The co-location group {group!r} has members of unequal parallelism: "
                f"{other.name!r} and {member.name!r}.",
                detail=f"{other.name!r} has parallelism {other.parallelism}, "
                f"{member.name!r} has {member.parallelism}; subtask i of one needs subtask i of the other.",
                hint="Give both the same parallelism, or take one of them out of the co-location group.",
            )


def check_one_specification(
    name: str, first: ResourceProfile, where_first: str, second: ResourceProfile, where_second: str
) -> None:
    """Refuse a sharing group whose slots are asked to have one thing here and another there.

    Raises:
        JobGraphError: the two differ; says both and where they come from.
    """
    if first != second:
        raise JobGraphError(
            f"The slot sharing group {name!r} has two different specifications.",
            detail=f"{profile_text(first)} {where_first}; {profile_text(second)} {where_second}.",
            hint="Make one SlotSharingGroup and pass it everywhere; its name will do once it is known.",
        )


def impossible_amount(profile: ResourceProfile) -> str:
    """Why no slot can ever have these resources, as a sentence; empty when one could.

    >>> impossible_amount(ResourceProfile(0))
    'CPU is 0 thousandths of a core; allowed are 1 to 65536000.'
    >>> impossible_amount(ResourceProfile(memory_bytes=10, managed_memory_bytes=11))
    'Managed memory is 11 bytes, more than the 10 bytes of memory it is a part of.'
    >>> impossible_amount(ResourceProfile(500, external=(("gpu", 1),)))
    ''
    """
    for what, amount, unit, least, most in (
        ("CPU", profile.cpu_millis, "thousandths of a core", 1, CPU_MILLIS_MAX),
        ("Memory", profile.memory_bytes, "bytes", 1, MEMORY_MAX_BYTES),
        ("Managed memory", profile.managed_memory_bytes, "bytes", 0, MEMORY_MAX_BYTES),
    ):
        if amount != EQUAL_SHARE and not least <= amount <= most:
            return f"{what} is {amount} {unit}; allowed are {least} to {most}."
    if EQUAL_SHARE != profile.memory_bytes < profile.managed_memory_bytes:
        return (
            f"Managed memory is {profile.managed_memory_bytes} bytes, "
            f"more than the {profile.memory_bytes} bytes of memory it is a part of."
        )
    return _impossible_external(profile.external)


def _impossible_external(external: Sequence[tuple[str, int]]) -> str:
    names = [name for name, _ in external]
    if len(names) > EXTERNAL_NAMES_MAX:
        return f"There are {len(names)} external resources; allowed are {EXTERNAL_NAMES_MAX}."
    for name, amount in external:
        if _EXTERNAL_NAME.fullmatch(name) is None:
            return f"An external resource is called {name[:128]!r}; write a letter, then letters and digits."
        if not 1 <= amount <= EXTERNAL_AMOUNT_MAX:
            return f"The external resource {name!r} is {amount}; allowed are 1 to {EXTERNAL_AMOUNT_MAX}."
    if names != sorted(set(names)):
        return "External resources are not in the order of their names, each once."
    return ""
