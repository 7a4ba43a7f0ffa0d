"""Which operator runs a window specification."""

from __future__ import annotations

from zmflow.api.windows.operators import WindowOperator
from zmflow.execution.windows.pane_operator import PaneWindowOperator, can_use_panes
from zmflow.execution.windows.window_operator import AnyWindowOperator
from zmflow.execution.windows.windows_base import WindowsBase

__all__ = ["window_operator"]


def window_operator(specification: WindowOperator) -> WindowsBase:
    """The fastest operator that does what is specified."""
    return (PaneWindowOperator if can_use_panes(specification) else AnyWindowOperator)(specification)
