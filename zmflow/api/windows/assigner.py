"""``WindowAssigner``: puts each record into windows. The contract, and that of windows that merge."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from typing import Any, Generic, TypeVar

from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.window import Window

__all__ = ["MergingWindowAssigner", "WindowAssigner"]

T = TypeVar("T", contravariant=True)
W = TypeVar("W", bound=Window)
W2 = TypeVar("W2", bound=Window)


class WindowAssigner(ABC, Generic[T, W]):
    """Puts a record into none, one or several windows."""

    class WindowAssignerContext(ABC):
        """What an assigner may ask."""

        @abstractmethod
        def get_current_processing_time(self) -> int:
            """The clock, milliseconds since 1970."""

        @abstractmethod
        def get_runtime_context(self) -> Any:
            """The ``RuntimeContext`` of the operator: its state is that of the record's key."""

    @abstractmethod
    def assign_windows(self, element: T, timestamp: int, context: WindowAssignerContext) -> Collection[W]:
        """The windows of a record. A record without a timestamp has ``NO_TIMESTAMP``."""

    @abstractmethod
    def get_default_trigger(self, env: Any) -> Trigger[Any, Any]:
        """The trigger of streams that name none."""

    @abstractmethod
    def is_event_time(self) -> bool:
        """Whether the windows end by event time; if not, no record is ever late."""

    def get_window_serializer(self) -> Any:
        """Of PyFlink's interface. Windows are pickled; nothing is asked for here."""
        return None


class MergingWindowAssigner(WindowAssigner[T, W]):
    """Assigns windows that may become one with others of their key."""

    class MergeCallback(ABC, Generic[W2]):
        """Is told which windows become one."""

        @abstractmethod
        def merge(self, to_be_merged: Iterable[W2], merge_result: W2) -> None:
            """These windows become this one."""

    @abstractmethod
    def merge_windows(self, windows: Iterable[W], callback: MergeCallback[W]) -> None:
        """Call ``callback.merge`` once for each group of windows that become one."""
