"""``MergingWindowSet``: which windows of a key were merged, and where their contents are.

Contents stay in the *state window*: that of the window which was there first. When a session grows by a
record its window changes, its state window does not, and nothing is copied; only what two windows hold
that meet is brought together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from zmflow.api.windows.assigner import MergingWindowAssigner
from zmflow.api.windows.window import Window
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import ValueStateDescriptor

__all__ = ["MergingWindowSet", "OnMerge"]

OnMerge: TypeAlias = Callable[[Window, list[Window], Window, list[Window]], None]
"""Called for windows that become one, with the resulting window, the windows that are gone, the state window
of the result, and the state windows whose contents must move there."""


class _Merges(MergingWindowAssigner.MergeCallback[Any]):
    def __init__(self) -> None:
        self.found: list[tuple[Window, list[Window]]] = []

    def merge(self, to_be_merged: Iterable[Window], merge_result: Window) -> None:
        self.found.append((merge_result, list(to_be_merged)))


class MergingWindowSet:
    """The windows of the current key, each with its state window; kept in state."""

    def __init__(self, assigner: MergingWindowAssigner[Any, Any], backend: KeyedStateBackend) -> None:
        self._assigner = assigner
        descriptor: ValueStateDescriptor[dict[Window, Window]] = ValueStateDescriptor("merging-window-set")
        self._state = backend.get_state(descriptor)

    def state_window(self, window: Window) -> Window | None:
        """Where the contents of a window are; None when it is not one of the key's windows."""
        state_windows = self._state.value()
        found: Window | None = None if state_windows is None else state_windows.get(window)
        return found

    def add(self, window: Window, on_merge: OnMerge) -> tuple[Window, Window]:
        """Take a new window in and merge what must be; returns what it has become, and the state window."""
        # A copy: what the state holds must not change before all of the merge has happened.
        state_windows: dict[Window, Window] = dict(self._state.value() or {})
        if window in state_windows:
            return window, state_windows[window]
        merges = _Merges()
        self._assigner.merge_windows([*state_windows, window], merges)
        result = window
        for merged, sources in merges.found:
            if window in sources:
                sources.remove(window)
                result = merged
            if sources:
                self._merge(state_windows, merged, sources, on_merge)
        state_window = state_windows.setdefault(result, result)
        self._state.update(state_windows)
        return result, state_window

    def retire(self, window: Window) -> None:
        """The window is over."""
        state_windows: dict[Window, Window] = dict(self._state.value() or {})
        state_windows.pop(window, None)
        if state_windows:
            self._state.update(state_windows)
        else:
            self._state.clear()

    @staticmethod
    def _merge(
        state_windows: dict[Window, Window], merged: Window, sources: list[Window], on_merge: OnMerge
    ) -> None:
        # In the order the windows came, so that the same stream always chooses the same state window.
        sources = [known for known in state_windows if known in set(sources)]
        contents = [state_windows.pop(source) for source in sources]
        state_windows[merged] = contents[0]
        if sources != [merged]:
            on_merge(merged, [source for source in sources if source != merged], contents[0], contents[1:])
