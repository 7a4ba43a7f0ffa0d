"""The jobs of a run: restartable, bounded, written to files, and with a result that a formula knows.

Each is paced by sleeping, so that it takes its time on a slow machine and on a fast one alike, and sends
some hundred thousand records meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from zmflow import Configuration, DataStream, RuntimeExecutionMode, StreamExecutionEnvironment
from zmflow.connectors import TextFileSink, TextFileSource

__all__ = ["KINDS", "RESTARTS", "JobKind", "JobOrder", "Workload", "write_input"]

BEAT_S = 0.002
"""One sleep of a paced source; short beside a job, long beside the clock's resolution."""

BURST = 40
"""Records after each sleep: 20,000 a second and subtask, which leaves most of a core to the others."""

KEYS = 101

INPUT_FILES = 8
LINES_PER_FILE = 2000
VOCABULARY = 50
WORDS_PER_LINE = 10

RESTARTS = {
    "fixed-delay": {
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": "10000",
        "restart-strategy.fixed-delay.delay": "200 ms",
    },
    "exponential-delay": {
        "restart-strategy.type": "exponential-delay",
        "restart-strategy.exponential-delay.initial-backoff": "100 ms",
        "restart-strategy.exponential-delay.max-backoff": "400 ms",
    },
}
"""Strategies that never give up and are quick."""


@dataclass(frozen=True)
class Workload:
    """What one job is given: where its results go, where texts are, how long it is to take."""

    output: Path
    texts: Path
    work_ms: int
    overwrite: bool

    def beats(self, parallelism: int) -> int:
        """Sleeps of all subtasks together that fill the time."""
        return max(1, int(self.work_ms / 1000 / BEAT_S)) * parallelism

    def numbers(self, parallelism: int) -> int:
        """How many numbers ``paced_numbers`` makes: 0 to this, exclusively."""
        return self.beats(parallelism) * BURST


@dataclass(frozen=True)
class JobKind:
    """A shape of job: builds it, and says what is wrong with its output ("" when nothing is)."""

    name: str
    slots: int
    build: Callable[[StreamExecutionEnvironment, Workload], None]
    fault: Callable[[Workload], str]


@dataclass(frozen=True)
class JobOrder:
    """One job of a run."""

    name: str
    kind: JobKind
    work_ms: int
    strategy: str
    overwrite: bool  # of the file sinks
    settings: tuple[tuple[str, str], ...] = ()
    variant: str = ""  # of those of an exactly-once run

    def configuration(self) -> Configuration:
        """Its settings."""
        return Configuration.from_dict({**RESTARTS[self.strategy], **dict(self.settings)})


# -- sources --------------------------------------------------------------------------------------


def burst(beat: int) -> range:
    """The numbers of one beat, after its sleep."""
    time.sleep(BEAT_S)
    return range(beat * BURST, (beat + 1) * BURST)


def paced_numbers(env: StreamExecutionEnvironment, work: Workload, parallelism: int) -> DataStream[int]:
    """Numbers from 0 on, read in parallel, that take ``work_ms``. The pace is in the source's chain: without
    it the reader beside the split enumerator would have taken every split before the others have asked."""
    env.set_parallelism(parallelism)
    return env.from_sequence(0, work.beats(parallelism) - 1).flat_map(burst)


def write_input(directory: Path) -> None:
    """The texts that word counts read."""
    directory.mkdir(parents=True)
    for file in range(INPUT_FILES):
        lines = (" ".join(words_of(file * LINES_PER_FILE + line)) for line in range(LINES_PER_FILE))
        (directory / f"text-{file}").write_text("\n".join(lines) + "\n")


def words_of(line: int) -> list[str]:
    """The words of one line, of all lines counted through."""
    first = line * WORDS_PER_LINE
    return [f"word{number % VOCABULARY}" for number in range(first, first + WORDS_PER_LINE)]


# -- results --------------------------------------------------------------------------------------


def written_lines(directory: Path, parts: int) -> tuple[list[str], str]:
    """The lines of all part files, and what is wrong with the files themselves."""
    expected = {f"part-{part}" for part in range(parts)}
    try:
        found = {path.name for path in directory.iterdir()}
    except OSError as error:
        return [], f"the output cannot be read: {error}"
    if found != expected:
        return [], f"{directory.name} has the files {sorted(found)}, not {parts} parts"
    lines = [line for name in sorted(found) for line in (directory / name).read_text().splitlines()]
    return lines, ""


def difference(found: Iterable[str], expected: Iterable[str], *, what: str) -> str:
    """How two multisets of lines differ, in a sentence; "" when they do not."""
    have, want = Counter(found), Counter(expected)
    missing, extra = want - have, have - want
    if not missing and not extra:
        return ""
    return (
        f"{what}: {missing.total()} lines of {want.total()} are missing {sorted(missing)[:3]}, "
        f"{extra.total()} are too many {sorted(extra)[:3]}"
    )


