"""The machines of the control plane, as tables: which event leads where, and which leads nowhere.

::

    task         CREATED → SCHEDULED → DEPLOYING → INITIALIZING → RUNNING → FINISHED
                 any live state → FAILED;  on a worker → CANCELING → CANCELED;  before that → CANCELED
    job          CREATED → RUNNING ⇄ RESTARTING;  RUNNING → FINISHED
                 any of these → FAILING → FAILED, or → CANCELLING → CANCELED
    slot         free → pending → allocated → releasing → free           (the ResourceManager's view)
    worker       starting → offered → active → freeing → killed → gone   (the TaskManager's view)
    link         greeting → registering → registered → greeting          (a TaskManager and its leader)
    taskmanager  alive ⇄ late → gone                                     (the leader's view)
    checkpoint   COORDINATORS → TASKS → STORING → COMPLETED;  any of the first three → ABORTED

A FAILED or CANCELED task that is to run again does so as another Execution: an attempt ends once.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from zmflow.coordination.machine import Machine
from zmflow.protocol.checkpoints import CheckpointState
from zmflow.protocol.messages import JobState, TaskState
from zmflow.protocol.statuses import SlotState

__all__ = [
    "CHECKPOINT",
    "JOB",
    "LINK",
    "MACHINES",
    "SLOT",
    "TASK",
    "TASKMANAGER",
    "TASK_EVENT_OF_REPORT",
    "WORKER",
    "CheckpointEvent",
    "JobEvent",
    "LinkEvent",
    "LinkState",
    "SlotEvent",
    "TaskEvent",
    "TaskManagerEvent",
    "TaskManagerLife",
    "WorkerEvent",
    "WorkerState",
]

# -- a task's Execution ---------------------------------------------------------------------------

TaskEvent: TypeAlias = Literal[
    "schedule", "deploy", "initialize", "run", "finish", "fail", "cancel", "canceled"
]
"""``cancel``: it was asked to stop. ``canceled``: it has stopped because it was asked."""

_TASK_TRANSITIONS: dict[tuple[TaskState, TaskEvent], TaskState] = {
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

TASK: Machine[TaskState, TaskEvent] = Machine(
    "task",
    "A task's Execution",
    TaskState,
    TaskEvent,
    _TASK_TRANSITIONS,
    [
        *(
            (state, event)
            for state in ("FINISHED", "CANCELED", "FAILED")
            for event in ("schedule", "deploy", "initialize", "run", "finish", "fail", "cancel", "canceled")
        ),
        ("DEPLOYING", "deploy"),  # a worker's report that it has the deployment
        ("INITIALIZING", "initialize"),
        ("RUNNING", "initialize"),
        ("RUNNING", "run"),
        ("CANCELING", "initialize"),
        ("CANCELING", "run"),
        ("CANCELING", "cancel"),
    ],
    [
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
    ],
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

# -- a job ----------------------------------------------------------------------------------------

JobEvent: TypeAlias = Literal["start", "restart", "finish", "fail", "cancel", "settle"]
"""``start``: all its tasks are deployed. ``restart``: some will be, anew. ``settle``: no task of a failing or
cancelled job runs any more."""

_JOB_TRANSITIONS: dict[tuple[JobState, JobEvent], JobState] = {
    ("CREATED", "start"): "RUNNING",
    ("CREATED", "restart"): "RESTARTING",
    ("CREATED", "fail"): "FAILING",
    ("CREATED", "cancel"): "CANCELLING",
    ("RUNNING", "restart"): "RESTARTING",
    ("RUNNING", "finish"): "FINISHED",
    ("RUNNING", "fail"): "FAILING",
    ("RUNNING", "cancel"): "CANCELLING",
    ("RESTARTING", "start"): "RUNNING",
    ("RESTARTING", "fail"): "FAILING",
    ("RESTARTING", "cancel"): "CANCELLING",
    ("FAILING", "settle"): "FAILED",
    ("CANCELLING", "settle"): "CANCELED",
}

JOB: Machine[JobState, JobEvent] = Machine(
    "job",
    "A job",
    JobState,
    JobEvent,
    _JOB_TRANSITIONS,
    [
        *(
            (state, event)
            for state in ("FINISHED", "FAILED", "CANCELED")
            for event in ("start", "restart", "finish", "fail", "cancel", "settle")
        ),
        ("RESTARTING", "restart"),  # one more failure while it waits
        ("FAILING", "fail"),  # the first cause is the one that is kept
        ("FAILING", "cancel"),  # it ends anyway, and its cause must be seen
        ("FAILING", "restart"),
        ("CANCELLING", "cancel"),
        ("CANCELLING", "fail"),
        ("CANCELLING", "restart"),
    ],
    [
        ("CREATED", "finish"),
        ("CREATED", "settle"),
        ("RUNNING", "start"),
        ("RUNNING", "settle"),
        ("RESTARTING", "finish"),
        ("RESTARTING", "settle"),
        ("FAILING", "start"),
        ("FAILING", "finish"),
        ("CANCELLING", "start"),
        ("CANCELLING", "finish"),
    ],
)

# -- a slot, as the ResourceManager sees it -------------------------------------------------------

SlotEvent: TypeAlias = Literal["allocate", "accept", "release", "freed"]
"""``accept``: the job took the offered slot. ``freed``: its worker is gone, or never came."""

SLOT: Machine[SlotState, SlotEvent] = Machine(
    "slot",
    "A slot, as the ResourceManager sees it",
    SlotState,
    SlotEvent,
    {
        ("free", "allocate"): "pending",
        ("pending", "accept"): "allocated",
        ("pending", "release"): "releasing",
        ("pending", "freed"): "free",
        ("allocated", "release"): "releasing",
        ("allocated", "freed"): "free",
        ("releasing", "freed"): "free",
    },
    [
        ("free", "freed"),
        ("free", "release"),
        ("allocated", "accept"),  # an offer that was repeated
        ("releasing", "accept"),  # offered before the worker was told to end
        ("releasing", "release"),
    ],
    [
        # A slot is given away once, and only while it is nobody's.
        ("pending", "allocate"),
        ("allocated", "allocate"),
        ("releasing", "allocate"),
        ("free", "accept"),
    ],
)

# -- the worker of a slot, as its TaskManager sees it ---------------------------------------------

WorkerState: TypeAlias = Literal["starting", "offered", "active", "freeing", "killed", "gone"]
WorkerEvent: TypeAlias = Literal["ready", "accept", "reject", "free", "kill", "exit"]
"""``ready``: the process listens. ``free``: the leader ends the tenure. ``kill``: it has to go at once."""

WORKER: Machine[WorkerState, WorkerEvent] = Machine(
    "worker",
    "The worker of a slot, as its TaskManager sees it",
    WorkerState,
    WorkerEvent,
    {
        ("starting", "ready"): "offered",
        ("starting", "free"): "killed",
        ("starting", "kill"): "killed",
        ("starting", "exit"): "gone",
        ("offered", "accept"): "active",
        ("offered", "reject"): "freeing",
        ("offered", "free"): "freeing",
        ("offered", "kill"): "killed",
        ("offered", "exit"): "gone",
        ("active", "free"): "freeing",
        ("active", "kill"): "killed",
        ("active", "exit"): "gone",
        ("freeing", "kill"): "killed",
        ("freeing", "exit"): "gone",
        ("killed", "exit"): "gone",
    },
    [
        ("offered", "ready"),
        ("active", "ready"),
        ("active", "accept"),
        ("freeing", "ready"),
        ("freeing", "accept"),
        ("freeing", "reject"),
        ("freeing", "free"),
        ("killed", "ready"),
        ("killed", "accept"),
        ("killed", "reject"),
        ("killed", "free"),
        ("killed", "kill"),
        *(("gone", event) for event in ("ready", "accept", "reject", "free", "kill", "exit")),
    ],
    [
        # Nothing was offered yet.
        ("starting", "accept"),
        ("starting", "reject"),
        ("active", "reject"),  # it was taken
    ],
)

# -- a TaskManager's link to its leader -----------------------------------------------------------

LinkState: TypeAlias = Literal["greeting", "registering", "registered"]
LinkEvent: TypeAlias = Literal["greet", "welcome", "accepted"]
"""``greet``: begin anew, whatever was. ``welcome``: a leader answers. ``accepted``: it registered us."""

LINK: Machine[LinkState, LinkEvent] = Machine(
    "link",
    "A TaskManager's link to its leader",
    LinkState,
    LinkEvent,
    {
        ("greeting", "greet"): "greeting",
        ("greeting", "welcome"): "registering",
        ("registering", "welcome"): "registering",
        ("registering", "accepted"): "registered",
        ("registering", "greet"): "greeting",
        ("registered", "greet"): "greeting",
        ("registered", "welcome"): "registering",  # of a newer leader
    },
    [("greeting", "accepted"), ("registered", "accepted")],
    [],  # a leader may say anything at any time; what comes too late is ignored
)

# -- a TaskManager, as the leader sees it ---------------------------------------------------------

TaskManagerLife: TypeAlias = Literal["alive", "late", "gone"]
TaskManagerEvent: TypeAlias = Literal["heard", "silent", "lost"]
"""``silent``: for heartbeat.late. ``lost``: for heartbeat.timeout, or its connection is closed."""

TASKMANAGER: Machine[TaskManagerLife, TaskManagerEvent] = Machine(
    "taskmanager",
    "A TaskManager, as the leader sees it",
    TaskManagerLife,
    TaskManagerEvent,
    {
        ("alive", "silent"): "late",
        ("alive", "lost"): "gone",
        ("late", "heard"): "alive",
        ("late", "lost"): "gone",
    },
    [
        ("alive", "heard"),
        ("late", "silent"),
        # One that registers anew is another one to the leader.
        ("gone", "heard"),
        ("gone", "silent"),
        ("gone", "lost"),
    ],
    [],
)

# -- a checkpoint ---------------------------------------------------------------------------------

CheckpointEvent: TypeAlias = Literal["snapshotted", "acknowledged", "stored", "abort"]
"""``snapshotted``: every split enumerator was. ``acknowledged``: every task has written its snapshot.
``stored``: its metadata is where it belongs, which makes it a checkpoint."""

CHECKPOINT: Machine[CheckpointState, CheckpointEvent] = Machine(
    "checkpoint",
    "A checkpoint",
    CheckpointState,
    CheckpointEvent,
    {
        ("COORDINATORS", "snapshotted"): "TASKS",
        ("COORDINATORS", "abort"): "ABORTED",
        ("TASKS", "acknowledged"): "STORING",
        ("TASKS", "abort"): "ABORTED",
        ("STORING", "stored"): "COMPLETED",
        ("STORING", "abort"): "ABORTED",
    },
    [(state, event) for state in ("COMPLETED", "ABORTED") for event in get_args(CheckpointEvent)],
    [
        # Each step follows from the one before it, in the coordinator itself.
        ("COORDINATORS", "acknowledged"),
        ("COORDINATORS", "stored"),
        ("TASKS", "snapshotted"),
        ("TASKS", "stored"),
        ("STORING", "snapshotted"),
        ("STORING", "acknowledged"),
    ],
)

MACHINES: tuple[Machine[Any, Any], ...] = (JOB, TASK, SLOT, WORKER, LINK, TASKMANAGER, CHECKPOINT)
"""Every machine there is: what the tests walk through and the documents draw."""
