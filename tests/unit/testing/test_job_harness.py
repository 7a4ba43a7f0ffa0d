"""The harness of whole jobs: what is pushed into sources comes out of sinks, as it does on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from zmflow import (
    AsyncDataStream,
    AsyncFunction,
    CoMapFunction,
    DataStream,
    Duration,
    KeyedProcessFunction,
    MapFunction,
    OutputTag,
    RuntimeContext,
    StreamExecutionEnvironment,
    Time,
    TumblingEventTimeWindows,
    ValueStateDescriptor,
    WatermarkStrategy,
)
from zmflow.errors import JobGraphError, ZmflowError
from zmflow.testing import JobHarness

COUNT: ValueStateDescriptor[int] = ValueStateDescriptor("count")
LATE: OutputTag[Any] = OutputTag("late")


class CountOfKey(KeyedProcessFunction[str, str, Any]):
    """Counts, and says the count and the subtask ten milliseconds later by either time."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.count = runtime_context.get_state(COUNT)
        self.subtask = runtime_context.get_index_of_this_subtask()
        self.seen = runtime_context.get_int_counter("seen")

    def process_element(self, value: str, ctx: Any) -> None:
        self.seen.add(1)
        self.count.update((self.count.value() or 0) + 1)
        if ctx.timestamp() is not None:
            ctx.timer_service().register_event_time_timer(ctx.timestamp() + 10)
        else:
            ctx.timer_service().register_processing_time_timer(
                ctx.timer_service().current_processing_time() + 10
            )

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Any]:
        yield ctx.get_current_key(), self.count.value(), timestamp, self.subtask


def counting(env: StreamExecutionEnvironment) -> DataStream[Any]:
    """Counts of the words of a source."""
    words = env.from_collection([]).name("words")
    return words.map(str.lower).key_by(lambda word: word).process(CountOfKey()).name("count")


@pytest.mark.parametrize("parallelism", [1, 3])
def test_records_go_where_their_keys_belong(parallelism: int) -> None:
    """State and timers are found by the operator's name and the key, whichever subtask has them."""
    with JobHarness(counting, parallelism=parallelism) as job:
        job.push_batch("words", ["A", "b", "a"], [1, 2, 3])
        assert [job.state("count", COUNT, key).value() for key in ("a", "b", "c")] == [2, 1, None]
        assert [timer[:2] for timer in job.event_time_timers("count")] == [(11, "a"), (12, "b"), (13, "a")]
        assert job.values() == []
        job.watermark("words", 12)
        assert sorted(value[:3] for value in job.values()) == [("a", 2, 11), ("b", 1, 12)]
        job.clear()
        job.end_input()
        assert [value[:3] for value in job.values()] == [("a", 2, 13)]
        assert job.accumulators() == {"seen": 3}


def test_keys_are_spread_over_subtasks() -> None:
    """By their key groups; one subtask does not get them all."""
    with JobHarness(counting, parallelism=4) as job:
        job.push_batch("words", [f"w{number}" for number in range(40)], [0] * 40)
        job.end_input()
        assert {subtask for *_, subtask in job.values()} == {0, 1, 2, 3}


def test_the_clock_is_the_tests() -> None:
    """Timers fire one by one as it goes on, each at its own time."""
    with JobHarness(counting, processing_time_ms=100) as job:
        job.push("words", "a")
        job.processing_time(105)
        job.push("words", "b")
        assert (job.next_processing_time_ms(), len(job.processing_time_timers("count"))) == (110, 2)
        job.processing_time(200)
        assert [value[:3] for value in job.values()] == [("a", 1, 110), ("b", 1, 115)]
        with pytest.raises(ValueError, match="does not go back"):
            job.processing_time(10)


def test_batch_mode_is_that_of_a_job() -> None:
    """Everything of one key at the end."""
    with JobHarness(counting, batch_mode=True, parallelism=2) as job:
        job.push_batch("words", ["a", "b", "a"], [3, 2, 1])
        assert job.values() == []
        job.end_input()
        assert sorted(value[:3] for value in job.values()) == [("a", 2, 11), ("a", 2, 13), ("b", 1, 12)]


def test_windows_with_the_programs_own_watermarks() -> None:
    """The strategy gives records their timestamps; watermarks come by the clock, what is late goes aside."""

    def program(env: StreamExecutionEnvironment) -> None:
        strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_millis(2))
        strategy = strategy.with_timestamp_assigner(lambda pair, _: pair[1])
        pairs = (
            env.from_collection([])
            .name("pairs")
            .assign_timestamps_and_watermarks(strategy)
            .set_parallelism(1)
        )
        sums = (
            pairs.key_by(lambda pair: pair[0])
            .window(TumblingEventTimeWindows.of(Time.milliseconds(10)))
            .side_output_late_data(LATE)
            .reduce(lambda left, right: (left[0], left[1] + right[1]))
        )
        sums.print().name("sums")
        sums.get_side_output(LATE).print().name("late")
        env.execute("sums")

    with JobHarness(program, parallelism=2) as job:
        assert (job.sources, sorted(job.sinks)) == (["pairs"], ["late", "sums"])
        job.push_batch("pairs", [("a", 1), ("a", 5), ("b", 12)])
        assert job.values("sums") == []
        job.processing_time(1000)
        assert job.values("sums") == [("a", 6)]
        job.push("pairs", ("a", 2))
        assert job.values("late") == [("a", 2)]
        with pytest.raises(ZmflowError, match="The job has 2 sinks") as raised:
            job.values()
        assert "'sums'" in str(raised.value)


