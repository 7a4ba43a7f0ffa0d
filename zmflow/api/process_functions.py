"""Process functions: records one at a time, with their timestamp, timers and side outputs.

Each method answers with an iterable or is a generator; None is nothing. A yielded pair of an ``OutputTag``
and a record goes to that side output. The context is one object for all calls: use it in the call it was
given to and keep nothing of it.

>>> rejected: OutputTag[str] = OutputTag("rejected")
>>> class Parse(ProcessFunction[str, int]):
...     def process_element(self, value, ctx):
...         if value.isdigit():
...             yield int(value)
...         else:
...             yield rejected, value
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from zmflow.api.functions import Function
from zmflow.api.output_tag import OutputTag
from zmflow.api.timer_service import TimeDomain, TimerService

if TYPE_CHECKING:
    from zmflow.state.descriptors import MapStateDescriptor, StateDescriptor
    from zmflow.state.states import BroadcastState, ReadOnlyBroadcastState

__all__ = [
    "BroadcastContext",
    "BroadcastProcessFunction",
    "CoProcessFunction",
    "KeyedBroadcastContext",
    "KeyedBroadcastProcessFunction",
    "KeyedCoProcessFunction",
    "KeyedOnTimerContext",
    "KeyedProcessContext",
    "KeyedProcessFunction",
    "KeyedReadOnlyContext",
    "KeyedReadOnlyOnTimerContext",
    "OnTimerContext",
    "ProcessContext",
    "ProcessFunction",
    "ReadOnlyContext",
    "Results",
]

K = TypeVar("K")
MK = TypeVar("MK")
MV = TypeVar("MV")
IN = TypeVar("IN")
IN1 = TypeVar("IN1")
IN2 = TypeVar("IN2")
OUT = TypeVar("OUT")
KEY_co = TypeVar("KEY_co", covariant=True)

Results: TypeAlias = Iterable[OUT | tuple[OutputTag[Any], Any]] | None
"""What a call answers with: records, and pairs of a tag and a record for side outputs."""


# -- contexts -------------------------------------------------------------------------------------------


class ProcessContext(ABC):
    """What a process function is told beside the record."""

    @abstractmethod
    def timestamp(self) -> int | None:
        """The timestamp of the record, or of the timer that fires; None for a stream without."""

    @abstractmethod
    def timer_service(self) -> TimerService:
        """Time and timers. Only functions of keyed streams can set timers."""


class OnTimerContext(ProcessContext):
    """What a process function is told when a timer fires."""

    @abstractmethod
    def time_domain(self) -> TimeDomain:
        """Whether it waited for the clock or for event time."""


class KeyedProcessContext(ProcessContext, Generic[KEY_co]):
    """What a process function of a keyed stream is told beside the record."""

    @abstractmethod
    def get_current_key(self) -> KEY_co:
        """The key of the record, or of the timer that fires."""


class KeyedOnTimerContext(KeyedProcessContext[KEY_co], OnTimerContext, Generic[KEY_co]):
    """What a process function of a keyed stream is told when a timer fires."""


class _BroadcastTime(ABC):
    @abstractmethod
    def timestamp(self) -> int | None:
        """The timestamp of the record; None for a stream without."""

    @abstractmethod
    def current_processing_time(self) -> int:
        """The clock, milliseconds since 1970."""

    @abstractmethod
    def current_watermark(self) -> int:
        """How far event time is."""


class BroadcastContext(_BroadcastTime):
    """What the broadcast side is told: it may change broadcast state.

    Every subtask must change it in the same way: each has its own copy.
    """

    @abstractmethod
    def get_broadcast_state(self, state_descriptor: MapStateDescriptor[MK, MV]) -> BroadcastState[MK, MV]:
        """The broadcast state of one of the descriptors given to ``broadcast()``."""


class ReadOnlyContext(_BroadcastTime):
    """What the other side is told: it may read broadcast state."""

    @abstractmethod
    def get_broadcast_state(
        self, state_descriptor: MapStateDescriptor[MK, MV]
    ) -> ReadOnlyBroadcastState[MK, MV]:
        """The broadcast state of one of the descriptors given to ``broadcast()``."""


class KeyedBroadcastContext(BroadcastContext):
    """What the broadcast side is told when the other side has keys."""

    @abstractmethod
    def apply_to_keyed_state(
        self, state_descriptor: StateDescriptor, function: Callable[[Any, Any], object]
    ) -> None:
        """Call ``function(key, state)`` for each key that has this state."""


class KeyedReadOnlyContext(ReadOnlyContext, Generic[KEY_co]):
    """What the keyed side is told: it may read broadcast state and set timers."""

    @abstractmethod
    def timer_service(self) -> TimerService:
        """Time and the timers of the current key."""

    @abstractmethod
    def get_current_key(self) -> KEY_co:
        """The key of the record, or of the timer that fires."""


class KeyedReadOnlyOnTimerContext(KeyedReadOnlyContext[KEY_co], Generic[KEY_co]):
    """What the keyed side is told when a timer fires."""

    @abstractmethod
    def time_domain(self) -> TimeDomain:
        """Whether it waited for the clock or for event time."""


# -- functions ------------------------------------------------------------------------------------------


class ProcessFunction(Function, ABC, Generic[IN, OUT]):
    """Records of any stream, with their timestamps and side outputs."""

    Context: TypeAlias = ProcessContext
    OnTimerContext: TypeAlias = OnTimerContext

    @abstractmethod
    def process_element(self, value: IN, ctx: ProcessContext) -> Results[OUT]:
        """A record came."""


class KeyedProcessFunction(Function, ABC, Generic[K, IN, OUT]):
    """Records of a keyed stream, with state and timers of their key."""

    Context: TypeAlias = KeyedProcessContext
    OnTimerContext: TypeAlias = KeyedOnTimerContext

    @abstractmethod
    def process_element(self, value: IN, ctx: KeyedProcessContext[K]) -> Results[OUT]:
        """A record came."""

    def on_timer(self, timestamp: int, ctx: KeyedOnTimerContext[K]) -> Results[OUT]:
        """A timer fires. What an event-time timer emits has its timestamp."""


class CoProcessFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Records of two connected streams, which share what the object keeps.

    On keyed streams it can keep state and set timers; ``KeyedCoProcessFunction`` is told the key as well.
    """

    Context: TypeAlias = ProcessContext
    OnTimerContext: TypeAlias = OnTimerContext

    @abstractmethod
    def process_element1(self, value: IN1, ctx: ProcessContext) -> Results[OUT]:
        """A record of the first stream came."""

    @abstractmethod
    def process_element2(self, value: IN2, ctx: ProcessContext) -> Results[OUT]:
        """A record of the second stream came."""

    def on_timer(self, timestamp: int, ctx: OnTimerContext) -> Results[OUT]:
        """A timer fires."""


