"""The states of jobs and tasks as data: which event leads where, and which leads nowhere.

Each machine is a table ``{(state, event): next state}`` and a set of pairs that are *ignored*: late or
repeated news that change nothing. A pair in neither is *rejected*: somebody broke the protocol, which is
told and otherwise harmless. The tests hold the three kinds together over every pair.

::

    task  CREATED → SCHEDULED → DEPLOYING → INITIALIZING → RUNNING → FINISHED
          any live state → FAILED;  on a worker → CANCELING → CANCELED;  before that → CANCELED

    job   CREATED → RUNNING → FINISHED
          CREATED, RUNNING → FAILING → FAILED
          CREATED, RUNNING → CANCELLING → CANCELED
"""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from zmflow.protocol.messages import JobState, TaskState

__all__ = [
    "JOB_EVENTS",
    "JOB_IGNORED",
    "JOB_REJECTED",
    "JOB_STATES",
    "JOB_TERMINAL",
    "JOB_TRANSITIONS",
    "TASK_EVENTS",
    "TASK_EVENT_OF_REPORT",
    "TASK_IGNORED",
    "TASK_REJECTED",
    "TASK_STATES",
    "TASK_TERMINAL",
    "TASK_TRANSITIONS",
    "JobEvent",
    "TaskEvent",
]

TaskEvent: TypeAlias = Literal[
    "schedule", "deploy", "initialize", "run", "finish", "fail", "cancel", "canceled"
]
"""``cancel``: it was asked to stop. ``canceled``: it has stopped because it was asked."""

JobEvent: TypeAlias = Literal["start", "finish", "fail", "cancel", "settle"]
"""``settle``: no task of a failing or cancelled job runs any more."""

TASK_STATES: tuple[TaskState, ...] = get_args(TaskState)
TASK_EVENTS: tuple[TaskEvent, ...] = get_args(TaskEvent)
JOB_STATES: tuple[JobState, ...] = get_args(JobState)
JOB_EVENTS: tuple[JobEvent, ...] = get_args(JobEvent)

TASK_TERMINAL: frozenset[TaskState] = frozenset({"FINISHED", "CANCELED", "FAILED"})
JOB_TERMINAL: frozenset[JobState] = frozenset({"FINISHED", "FAILED", "CANCELED"})

TASK_TRANSITIONS: dict[tuple[TaskState, TaskEvent], TaskState] = {
    ("CREATED", "schedule"): "SCHEDULED",
    ("CREATED", "cancel"): "CANCELED",
    ("CREATED", "fail"): "FAILED",
    ("SCHEDULED", "deploy"): "DEPLOYING",
    ("SCHEDULED", "cancel"): "CANCELED",
    ("SCHEDULED", "fail"): "FAILED",
    ("DEPLOYING", "initialize"): "INITIALIZING",
    ("DEPLOYING", "run"): "RUNNING",
    ("DEPLOYING", "finish"): "FINISHED",
    ("DEPLOYING", "fail"): "FAILED",
    ("DEPLOYING", "cancel"): "CANCELING",
    ("DEPLOYING", "canceled"): "CANCELED",
    ("INITIALIZING", "run"): "RUNNING",
    ("INITIALIZING", "finish"): "FINISHED",
    ("INITIALIZING", "fail"): "FAILED",
    ("INITIALIZING", "cancel"): "CANCELING",
    ("INITIALIZING", "canceled"): "CANCELED",
    ("RUNNING", "finish"): "FINISHED",
    ("RUNNING", "fail"): "FAILED",
    ("RUNNING", "cancel"): "CANCELING",
    ("RUNNING", "canceled"): "CANCELED",
    # However a task ends after it was asked to stop, it ended because it was asked to.
    ("CANCELING", "finish"): "CANCELED",
    ("CANCELING", "fail"): "CANCELED",
    ("CANCELING", "canceled"): "CANCELED",
}

TASK_IGNORED: frozenset[tuple[TaskState, TaskEvent]] = frozenset(
    {(state, event) for state in TASK_TERMINAL for event in TASK_EVENTS}
    | {
        ("DEPLOYING", "deploy"),
        ("INITIALIZING", "initialize"),
        ("RUNNING", "initialize"),
        ("RUNNING", "run"),
        ("CANCELING", "initialize"),
        ("CANCELING", "run"),
        ("CANCELING", "cancel"),
    }
)

TASK_REJECTED: frozenset[tuple[TaskState, TaskEvent]] = frozenset(
    {
        # Nothing was deployed: no worker can know of it.
        ("CREATED", "deploy"),
        ("CREATED", "initialize"),
        ("CREATED", "run"),
        ("CREATED", "finish"),
        ("CREATED", "canceled"),
        ("SCHEDULED", "initialize"),
        ("SCHEDULED", "run"),
        ("SCHEDULED", "finish"),
        ("SCHEDULED", "canceled"),
        # An attempt is scheduled and deployed once.
        ("SCHEDULED", "schedule"),
        ("DEPLOYING", "schedule"),
        ("INITIALIZING", "schedule"),
        ("INITIALIZING", "deploy"),
        ("RUNNING", "schedule"),
        ("RUNNING", "deploy"),
        ("CANCELING", "schedule"),
        ("CANCELING", "deploy"),
    }
)

TASK_EVENT_OF_REPORT: dict[TaskState, TaskEvent] = {
    "DEPLOYING": "deploy",
    "INITIALIZING": "initialize",
    "RUNNING": "run",
    "FINISHED": "finish",
    "FAILED": "fail",
    "CANCELED": "canceled",
}
"""What a worker's report of a state means. The states that are absent are never a worker's to report."""

JOB_TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    ("CREATED", "start"): "RUNNING",
    ("CREATED", "fail"): "FAILING",
    ("CREATED", "cancel"): "CANCELLING",
    ("RUNNING", "finish"): "FINISHED",
    ("RUNNING", "fail"): "FAILING",
    ("RUNNING", "cancel"): "CANCELLING",
    ("FAILING", "settle"): "FAILED",
    ("CANCELLING", "settle"): "CANCELED",
}

JOB_IGNORED: frozenset[tuple[JobState, JobEvent]] = frozenset(
    {(state, event) for state in JOB_TERMINAL for event in JOB_EVENTS}
    | {
        ("FAILING", "fail"),  # the first cause is the one that is kept
        ("FAILING", "cancel"),  # it ends anyway, and its cause must be seen
        ("CANCELLING", "cancel"),
        ("CANCELLING", "fail"),
    }
)

JOB_REJECTED: frozenset[tuple[JobState, JobEvent]] = frozenset(
    {
        ("RUNNING", "start"),
        ("FAILING", "start"),
        ("CANCELLING", "start"),
        ("CREATED", "finish"),
        ("FAILING", "finish"),
        ("CANCELLING", "finish"),
        ("CREATED", "settle"),
        ("RUNNING", "settle"),
    }
)