def numbers_fault(directory: Path, parts: int, count: int) -> str:
    """What is wrong when every number from 0 to ``count`` must be there once."""
    lines, fault = written_lines(directory, parts)
    return fault or difference(lines, map(str, range(count)), what=directory.name)


def sums_fault(directory: Path, parts: int, count: int) -> str:
    """What is wrong when each key's line must give the number and the sum of the numbers that have it."""

    def line(key: int) -> str:
        members = range(key, count, KEYS)
        return str((key, len(members), len(members) * (members[0] + members[-1]) // 2))

    lines, fault = written_lines(directory, parts)
    return fault or difference(lines, map(line, range(KEYS)), what=directory.name)


# -- shapes ---------------------------------------------------------------------------------------


def sink(work: Workload, name: str = "") -> TextFileSink[object]:
    """Where the results go."""
    return TextFileSink(work.output / name, overwrite=work.overwrite)


def rebalanced(parallelism: int) -> JobKind:
    """Every number goes to the next subtask and is written there: one region of all tasks."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        paced_numbers(env, work, parallelism).rebalance().map(lambda n: n).sink_to(sink(work))

    def fault(work: Workload) -> str:
        return numbers_fault(work.output, parallelism, work.numbers(parallelism))

    return JobKind(f"rebalance{parallelism}", parallelism, build, fault)


def summed(stream: DataStream[int], group: str | None = None) -> DataStream[tuple[int, int, int]]:
    """Count and sum of the numbers of each key."""
    keyed = stream.map(lambda n: (n % KEYS, 1, n)).key_by(lambda row: row[0])
    sums = keyed.reduce(lambda a, b: (a[0], a[1] + b[1], a[2] + b[2]))
    return sums.slot_sharing_group(group) if group else sums


def keyed_sums() -> JobKind:
    """A keyed aggregate in BATCH mode."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        env.set_runtime_mode(RuntimeExecutionMode.BATCH)
        summed(paced_numbers(env, work, 4)).sink_to(sink(work))

    return JobKind("sums", 4, build, lambda work: sums_fault(work.output, 4, work.numbers(4)))


def sharing_groups() -> JobKind:
    """Numbers and their sums in slots of two sharing groups."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        env.set_runtime_mode(RuntimeExecutionMode.BATCH)
        summed(paced_numbers(env, work, 2), "sums").sink_to(sink(work))

    return JobKind("groups", 4, build, lambda work: sums_fault(work.output, 2, work.numbers(2)))


def forward_only() -> JobKind:
    """Chains joined by forward exchanges: a region for each subtask."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        above = paced_numbers(env, work, 4).map(lambda n: n + 1).start_new_chain()
        above.map(lambda n: n - 1).start_new_chain().sink_to(sink(work))

    return JobKind("forward", 4, build, lambda work: numbers_fault(work.output, 4, work.numbers(4)))


def two_regions() -> JobKind:
    """Two pipelines that have nothing to do with each other but their slots."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        paced_numbers(env, work, 3).rebalance().map(lambda n: n).sink_to(sink(work, "numbers"))
        env.set_runtime_mode(RuntimeExecutionMode.BATCH)
        summed(paced_numbers(env, work, 3)).sink_to(sink(work, "sums"))

    def fault(work: Workload) -> str:
        count = work.numbers(3)
        return numbers_fault(work.output / "numbers", 3, count) or sums_fault(work.output / "sums", 3, count)

    return JobKind("regions", 3, build, fault)


def word_count() -> JobKind:
    """Words of files, counted in BATCH mode."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        env.set_parallelism(4)
        env.set_runtime_mode(RuntimeExecutionMode.BATCH)
        pause_s = work.work_ms / 1000 * 4 / (INPUT_FILES * LINES_PER_FILE)

        def split(line: str) -> list[str]:
            time.sleep(pause_s)
            return line.split()

        words = env.from_source(TextFileSource(str(work.texts))).flat_map(split)
        words.map(lambda word: (word, 1)).key_by(lambda pair: pair[0]).sum(1).sink_to(sink(work))

    def fault(work: Workload) -> str:
        lines, wrong = written_lines(work.output, 4)
        each = INPUT_FILES * LINES_PER_FILE * WORDS_PER_LINE // VOCABULARY
        expected = (str((f"word{number}", each)) for number in range(VOCABULARY))
        return wrong or difference(lines, expected, what="words")

    return JobKind("words", 4, build, fault)


KINDS: list[JobKind] = [
    rebalanced(4),
    keyed_sums(),
    forward_only(),
    two_regions(),
    sharing_groups(),
    word_count(),
    rebalanced(8),
]
"""All shapes. Two at a time find room in 8 slots, but for the last one, which waits until it is alone."""
