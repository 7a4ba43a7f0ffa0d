"""SlotSharingGroup, MemorySize, co-location and managed memory, as programs write them."""

from __future__ import annotations

from typing import Any

import pytest
from submissions import new_environment

from zmflow import MemorySize, SlotSharingGroup
from zmflow.errors import JobGraphError
from zmflow.graph.job_graph import SharingGroup
from zmflow.protocol.resources import EQUAL_SHARE, ResourceProfile

MIB = 2**20


def test_memory_sizes_are_viewed_in_units() -> None:
    """Units are rounded down; sizes are equal, ordered and hashed by their bytes."""
    size = MemorySize.of_mebi_bytes(3 * 1024**2 + 1)
    assert size.get_bytes() == 3 * 2**40 + MIB
    assert (size.get_kibi_bytes(), size.get_mebi_bytes()) == (3 * 2**30 + 1024, 3 * MIB + 1)
    assert (size.get_gibi_bytes(), size.get_tebi_bytes()) == (3 * 1024, 3)
    assert MemorySize(bytes_size=MIB) == MemorySize.of_mebi_bytes(1)
    assert len({MemorySize(5), MemorySize(5), MemorySize(6)}) == 2
    assert MemorySize(5) < MemorySize(6) <= MemorySize(6)
    assert str(MemorySize.of_mebi_bytes(100)) == "100 MiB"


def test_a_group_has_what_was_built() -> None:
    """Getters give what the builder was given; memory adds up to what a slot may use."""
    group = (
        SlotSharingGroup.builder("models")
        .set_cpu_cores(1.5)
        .set_task_heap_memory_mb(100)
        .set_task_off_heap_memory_mb(20)
        .set_managed_memory_mb(3)
        .set_external_resource("gpu", 2)
        .set_external_resource("gpu", 1.0)
        .set_external_resource("fpga", 0)
        .build()
    )
    assert (group.get_name(), group.get_cpu_cores()) == ("models", 1.5)
    assert group.get_task_heap_memory() == MemorySize(100 * MIB)
    assert group.get_task_off_heap_memory() == MemorySize(20 * MIB)
    assert group.get_managed_memory() == MemorySize(3 * MIB)
    assert group.get_external_resources() == {"gpu": 1}
    profile = ResourceProfile(1500, 123 * MIB, 3 * MIB, (("gpu", 1),))
    assert group.get_resource_profile() == profile


def test_what_is_not_given_is_an_equal_share() -> None:
    """A name alone asks for nothing; any single amount can be asked for."""
    plain = SlotSharingGroup.builder("g").build()
    assert plain.get_resource_profile().is_default
    assert plain.get_cpu_cores() is None
    assert (
        plain.get_task_heap_memory() is plain.get_task_off_heap_memory() is plain.get_managed_memory() is None
    )
    assert plain.get_external_resources() == {}
    managed = SlotSharingGroup.builder("g").set_managed_memory(MemorySize(5)).build()
    assert managed.get_resource_profile() == ResourceProfile(EQUAL_SHARE, EQUAL_SHARE, 5)
    gpu = SlotSharingGroup.builder("g").set_external_resource("gpu", 1).build()
    assert gpu.get_resource_profile() == ResourceProfile(external=(("gpu", 1),))


def test_who_gives_heap_memory_gives_all_memory() -> None:
    """Off-heap and managed memory are then 0 where they are not given, as in Flink."""
    group = SlotSharingGroup.builder("g").set_task_heap_memory(MemorySize(7)).build()
    assert group.get_resource_profile() == ResourceProfile(EQUAL_SHARE, 7, 0)
    assert group.get_managed_memory() == group.get_task_off_heap_memory() == MemorySize(0)


def test_equal_groups_are_equal() -> None:
    """By name and amounts, also as keys of a dict."""

    def group(name: str, cores: float) -> SlotSharingGroup:
        return SlotSharingGroup.builder(name).set_cpu_cores(cores).build()

    assert group("a", 1) == group("a", 1.0)
    assert len({group("a", 1), group("a", 1), group("a", 2), group("b", 1)}) == 3


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: MemorySize(-1), "-1 bytes"),
        (lambda: MemorySize(1.5), "1.5 bytes"),  # type: ignore[arg-type]
        (lambda: MemorySize.of_mebi_bytes("1"), "'1' MiB"),  # type: ignore[arg-type]
        (lambda: SlotSharingGroup.builder(" "), "builder"),
        (lambda: SlotSharingGroup.builder("g").set_cpu_cores(0), "given 0 CPU cores"),
        (lambda: SlotSharingGroup.builder("g").set_cpu_cores(-0.001), "given -0.001"),
        (lambda: SlotSharingGroup.builder("g").set_cpu_cores(float("nan")), "given nan"),
        (lambda: SlotSharingGroup.builder("g").set_cpu_cores(1e9), "given 1000000000.0"),
        (lambda: SlotSharingGroup.builder("g").set_cpu_cores(True), "not True"),
        (lambda: SlotSharingGroup.builder("g").set_task_heap_memory_mb(0), "no heap memory"),
        (lambda: SlotSharingGroup.builder("g").set_task_heap_memory_mb(-1), "-1 MiB"),
        (lambda: SlotSharingGroup.builder("g").set_managed_memory(5), "MemorySize, not 5"),  # type: ignore[arg-type]
        (lambda: SlotSharingGroup.builder("g").set_task_off_heap_memory_mb(1).build(), "no heap memory"),
        (lambda: SlotSharingGroup.builder("g").set_task_heap_memory_mb(2**40).build(), "cannot be"),
        (lambda: SlotSharingGroup.builder("g").set_external_resource("gpu", -1), "-1 of the resource 'gpu'"),
        (lambda: SlotSharingGroup.builder("g").set_external_resource("gpu", 0.5), "0.5 of the resource"),
        (lambda: SlotSharingGroup.builder("g").set_external_resource("a b", 1).build(), "called 'a b'"),
    ],
)
def test_amounts_that_cannot_be_are_refused(call: Any, words: str) -> None:
    """Where they are given, or when the group is built."""
    with pytest.raises(JobGraphError) as caught:
        call()
    assert words in str(caught.value)


