"""Which snapshots are left to a forked process."""

from __future__ import annotations

from zmflow.runtime.checkpoints.pickle_cost import ENTRIES_MEASURED_MIN, SYNC_MAX_S, PickleCost


def test_a_few_large_values_are_left_to_a_process_once_they_took_too_long() -> None:
    """However few they are: a task must not stand still for them at every checkpoint."""
    cost = PickleCost()
    assert not cost.is_too_long(100)
    cost.measured(100, 2 * SYNC_MAX_S)
    assert cost.is_too_long(100)
    assert not cost.is_too_long(40)


def test_few_entries_that_were_quick_say_nothing_of_many() -> None:
    """A snapshot costs something without any entry, too."""
    cost = PickleCost()
    cost.measured(10, SYNC_MAX_S / 2)
    cost.measured(0, 2 * SYNC_MAX_S)
    assert not cost.is_too_long(ENTRIES_MEASURED_MIN)


def test_many_entries_say_what_one_costs() -> None:
    """Slower than the first guess, and quicker."""
    cost = PickleCost()
    cost.measured(ENTRIES_MEASURED_MIN, SYNC_MAX_S / 2)
    assert cost.is_too_long(3 * ENTRIES_MEASURED_MIN)
    cost.measured(ENTRIES_MEASURED_MIN, SYNC_MAX_S / 100)
    assert not cost.is_too_long(50 * ENTRIES_MEASURED_MIN)


def test_a_forked_process_may_show_that_the_task_is_quick_enough() -> None:
    """It takes twice as long as the task would."""
    cost = PickleCost()
    cost.measured(ENTRIES_MEASURED_MIN, 2 * SYNC_MAX_S)
    assert cost.is_too_long(ENTRIES_MEASURED_MIN)
    cost.measured_forked(ENTRIES_MEASURED_MIN, 3 * SYNC_MAX_S)
    assert cost.is_too_long(ENTRIES_MEASURED_MIN)
    cost.measured_forked(ENTRIES_MEASURED_MIN, SYNC_MAX_S)
    assert not cost.is_too_long(ENTRIES_MEASURED_MIN)