class KeyedCoProcessFunction(Function, ABC, Generic[K, IN1, IN2, OUT]):
    """Records of two connected keyed streams, which share state and timers of their key."""

    Context: TypeAlias = KeyedProcessContext
    OnTimerContext: TypeAlias = KeyedOnTimerContext

    @abstractmethod
    def process_element1(self, value: IN1, ctx: KeyedProcessContext[K]) -> Results[OUT]:
        """A record of the first stream came."""

    @abstractmethod
    def process_element2(self, value: IN2, ctx: KeyedProcessContext[K]) -> Results[OUT]:
        """A record of the second stream came."""

    def on_timer(self, timestamp: int, ctx: KeyedOnTimerContext[K]) -> Results[OUT]:
        """A timer fires."""


class BroadcastProcessFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Records of a stream, and records that every subtask gets and keeps in broadcast state."""

    Context: TypeAlias = BroadcastContext
    ReadOnlyContext: TypeAlias = ReadOnlyContext

    @abstractmethod
    def process_element(self, value: IN1, ctx: ReadOnlyContext) -> Results[OUT]:
        """A record of the stream came."""

    @abstractmethod
    def process_broadcast_element(self, value: IN2, ctx: BroadcastContext) -> Results[OUT]:
        """A record of the broadcast stream came."""


class KeyedBroadcastProcessFunction(Function, ABC, Generic[K, IN1, IN2, OUT]):
    """Records of a keyed stream, and records that every subtask gets and keeps in broadcast state."""

    Context: TypeAlias = KeyedBroadcastContext
    ReadOnlyContext: TypeAlias = KeyedReadOnlyContext
    OnTimerContext: TypeAlias = KeyedReadOnlyOnTimerContext

    @abstractmethod
    def process_element(self, value: IN1, ctx: KeyedReadOnlyContext[K]) -> Results[OUT]:
        """A record of the keyed stream came."""

    @abstractmethod
    def process_broadcast_element(self, value: IN2, ctx: KeyedBroadcastContext) -> Results[OUT]:
        """A record of the broadcast stream came. No key is current."""

    def on_timer(self, timestamp: int, ctx: KeyedReadOnlyOnTimerContext[K]) -> Results[OUT]:
        """A timer fires."""
