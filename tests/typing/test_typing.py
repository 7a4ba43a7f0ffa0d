"""The API's types, as mypy sees them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def errors_of(path: Path) -> list[tuple[int, str]]:
    """Lines and codes of the errors mypy finds in one file."""
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context"]
    result = subprocess.run([*command, str(path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    found = re.findall(rf"{path.name}:(\d+): error: .*\[([\w-]+)\]$", result.stdout, re.MULTILINE)
    assert len(found) == result.stdout.count(": error: "), result.stdout
    return sorted((int(line), code) for line, code in found)


@pytest.mark.timeout(300)
def test_types_are_inferred_through_lambdas_and_functions() -> None:
    """Every assert_type of the well-typed programs holds, in strict mode."""
    assert errors_of(HERE / "typed_streams.py") == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("path", sorted((HERE / "wrong").glob("*.py")), ids=lambda path: path.stem)
def test_misuse_is_rejected(path: Path) -> None:
    """mypy finds exactly the errors that the file announces."""
    announced = [
        (number, code.strip())
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if "  # error: " in line
        for code in line.split("  # error: ")[1].split(",")
    ]
    assert announced
    assert errors_of(path) == sorted(announced)
