"""``zmflow taskmanager drain``, ``undrain`` and ``slots`` against a leader whose answers are prepared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from cluster_samples import BUSY, FREE, NOTE, cluster, draining, healthy
from scripted_leader import ScriptedLeader
from typer.testing import CliRunner, Result

from zmflow.cli import draining as draining_commands
from zmflow.cli.main import app
from zmflow.protocol.messages import ClusterStatus

NODE8 = "node8-77aa00"
MOVING = cluster(healthy(FREE), draining(BUSY))
EMPTY = cluster(healthy(BUSY), draining(FREE, note=""))

Lead = Callable[..., ScriptedLeader]


@pytest.fixture
def lead(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lead]:
    """Starts a leader with these answers; the settings name it."""
    with ExitStack() as leaders:

        def begin(*statuses: ClusterStatus, drains: Sequence[str] = (NODE8,)) -> ScriptedLeader:
            leader = leaders.enter_context(ScriptedLeader(statuses, drains).serving())
            monkeypatch.setenv("ZMFLOW_JOBMANAGER_RPC_ADDRESS", "127.0.0.1")
            monkeypatch.setenv("ZMFLOW_JOBMANAGER_RPC_PORT", str(leader.port))
            return leader

        yield begin


def zmflow(*arguments: str) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, list(arguments))


def test_drain_shows_what_it_waits_for_and_returns_when_all_is_empty(lead: Lead) -> None:
    """Progress on standard error, the result on standard output."""
    leader = lead(MOVING, MOVING, EMPTY)
    done = zmflow("taskmanager", "drain", "node8")
    assert (done.exit_code, leader.asked) == (0, [("node8", True)])
    assert done.stderr.splitlines() == [
        f"{NODE8} drains, 1 of 1 slot in use: {NOTE}",
        f"{NODE8} is drained: no slot is in use, nothing new starts there.",
    ]
    assert done.stdout == f"{NODE8} on node8 is drained: no slot is in use, nothing new starts there.\n"


def test_drain_without_waiting_says_what_is_still_there(lead: Lead) -> None:
    """As JSON: whom it is about, how many slots are in use, and why."""
    lead(MOVING)
    done = zmflow("taskmanager", "drain", "node8", "--no-wait", "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "taskmanagers": [NODE8],
        "draining": True,
        "slots_in_use": 1,
        "notes": {NODE8: NOTE},
    }


def test_a_taskmanager_that_is_stopped_meanwhile_has_left(lead: Lead) -> None:
    """Nothing is left to wait for."""
    lead(MOVING, cluster(healthy(BUSY)))
    assert zmflow("taskmanager", "drain", "node8").stdout == f"{NODE8} has left the cluster.\n"


def test_undrain_takes_it_back(lead: Lead) -> None:
    """Also for a host that has no TaskManager now: the next one there takes slots."""
    leader = lead(cluster(healthy(BUSY)), drains=["node7-3f9a2c"])
    done = zmflow("taskmanager", "undrain", "node7")
    assert (done.stdout, leader.asked) == (
        "node7-3f9a2c on node7 takes new slots again.\n",
        [("node7", False)],
    )
    leader.drains = ["node9-stopped"]
    assert "no TaskManager runs there now" in zmflow("taskmanager", "undrain", "node9").stdout


def test_a_refused_name_is_answered_with_those_there_are(lead: Lead) -> None:
    """Wrong usage; the leader's own words where the name is right all the same."""
    lead(MOVING, drains=[])
    done = zmflow("taskmanager", "drain", "node9")
    assert (done.exit_code, f"{NODE8}  on node8  draining" in done.stderr) == (2, True)
    assert "There is no such TaskManager." in zmflow("taskmanager", "drain", "node8").stderr


def test_options_before_the_word_drain_count_too(lead: Lead) -> None:
    """--jobmanager of the daemon names the leader for its commands as well; --slots makes no sense there."""
    leader = lead(EMPTY)
    address = f"127.0.0.1:{leader.port}"
    done = zmflow("taskmanager", "--jobmanager", address, "-D", "nosuch.key=1", "drain", "node8")
    assert (done.exit_code, "nosuch.key" in done.stderr) == (2, True)
    assert zmflow("taskmanager", "--jobmanager", address, "drain", "node8").exit_code == 0
    assert zmflow("taskmanager", "--jobmanager", "127.0.0.1:x", "drain", "node8").exit_code == 2
    refused = zmflow("taskmanager", "--slots", "2", "drain", "node8")
    assert (refused.exit_code, "--slots" in refused.stderr) == (2, True)


def test_ctrl_c_leaves_the_drain_and_says_how_to_take_it_back(
    lead: Lead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130, no traceback, and nothing further is asked of the leader."""
    leader = lead(MOVING)

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(draining_commands.time, "sleep", interrupted)
    done = zmflow("taskmanager", "drain", "node8")
    assert (done.exit_code, leader.asked) == (130, [("node8", True)])
    assert "zmflow taskmanager undrain node8" in done.stderr and "Traceback" not in done.stderr


def test_slots_asks_the_leader_and_filters(lead: Lead) -> None:
    """The command end to end: JSON, filters, and the plain table of a pipe."""
    lead(MOVING)
    slots = json.loads(zmflow("slots", "--job", "word count", "--json").stdout)
    assert [(slot["taskmanager_id"], slot["state"]) for slot in slots] == [(NODE8, "allocated")]
    shown = zmflow("slots", "--taskmanager", "node8").stdout
    assert "\x1b" not in shown and shown.splitlines()[1].startswith(NODE8)
