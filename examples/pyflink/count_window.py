"""The sum of every three amounts of a key; what does not fill a window is never printed."""

from collections.abc import Iterable

from pyflink.common import Types
from pyflink.datastream import StreamExecutionEnvironment, WindowFunction
from pyflink.datastream.window import CountWindow


class SumOfWindow(WindowFunction[tuple, tuple, str, CountWindow]):
    def apply(self, key: str, window: CountWindow, inputs: Iterable[tuple]):
        return [(key, sum(amount for amount, _ in inputs))]


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    amounts = env.from_collection(
        [(1, "tea"), (2, "salt"), (3, "tea"), (4, "salt"), (5, "tea"), (6, "salt"), (7, "salt")],
        type_info=Types.TUPLE([Types.INT(), Types.STRING()]),
    )
    sums = (
        amounts.key_by(lambda pair: pair[1], key_type=Types.STRING())
        .count_window(3)
        .apply(SumOfWindow(), Types.TUPLE([Types.STRING(), Types.INT()]))
    )
    sums.print()
    env.execute("count windows")


if __name__ == "__main__":
    main()
