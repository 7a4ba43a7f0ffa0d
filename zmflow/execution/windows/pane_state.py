"""Panes in keyed state: where they go for a snapshot, and come back from after a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zmflow.execution.stream_operator import MAX_WATERMARK
from zmflow.state.backend import KeyedStateBackend
from zmflow.state.descriptors import ValueStateDescriptor

__all__ = ["PaneEntry", "PaneState"]

PANES = "window-panes"


class PaneEntry(NamedTuple):
    """What a key has in a pane."""

    start_ms: int
    arrived: int
    accumulator: Any


class PaneState:
    """For each key the list of what it has in panes, and how far event time was: windows that have fired or
    are over must not fire again."""

    def __init__(self, backend: KeyedStateBackend) -> None:
        self._backend = backend
        descriptor: ValueStateDescriptor[tuple[int, list[PaneEntry]]] = ValueStateDescriptor(PANES)
        self._state = backend.get_state(descriptor)

    def write(
        self,
        watermark_ms: int,
        panes: Mapping[int, Mapping[Any, Any]],
        arrivals: Mapping[int, Mapping[Any, int]],
    ) -> None:
        """Put all panes into state, in place of what was there."""
        of_key: dict[Any, list[PaneEntry]] = {}
        for start_ms, pane in panes.items():
            arrived = arrivals.get(start_ms, {})
            for key, accumulator in pane.items():
                of_key.setdefault(key, []).append(PaneEntry(start_ms, arrived.get(key, 0), accumulator))
        for key in list(self._backend.keys(PANES)):
            if key not in of_key:
                self._backend.set_current_key(key)
                self._state.clear()
        for key, entries in of_key.items():
            self._backend.set_current_key(key)
            self._state.update((watermark_ms, entries))

    def read(self) -> tuple[int, Iterator[tuple[Any, PaneEntry]]] | None:
        """How far event time was, the least of what was restored, and what the keys have in panes.

        None where nothing was restored.
        """
        watermark_ms = MAX_WATERMARK
        restored: list[tuple[Any, list[PaneEntry]]] = []
        for key in list(self._backend.keys(PANES)):
            self._backend.set_current_key(key)
            held = self._state.value()
            if held is not None:
                watermark_ms = min(watermark_ms, held[0])
                restored.append((key, held[1]))
        if not restored:
            return None
        return watermark_ms, ((key, entry) for key, entries in restored for entry in entries)
