"""Clicks per key in the last five milliseconds of event time, every two milliseconds."""

from collections.abc import Iterable

from pyflink.common import Time, Types, WatermarkStrategy
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import ProcessWindowFunction, StreamExecutionEnvironment
from pyflink.datastream.window import SlidingEventTimeWindows, TimeWindow


class SecondField(TimestampAssigner):
    def extract_timestamp(self, value, record_timestamp) -> int:
        return int(value[1])


class CountOfWindow(ProcessWindowFunction[tuple, tuple, str, TimeWindow]):
    def process(
        self, key: str, context: ProcessWindowFunction.Context[TimeWindow], elements: Iterable[tuple]
    ) -> Iterable[tuple]:
        window = context.window()
        return [(key, window.start, window.end, len(list(elements)))]


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    clicks = env.from_collection(
        [
            ("north", 1),
            ("north", 2),
            ("south", 3),
            ("north", 4),
            ("south", 5),
            ("north", 8),
            ("north", 9),
            ("south", 15),
        ],
        type_info=Types.TUPLE([Types.STRING(), Types.INT()]),
    )
    strategy = WatermarkStrategy.for_monotonous_timestamps().with_timestamp_assigner(SecondField())
    counts = (
        clicks.assign_timestamps_and_watermarks(strategy)
        .key_by(lambda click: click[0], key_type=Types.STRING())
        .window(SlidingEventTimeWindows.of(Time.milliseconds(5), Time.milliseconds(2)))
        .process(CountOfWindow(), Types.TUPLE([Types.STRING(), Types.INT(), Types.INT(), Types.INT()]))
    )
    counts.print()
    env.execute("sliding windows")


if __name__ == "__main__":
    main()
