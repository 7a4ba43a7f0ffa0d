"""A job of three records: what is left when it is measured is the cost of starting.

Prints, as one line of JSON, how long after the call of ``execute`` the first record was processed and how
long the call took.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from zmflow import StreamExecutionEnvironment


def main() -> None:
    """Runs the job and says how long it took."""
    with tempfile.TemporaryDirectory() as directory:
        env = StreamExecutionEnvironment.get_execution_environment()
        env.set_parallelism(1)
        note = Path(directory) / "first"

        def increment(number: int) -> int:
            if number == 1:
                note.write_text(str(time.monotonic_ns()), encoding="ascii")
            return number + 1

        def check(number: int) -> None:
            assert number in (2, 3, 4)

        env.from_collection([1, 2, 3]).map(increment).add_sink(check)
        submitted_ns = time.monotonic_ns()
        env.execute("trivial job")
        finished_ns = time.monotonic_ns()
        first_ns = int(note.read_text(encoding="ascii"))
    said = {
        "first_record_s": (first_ns - submitted_ns) / 1e9,
        "finished_s": (finished_ns - submitted_ns) / 1e9,
    }
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
