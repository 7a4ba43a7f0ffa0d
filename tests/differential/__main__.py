"""``python -m tests.differential``: generated programs on PyFlink and on zmflow must print the same.

Needs an interpreter with apache-flink and a JVM: this one, or the one that ``--python`` names.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.differential.engines import has_pyflink, pyflink_lines, zmflow_lines
from tests.differential.programs import program

__all__ = ["main"]

MISSING = """\
NOTHING WAS COMPARED: {python} has no apache-flink.
Install it (pip install apache-flink) and a JVM, or name an interpreter that has it: --python PATH.
"""


def main(arguments: list[str] | None = None) -> int:
    """0: all programs printed the same; 1: one did not; 2: there is no PyFlink to compare with."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="an interpreter that has apache-flink")
    parser.add_argument("--seeds", default="0..9", metavar="A..B", help="which programs, both included")
    options = parser.parse_args(arguments)
    if not has_pyflink(options.python):
        sys.stderr.write(MISSING.format(python=options.python))
        return 2
    first, _, last = options.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    different = sum(not _same(seed, options.python) for seed in seeds)
    print(f"{len(seeds)} programs, {different} of them different.", file=sys.stdout)
    return 1 if different else 0


def _same(seed: int, python: str) -> bool:
    with tempfile.TemporaryDirectory(prefix="zmflow-differential-") as directory:
        script = Path(directory) / f"seed_{seed}.py"
        script.write_text(program(seed), encoding="utf-8")
        try:
            theirs, ours = pyflink_lines(python, script), zmflow_lines(script)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"seed {seed}: NOT COMPARED, {error}\n{program(seed)}", flush=True)
            return False
    print(f"seed {seed}: {len(theirs)} lines, {'the same' if ours == theirs else 'DIFFERENT'}", flush=True)
    if ours == theirs:
        return True
    print(program(seed))
    print("\n".join(difflib.unified_diff(theirs, ours, "PyFlink", "zmflow", lineterm="", n=0)))
    return False


if __name__ == "__main__":
    sys.exit(main())
