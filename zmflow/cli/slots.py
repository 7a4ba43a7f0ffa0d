"""``zmflow slots``: every slot of a cluster, and who sits in it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from zmflow.cli.jobs import cluster_client, find_job
from zmflow.cli.options import Definitions, JobManagerAddress, Json
from zmflow.cli.output import plain, print_json, print_lines, print_table
from zmflow.cli.taskmanagers import find_taskmanagers, slots_sentence, state_text, trouble_lines
from zmflow.cli.times import now_ms, time_since

if TYPE_CHECKING:
    from zmflow.protocol.messages import ClusterStatus, ResourceProfile, SlotStatus, TaskManagerStatus

__all__ = [
    "SlotRow",
    "as_objects",
    "chosen_slots",
    "print_slots",
    "resources_text",
    "short_task",
    "short_tasks",
    "slots",
]

SHORT_ID_CHARACTERS = 8
"""As many as version control shows of a hash: unique among the jobs of a cluster, and quick to type."""

TASKS_SHOWN_MAX = 2
TASK_CHARACTERS_MAX = 28
"""Two chains of a usual name fit beside the other columns of a terminal 160 characters wide."""

COLUMNS = (
    "TaskManager",
    "Host",
    "Slot",
    "State",
    "Job",
    "Group",
    "Tasks",
    "Resources",
    "Pid",
    "For",
)


class SlotRow(NamedTuple):
    """A slot with the TaskManager it is on."""

    taskmanager: TaskManagerStatus
    slot: SlotStatus


def slots(
    job: Annotated[
        str | None,
        typer.Option("--job", metavar="JOB", help="Only this job's: its id, a beginning, or name."),
    ] = None,
    taskmanager: Annotated[
        str | None, typer.Option("--taskmanager", metavar="HOST_OR_ID", help="Only this TaskManager's.")
    ] = None,
    wide: Annotated[bool, typer.Option("--wide", help="Names of tasks in full.")] = False,
    definitions: Definitions = None,
    jobmanager: JobManagerAddress = None,
    as_json: Json = False,
) -> None:
    """Show every slot: where it is, whose it is, which tasks sit in it, what it was cut to.

    Example: zmflow slots --job 3f2a --wide
    """
    with cluster_client(definitions, jobmanager) as client:
        status = client.cluster_status()
    rows = chosen_slots(status, job, taskmanager)
    if as_json:
        print_json(as_objects(rows))
    else:
        print_slots(status, rows, shorten=sys.stdout.isatty() and not wide)


def chosen_slots(status: ClusterStatus, job: str | None, taskmanager: str | None) -> list[SlotRow]:
    """The slots that both filters leave, in the order of TaskManagers and slots.

    Raises:
        ConfigurationError: a filter names nothing there is; says what there is.
    """
    job_id = None if job is None else find_job(status.jobs, job)
    taskmanagers = status.taskmanagers
    if taskmanager is not None:
        taskmanagers = find_taskmanagers(taskmanagers, taskmanager)
    return [
        SlotRow(holder, slot)
        for holder in sorted(taskmanagers, key=lambda holder: (holder.host, holder.taskmanager_id))
        for slot in sorted(holder.slots, key=lambda slot: slot.slot_index)
        if job_id is None or slot.job_id == job_id
    ]


def print_slots(status: ClusterStatus, rows: Sequence[SlotRow], *, shorten: bool) -> None:
    """Slots for people: a table, how many there are, and which TaskManagers are late or draining."""
    now = now_ms()
    # An id begins with its host; on a terminal the room is better given to the tasks.
    hidden = {"Host"} if shorten else set()
    columns = [column for column in COLUMNS if column not in hidden]
    cells = [_cells(row, now, shorten=shorten) for row in rows]
    print_table(
        columns,
        [[named[column] for column in columns] for named in cells],
        empty="No slot is chosen." if status.taskmanagers else "No TaskManager is registered.",
    )
    every = sum(len(taskmanager.slots) for taskmanager in status.taskmanagers)
    shown = "" if len(rows) == every else f"; {len(rows)} shown"
    print_lines(["", f"{slots_sentence(status.taskmanagers)}{shown}.", *trouble_lines(status.taskmanagers)])


def _cells(row: SlotRow, now: int, *, shorten: bool) -> dict[str, object]:
    holder, slot = row
    cells = (
        holder.taskmanager_id,
        holder.host,
        str(slot.slot_index),
        slot.state,
        f"{slot.job_name} ({slot.job_id[:SHORT_ID_CHARACTERS]})".strip() if slot.job_id else "-",
        slot.sharing_group or "-",
        (short_tasks(slot.tasks) if shorten else ", ".join(slot.tasks)) or "-",
        "-" if slot.state == "free" else resources_text(slot.resources, cores=not shorten),
        str(slot.worker_pid or "-"),
        time_since(slot.since_ms, now),
    )
    return dict(zip(COLUMNS, cells, strict=True))


def short_tasks(tasks: Sequence[str]) -> str:
    """The first tasks of a slot, and how many more there are.

    >>> short_tasks(["Map (1/2)", "Reduce (1/2)", "Sink (1/2)"])
    'Map (1/2), Reduce (1/2), +1'
    """
    shown = [short_task(task) for task in tasks[:TASKS_SHOWN_MAX]]
    more = len(tasks) - len(shown)
    return ", ".join([*shown, f"+{more}"] if more else shown)


def short_task(task: str, characters_max: int = TASK_CHARACTERS_MAX) -> str:
    """A task's name without the middle of its chain; which subtask it is stays.

    >>> short_task("Source: Collection -> filter -> map -> map (1/2)")
    'Source: Col…map -> map (1/2)'
    """
    if len(task) <= characters_max:
        return task
    name, space, subtask = task.rpartition(" (")
    if not space:
        name, subtask = task, ""
    room = characters_max - len(space) - len(subtask) - 1
    head = (room + 1) // 2
    return f"{name[:head]}…{name[len(name) - (room - head) :]}{space}{subtask}"


def resources_text(resources: ResourceProfile, *, cores: bool = True) -> str:
    """What a slot was cut to: memory, the managed part of it, CPU cores, then named resources.

    >>> from zmflow.protocol.messages import ResourceProfile
    >>> resources_text(ResourceProfile(1500, 2**29, 2**27, (("gpu", 1),)))
    '512 MiB (128 MiB managed), 1.5 cores, 1 gpu'
    >>> resources_text(ResourceProfile())
    '-'
    """
    from zmflow.protocol.resources import EQUAL_SHARE, profile_text, size_text

    parts = []
    if resources.managed_memory_bytes != EQUAL_SHARE:
        parts.append(f"{size_text(resources.managed_memory_bytes)} managed")
    if resources.memory_bytes != EQUAL_SHARE:
        parts = [size_text(resources.memory_bytes) + (f" ({parts[0]})" if parts else "")]
    others = type(resources)(resources.cpu_millis if cores else EQUAL_SHARE, external=resources.external)
    if others.cpu_millis != EQUAL_SHARE or others.external:
        parts.append(profile_text(others))
    return ", ".join(parts) or "-"


def as_objects(rows: Sequence[SlotRow]) -> list[dict[str, object]]:
    """The slots for JSON: all their fields, and where they are."""
    return [
        {
            "taskmanager_id": row.taskmanager.taskmanager_id,
            "host": row.taskmanager.host,
            "taskmanager_state": state_text(row.taskmanager),
            **{name: plain(getattr(row.slot, name)) for name in row.slot.__struct_fields__},
        }
        for row in rows
    ]
