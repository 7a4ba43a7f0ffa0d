"""Jobs whose output tells every record that is lost or counts twice: checkpointed, with exactly-once sinks.

What they write does not depend on who read what when, so each line of the output is known beforehand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tests.chaos.jobs import BEAT_S, BURST, KEYS, JobKind, Workload, difference, paced_numbers
from zmflow import (
    AggregateFunction,
    DataStream,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
    MapStateDescriptor,
    StreamExecutionEnvironment,
    Time,
    TumblingEventTimeWindows,
    ValueStateDescriptor,
    WatermarkStrategy,
)
from zmflow.connectors import Encoder, FileSink, RollingPolicy, TextFileSink

if TYPE_CHECKING:
    from postgres_server import PostgresServer
    from zmflow_connector_postgres import PostgresSink

__all__ = ["kinds"]

WINDOW = 50 * BURST
"""Event time, which is the number itself, of a window: fifty beats of a source, so that some hundred windows
close while the job runs, and some in every recovery."""

SLOWNESS = 4
"""A slow consumer takes a record in the time in which a source could send so many."""

SLOW_FRAME_MS = 1
"""Frames leave so soon before a slow consumer that each has some ten records. All records of the job would
fit into full ones, and nobody would ever wait."""


def visible_lines(directory: Path) -> tuple[list[str], str]:
    """The lines of everything that was committed, and what is wrong with the files themselves."""
    lines: list[str] = []
    for folder, _, names in os.walk(directory):
        for name in names:
            if name.startswith((".", "_")) or "inprogress" in name:
                return [], f"{name} was left behind"
            lines += (Path(folder) / name).read_text().splitlines()
    return lines, ""


def fault_of(directory: Path, expected: Iterable[str]) -> str:
    """What is wrong with the output; "" when it is what it must be."""
    lines, fault = visible_lines(directory)
    return fault or difference(lines, expected, what=directory.name)


def files_of_checkpoints(directory: Path) -> FileSink[object]:
    """Files that end with each checkpoint and are committed by it. Those of ``TextFileSink`` go on."""
    policy = RollingPolicy.on_checkpoint_rolling_policy()
    rows = FileSink.for_row_format(str(directory), Encoder.simple_string_encoder())
    return rows.with_rolling_policy(policy).build()


def table_of(work: Workload) -> str:
    """The table of a job, and what the names of its transactions begin with."""
    return work.output.name.replace("-", "_")


def table_sink(server: PostgresServer, work: Workload, columns: str) -> PostgresSink[tuple[int, ...]]:
    """Into a table that is made for it."""
    from zmflow_connector_postgres import PostgresSink

    table = table_of(work)
    server.query(f"CREATE TABLE {table} ({columns})")
    return PostgresSink(server.conninfo, table, mode="exactly_once", transaction_prefix=table)


def fault_of_table(server: PostgresServer, work: Workload, expected: Iterable[str]) -> str:
    """What is wrong with the rows of a job, and with the transactions that it leaves; "" when nothing is."""
    table = table_of(work)
    left = [name for name in server.prepared() if f"/{table}/" in name]
    if left:
        return f"{len(left)} transactions are still prepared, {left[0]} among them"
    rows = server.query(f"SELECT * FROM {table}")  # noqa: S608 - its name is ours
    return difference(map(str, rows), expected, what=table)


def keyed(numbers: DataStream[int]) -> DataStream[int]:
    """With the number as event time; each reader's numbers ascend, so none is late."""
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(lambda number, _: number)
    return numbers.assign_timestamps_and_watermarks(strategy)


def key_of(number: int) -> int:
    """The key of a number."""
    return number % KEYS


