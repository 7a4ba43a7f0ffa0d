"""Slots are cut from a TaskManager's resources, and what is cut adds up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zmflow.coordination.registered_taskmanager import RegisteredTaskManager
from zmflow.ids import AllocationId
from zmflow.protocol.messages import RegisterTaskManager, ResourceProfile
from zmflow.protocol.resources import EQUAL_SHARE

TOTAL = ResourceProfile(4_001, 1_003, 401, (("gpu", 3),))

profiles = st.builds(
    ResourceProfile,
    st.sampled_from([EQUAL_SHARE, 0, 100, 2_000]),
    st.sampled_from([EQUAL_SHARE, 0, 10, 600]),
    st.sampled_from([EQUAL_SHARE, 0, 7]),
    st.sampled_from([(), (("gpu", 1),), (("gpu", 2),), (("fpga", 1),)]),
)


def taskmanager(slots: int = 4, total: ResourceProfile = TOTAL) -> RegisteredTaskManager:
    """A registration."""
    return RegisteredTaskManager(b"p", RegisterTaskManager(1, "tm", "host", 1, slots, total), 1, 0)


def test_there_are_as_many_plain_slots_as_were_registered():
    """Also where the shares leave a rest that another share would fit in."""
    tm = taskmanager(2, ResourceProfile(3, 3, 3))
    assert tm.room(ResourceProfile()) == 2
    tm.allocate(ResourceProfile(), "j", AllocationId("a1"))
    tm.allocate(ResourceProfile(), "j", AllocationId("a2"))
    assert tm.room(ResourceProfile()) == 0


def test_small_slots_may_be_more_than_were_registered():
    """They have numbers of their own, which go when they are freed."""
    tm = taskmanager(1)
    small = ResourceProfile(1_000, 100, 0)
    assert tm.room(small) == 4
    slots = [tm.allocate(small, "j", AllocationId(f"a{n}")) for n in range(4)]
    assert [slot.index for slot in slots] == [0, 1, 2, 3]
    for slot in slots:
        tm.free(slot)
    assert len(tm.slots) == 1
    assert tm.free_resources == TOTAL


@given(st.integers(1, 6), st.lists(st.tuples(st.booleans(), profiles, st.integers(0, 9)), max_size=30))
def test_no_more_is_cut_than_there_is(slots, steps):
    """Room says what can be cut, each slot that is cut makes it smaller, freeing gives all of it back."""
    tm = taskmanager(slots)
    held = []
    for number, (frees, profile, choice) in enumerate(steps):
        if frees and held:
            tm.free(held.pop(choice % len(held)))
        elif tm.room(profile):
            before = tm.room(profile)
            held.append(tm.allocate(profile, "j", AllocationId(f"a{number}")))
            assert tm.could_fit(profile)
            assert tm.room(profile) in (before - 1, before)
        tm.check()
    for slot in held:
        tm.free(slot)
    tm.check()
    assert tm.free_resources == TOTAL
