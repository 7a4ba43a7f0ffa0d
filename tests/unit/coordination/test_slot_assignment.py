"""Which slot a shared slot is given: where it was, near its inputs, else the first, or the least loaded."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.slot_assignment import INPUT_HOSTS_MAX, assign_slots
from zmflow.coordination.slots import PhysicalSlot, Place, SharedSlot
from zmflow.protocol.messages import DataEndpoint, ResourceProfile

ENDPOINT = DataEndpoint("h", "ipc://x", "")
BIG = ResourceProfile(2_000)


def physical(tm: str, index: int, profile: ResourceProfile = ResourceProfile()) -> PhysicalSlot:
    """A slot of a TaskManager, whose host is ``host-<id>``."""
    return PhysicalSlot(f"{tm}-{index}", tm, f"host-{tm}", index, profile, profile, ENDPOINT)


def shared(index: int, tasks: int = 1, profile: ResourceProfile = ResourceProfile()) -> SharedSlot:
    """A shared slot with so many tasks."""
    return SharedSlot("g", index, tuple((f"v{n}", index) for n in range(tasks)), profile)


def names(pairs) -> list[str]:
    """The slots in the order of the shared slots."""
    return [slot.allocation_id for _, slot in pairs]


def nowhere(_subtask) -> list[str]:
    """Inputs are not known to be anywhere."""
    return []


def test_without_wishes_slots_are_taken_in_order():
    """The ResourceManager has chosen the order."""
    free = [physical("a", 0), physical("b", 0), physical("a", 1)]
    assert names(assign_slots([shared(0), shared(1)], free, nowhere)) == ["a-0", "b-0"]


def test_a_shared_slot_goes_back_where_it_was_before_others_choose():
    """Its slot is not taken by one that was nowhere and comes first."""
    first, second = shared(0), shared(1)
    second.previous = Place("a", 0, "host-a")
    free = [physical("a", 0), physical("b", 0)]
    assert names(assign_slots([first, second], free, nowhere)) == ["b-0", "a-0"]


def test_if_its_slot_is_gone_the_same_taskmanager_is_next_best():
    """Local files may be there."""
    one = shared(0)
    one.previous = Place("b", 5, "host-b")
    assert names(assign_slots([one], [physical("a", 0), physical("b", 0)], nowhere)) == ["b-0"]


def test_the_host_of_most_inputs_is_preferred():
    """Two of three inputs are on b."""
    hosts = ["host-a", "host-b", "host-b"]
    free = [physical("a", 0), physical("c", 0), physical("b", 0)]
    assert names(assign_slots([shared(0)], free, lambda _s: hosts)) == ["b-0"]


def test_inputs_everywhere_are_no_preference():
    """More hosts than a limit mean that no place is nearer than another."""
    hosts = [f"host-{n}" for n in range(INPUT_HOSTS_MAX)] + ["host-b"]
    free = [physical("a", 0), physical("b", 0)]
    assert names(assign_slots([shared(0)], free, lambda _s: hosts)) == ["a-0"]


def test_profiles_do_not_mix():
    """A big request takes a big slot; where there is none, nothing is assigned."""
    free = [physical("a", 0), physical("b", 0, BIG)]
    assert names(assign_slots([shared(0, profile=BIG)], free, nowhere)) == ["b-0"]
    assert assign_slots([shared(0, profile=BIG), shared(1, profile=BIG)], free, nowhere) is None


def test_evening_out_gives_the_largest_the_emptiest_taskmanager():
    """The shared slot with three tasks does not join the TaskManager that has some already."""
    free = [physical("a", 0), physical("a", 1), physical("b", 0), physical("b", 1)]
    small, large = shared(0, 1), shared(1, 3)
    pairs = assign_slots([small, large], free, nowhere, even=True, tasks_on={"a": 2, "b": 0}.__getitem__)
    assert pairs is not None
    assert {s.index: slot.taskmanager_id for s, slot in pairs} == {1: "b", 0: "a"}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), unique=True, max_size=12),
    st.lists(st.tuples(st.integers(1, 3), st.none() | st.sampled_from("abc")), max_size=12),
    st.booleans(),
)
def test_every_shared_slot_gets_a_slot_of_its_own_or_none_gets_one(free, wanted, even):
    """Whatever was where, each physical slot is given once."""
    slots = [physical(tm, index) for tm, index in free]
    needs = [shared(n, tasks) for n, (tasks, _) in enumerate(wanted)]
    for need, (_, before) in zip(needs, wanted, strict=True):
        need.previous = Place(before, need.index, f"host-{before}") if before else None
    pairs = assign_slots(needs, slots, nowhere, even=even, tasks_on=lambda _tm: 0)
    if len(needs) > len(slots):
        assert pairs is None
    else:
        assert pairs is not None
        assert [need for need, _ in pairs] == needs
        assert len({slot.allocation_id for _, slot in pairs}) == len(needs)
