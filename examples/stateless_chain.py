"""Three functions, one chain: map, filter and map run in the same task, without handing records over.

    python examples/stateless_chain.py
    zmflow run -p 2 examples/stateless_chain.py -- --numbers 50

Prints the squares of the odd numbers. In parallel, each line begins with the subtask that printed it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from zmflow import StreamExecutionEnvironment


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads the options, builds the dataflow, runs it."""
    parser = argparse.ArgumentParser(description="Prints the squares of the odd numbers.")
    parser.add_argument("--numbers", type=int, default=20, help="count to this number (default: %(default)s)")
    options = parser.parse_args(arguments)

    env = StreamExecutionEnvironment.get_execution_environment()
    numbers = env.from_sequence(1, options.numbers)
    squares = (
        numbers.map(lambda number: (number, number * number))
        .filter(lambda pair: pair[0] % 2 == 1)
        .map(lambda pair: f"{pair[0]} x {pair[0]} = {pair[1]}")
    )
    squares.print()
    result = env.execute("stateless chain")
    print(f"Done in {result.get_net_runtime()} ms.")


if __name__ == "__main__":
    main()
