"""What a chain drives: operators that keep state, timers or time of their own.

A chain calls one method at a time, on the task's thread: batches, watermarks, the status of the input,
the passing of processing time, the end. An operator answers through its ``Output``. Stateless functions are
not operators of this kind: they are compiled into the chain (``chain_code``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

from zmflow.api.functions import RuntimeContext
from zmflow.execution.async_calls import AsyncHost
from zmflow.execution.batches import Rows
from zmflow.execution.operator_snapshots import RestoredOperator, SnapshotContext
from zmflow.execution.spilling import Spill
from zmflow.graph.transformations import ErrorPolicy

if TYPE_CHECKING:
    from zmflow.state.backend import KeyedStateBackend

__all__ = [
    "MAX_WATERMARK",
    "MIN_WATERMARK",
    "ChainPart",
    "OperatorContext",
    "Output",
    "StreamOperator",
    "Timestamps",
]

MIN_WATERMARK = -(2**63)
"""Event time before the first watermark: Flink's Long.MIN_VALUE."""

MAX_WATERMARK = 2**63 - 1
"""Event time at the end of the input: every timer fires, every window closes."""

Timestamps: TypeAlias = Sequence[int] | None
"""Milliseconds, one for each row of a batch; None for a stream whose records have no timestamps."""


class Output(Protocol):
    """What follows an operator in its chain."""

    def emit(self, rows: Rows, timestamps: Timestamps) -> None:
        """Hand on rows; the list is not the operator's any more."""
        ...

    def emit_side(self, tag_id: str, rows: Rows, timestamps: Timestamps) -> None:
        """Hand on rows of a side output; nothing happens where nobody reads it."""
        ...

    def emit_watermark(self, watermark_ms: int) -> None:
        """Event time has reached this. Only operators that make watermarks call it: for the others the chain
        hands on what came in, after ``advance_watermark`` has returned."""
        ...

    def emit_status(self, *, idle: bool) -> None:
        """This stream will say nothing for a while, or does again. As with watermarks, for who makes them."""
        ...


class ChainPart(Protocol):
    """An operator or a sink, as the passing of time sees it; the methods are those of ``StreamOperator``."""

    def begin(self) -> None: ...
    def next_processing_time_ms(self) -> int | None: ...
    def advance_processing_time(self, now_ms: int) -> None: ...


@dataclass(frozen=True, slots=True)
class OperatorContext:
    """What an operator is given when it is opened.

    Args:
        runtime: where it runs; ``runtime.operator_name`` is its own.
        output: what follows it.
        processing_time: the clock, milliseconds since 1970.
        batch_mode: whether the job runs in BATCH mode: final results only, one key at a time.
        on_error: what becomes of a record for which a user function raises.
        make_keyed_state: makes the operator's keyed state backend; without it state is on the heap.
        restored: what the operator goes on from; None where it begins anew. Its keyed state is restored with
            the backend, its operator state is in ``runtime.function_states``; the rest is the operator's.
        make_spill: makes what an operator writes to that holds more than memory; without it all is held.
    """

    runtime: RuntimeContext
    output: Output
    processing_time: Callable[[], int]
    batch_mode: bool = False
    on_error: ErrorPolicy = "fail"
    make_keyed_state: Callable[[RuntimeContext], KeyedStateBackend] | None = None
    restored: RestoredOperator | None = None
    make_spill: Callable[[], Spill] | None = None


class StreamOperator:
    """One operator of a chain. Methods are called in the order of this class; all but ``process`` may be left
    as they are.

    ``makes_watermarks``: incoming watermarks and statuses end here, except ``MAX_WATERMARK``; what goes on is
    what the operator emits itself.
    """

    makes_watermarks = False
    needs_host = False

    def attach(self, host: AsyncHost) -> None:
        """What an operator that waits for something beside its input has for that; before ``open``."""

    def open(self, context: OperatorContext) -> None:
        """Called once, before anything else."""

    def begin(self) -> None:
        """All operators of the chain are open, records may be emitted: called once, before anything comes."""

    def process(self, rows: Rows, timestamps: Timestamps) -> None:  # noqa: ARG002 - of the interface
        """A batch of the first input."""
        raise TypeError(f"{type(self).__name__} has no input")

    def process_second(self, rows: Rows, timestamps: Timestamps) -> None:  # noqa: ARG002 - likewise
        """A batch of the second input, of operators that have two."""
        raise TypeError(f"{type(self).__name__} has no second input")

    def advance_watermark(self, watermark_ms: int) -> None:
        """Event time (the least of all inputs) has reached this; it never goes back."""

    def input_status(self, *, idle: bool) -> None:
        """The input went idle, or is active again. Only told to operators that make watermarks; for others
        the chain hands it on."""

    def woken(self) -> None:
        """Somebody called the host's ``wake``."""

    def next_processing_time_ms(self) -> int | None:
        """When ``advance_processing_time`` has something to do; None: not before something happens."""
        return None

    def advance_processing_time(self, now_ms: int) -> None:
        """The clock shows this."""

    def snapshot_state(self, context: SnapshotContext) -> None:
        """A checkpoint is taken between two batches: add what is neither in the keyed state backend nor in
        the operator state store. Nothing may be emitted or changed: a copy of the process may be asked."""

    def state_entries(self) -> int:
        """About how many entries ``snapshot_state`` adds."""
        return 0

    def finish(self) -> None:
        """The input has ended, after ``MAX_WATERMARK``: hand out what was kept."""

    def close(self) -> None:
        """Called once, whatever happened. Nothing may be emitted any more."""
