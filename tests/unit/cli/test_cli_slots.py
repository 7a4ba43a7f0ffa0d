"""The table of slots: what is shown, what is left out, what is shortened."""

from __future__ import annotations

import json

import pytest
from cluster_samples import JOB_ID, NOTE, TASKS, cluster

from zmflow.cli.cluster import print_cluster
from zmflow.cli.output import print_json
from zmflow.cli.slots import as_objects, chosen_slots, print_slots, short_task, short_tasks
from zmflow.errors import ConfigurationError


def test_every_slot_is_a_line_with_whole_names_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """TaskManagers by host, slots by index; whose it is, since when, what it was cut to."""
    status = cluster()
    print_slots(status, chosen_slots(status, None, None), shorten=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
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
    ]
    assert [line.split()[:4] for line in lines[1:5]] == [
        ["node7-3f9a2c", "node7", "0", "allocated"],
        ["node7-3f9a2c", "node7", "1", "free"],
        ["node8-77aa00", "node8", "0", "pending"],
        ["node8-77aa00", "node8", "1", "free"],
    ]
    wanted = ("word count (9f3a77aa)", ", ".join(TASKS), "512 MiB (128 MiB managed), 2 cores", "4711")
    assert [part for part in wanted if part not in lines[1]] == []
    assert lines[2].split()[4:] == ["-"] * 6


def test_the_last_lines_count_the_slots_and_name_who_is_late_or_drains(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A free slot where nothing may start is not among the free ones."""
    status = cluster()
    print_slots(status, chosen_slots(status, None, None), shorten=False)
    assert capsys.readouterr().out.splitlines()[-3:] == [
        "4 slots, 1 free, 1 free but draining, 2 TaskManagers.",
        "node8-77aa00 on node8 is late: nothing was heard of it for 3.2 s.",
        f"node8-77aa00 on node8 drains, 1 of 2 slots in use: {NOTE}",
    ]


def test_filters_leave_the_slots_of_one_job_or_taskmanager(capsys: pytest.CaptureFixture[str]) -> None:
    """A job by the beginning of its id, a TaskManager by its host; the summary says that it is a part."""
    status = cluster()
    assert [row.slot.allocation_id for row in chosen_slots(status, "9f3a", None)] == ["a1-1", "a1-2"]
    rows = chosen_slots(status, "word count", "node8")
    assert [row.slot.allocation_id for row in rows] == ["a1-2"]
    print_slots(status, rows, shorten=False)
    assert "2 TaskManagers; 1 shown." in capsys.readouterr().out


@pytest.mark.parametrize(("job", "taskmanager"), [("nosuch", None), (None, "node9"), (None, "")])
def test_a_filter_that_names_nothing_is_refused(job: str | None, taskmanager: str | None) -> None:
    """An empty table would say that there are no such slots."""
    with pytest.raises(ConfigurationError, match="knows no"):
        chosen_slots(cluster(), job, taskmanager)


def test_json_has_each_slot_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    """Every field of the slot, and the TaskManager it is on."""
    print_json(as_objects(chosen_slots(cluster(), None, None)))
    slots = json.loads(capsys.readouterr().out)
    assert [slot["taskmanager_state"] for slot in slots] == ["alive"] * 2 + ["late, draining"] * 2
    assert (slots[0]["job_id"], slots[0]["tasks"], slots[0]["host"]) == (JOB_ID, TASKS, "node7")
    assert slots[0]["resources"]["managed_memory_bytes"] == 2**27


def test_a_terminal_gets_short_names_and_no_host(capsys: pytest.CaptureFixture[str]) -> None:
    """The id begins with the host; the rest of the room belongs to the tasks."""
    status = cluster()
    print_slots(status, chosen_slots(status, None, None), shorten=True)
    out = capsys.readouterr().out
    assert "Host" not in out and "cores" not in out
    assert short_tasks(TASKS) in out and TASKS[0] not in out


@pytest.mark.parametrize("name", [TASKS[0], "x" * 90, "y" * 90 + " (123/1000)", "Map (1/2)"])
def test_a_short_task_keeps_its_ends_and_its_subtask(name: str) -> None:
    """Which subtask it is, is never cut; nothing is longer than asked."""
    short = short_task(name, 30)
    assert len(short) == min(len(name), 30)
    assert short[0] == name[0] and short[-9:] == name[-9:]


def test_a_cluster_is_shown_with_the_state_and_resources_of_each_taskmanager(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line each; the restarts of jobs are in theirs."""
    print_cluster(cluster())
    lines = capsys.readouterr().out.splitlines()
    (shown,) = (line for line in lines if line.startswith("node8-77aa00  node8"))
    assert "late, draining" in shown and "1 of 2" in shown
    assert "1 GiB (256 MiB managed), 4 cores, 1 gpu" in shown
    assert lines[-1].split()[:5] == [JOB_ID, "word", "count", "RUNNING", "2"]


def test_a_cluster_without_taskmanagers_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    """No headings over nothing."""
    status = cluster()
    empty = type(status)(1, 0, "node1:6123", 1_000, [], [])
    print_slots(empty, chosen_slots(empty, None, None), shorten=True)
    assert capsys.readouterr().out == ("No TaskManager is registered.\n\n0 slots, 0 free, 0 TaskManagers.\n")
