"""Classes of the script, of a module beside it and of shipped files, as records and as keys."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

CLASSES = """
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

class Color(Enum):
    RED = 1
    BLUE = 2

class Pair(NamedTuple):
    color: Color
    count: int

@dataclass(frozen=True)
class Point:
    name: str
    x: int
"""
JOB = """
import beside, shipped
from zmflow import StreamExecutionEnvironment

env = StreamExecutionEnvironment.get_execution_environment()
env.set_parallelism(2)
own = type("Own", (), {"Color": Color, "Pair": Pair, "Point": Point})
for place in (own, beside, shipped):
    color, pair, point = place.Color, place.Pair, place.Point
    numbers = env.from_collection(range(40)).rebalance()
    pairs = numbers.map(lambda n, pair=pair, color=color: pair(color(n % 2 + 1), 1)).key_by(lambda p: p.color)
    counted = list(pairs.reduce(lambda a, b: a._replace(count=a.count + b.count)).execute_and_collect())
    assert all(type(record) is pair for record in counted), counted
    most = {key: max(r.count for r in counted if r.color is key) for key in color}
    assert most == {color.RED: 20, color.BLUE: 20}, counted
    points = numbers.map(lambda n, point=point: point(str(n % 3), n)).key_by(lambda p: p).map(lambda p: p)
    found = sorted(points.execute_and_collect(), key=lambda p: p.x)
    assert found == [point(str(n % 3), n) for n in range(40)], found
print("all are themselves")
"""


def test_records_keep_their_class_between_workers_and_to_the_client(tmp_path: Path) -> None:
    """Dataclasses, named tuples and enum keys go through key_by and come back as what they were."""
    (tmp_path / "job.py").write_text(CLASSES + JOB)
    (tmp_path / "beside.py").write_text(CLASSES)
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "shipped.py").write_text(CLASSES)
    command = [sys.executable, "-m", "zmflow.cli.main", "run", "--no-progress"]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ZMFLOW_")}
    done = subprocess.run(
        [*command, "--py-files", "lib/shipped.py", "job.py"],
        cwd=tmp_path,
        env={**clean, "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "all are themselves\n"), done.stderr
