"""``python -m zmflow.testing.simulation.dataflow --seeds A..B``: simulate jobs with their records."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from zmflow.testing.simulation.__main__ import simulate
from zmflow.testing.simulation.dataflow.run import PROGRAM, run_dataflow

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 1 when a seed failed."""
    what = "Simulate jobs with their records, one for each seed, and check that each record counts once."
    return simulate(arguments, run_dataflow, program=PROGRAM, description=what)


if __name__ == "__main__":
    sys.exit(main())
