"""A sum per key that is printed two seconds of event time after each of its payments."""

from pyflink.common import Duration, WatermarkStrategy
from pyflink.common.typeinfo import Types
from pyflink.common.watermark_strategy import TimestampAssigner
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor


class FirstField(TimestampAssigner):
    def extract_timestamp(self, value, record_timestamp: int) -> int:
        return int(value[0])


class SumLater(KeyedProcessFunction):
    def __init__(self):
        self.total = None

    def open(self, runtime_context: RuntimeContext):
        self.total = runtime_context.get_state(ValueStateDescriptor("total", Types.LONG()))

    def process_element(self, value, ctx: "KeyedProcessFunction.Context"):
        self.total.update((self.total.value() or 0) + value[2])
        ctx.timer_service().register_event_time_timer(ctx.timestamp() + 2000)

    def on_timer(self, timestamp: int, ctx: "KeyedProcessFunction.OnTimerContext"):
        yield timestamp, ctx.get_current_key(), self.total.value()


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    payments = env.from_collection(
        [
            (1000, "Ada", 110),
            (4000, "Max", 30),
            (3000, "Ada", 20),
            (2000, "Max", 53),
            (5000, "Ada", 13),
            (3500, "Max", 3),
            (7500, "Max", 16),
            (10000, "Ada", 20),
        ]
    )
    strategy = WatermarkStrategy.for_bounded_out_of_orderness(Duration.of_seconds(2)).with_timestamp_assigner(
        FirstField()
    )
    (
        payments.assign_timestamps_and_watermarks(strategy)
        .key_by(lambda payment: payment[1])
        .process(SumLater())
        .print()
    )
    env.execute("event time timer")


if __name__ == "__main__":
    main()
