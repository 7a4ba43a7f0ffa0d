"""``running_cluster``: daemons to measure on, which are gone afterwards."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rounds import environment_for

__all__ = ["ZMFLOW", "running_cluster"]

ZMFLOW = str(Path(sys.executable).with_name("zmflow"))
CLUSTER_TIMEOUT_S = 60


@contextmanager
def running_cluster(
    taskmanagers: int = 1, slots: int = 2, settings: Mapping[str, str] | None = None
) -> Iterator[dict[str, str]]:
    """A cluster of daemons, and the settings with which its JobManager is found.

    Args:
        taskmanagers: how many there are.
        slots: of each.
        settings: of all daemons.
    """
    with tempfile.TemporaryDirectory(
        prefix="zb"
    ) as temporary:  # short: the paths of sockets have little room
        place = Path(temporary)
        where = ["--dir", str(place / "cluster")]

        def cluster(*arguments: str) -> None:
            command = [ZMFLOW, "cluster", *arguments, *where]
            subprocess.run(
                command,
                cwd=place,
                env=environment_for(place, settings or {}),
                stdout=subprocess.DEVNULL,
                timeout=CLUSTER_TIMEOUT_S,
                check=True,
            )

        cluster("start", "--taskmanagers", str(taskmanagers), "--slots", str(slots))
        try:
            about = json.loads((place / "cluster" / "cluster.json").read_text(encoding="utf-8"))
            yield {"jobmanager.rpc.address": about["host"], "jobmanager.rpc.port": str(about["port"])}
        finally:
            cluster("stop")
