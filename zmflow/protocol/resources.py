"""Resources: what a slot is asked to have, and what a TaskManager has to cut slots from.

All amounts are whole numbers, so that shares add up exactly: CPU in thousandths of a core, memory in bytes,
named external resources (GPUs) in pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

__all__ = [
    "EQUAL_SHARE",
    "ResourceProfile",
    "external_profile",
    "fits",
    "left_over",
    "most_of",
    "profile_text",
    "size_text",
    "slot_resources",
]

EQUAL_SHARE = -1
"""An amount of a profile that says: what each slot of the TaskManager gets when all get the same."""


class ResourceProfile(msgspec.Struct, frozen=True, array_like=True):
    """Amounts of resources. As a request, ``EQUAL_SHARE`` leaves an amount to the TaskManager.

    ``memory_bytes`` is everything a slot may use, ``managed_memory_bytes`` the part of it that state
    backends and operators are given. ``external`` is sorted by name.
    """

    cpu_millis: int = EQUAL_SHARE
    memory_bytes: int = EQUAL_SHARE
    managed_memory_bytes: int = EQUAL_SHARE
    external: tuple[tuple[str, int], ...] = ()

    @property
    def is_default(self) -> bool:
        """Whether it asks for nothing in particular: a plain slot."""
        return self == _DEFAULT

    @property
    def external_amounts(self) -> dict[str, int]:
        """The external resources by name."""
        return dict(self.external)


_DEFAULT = ResourceProfile()


def slot_resources(profile: ResourceProfile, total: ResourceProfile, slots: int) -> ResourceProfile:
    """What a slot of this profile takes from a TaskManager with these resources and number of slots.

    >>> total = ResourceProfile(4000, 1000, 400, (("gpu", 2),))
    >>> slot_resources(ResourceProfile(), total, 4)
    ResourceProfile(cpu_millis=1000, memory_bytes=250, managed_memory_bytes=100, external=())
    >>> slot_resources(ResourceProfile(500, external=(("gpu", 1),)), total, 4)
    ResourceProfile(cpu_millis=500, memory_bytes=250, managed_memory_bytes=100, external=(('gpu', 1),))
    """

    def amount(asked: int, there: int) -> int:
        return there // slots if asked == EQUAL_SHARE else asked

    return ResourceProfile(
        amount(profile.cpu_millis, total.cpu_millis),
        amount(profile.memory_bytes, total.memory_bytes),
        amount(profile.managed_memory_bytes, total.managed_memory_bytes),
        profile.external,
    )


def fits(need: ResourceProfile, free: ResourceProfile) -> bool:
    """Whether ``need`` can be cut from ``free``; both hold real amounts, no shares.

    >>> fits(ResourceProfile(1, 1, 1, (("gpu", 1),)), ResourceProfile(1, 1, 1))
    False
    """
    if need.cpu_millis > free.cpu_millis or need.memory_bytes > free.memory_bytes:
        return False
    if need.managed_memory_bytes > free.managed_memory_bytes:
        return False
    if not need.external:
        return True
    there = free.external_amounts
    return all(amount <= there.get(name, 0) for name, amount in need.external)


def left_over(free: ResourceProfile, need: ResourceProfile, sign: int = -1) -> ResourceProfile:
    """``free`` without ``need``; with ``sign`` +1 it is given back.

    >>> left_over(ResourceProfile(4, 4, 4, (("gpu", 2),)), ResourceProfile(1, 1, 1, (("gpu", 1),)))
    ResourceProfile(cpu_millis=3, memory_bytes=3, managed_memory_bytes=3, external=(('gpu', 1),))
    """
    external = free.external
    if need.external:
        amounts = free.external_amounts
        for name, amount in need.external:
            amounts[name] = amounts.get(name, 0) + sign * amount
        external = tuple(sorted(amounts.items()))
    return ResourceProfile(
        free.cpu_millis + sign * need.cpu_millis,
        free.memory_bytes + sign * need.memory_bytes,
        free.managed_memory_bytes + sign * need.managed_memory_bytes,
        external,
    )


def most_of(profiles: Iterable[ResourceProfile]) -> ResourceProfile:
    """The largest amount of each resource that any of these has; what to tell who asks for more.

    >>> most_of([ResourceProfile(1, 5, 0), ResourceProfile(2, 3, 0, (("gpu", 1),))])
    ResourceProfile(cpu_millis=2, memory_bytes=5, managed_memory_bytes=0, external=(('gpu', 1),))
    """
    cpu = memory = managed = 0
    external: dict[str, int] = {}
    for profile in profiles:
        cpu = max(cpu, profile.cpu_millis)
        memory = max(memory, profile.memory_bytes)
        managed = max(managed, profile.managed_memory_bytes)
        for name, amount in profile.external:
            external[name] = max(external.get(name, 0), amount)
    return ResourceProfile(cpu, memory, managed, tuple(sorted(external.items())))


def profile_text(profile: ResourceProfile) -> str:
    """A profile for people; equal shares are left out.

    >>> profile_text(ResourceProfile(1500, 512 * 2**20, external=(("gpu", 1),)))
    '1.5 cores, 512 MiB memory, 1 gpu'
    >>> profile_text(ResourceProfile())
    'an equal share'
    """
    parts = []
    if profile.cpu_millis != EQUAL_SHARE:
        parts.append(f"{profile.cpu_millis / 1000:g} core{'' if profile.cpu_millis == 1000 else 's'}")
    if profile.memory_bytes != EQUAL_SHARE:
        parts.append(f"{size_text(profile.memory_bytes)} memory")
    if profile.managed_memory_bytes != EQUAL_SHARE:
        parts.append(f"{size_text(profile.managed_memory_bytes)} managed memory")
    parts += [f"{amount} {name}" for name, amount in profile.external]
    return ", ".join(parts) or "an equal share"


def size_text(size_bytes: int) -> str:
    """A size for people.

    >>> [size_text(n) for n in (0, 900, 1536, 512 * 2**20, 3 * 2**30)]
    ['0 B', '900 B', '1.5 KiB', '512 MiB', '3 GiB']
    """
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"


def external_profile(amounts: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    """External resources as a profile holds them: sorted, without zeros.

    >>> external_profile({"gpu": 2, "fpga": 0})
    (('gpu', 2),)
    """
    return tuple(sorted((name, amount) for name, amount in amounts.items() if amount))
