"""Scripts run as Python runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from zmflow.cli.script import run_script
from zmflow.errors import ConfigurationError, JobGraphError


def script(directory: Path, text: str) -> Path:
    """A script with this text."""
    path = directory / "job.py"
    path.write_text(text)
    return path


def test_a_script_finds_what_python_gives_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, arguments, file and first path entry equal those of ``python job.py``."""
    (tmp_path / "beside.py").write_text("value = 7\n")
    path = script(
        tmp_path,
        "import json, sys, beside\n"
        "print(json.dumps([__name__, sys.argv, sys.path[0], __file__, beside.value]))\n",
    )
    run_script(path, ["a", "--b"])
    seen = json.loads(capsys.readouterr().out)
    python = subprocess.run([sys.executable, str(path), "a", "--b"], capture_output=True, check=True)
    assert json.loads(python.stdout) == seen


def test_what_a_script_changes_of_the_process_is_undone(tmp_path: Path) -> None:
    """Arguments and import path are the command's own again afterwards."""
    before = sys.argv[:], sys.path[:]
    run_script(script(tmp_path, "import sys; sys.path.append('x')\n"), [])
    assert before == (sys.argv, sys.path)


def test_an_error_of_the_script_shows_only_its_own_frames(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The traceback is the one Python would print; the exit code is 1."""
    path = script(tmp_path, "def f():\n    return 1 / 0\n\nf()\n")
    with pytest.raises(typer.Exit) as caught:
        run_script(path, [])
    shown = capsys.readouterr().err
    python = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, check=False)
    assert (1, python.stderr) == (caught.value.exit_code, shown)


def test_a_syntax_error_shows_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A script that cannot be compiled is reported as Python does, without our frames."""
    with pytest.raises(typer.Exit):
        run_script(script(tmp_path, "def f(:\n"), [])
    shown = capsys.readouterr().err
    assert "SyntaxError" in shown and "job.py" in shown and "zmflow" not in shown


def test_errors_of_ours_and_exits_pass(tmp_path: Path) -> None:
    """What the engine has to say is printed by the command; sys.exit keeps its code."""
    with pytest.raises(JobGraphError):
        run_script(
            script(tmp_path, "from zmflow.errors import JobGraphError\nraise JobGraphError('no')\n"), []
        )
    with pytest.raises(SystemExit, match="5"):
        run_script(script(tmp_path, "raise SystemExit(5)\n"), [])


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    """The path and where it was looked for."""
    with pytest.raises(ConfigurationError, match=r"gone\.py"):
        run_script(tmp_path / "gone.py", [])
