"""``SlotSharingGroup``: the name of a slot sharing group, and what each of its slots is to have."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from zmflow.api.checked_text import checked_text
from zmflow.errors import JobGraphError
from zmflow.graph.sharing import CPU_MILLIS_MAX, EXTERNAL_AMOUNT_MAX, impossible_amount
from zmflow.protocol.resources import EQUAL_SHARE, ResourceProfile, external_profile, size_text

__all__ = ["MemorySize", "SlotSharingGroup"]


@dataclass(frozen=True, order=True, slots=True)
class MemorySize:
    """A number of bytes, viewable in other units.

    >>> MemorySize.of_mebi_bytes(1536).get_gibi_bytes(), str(MemorySize(1536))
    (1, '1.5 KiB')
    """

    bytes_size: int

    def __post_init__(self) -> None:
        _check_whole(self.bytes_size, "bytes")

    @staticmethod
    def of_mebi_bytes(mebi_bytes: int) -> MemorySize:
        """So many times 1024 x 1024 bytes."""
        _check_whole(mebi_bytes, "MiB")
        return MemorySize(mebi_bytes << 20)

    def get_bytes(self) -> int:
        """The size in bytes."""
        return self.bytes_size

    def get_kibi_bytes(self) -> int:
        """Whole units of 1024 bytes."""
        return self.bytes_size >> 10

    def get_mebi_bytes(self) -> int:
        """Whole units of 1024 KiB."""
        return self.bytes_size >> 20

    def get_gibi_bytes(self) -> int:
        """Whole units of 1024 MiB."""
        return self.bytes_size >> 30

    def get_tebi_bytes(self) -> int:
        """Whole units of 1024 GiB."""
        return self.bytes_size >> 40

    def __str__(self) -> str:
        return size_text(self.bytes_size)


@dataclass(frozen=True, slots=True)
class SlotSharingGroup:
    """A slot sharing group with the resources of its slots. Made with ``SlotSharingGroup.builder``.

    A CPython process has one kind of memory, so heap, off-heap and managed memory add up to what a slot
    may use. As in Flink, who gives heap memory gives all: off-heap and managed memory are then 0 where
    they are not given. Everything else that is not given is an equal share of the TaskManager's, where
    Flink insists on CPU and heap memory.
    """

    _name: str
    _resources: ResourceProfile
    _task_heap_memory: MemorySize | None
    _task_off_heap_memory: MemorySize | None
    _managed_memory: MemorySize | None

    @staticmethod
    def builder(name: str) -> SlotSharingGroup.Builder:
        """Begin the group of this name."""
        return SlotSharingGroup.Builder(checked_text(name, "SlotSharingGroup.builder()"))

    def get_name(self) -> str:
        """The name."""
        return self._name

    def get_cpu_cores(self) -> float | None:
        """CPU cores of a slot; None for an equal share."""
        millis = self._resources.cpu_millis
        return None if millis == EQUAL_SHARE else millis / 1000

    def get_task_heap_memory(self) -> MemorySize | None:
        """Heap memory of a slot; None for an equal share."""
        return self._task_heap_memory

    def get_task_off_heap_memory(self) -> MemorySize | None:
        """Off-heap memory of a slot; None for an equal share."""
        return self._task_off_heap_memory

    def get_managed_memory(self) -> MemorySize | None:
        """Memory of a slot for state backends and operators; None for an equal share."""
        return self._managed_memory

    def get_external_resources(self) -> dict[str, float]:
        """Amounts of named resources by name."""
        return dict(self._resources.external)

    def get_resource_profile(self) -> ResourceProfile:
        """The resources as the cluster is asked for them."""
        return self._resources

    @dataclass(slots=True)
    class Builder:
        """Collects the resources of a group. Each call returns the builder."""

        _name: str
        _cpu_millis: int = EQUAL_SHARE
        _task_heap_memory: MemorySize | None = None
        _task_off_heap_memory: MemorySize | None = None
        _managed_memory: MemorySize | None = None
        _external: dict[str, int] = field(default_factory=dict)

        def set_cpu_cores(self, cpu_cores: float) -> SlotSharingGroup.Builder:
            """CPU cores of each slot, to a thousandth."""
            if isinstance(cpu_cores, bool) or not isinstance(cpu_cores, (int, float)):
                raise JobGraphError(f"set_cpu_cores() takes a number, not {cpu_cores!r}.")
            if not math.isfinite(cpu_cores) or not 1 <= round(cpu_cores * 1000) <= CPU_MILLIS_MAX:
                raise JobGraphError(
                    f"A slot of the group {self._name!r} is given {cpu_cores!r} CPU cores.",
                    hint=f"Allowed: 0.001 to {CPU_MILLIS_MAX // 1000}.",
                )
            self._cpu_millis = round(cpu_cores * 1000)
            return self

        def set_task_heap_memory(self, task_heap_memory: MemorySize) -> SlotSharingGroup.Builder:
            """Heap memory of each slot: with off-heap and managed memory what its worker may use."""
            self._task_heap_memory = _checked_size(task_heap_memory, "set_task_heap_memory()")
            if self._task_heap_memory.bytes_size == 0:
                raise JobGraphError(
                    f"A slot of the group {self._name!r} is given no heap memory.",
                    hint="Give it some, or leave the call out: then each slot gets an equal share.",
                )
            return self

        def set_task_heap_memory_mb(self, task_heap_memory_mb: int) -> SlotSharingGroup.Builder:
            """Heap memory of each slot in MiB."""
            return self.set_task_heap_memory(MemorySize.of_mebi_bytes(task_heap_memory_mb))

        def set_task_off_heap_memory(self, task_off_heap_memory: MemorySize) -> SlotSharingGroup.Builder:
            """Off-heap memory of each slot; needs heap memory beside it."""
            self._task_off_heap_memory = _checked_size(task_off_heap_memory, "set_task_off_heap_memory()")
            return self

        def set_task_off_heap_memory_mb(self, task_off_heap_memory_mb: int) -> SlotSharingGroup.Builder:
            """Off-heap memory of each slot in MiB."""
            return self.set_task_off_heap_memory(MemorySize.of_mebi_bytes(task_off_heap_memory_mb))

        def set_managed_memory(self, managed_memory: MemorySize) -> SlotSharingGroup.Builder:
            """Memory of each slot for state backends and operators."""
            self._managed_memory = _checked_size(managed_memory, "set_managed_memory()")
            return self

        def set_managed_memory_mb(self, managed_memory_mb: int) -> SlotSharingGroup.Builder:
            """Memory of each slot for state backends and operators, in MiB."""
            return self.set_managed_memory(MemorySize.of_mebi_bytes(managed_memory_mb))

        def set_external_resource(self, name: str, value: float) -> SlotSharingGroup.Builder:
            """Pieces of a named resource of each slot, such as GPUs. A later call replaces an earlier one."""
            checked_text(name, "set_external_resource()")
            # Not "in range(...)": with a float that compares with each number of it.
            if isinstance(value, bool) or not 0 <= value <= EXTERNAL_AMOUNT_MAX or value != int(value):
                raise JobGraphError(
                    f"A slot of the group {self._name!r} is given {value!r} of the resource {name!r}.",
                    hint=f"Give whole pieces, 0 to {EXTERNAL_AMOUNT_MAX}.",
                )
            self._external[name] = int(value)
            return self

        def build(self) -> SlotSharingGroup:
            """The group.

            Raises:
                JobGraphError: the amounts contradict each other, or no slot can have them.
            """
            heap, off_heap, managed = self._task_heap_memory, self._task_off_heap_memory, self._managed_memory
            memory_bytes = EQUAL_SHARE
            if heap is not None:
                off_heap, managed = off_heap or MemorySize(0), managed or MemorySize(0)
                memory_bytes = heap.bytes_size + off_heap.bytes_size + managed.bytes_size
            elif off_heap is not None:
                raise JobGraphError(
                    f"The slot sharing group {self._name!r} has off-heap memory and no heap memory.",
                    hint="Call set_task_heap_memory(), too: together they are the memory of a slot.",
                )
            profile = ResourceProfile(
                self._cpu_millis,
                memory_bytes,
                EQUAL_SHARE if managed is None else managed.bytes_size,
                external_profile(self._external),
            )
            reason = impossible_amount(profile)
            if reason:
                raise JobGraphError(
                    f"The slot sharing group {self._name!r} asks for slots that cannot be.", detail=reason
                )
            return SlotSharingGroup(self._name, profile, heap, off_heap, managed)


def _check_whole(amount: int, unit: str) -> None:
    if isinstance(amount, bool) or not isinstance(amount, int) or amount < 0:
        raise JobGraphError(
            f"A memory size is {amount!r} {unit}.", hint=f"Give a whole number of {unit}, 0 or more."
        )


def _checked_size(size: MemorySize, call: str) -> MemorySize:
    if not isinstance(size, MemorySize):
        raise JobGraphError(
            f"{call} takes a MemorySize, not {size!r}.", hint="MemorySize.of_mebi_bytes(100) is 100 MiB."
        )
    return size
