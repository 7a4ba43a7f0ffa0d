"""Logs: JSON lines with the task's context, whoever wrote them."""

import json
import subprocess
import sys
import threading

import pytest

from zmflow.telemetry import logs


@pytest.fixture
def lines(tmp_path):
    """Gives the lines logged so far by this process."""
    logs.configure_logging("tester", tmp_path, "INFO")
    yield lambda: [json.loads(line) for line in (tmp_path / "tester.jsonl").read_text().splitlines()]
    logs.configure_logging("", None)


def test_logger_writes_json_with_context(lines):
    """A line has time, level, process, event, the logger's fields, its own, and those of the task."""
    logger = logs.get_logger(component="x")
    with logs.task_context(job_id="j", vertex="v", subtask=1, attempt=0):
        logger.info("Inside.", count=3)
    logger.warning("Outside.")
    inside, outside = lines()
    assert inside["event"] == "Inside."
    assert (inside["component"], inside["count"], inside["process"]) == ("x", 3, "tester")
    assert (inside["job"], inside["vertex"], inside["subtask"], inside["attempt"]) == ("j", "v", 1, 0)
    assert "job" not in outside
    assert outside["level"] == "warning"


def test_level_and_exceptions(lines):
    """Lines below the level are dropped; an exception brings its traceback."""
    logger = logs.get_logger()
    logger.debug("Unseen.")
    try:
        raise ValueError("why")
    except ValueError:
        logger.exception("Failed.")
    [entry] = lines()
    assert "ValueError: why" in entry["exception"]


def test_size_is_bounded(lines, tmp_path, monkeypatch):
    """A full file is renamed once, so at most two are kept."""
    monkeypatch.setattr(logs, "LOG_FILE_SIZE_MAX_BYTES", 1000)
    logger = logs.get_logger()
    for _ in range(100):
        logger.info("Some line.")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tester.jsonl", "tester.jsonl.1"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_unprintable_values_do_not_raise(lines):
    """A value that JSON does not know is logged in its printed form."""
    logs.get_logger().info("Odd.", value={1, 2}, other=threading.Lock())
    [entry] = lines()
    assert "lock" in entry["other"]


PROGRAM = """
import logging, sys, threading
from pathlib import Path
from zmflow.telemetry.logs import configure_logging, flush_output, redirect_output, task_context

configure_logging("worker", None)
redirect_output(Path(sys.argv[1]), True)
barrier = threading.Barrier(2)

def task(index):
    with task_context(job_id="j", vertex="v", subtask=index, attempt=0):
        print("half", end=" ")
        barrier.wait()
        print(f"whole {index}")
        logging.getLogger("user").warning("warned %s", index)
        print("unfinished", file=sys.stderr, end="")

threads = [threading.Thread(target=task, args=(i,)) for i in range(2)]
[t.start() for t in threads]
[t.join() for t in threads]
sys.stdout.buffer.write(b"bytes \\xff")
flush_output()
"""


def test_output_becomes_lines_of_the_task(tmp_path):
    """print, stderr and logging of a task are lines with its context; echo also shows them, unmixed."""
    path = tmp_path / "tasks" / "a.jsonl"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, check=True)
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    by_task = {i: [e["event"] for e in entries if e.get("subtask") == i] for i in range(2)}
    assert by_task == {i: [f"half whole {i}", f"warned {i}", "unfinished"] for i in range(2)}
    assert entries[-1]["event"] == "bytes �"
    assert sorted(done.stdout.decode().splitlines()) == ["bytes �", "half whole 0", "half whole 1"]
    assert done.stderr.decode() == "unfinished\nunfinished\n"
