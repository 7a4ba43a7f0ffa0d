"""Draining: which TaskManagers a name means, how the wait is shown, and when it ends."""

from __future__ import annotations

import io

import pytest
from cluster_samples import BUSY, FREE, NOTE, PENDING, cluster, draining, healthy

from zmflow.cli.draining import DrainProgress, wait_until_empty
from zmflow.cli.taskmanagers import find_taskmanagers
from zmflow.errors import ClusterError, ConfigurationError
from zmflow.protocol.messages import ClusterStatus, TaskManagerStatus

TASKMANAGERS = [
    TaskManagerStatus("node7-3f9a", "node7", 1, [], 0),
    TaskManagerStatus("node7-3fbb", "node7", 2, [], 0),
    TaskManagerStatus("node8-aaaa", "node8", 3, [], 0, "late", True),
]


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        """Yes."""
        return True


@pytest.mark.parametrize(
    ("name", "pids"),
    [("node7", [1, 2]), ("node7-3f9a", [1]), ("node7-3fb", [2]), ("node8", [3]), ("node8-", [3])],
)
def test_a_name_is_an_id_a_unique_beginning_or_a_host(name: str, pids: list[int]) -> None:
    """A host means all that run on it."""
    assert [found.pid for found in find_taskmanagers(TASKMANAGERS, name)] == pids


@pytest.mark.parametrize("name", ["node9", "", "node7-3f", "ode7"])
def test_another_name_is_answered_with_those_there_are(name: str) -> None:
    """Whoever mistyped sees what to type."""
    with pytest.raises(ConfigurationError) as caught:
        find_taskmanagers(TASKMANAGERS, name)
    assert "node7-3f9a  on node7  alive" in str(caught.value.detail)
    assert caught.value.hint


def waited(progress: DrainProgress, *statuses: ClusterStatus) -> list[TaskManagerStatus]:
    """What is left of node8's TaskManager after these answers."""
    answers = iter(statuses)
    return wait_until_empty(lambda: next(answers), ["node8-77aa00"], progress, lambda: None)


def test_a_drain_is_over_when_no_slot_is_in_use() -> None:
    """A slot that is pending or whose worker still ends is in use; other TaskManagers do not count."""
    stream = io.StringIO()
    full = cluster(healthy(BUSY), draining(BUSY, FREE))
    left = waited(
        DrainProgress(stream),
        full,
        full,
        cluster(healthy(BUSY), draining(PENDING, FREE, note="")),
        cluster(healthy(BUSY), draining(FREE)),
    )
    assert [one.taskmanager_id for one in left] == ["node8-77aa00"]
    assert stream.getvalue().splitlines() == [
        f"node8-77aa00 drains, 1 of 2 slots in use: {NOTE}",
        "node8-77aa00 drains, 1 of 2 slots in use.",
        "node8-77aa00 is drained: no slot is in use, nothing new starts there.",
    ]


def test_a_taskmanager_that_leaves_is_empty() -> None:
    """Somebody may stop it before it is empty: then there is nothing to wait for."""
    assert waited(DrainProgress(io.StringIO()), cluster(draining(BUSY)), cluster(healthy(BUSY))) == []


def test_a_drain_that_is_taken_back_ends_the_wait_with_an_error() -> None:
    """It would never be empty; whoever waits must not take it for drained."""
    kept = TaskManagerStatus("node8-77aa00", "node8", 101, [FREE], 0)
    with pytest.raises(ClusterError, match="taken back"):
        waited(DrainProgress(io.StringIO()), cluster(draining(BUSY)), cluster(kept))


def test_a_terminal_has_one_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No longer than the terminal is wide, and gone at the end."""
    monkeypatch.setenv("COLUMNS", "40")
    terminal = Terminal()
    progress = DrainProgress(terminal)
    waited(progress, cluster(draining(BUSY)), cluster(draining(FREE)))
    progress.close()
    drawn = terminal.getvalue().split("\r\x1b[2K")
    assert "\n" not in terminal.getvalue()
    assert drawn[1].startswith("node8-77aa00 drains") and len(drawn[1]) == 39
    assert drawn[2:] == ["", ""]
