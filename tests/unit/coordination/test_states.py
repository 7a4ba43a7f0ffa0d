"""The transition tables account for every pair of state and event."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from zmflow.coordination.machine import Machine
from zmflow.coordination.states import JOB, MACHINES, TASK, TASK_EVENT_OF_REPORT, WORKER

machines = pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)


@machines
def test_every_pair_of_state_and_event_is_accounted_for_once(machine: Machine[Any, Any]):
    """A pair leads to a state, is ignored or is rejected: exactly one of them."""
    for pair in product(machine.states, machine.events):
        kinds = (pair in machine.transitions) + (pair in machine.ignored) + (pair in machine.rejected)
        assert kinds == 1, pair
        assert machine.outcome(*pair) == (
            "changed" if machine.after(*pair) else "ignored" if pair in machine.ignored else "rejected"
        )


@machines
def test_every_state_but_the_first_is_reached(machine: Machine[Any, Any]):
    """No state is out of reach, and nothing leads anywhere from the ends."""
    reached = {machine.initial}
    while more := {
        to for (state, _), to in machine.transitions.items() if state in reached and to not in reached
    }:
        reached |= more
    assert reached == set(machine.states)
    assert not [pair for pair in machine.transitions if pair[0] in machine.terminal]


def test_the_ends_are_those_of_flink():
    """FINISHED, CANCELED and FAILED are ends of tasks and jobs, gone is that of a worker."""
    assert TASK.terminal == JOB.terminal == {"FINISHED", "CANCELED", "FAILED"}
    assert WORKER.terminal == {"gone"}


def test_every_live_task_can_fail():
    """Whatever a task does, its worker may die: that ends it."""
    for state in set(TASK.states) - TASK.terminal:
        assert TASK.after(state, "fail") in TASK.terminal


def test_every_worker_can_go():
    """A process may end in any state."""
    for state in set(WORKER.states) - WORKER.terminal:
        assert WORKER.after(state, "exit") == "gone"


def test_workers_report_only_states_that_are_theirs():
    """CREATED, SCHEDULED and CANCELING are the JobManager's words."""
    assert set(TASK.states) - set(TASK_EVENT_OF_REPORT) == {"CREATED", "SCHEDULED", "CANCELING"}


def test_a_table_that_contradicts_itself_is_refused():
    """What is ignored cannot be a transition, and names must be known."""
    with pytest.raises(AssertionError, match="ignores what it does"):
        Machine("m", "M", ("a", "b"), ("e",), {("a", "e"): "b"}, [("a", "e")], [])
    with pytest.raises(AssertionError, match="unknown"):
        Machine("m", "M", ("a",), ("e",), {("a", "e"): "b"}, [], [])