def test_resources_of_a_group_travel_with_the_job() -> None:
    """Given at an operator or registered and then referred to by name."""
    env, executor = new_environment()
    models = SlotSharingGroup.builder("models").set_external_resource("gpu", 1).build()
    readers = SlotSharingGroup.builder("readers").set_cpu_cores(0.5).build()
    assert env.register_slot_sharing_group(readers) is env
    env.register_slot_sharing_group(readers)
    stream = env.from_sequence(1, 9).slot_sharing_group("readers").map(str).slot_sharing_group(models)
    stream.print()
    env.execute()
    (graph,) = executor.graphs
    assert graph.sharing_groups == [
        SharingGroup("models", models.get_resource_profile()),
        SharingGroup("readers", readers.get_resource_profile()),
    ]
    assert [vertex.sharing_group for vertex in graph.vertices] == ["readers", "models"]


def test_a_registered_group_stays_for_the_next_job() -> None:
    """Registration belongs to the environment; a job in which nobody is in the group does not have it."""
    env, executor = new_environment()
    env.register_slot_sharing_group(SlotSharingGroup.builder("g").set_cpu_cores(1).build())
    for group in ("default", "g"):
        env.from_sequence(1, 2).slot_sharing_group(group).print()
        env.execute()
    assert [[each.name for each in graph.sharing_groups] for graph in executor.graphs] == [[], ["g"]]


def test_two_specifications_of_one_name_are_refused() -> None:
    """At the registration, or when the job is built; a name or a plain group specifies nothing."""
    env, _ = new_environment()
    one = SlotSharingGroup.builder("g").set_cpu_cores(1).build()
    two = SlotSharingGroup.builder("g").set_cpu_cores(2).build()
    env.register_slot_sharing_group(one)
    with pytest.raises(JobGraphError, match="'g' has two different specifications") as caught:
        env.register_slot_sharing_group(two)
    assert "1 core as registered before; 2 cores now" in str(caught.value)
    stream = env.from_sequence(1, 2).slot_sharing_group(SlotSharingGroup.builder("g").build())
    stream.print()
    assert env.get_execution_plan()
    stream.slot_sharing_group(two)
    with pytest.raises(JobGraphError, match="two different specifications"):
        env.get_execution_plan()
    stream.slot_sharing_group("g")
    assert env.get_execution_plan()
    with pytest.raises(JobGraphError, match="takes a SlotSharingGroup, not 'g'"):
        env.register_slot_sharing_group("g")  # type: ignore[arg-type]


def test_co_location_and_weights_reach_the_vertices() -> None:
    """Streams and sinks have the calls; what was said last about a use case counts."""
    env, executor = new_environment()
    stream = env.from_sequence(1, 9).co_location_group("c").managed_memory_weight(5)
    stream.managed_memory_weight(7).managed_memory_weight(1, "STATE_BACKEND")
    stream.rebalance().print().co_location_group("c").managed_memory_weight(2)
    env.execute()
    vertices = executor.graphs[0].vertices
    assert [vertex.co_location_group for vertex in vertices] == ["c", "c"]
    assert [vertex.managed_memory_weights for vertex in vertices] == [
        {"OPERATOR": 7, "STATE_BACKEND": 1},
        {"OPERATOR": 2},
    ]


def test_co_location_across_groups_is_refused_by_execute() -> None:
    """The error names both operators and their groups."""
    env, executor = new_environment()
    stream = env.from_sequence(1, 9).co_location_group("c")
    stream.map(str).name("Model").slot_sharing_group("models").co_location_group("c").print()
    with pytest.raises(JobGraphError, match="'Source: Sequence Source' and 'Model'"):
        env.execute()
    assert executor.graphs == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda s: s.co_location_group(""), "co_location_group"),
        (lambda s: s.rebalance().co_location_group("c"), "partitioning, which is not an operator"),
        (lambda s: s.key_by(str).co_location_group("c"), "keyed stream, which is not an operator"),
        (lambda s: s.managed_memory_weight(0), "for OPERATOR is 0"),
        (lambda s: s.managed_memory_weight(True), "for OPERATOR is True"),
        (lambda s: s.managed_memory_weight(2**31), "2147483648"),
        (lambda s: s.managed_memory_weight(2, "STATE_BACKEND"), "for STATE_BACKEND is 2"),
        (lambda s: s.managed_memory_weight(1, "PYTHON"), "no use case 'PYTHON'"),
        (lambda s: s.slot_sharing_group(5), "slot_sharing_group"),
    ],
)
def test_misuse_is_refused_at_the_call(call: Any, words: str) -> None:
    """A wrong argument is named where it is given."""
    env, _ = new_environment()
    with pytest.raises(JobGraphError, match=words):
        call(env.from_sequence(1, 2))
