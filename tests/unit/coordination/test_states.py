"""The transition tables account for every pair of state and event."""

from __future__ import annotations

from itertools import product

from zmflow.coordination.states import (
    JOB_EVENTS,
    JOB_IGNORED,
    JOB_REJECTED,
    JOB_STATES,
    JOB_TERMINAL,
    JOB_TRANSITIONS,
    TASK_EVENT_OF_REPORT,
    TASK_EVENTS,
    TASK_IGNORED,
    TASK_REJECTED,
    TASK_STATES,
    TASK_TERMINAL,
    TASK_TRANSITIONS,
)


def test_every_pair_of_task_state_and_event_is_accounted_for_once():
    """A pair leads to a state, is ignored or is rejected: exactly one of them."""
    for pair in product(TASK_STATES, TASK_EVENTS):
        assert (pair in TASK_TRANSITIONS) + (pair in TASK_IGNORED) + (pair in TASK_REJECTED) == 1, pair


def test_every_pair_of_job_state_and_event_is_accounted_for_once():
    """A pair leads to a state, is ignored or is rejected: exactly one of them."""
    for pair in product(JOB_STATES, JOB_EVENTS):
        assert (pair in JOB_TRANSITIONS) + (pair in JOB_IGNORED) + (pair in JOB_REJECTED) == 1, pair


def test_terminal_states_are_left_by_nothing():
    """FINISHED, CANCELED and FAILED are ends."""
    assert not [pair for pair in TASK_TRANSITIONS if pair[0] in TASK_TERMINAL]
    assert not [pair for pair in JOB_TRANSITIONS if pair[0] in JOB_TERMINAL]


def test_every_state_but_the_first_is_reached_and_every_live_one_can_end():
    """No state is a dead end or out of reach."""
    assert set(TASK_TRANSITIONS.values()) | {"CREATED"} == set(TASK_STATES)
    assert set(JOB_TRANSITIONS.values()) | {"CREATED"} == set(JOB_STATES)
    for state in set(TASK_STATES) - TASK_TERMINAL:
        assert TASK_TRANSITIONS[state, "fail"] in TASK_TERMINAL


def test_workers_report_only_states_that_are_theirs():
    """CREATED, SCHEDULED and CANCELING are the JobManager's words."""
    assert set(TASK_STATES) - set(TASK_EVENT_OF_REPORT) == {"CREATED", "SCHEDULED", "CANCELING"}
