"""Functions whose second input reaches every subtask: each keeps its own copy of the broadcast state.

In BATCH mode the broadcast side is processed first, whole: the other side is held until the input has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.operators import UserFunction
from zmflow.api.process_functions import BroadcastProcessFunction, KeyedBroadcastProcessFunction
from zmflow.api.timer_service import TimeDomain
from zmflow.execution.batches import Rows
from zmflow.execution.broadcast_contexts import (
    BroadcastSide,
    DataSide,
    KeyedBroadcastSide,
    KeyedDataSide,
)
from zmflow.execution.broadcast_states import BroadcastStates
from zmflow.execution.error_guard import ProcessCall
from zmflow.execution.keyed_operator import KeyedOperator
from zmflow.execution.operator_snapshots import SnapshotContext
from zmflow.execution.process_contexts import CurrentTime
from zmflow.execution.process_operator import FunctionOperator
from zmflow.execution.stream_operator import OperatorContext, Timestamps
from zmflow.state.descriptors import MapStateDescriptor

__all__ = ["KeyedBroadcastProcess", "UnkeyedBroadcastProcess"]


class UnkeyedBroadcastProcess(FunctionOperator):
    """A function whose first input has no keys.

    Args:
        function: what is called.
        state_descriptors: the broadcast states it has.
    """

    def __init__(
        self,
        function: BroadcastProcessFunction[Any, Any, Any],
        state_descriptors: Sequence[MapStateDescriptor[Any, Any]],
    ) -> None:
        super().__init__()
        self._function = function
        self.broadcast_states = BroadcastStates(state_descriptors)
        self._held: list[tuple[Rows, Timestamps]] = []

    def open(self, context: OperatorContext) -> None:
        super().open(context)
        self._holds = context.batch_mode
        self.broadcast_states.restore(context.runtime.function_states)
        self._time = CurrentTime(context.processing_time)
        self._data_side = DataSide(self.broadcast_states, self._time)
        self._broadcast_side = BroadcastSide(self.broadcast_states, self._time)
        self._functions.open(self._function, context.runtime)
        self._call = self._guarded(self._function.process_element)
        self._broadcast_call = self._guarded(self._function.process_broadcast_element)

    def process(self, rows: Rows, timestamps: Timestamps) -> None:
        if self._holds:
            self._held.append((rows, timestamps))
        else:
            self._run(self._call, self._data_side, rows, timestamps)

    def process_second(self, rows: Rows, timestamps: Timestamps) -> None:
        self._run(self._broadcast_call, self._broadcast_side, rows, timestamps)

    def advance_watermark(self, watermark_ms: int) -> None:
        if not self._holds:
            self._time.watermark_ms = watermark_ms

    def snapshot_state(self, context: SnapshotContext) -> None:
        self.broadcast_states.snapshot_state(context)

    def finish(self) -> None:
        held, self._held = self._held, []
        for rows, timestamps in held:
            self._run(self._call, self._data_side, rows, timestamps)


class KeyedBroadcastProcess(KeyedOperator):
    """A function whose first input has keys, state and timers.

    Args:
        function: what is called.
        key_selector: the key of a record of the first input.
        state_descriptors: the broadcast states it has.
    """

    def __init__(
        self,
        function: KeyedBroadcastProcessFunction[Any, Any, Any, Any],
        key_selector: UserFunction,
        state_descriptors: Sequence[MapStateDescriptor[Any, Any]],
    ) -> None:
        super().__init__((key_selector,))
        self._function = function
        self.broadcast_states = BroadcastStates(state_descriptors)

    def open_function(self, runtime: RuntimeContext) -> list[tuple[ProcessCall, Any]]:
        states = self.broadcast_states
        states.restore(runtime.function_states)
        data_side = KeyedDataSide(states, self.timers, self.keyed_state)
        self._timer_context = KeyedDataSide(states, self.timers, self.keyed_state)
        self._broadcast_side = KeyedBroadcastSide(states, self.timers, self.keyed_state)
        self._functions.open(self._function, runtime)
        self._broadcast_call = self._guarded(self._function.process_broadcast_element)
        return [(self._guarded(self._function.process_element), data_side)]

    def snapshot_state(self, context: SnapshotContext) -> None:
        super().snapshot_state(context)
        self.broadcast_states.snapshot_state(context)

    def process_second(self, rows: Rows, timestamps: Timestamps) -> None:
        self._broadcast_side.forget_key()
        self._run(self._broadcast_call, self._broadcast_side, rows, timestamps)

    def on_timer(self, timestamp: int, namespace: Any, domain: TimeDomain) -> None:  # noqa: ARG002
        self._call_on_timer(self._function.on_timer, self._timer_context, timestamp, domain)
