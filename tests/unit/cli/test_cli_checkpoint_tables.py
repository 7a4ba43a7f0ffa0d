"""What ``zmflow checkpoints`` and ``zmflow info`` say about checkpoints."""

from __future__ import annotations

import msgspec
import pytest

from zmflow.cli.checkpoints import checkpoints_sentence, print_checkpoint, print_checkpoints
from zmflow.protocol.checkpoint_statistics import CheckpointRecord, CheckpointSummary, SubtaskSnapshot
from zmflow.protocol.checkpoints import SnapshotMetrics
from zmflow.protocol.messages import CheckpointStatistics

METRICS = SnapshotMetrics(1_000, 2_500, 300, 40_000, 2_048, 1_024)
COMPLETED = CheckpointRecord(
    7,
    "checkpoint",
    "COMPLETED",
    1_700_000_000_000,
    45,
    4_096,
    2_048,
    2_500,
    300,
    40_000,
    2,
    2,
    "/c/9f/chk-7",
    subtasks=[SubtaskSnapshot("v2", "Sink", 1, 44, METRICS), SubtaskSnapshot("v1", "Source", 0, 12, METRICS)],
)
FAILED = msgspec.structs.replace(
    COMPLETED, checkpoint_id=8, state="ABORTED", failure="Sink (2/2) could not take part: no.", counted=True
)
ABORTED = msgspec.structs.replace(
    COMPLETED, checkpoint_id=9, state="ABORTED", failure="Tasks restart.", acknowledged=1
)
SUMMARY = CheckpointSummary(60_000, 6, 1, 2, 1, 7, 1_700_000_000_000, 45, 4_096, "no space left")


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on standard output, without runs of spaces."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def test_the_newest_checkpoints_are_a_table_with_the_reasons_below(capsys: pytest.CaptureFixture[str]):
    """What counts as a failure is called one; the last complete one is what to go on from."""
    print_checkpoints(CheckpointStatistics(1, 1, "9f", SUMMARY, [COMPLETED, FAILED, ABORTED]))
    lines = printed(capsys)
    rows = [line for line in lines if line[:2] in ("7 ", "8 ", "9 ")]
    assert [row.split()[2] for row in rows] == ["COMPLETED", "FAILED", "ABORTED"]
    assert rows[0].endswith("45 ms 2/2 4 KiB 2 KiB - 2.5 ms 0.3 ms 40 ms")
    assert "8: Sink (2/2) could not take part: no." in lines
    assert "9: Tasks restart." in lines
    assert "The last complete one is in /c/9f/chk-7" in lines
    assert lines[-1].startswith("Every 1 min; 6 complete, the last is 7: ")


def test_a_job_without_checkpoints_says_so(capsys: pytest.CaptureFixture[str]):
    """And one that has not begun yet does."""
    print_checkpoints(CheckpointStatistics(1, 1, "9f", None, []))
    assert "The job takes no checkpoints." in printed(capsys)
    print_checkpoints(CheckpointStatistics(1, 1, "9f", CheckpointSummary(1_000), []))
    assert printed(capsys)[-1] == "Every 1.0 s; none is complete yet."


def test_one_checkpoint_is_shown_task_by_task(capsys: pytest.CaptureFixture[str]):
    """In the order of the graph, with what each took."""
    print_checkpoint(COMPLETED)
    lines = printed(capsys)
    assert lines[0] == "Checkpoint 7 (checkpoint)"
    assert "Location /c/9f/chk-7" in lines
    tasks = [line for line in lines if line.startswith("v")]
    assert tasks == [
        "v1 1 Source 12 ms 1.0 ms 2.5 ms 0.3 ms 40 ms 2 KiB 1 KiB -",
        "v2 2 Sink 44 ms 1.0 ms 2.5 ms 0.3 ms 40 ms 2 KiB 1 KiB -",
    ]


def test_what_barriers_overtook_is_shown(capsys: pytest.CaptureFixture[str]):
    """Of the checkpoint, and of each task whose barriers overtook something."""
    metrics = msgspec.structs.replace(METRICS, unaligned=True, in_flight_bytes=3_072)
    tasks = [SubtaskSnapshot("v2", "Sink", 1, 44, metrics), SubtaskSnapshot("v1", "Source", 0, 12, METRICS)]
    record = msgspec.structs.replace(COMPLETED, subtasks=tasks, unaligned=True, in_flight_bytes=3_072)
    print_checkpoint(record)
    lines = printed(capsys)
    assert "In flight 3 KiB: its barriers overtook records" in lines
    assert [line.split()[-1] for line in lines if line.startswith("v1")] == ["-"]
    assert [line.split()[-2:] for line in lines if line.startswith("v2")] == [["3", "KiB"]]
    print_checkpoints(CheckpointStatistics(1, 1, "9f", SUMMARY, [record]))
    assert any("4 KiB 2 KiB 3 KiB 2.5 ms" in line for line in printed(capsys))


def test_a_line_says_what_matters():
    """The newest, what is under way, and why the last failure was one."""
    sentence = checkpoints_sentence(SUMMARY)
    assert sentence.startswith("6 complete, the last is 7: ")
    assert sentence.endswith(
        " ago, 4 KiB in 45 ms; 1 under way; 2 given up; 1 failed, the last because: no space left"
    )
