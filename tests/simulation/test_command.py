"""``python -m zmflow.testing.simulation``: what it prints and how it ends."""

from __future__ import annotations

import json

import pytest

from zmflow.protocol.session import Session
from zmflow.testing.simulation.__main__ import main


def test_a_range_of_seeds_is_summed_up(capsys):
    """The summary has the seeds, the events and the faults by kind."""
    assert main(["--seeds", "3..8", "--processes", "1"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("5 seeds, ")
    assert "Faults: " in shown
    assert "No seed failed" in shown


def test_the_summary_can_be_read_by_programs(capsys):
    """With --json it is one JSON object."""
    assert main(["--seeds", "5", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["seeds"], summary["failed"], summary["failures"]) == (1, 0, [])
    assert summary["events"] > 0


def test_a_trace_has_a_line_for_everything_that_happens(capsys):
    """With --trace each event and effect is printed with its instant and who it is about."""
    assert main(["--seeds", "5", "--trace"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any("tm-1" in line and "RegisterTaskManager" in line for line in lines)
    assert any("CALM" in line for line in lines)


def test_a_failure_names_the_seed_the_command_and_the_story(capsys, monkeypatch):
    """A seed that fails ends with 1 and prints what is needed to look at it again."""
    monkeypatch.setattr(Session, "admit", lambda _self, _sequence: "repeated")
    assert main(["--seeds", "7..9", "--processes", "1"]) == 1
    captured = capsys.readouterr()
    assert "2 seeds failed" in captured.out
    assert "Seed 7: the cluster does not settle" in captured.err
    assert "python -m zmflow.testing.simulation --seeds 7 --trace" in captured.err
    assert "whose clock shows" in captured.err


@pytest.mark.parametrize("text", ["", "x", "5..5", "7..3", "1..y", "-1..2"])
def test_what_is_no_range_of_seeds_is_refused(text, capsys):
    """Wrong usage is told and ends with 2."""
    with pytest.raises(SystemExit) as ended:
        main([f"--seeds={text}"])
    assert ended.value.code == 2
    assert "seed" in capsys.readouterr().err
