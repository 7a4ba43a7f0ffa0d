"""Slots, restarts and draining as people see them: the command on daemons in the background."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.integration

ENDLESS = """
import time
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
env.from_sequence(1, 10**12).map(lambda n: time.sleep(0.01)).add_sink(lambda n: None)
env.execute("endless")
"""
FAILING = """
from zmflow import StreamExecutionEnvironment
env = StreamExecutionEnvironment.get_execution_environment()
env.from_collection([0]).map(lambda n: 1 // n).name("Divide").add_sink(lambda n: None)
env.execute("failing")
"""
RESTART_ONCE = (
    "-Drestart-strategy.type=fixed-delay",
    "-Drestart-strategy.fixed-delay.attempts=1",
    "-Drestart-strategy.fixed-delay.delay=100 ms",
)
# A shell's background jobs ignore Ctrl-C and hand that on; whatever runs the tests, these must not.
INTERRUPTIBLE = (
    "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "runpy.run_module('zmflow.cli.main', run_name='__main__')"
)


def zmflow(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    command = [sys.executable, "-m", "zmflow.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def answer(*arguments: str) -> Any:
    """The JSON a command answers with."""
    done = zmflow(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory whose cluster, if a test starts one, is stopped after it."""
    for name in [name for name in os.environ if name.startswith("ZMFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.py").write_text(ENDLESS)
    (tmp_path / "failing.py").write_text(FAILING)
    yield tmp_path
    zmflow("cluster", "stop")


def start(taskmanagers: int, slots: int) -> None:
    """Start the cluster of this test, on a port of its own."""
    options = ["--taskmanagers", str(taskmanagers), "--slots", str(slots), "-D", "jobmanager.rpc.port=0"]
    done = zmflow("cluster", "start", *options)
    assert done.returncode == 0, done.stderr


def until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    """The first true answer; fails when there is none in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
    raise AssertionError(f"{condition} never came true; slots: {zmflow('slots').stdout}")


def run_endless(parallelism: int) -> None:
    """Submit the endless job and wait until all its tasks run in their slots."""
    done = zmflow("run", "-d", "-p", str(parallelism), "endless.py")
    assert done.returncode == 0, done.stderr
    until(all_tasks_run)


def all_tasks_run() -> bool:
    """Whether every task of the endless job runs."""
    summary = answer("info", "endless")["summary"]
    return bool(summary["state"] == "RUNNING" and summary["tasks_running"] == summary["tasks_total"] > 0)


def slots_in_use() -> list[dict[str, Any]]:
    """The slots that are not free."""
    return [slot for slot in answer("slots") if slot["state"] != "free"]


def test_slots_show_who_sits_where(directory: Path) -> None:
    """Every slot of the cluster; those of the job with its name, tasks and worker."""
    start(2, 2)
    run_endless(2)
    slots = answer("slots")
    assert len(slots) == 4
    used = [slot for slot in slots if slot["state"] == "allocated"]
    assert len(used) == 2 and len({slot["taskmanager_id"] for slot in used}) == 2
    assert {slot["job_name"] for slot in used} == {"endless"}
    assert all(slot["tasks"] and slot["worker_pid"] and slot["since_ms"] for slot in used)
    assert {slot["sharing_group"] for slot in used} == {"default"}
    assert [slot["slot_index"] for slot in answer("slots", "--job", "endless")] == [
        slot["slot_index"] for slot in used
    ]
    first = used[0]["taskmanager_id"]
    assert {slot["taskmanager_id"] for slot in answer("slots", "--taskmanager", first)} == {first}
    shown = zmflow("slots").stdout
    assert "\x1b" not in shown and "4 slots, 2 free, 2 TaskManagers." in shown
    assert all(task in shown for slot in used for task in slot["tasks"])


def test_a_name_nothing_has_is_answered_with_those_there_are(directory: Path) -> None:
    """Wrong usage: exit code 2, and what to type instead."""
    start(1, 1)
    (slot,) = answer("slots")
    for command in (
        ["slots", "--taskmanager", "nosuch"],
        ["taskmanager", "drain", "nosuch"],
        ["taskmanager", "undrain", "nosuch"],
    ):
        done = zmflow(*command)
        assert (done.returncode, slot["taskmanager_id"] in done.stderr) == (2, True), done.stderr
    done = zmflow("slots", "--job", "nosuch")
    assert (done.returncode, "zmflow list" in done.stderr) == (2, True)


def test_commands_about_slots_say_when_there_is_no_cluster(directory: Path) -> None:
    """Each of them names the ways to get one."""
    for command in (["slots"], ["taskmanager", "drain", "x"], ["taskmanager", "undrain", "x"]):
        done = zmflow(*command)
        assert (done.returncode, "zmflow cluster start" in done.stderr) == (2, True), done.stderr


def test_a_taskmanager_is_still_a_daemon(directory: Path) -> None:
    """Without a command it joins the cluster --jobmanager names, and ends with SIGTERM."""
    start(1, 1)
    port = answer("cluster", "status")["jobmanager"].rpartition(":")[2]
    options = ["--jobmanager", f"127.0.0.1:{port}", "--slots", "3"]
    command = [sys.executable, "-m", "zmflow.cli.main", "taskmanager", *options]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as daemon:
        try:
            until(lambda: len(answer("slots")) == 4)
        finally:
            daemon.terminate()
        assert daemon.wait(timeout=20) == 0


def test_a_job_that_may_not_restart_any_more_shows_the_users_traceback_first(directory: Path) -> None:
    """Then how often it was restarted and why not again; the restart itself was told with its reason."""
    start(1, 1)
    done = zmflow("run", "-p", "1", *RESTART_ONCE, "failing.py")
    assert done.returncode == 1, done.stderr
    progress, traceback, error = done.stderr.partition("Traceback (most recent call last):\n")
    assert traceback and re.search(r"is RESTARTING: .*ZeroDivisionError", progress)
    assert "ZeroDivisionError" in error.partition("\nError: ")[0]
    assert "restarted once before" in error
    hint = error.partition("Hint: ")[2]
    assert "restart" in hint, error
    info = answer("info", "failing")
    first, last = info["exceptions"]
    assert info["summary"]["restarts"] == 1
    assert (first["backoff_ms"], last["backoff_ms"]) == (100, -1)
    assert first["restarted_tasks"] == first["tasks_total"] and first["taskmanager_id"]
    shown = zmflow("info", "failing").stdout
    assert "Restarts  1" in shown and "  the job ended\n" in shown and "after 0.1 s: " in shown
    assert [line for line in zmflow("list").stdout.splitlines() if "failing" in line and "FAILED" in line]


def test_a_drained_taskmanager_is_empty_and_its_job_goes_on(directory: Path) -> None:
    """The command returns when no slot there is in use; the tasks run elsewhere; undrain takes it back."""
    start(2, 2)
    run_endless(2)
    victim = slots_in_use()[0]["taskmanager_id"]
    report = answer("taskmanager", "drain", victim)
    assert (report["taskmanagers"], report["draining"], report["slots_in_use"]) == ([victim], True, 0)
    assert victim not in {slot["taskmanager_id"] for slot in slots_in_use()}
    until(all_tasks_run)
    assert len(slots_in_use()) == 2
    shown = zmflow("cluster", "status").stdout
    assert re.search(rf"^{victim} .* draining ", shown, flags=re.MULTILINE), shown
    assert zmflow("taskmanager", "undrain", victim).stdout.startswith(f"{victim} on ")
    assert all(slot["taskmanager_state"] == "alive" for slot in answer("slots"))


def test_ctrl_c_ends_the_waiting_and_not_the_drain(directory: Path) -> None:
    """Without a slot elsewhere nothing moves: the command says what it waits for, and how to take it back."""
    start(2, 1)
    run_endless(2)
    victim = slots_in_use()[0]["taskmanager_id"]
    command = [sys.executable, "-c", INTERRUPTIBLE, "taskmanager", "drain", victim]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as draining:
        assert draining.stderr is not None
        line = draining.stderr.readline()
        assert line.startswith(f"{victim} drains, 1 of 1 slot in use"), line + draining.stderr.read()
        draining.send_signal(signal.SIGINT)
        said = draining.stderr.read()
        assert draining.wait(timeout=20) == 130
    assert f"zmflow taskmanager undrain {victim}" in said
    assert all_tasks_run()
    (note,) = [one["note"] for one in answer("cluster", "status")["taskmanagers"] if one["draining"]]
    assert note
    assert note in zmflow("slots").stdout
    report = answer("taskmanager", "drain", victim, "--no-wait")
    assert (report["slots_in_use"], report["notes"]) == (1, {victim: note})
    assert answer("taskmanager", "undrain", victim)["draining"] is False
