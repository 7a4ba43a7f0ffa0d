"""Which ``StreamOperator`` runs a specification of the API. What is not here is compiled into its chain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.execution.stream_operator import StreamOperator

__all__ = ["FACTORIES"]

FACTORIES: dict[type, Callable[[Any], StreamOperator]] = {}
"""By the type of the specification: makes the operator that one subtask runs."""
