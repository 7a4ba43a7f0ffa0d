"""The input of a task: which channels are open, and when all have ended.

One ``InputState`` per task. The shell tells it what arrived; it answers whether the input is over. (How
far event time is in it says ``watermark_valve``, how far a checkpoint is ``barrier_alignment``.)
"""

from __future__ import annotations

from collections.abc import Sequence

from zmflow.errors import ProtocolError

__all__ = ["InputState"]


class InputState:
    """Open channels per gate.

    >>> state = InputState([2])
    >>> state.ended(0, 1), state.ended(0, 0)
    (False, True)
    """

    def __init__(self, gate_channels: Sequence[int]) -> None:
        self._open = [set(range(channels)) for channels in gate_channels]
        self._left = sum(gate_channels)

    @property
    def finished(self) -> bool:
        """Whether every channel has ended."""
        return self._left == 0

    def ended(self, gate: int, channel: int) -> bool:
        """A channel sent its END_OF_DATA. Returns whether that was the last one.

        Raises:
            ProtocolError: it had ended already.
        """
        try:
            self._open[gate].remove(channel)
        except KeyError:
            raise ProtocolError(
                "An input channel ended twice.", detail=f"gate {gate}, channel {channel}"
            ) from None
        self._left -= 1
        return self._left == 0
