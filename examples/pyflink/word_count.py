"""How often each word occurs, in BATCH mode: one line for each word."""

from pyflink.common import Types
from pyflink.datastream import RuntimeExecutionMode, StreamExecutionEnvironment

LINES = [
    "the owl and the pussycat went to sea",
    "in a beautiful pea green boat",
    "they took some honey and plenty of money",
    "wrapped up in a five pound note",
    "the owl looked up to the stars above",
    "and sang to a small guitar",
]


def words(line):
    yield from line.split()


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_runtime_mode(RuntimeExecutionMode.BATCH)
    env.set_parallelism(1)
    counts = (
        env.from_collection(LINES)
        .flat_map(words)
        .map(lambda word: (word, 1), output_type=Types.TUPLE([Types.STRING(), Types.INT()]))
        .key_by(lambda pair: pair[0])
        .reduce(lambda left, right: (left[0], left[1] + right[1]))
    )
    counts.print()
    env.execute("word count")


if __name__ == "__main__":
    main()
