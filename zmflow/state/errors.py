"""What goes wrong with state."""

from __future__ import annotations

from zmflow.errors import ZmflowError

__all__ = ["StateError"]


class StateError(ZmflowError):
    """State was declared or used in a way that cannot work; the state is named."""