def test_two_sources_hold_event_time_back_unless_they_are_idle() -> None:
    """As the inputs of a task do."""

    class Both(CoMapFunction[Any, Any, Any]):
        def map1(self, value: Any) -> Any:
            return "left", value

        def map2(self, value: Any) -> Any:
            return "right", value

    def program(env: StreamExecutionEnvironment) -> DataStream[Any]:
        left, right = (env.from_collection([]).name(name) for name in ("left", "right"))
        both = left.connect(right).map(Both())
        return both.map(lambda pair: pair[1]).key_by(lambda word: word).process(CountOfKey()).name("count")

    with JobHarness(program) as job:
        job.push("left", "a", 1)
        job.watermark("left", 50)
        assert job.values() == []
        job.idle("right")
        assert job.values() == [("a", 1, 11, 0)]
        job.end_input("left")
        with pytest.raises(ZmflowError, match="has ended"):
            job.push("left", "b")
        job.push("right", "b", 60)
        job.end_input()
        assert job.values()[1:] == [("b", 1, 70, 0)]


def test_sources_can_be_read_as_the_job_reads_them() -> None:
    """To their end, by all their subtasks."""
    with JobHarness(lambda env: env.from_sequence(1, 100).map(lambda number: -number), parallelism=3) as job:
        job.read("Sequence Source")
        assert sorted(job.values()) == list(range(-100, 0))


def test_coroutines_end_where_they_begin() -> None:
    """Without a thread; what they raise is raised."""

    class Twice(AsyncFunction[int, int]):
        async def async_invoke(self, value: int) -> list[int]:
            return [value, value]

    def program(env: StreamExecutionEnvironment) -> DataStream[Any]:
        numbers = env.from_collection([]).name("numbers")
        return AsyncDataStream.unordered_wait(numbers, Twice(), Time.seconds(1), 2)

    with JobHarness(program) as job:
        job.push_batch("numbers", [1, 2, 3])
        assert sorted(job.values()) == [1, 1, 2, 2, 3, 3]


class Fails(MapFunction[Any, Any]):
    """Raises for what cannot be divided by."""

    closed = 0

    def map(self, value: Any) -> Any:
        return 1 / value

    def close(self) -> None:
        type(self).closed += 1


def test_what_a_function_raises_is_raised_where_the_record_is_pushed() -> None:
    """And everything is closed."""
    with (
        pytest.raises(ZeroDivisionError),
        JobHarness(
            lambda env: env.from_collection([]).name("s").rebalance().map(Fails()), parallelism=2
        ) as job,
    ):
        job.push("s", 1)
        assert job.values() == [1.0]
        job.push("s", 0)


def test_misuse_is_answered_with_what_there_is() -> None:
    """Names that are wrong or not clear, programs without a job or with two."""
    with JobHarness(counting) as job:
        for wrong in (
            lambda: job.push("word", 1),
            lambda: job.values("words"),
            lambda: job.state("Map", COUNT, "a"),
            lambda: job.event_time_timers("nothing"),
        ):
            with pytest.raises(ZmflowError):
                wrong()
    with pytest.raises(JobGraphError, match="no operators"):
        JobHarness(lambda env: None)

    def twice(env: StreamExecutionEnvironment) -> None:
        for _ in range(2):
            env.from_collection([1]).print()
            env.execute()

    with pytest.raises(ZmflowError, match="2 jobs"):
        JobHarness(twice)

    def collects(env: StreamExecutionEnvironment) -> None:
        list(env.from_collection([1]).execute_and_collect())

    with pytest.raises(ZmflowError, match="Return the stream"):
        JobHarness(collects)


@pytest.mark.parametrize("chaining", [True, False])
@pytest.mark.parametrize("parallelism", [1, 2, 5])
def test_every_exchange_delivers_what_a_cluster_delivers(chaining: bool, parallelism: int) -> None:
    """Once for each consumer that is to have it."""

    def program(env: StreamExecutionEnvironment) -> DataStream[Any]:
        numbers = env.from_collection([]).name("numbers")
        spread = [
            numbers.rebalance().map(lambda n: ("rebalance", n)),
            numbers.rebalance().map(lambda n: n).set_parallelism(2).rescale().map(lambda n: ("rescale", n)),
            numbers.shuffle().map(lambda n: ("shuffle", n)),
            numbers.global_().map(lambda n: ("global", n)),
            numbers.partition_custom(lambda key, count: key % count, lambda n: n).map(
                lambda n: ("custom", n)
            ),
            numbers.key_by(lambda n: n % 3).sum().map(lambda n: ("sum", n)),
        ]
        return spread[0].union(*spread[1:])

    with JobHarness(program, parallelism=parallelism, chaining=chaining) as job:
        job.push_batch("numbers", [1, 2, 3])
        job.end_input()
        kinds = ("rebalance", "rescale", "shuffle", "global", "custom", "sum")
        assert sorted(job.values()) == sorted((kind, n) for kind in kinds for n in (1, 2, 3))