class CountAndSum(AggregateFunction[int, tuple[int, int], tuple[int, int]]):
    """How many, and how much."""

    def create_accumulator(self) -> tuple[int, int]:
        return 0, 0

    def add(self, value: int, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator[0] + 1, accumulator[1] + value

    def get_result(self, accumulator: tuple[int, int]) -> tuple[int, int]:
        return accumulator

    def merge(self, acc_a: tuple[int, int], acc_b: tuple[int, int]) -> tuple[int, int]:
        return acc_a[0] + acc_b[0], acc_a[1] + acc_b[1]


class CountByTimer(KeyedProcessFunction[int, int, tuple[int, int, int]]):
    """The same as a window, made of map state and timers."""

    def open(self, runtime_context):
        self.counts = runtime_context.get_map_state(MapStateDescriptor("counts"))

    def process_element(self, value, ctx):
        start = value // WINDOW * WINDOW
        count, total = self.counts.get(start) or (0, 0)
        self.counts.put(start, (count + 1, total + value))
        ctx.timer_service().register_event_time_timer(start + WINDOW - 1)

    def on_timer(self, timestamp, ctx):
        start = timestamp + 1 - WINDOW
        yield self.counts.get(start)
        self.counts.remove(start)


class SlowCount(KeyedCoProcessFunction[int, int, int, int | tuple[int, int]]):
    """Each number of two inputs, and the running count of its key; it takes its time."""

    def open(self, runtime_context):
        self.count = runtime_context.get_state(ValueStateDescriptor("count"))
        self.taken = 0

    def process_element1(self, value, ctx):
        yield from self.counted(value, ctx)

    def process_element2(self, value, ctx):
        yield from self.counted(value, ctx)

    def counted(self, value, ctx):
        """The two lines of a number."""
        self.taken += 1
        if self.taken % BURST == 0:
            time.sleep(BEAT_S * SLOWNESS)
        count = (self.count.value() or 0) + 1
        self.count.update(count)
        yield value
        yield ctx.get_current_key(), count


def windows_expected(count: int) -> Iterable[str]:
    """A line for each window and key: how many numbers, and their sum."""
    for start in range(0, count, WINDOW):
        for key in range(KEYS):
            members = range(start + (key - start) % KEYS, min(start + WINDOW, count), KEYS)
            if members:
                yield str((len(members), len(members) * (members[0] + members[-1]) // 2))


def running_expected(count: int) -> Iterable[str]:
    """A line for each key and every number of its records so far."""
    for key in range(KEYS):
        for number in range(1, len(range(key, count, KEYS)) + 1):
            yield str((key, number))


def windows(parallelism: int) -> JobKind:
    """Tumbling windows in event time."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        numbers = keyed(paced_numbers(env, work, parallelism))
        results = numbers.key_by(key_of).window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW)))
        results.aggregate(CountAndSum()).sink_to(TextFileSink(work.output))

    def fault(work: Workload) -> str:
        return fault_of(work.output, windows_expected(work.numbers(parallelism)))

    return JobKind(f"windows{parallelism}", parallelism, build, fault)


def timers(parallelism: int) -> JobKind:
    """Map state and event-time timers."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        numbers = keyed(paced_numbers(env, work, parallelism))
        numbers.key_by(key_of).process(CountByTimer()).sink_to(TextFileSink(work.output))

    def fault(work: Workload) -> str:
        return fault_of(work.output, windows_expected(work.numbers(parallelism)))

    return JobKind(f"timers{parallelism}", parallelism, build, fault)


def running(parallelism: int) -> JobKind:
    """A running count: every one from 1 to the number of the key's records must be there once."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        ones = paced_numbers(env, work, parallelism).map(lambda number: (number % KEYS, 1))
        ones.key_by(lambda one: one[0]).sum(1).sink_to(files_of_checkpoints(work.output))

    def fault(work: Workload) -> str:
        return fault_of(work.output, running_expected(work.numbers(parallelism)))

    return JobKind(f"running{parallelism}", parallelism, build, fault)


def both(parallelism: int) -> JobKind:
    """Two sinks of one stream: running sums and windows, which must agree on what was read."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        numbers = keyed(paced_numbers(env, work, parallelism))
        by_key = numbers.key_by(key_of)
        by_key.window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW))).aggregate(
            CountAndSum()
        ).sink_to(TextFileSink(work.output / "windows"))
        numbers.rebalance().map(lambda number: number).sink_to(TextFileSink(work.output / "numbers"))

    def fault(work: Workload) -> str:
        count = work.numbers(parallelism)
        return fault_of(work.output / "windows", windows_expected(count)) or fault_of(
            work.output / "numbers", map(str, range(count))
        )

    return JobKind(f"both{parallelism}", parallelism, build, fault)


def behind_a_slow_consumer(parallelism: int) -> JobKind:
    """A consumer of two inputs that is slower than its producers, which wait for it most of the time.

    It writes numbers beside counts, which alone would take one that comes twice for one that is lost."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        env.set_buffer_timeout(SLOW_FRAME_MS)
        numbers = paced_numbers(env, replace(work, work_ms=work.work_ms // SLOWNESS), parallelism)
        some = numbers.filter(lambda number: number % 3 == 0)
        others = numbers.filter(lambda number: number % 3).rebalance().map(lambda number: number)
        both = some.key_by(key_of).connect(others.key_by(key_of))
        both.process(SlowCount()).sink_to(files_of_checkpoints(work.output))

    def fault(work: Workload) -> str:
        count = replace(work, work_ms=work.work_ms // SLOWNESS).numbers(parallelism)
        return fault_of(work.output, chain(map(str, range(count)), running_expected(count)))

    return JobKind(f"slow{parallelism}", parallelism, build, fault)


def windows_in_table(parallelism: int, server: PostgresServer) -> JobKind:
    """Windows whose results go to a table."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        numbers = keyed(paced_numbers(env, work, parallelism))
        results = numbers.key_by(key_of).window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW)))
        results.aggregate(CountAndSum()).sink_to(table_sink(server, work, "count bigint, total bigint"))

    def fault(work: Workload) -> str:
        return fault_of_table(server, work, windows_expected(work.numbers(parallelism)))

    return JobKind(f"table{parallelism}", parallelism, build, fault)


def table_and_files(parallelism: int, server: PostgresServer) -> JobKind:
    """Windows in files, and beside them some of the numbers in a table: both sinks agree on what was read."""

    def build(env: StreamExecutionEnvironment, work: Workload) -> None:
        numbers = keyed(paced_numbers(env, work, parallelism))
        results = numbers.key_by(key_of).window(TumblingEventTimeWindows.of(Time.milliseconds(WINDOW)))
        results.aggregate(CountAndSum()).sink_to(TextFileSink(work.output))
        rows = numbers.filter(lambda number: number % BURST == 0).map(lambda number: (number,))
        rows.rebalance().map(lambda row: row).sink_to(table_sink(server, work, "number bigint"))

    def fault(work: Workload) -> str:
        count = work.numbers(parallelism)
        rows = (str((number,)) for number in range(0, count, BURST))
        return fault_of(work.output, windows_expected(count)) or fault_of_table(server, work, rows)

    return JobKind(f"mixed{parallelism}", parallelism, build, fault)


def kinds(server: PostgresServer | None) -> list[JobKind]:
    """All shapes, at several parallelisms; without a server those that need none."""
    shapes = [windows(2), timers(4), running(3), behind_a_slow_consumer(2), both(2), windows(4), running(2)]
    shapes.append(behind_a_slow_consumer(4))
    if server is not None:
        shapes += [windows_in_table(2, server), table_and_files(3, server), windows_in_table(4, server)]
    return shapes
