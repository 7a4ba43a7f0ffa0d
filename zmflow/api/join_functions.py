"""What joins call with the records that belong together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from zmflow.api.functions import Function
from zmflow.api.process_functions import Results

__all__ = ["CoGroupFunction", "FlatJoinFunction", "JoinFunction", "ProcessJoinContext", "ProcessJoinFunction"]

IN1 = TypeVar("IN1")
IN2 = TypeVar("IN2")
OUT = TypeVar("OUT")


class JoinFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """One record for each pair of records of one key and window. A plain callable will do as well."""

    @abstractmethod
    def join(self, first: IN1, second: IN2) -> OUT: ...


class FlatJoinFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Any number of records for each pair of records of one key and window."""

    @abstractmethod
    def join(self, first: IN1, second: IN2) -> Iterable[OUT] | None: ...


class CoGroupFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Called once for each key and window, with the records of both streams; either may have none."""

    @abstractmethod
    def co_group(self, first: Iterable[IN1], second: Iterable[IN2]) -> Iterable[OUT] | None: ...


class ProcessJoinContext(ABC):
    """What a function of an interval join is told beside the pair."""

    @abstractmethod
    def get_left_timestamp(self) -> int:
        """The timestamp of the left record."""

    @abstractmethod
    def get_right_timestamp(self) -> int:
        """The timestamp of the right record."""

    @abstractmethod
    def get_timestamp(self) -> int:
        """The later of the two: what emitted records have."""


class ProcessJoinFunction(Function, ABC, Generic[IN1, IN2, OUT]):
    """Any number of records for each pair that an interval join finds."""

    Context = ProcessJoinContext

    @abstractmethod
    def process_element(self, left: IN1, right: IN2, ctx: ProcessJoinContext) -> Results[OUT]:
        """A pair of records of one key, the right one within the interval of the left one."""
