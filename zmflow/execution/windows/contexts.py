"""What triggers, assigners, evictors and window functions are given: time, timers, state of a window."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from zmflow.api.functions import RuntimeContext
from zmflow.api.metric_group import MetricGroup
from zmflow.api.windows.assigner import WindowAssigner
from zmflow.api.windows.evictors import Evictor
from zmflow.api.windows.functions import ProcessAllWindowFunction
from zmflow.api.windows.trigger import Trigger
from zmflow.api.windows.window import Window
from zmflow.errors import ZmflowError
from zmflow.execution.batch_timers import BatchTimers
from zmflow.execution.timers import TimerService
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import StateDescriptor
from zmflow.state.keyed_state_store import KeyedStateStore

__all__ = ["FiredContext", "WindowContext", "WindowStateStore"]


TRIGGER_STATE = "trigger/"
"""Begins the names of what triggers and evictors keep of a window, so that a function that keeps state
of its own can call it what it likes: ``count``, say."""


class WindowStateStore(KeyedStateStore):
    """Keyed state whose namespace is one window after the other.

    Args:
        backend: where state is.
        prefix: what the names of its states begin with there.
    """

    def __init__(self, backend: KeyedStateBackend, prefix: str = "") -> None:
        super().__init__(backend)
        self._prefix = prefix
        self._window: Window | None = None

    def use(self, window: Window) -> None:
        """From now on state is that of this window."""
        self._window = window

    def state_in(self, window: Window, descriptor: StateDescriptor) -> Any:
        """The state of a descriptor in a window; of any kind."""
        state = self._states.get(descriptor.name)
        if state is None:
            named = copy.copy(descriptor)
            named.name = self._prefix + descriptor.name
            state = self._states[descriptor.name] = self._backend.get_state(named, window)
        else:
            state.set_current_namespace(window)
        return state

    def _state(self, descriptor: StateDescriptor) -> Any:
        assert self._window is not None
        return self.state_in(self._window, descriptor)


class WindowContext(Trigger.OnMergeContext, WindowAssigner.WindowAssignerContext, Evictor.EvictorContext):
    """The window and key a trigger is asked about; the operator sets ``window`` before each call."""

    def __init__(
        self,
        runtime: RuntimeContext,
        backend: KeyedStateBackend,
        timers: TimerService | BatchTimers,
        processing_time: Callable[[], int],
    ) -> None:
        self._runtime = runtime
        self._timers = timers
        self._store = WindowStateStore(backend, TRIGGER_STATE)
        self.window: Any = None
        self.merged: Sequence[Window] = ()
        self._processing_time = processing_time

    def get_current_processing_time(self) -> int:
        return self._processing_time()

    def get_current_watermark(self) -> int:
        return self._timers.current_watermark()

    def get_runtime_context(self) -> RuntimeContext:
        return self._runtime

    def get_metric_group(self) -> MetricGroup:
        return self._runtime.metric_group

    def register_processing_time_timer(self, time: int) -> None:
        self._timers.register_processing_time_timer(time, self.window)

    def register_event_time_timer(self, time: int) -> None:
        self._timers.register_event_time_timer(time, self.window)

    def delete_processing_time_timer(self, time: int) -> None:
        self._timers.delete_processing_time_timer(time, self.window)

    def delete_event_time_timer(self, time: int) -> None:
        self._timers.delete_event_time_timer(time, self.window)

    def get_partitioned_state(self, state_descriptor: Any) -> Any:
        return self._store.state_in(self.window, state_descriptor)

    def merge_partitioned_state(self, state_descriptor: Any) -> None:
        state = self.get_partitioned_state(state_descriptor)
        merge = getattr(state, "merge_namespaces", None)
        if merge is None:
            raise ZmflowError(
                f"The state {state_descriptor.name!r} of a trigger cannot be merged.",
                hint="Triggers of windows that merge can use list, reducing and aggregating state.",
            )
        merge(self.window, self.merged)


class FiredContext(ProcessAllWindowFunction.Context[Any]):
    """The window that fires. One object for all firings: valid until the function returns.

    Args:
        backend: where state is.
        processing_time: the clock.
        current_watermark: how far event time has come.
        merging: whether the windows merge: then they have no state of their own, as in Flink.
    """

    def __init__(
        self,
        backend: KeyedStateBackend,
        processing_time: Callable[[], int],
        current_watermark: Callable[[], int],
        *,
        merging: bool,
    ) -> None:
        self._processing_time = processing_time
        self._current_watermark = current_watermark
        self._merging = merging
        self._of_window = WindowStateStore(backend)
        self._of_key = KeyedStateStore(backend)
        self.fired: Any = None

    def window(self) -> Any:
        return self.fired

    def current_processing_time(self) -> int:
        return self._processing_time()

    def current_watermark(self) -> int:
        return self._current_watermark()

    def window_state(self) -> KeyedStateStore:
        if self._merging:
            raise ZmflowError(
                "Windows that merge have no state of their own.",
                hint="Use global_state(), or windows that do not merge.",
            )
        self._of_window.use(self.fired)
        return self._of_window

    def global_state(self) -> KeyedStateStore:
        return self._of_key
