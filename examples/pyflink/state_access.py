"""A running sum per key, kept in a ValueState."""

from pyflink.common.typeinfo import Types
from pyflink.datastream import StreamExecutionEnvironment
from pyflink.datastream.functions import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.state import ValueStateDescriptor


class RunningSum(KeyedProcessFunction):
    def __init__(self):
        self.total = None

    def open(self, runtime_context: RuntimeContext):
        self.total = runtime_context.get_state(ValueStateDescriptor("total", Types.PICKLED_BYTE_ARRAY()))

    def process_element(self, value, ctx: "KeyedProcessFunction.Context"):
        total = (self.total.value() or 0) + value[1]
        self.total.update(total)
        yield ctx.get_current_key(), total


def main():
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_parallelism(1)
    payments = env.from_collection(
        [("Ada", 10), ("Max", 5), ("Ada", 2), ("Max", 7), ("Ada", 1), ("Emmy", 4), ("Max", 3), ("Emmy", 6)]
    )
    payments.key_by(lambda payment: payment[0]).process(RunningSum()).print()
    env.execute("state access")


if __name__ == "__main__":
    main()
