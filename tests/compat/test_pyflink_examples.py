"""The programs of ``examples/pyflink`` under ``zmflow run --pyflink`` print what PyFlink 2.3 prints.

The files in ``examples/pyflink/expected`` were written by PyFlink itself.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples" / "pyflink"
TIMEOUT_S = 90

ENABLED = sorted(path.stem for path in EXAMPLES.glob("*.py"))
"""All of them."""

ORDERED = {"basic_operations", "count_window", "json_processing", "state_access"}
"""Programs whose output has one order. In the others Flink promises none between keys."""

pytestmark = pytest.mark.integration


def expected_of(name: str) -> list[str]:
    """What PyFlink printed."""
    return (EXAMPLES / "expected" / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_each_program_has_its_expected_output() -> None:
    """No program is without one, and none of those enabled is misspelt."""
    programs = {path.stem for path in EXAMPLES.glob("*.py")}
    assert programs == {path.stem for path in (EXAMPLES / "expected").glob("*.txt")}
    assert len(programs) == 10
    assert set(ENABLED) | ORDERED <= programs


@pytest.mark.parametrize("name", ENABLED)
def test_a_program_of_pyflink_prints_what_pyflink_prints(tmp_path: Path, name: str) -> None:
    """The lines are PyFlink's, and in PyFlink's order where there is one."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("ZMFLOW_")}
    environment |= {"HOME": str(tmp_path), "ZMFLOW_EXECUTION_TARGET": "embedded"}
    done = subprocess.run(
        [str(Path(sys.executable).with_name("zmflow")), "run", "--pyflink", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    got, expected = done.stdout.splitlines(), expected_of(name)
    assert (got if name in ORDERED else sorted(got)) == (expected if name in ORDERED else sorted(expected))
