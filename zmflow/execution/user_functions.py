"""The user functions of an operator: opened in order, closed in the opposite order, every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.api.functions import Function, RuntimeContext, plain_callable

__all__ = ["OpenedFunctions"]


class OpenedFunctions:
    """The function objects that were opened and must be closed."""

    def __init__(self) -> None:
        self._opened: list[Function] = []

    def open(self, function: object, context: RuntimeContext) -> None:
        """Give a function object its state and open it; plain callables need no opening."""
        if context.function_states is not None:
            context.function_states.initialize(function, context.keyed_state)
        if isinstance(function, Function):
            # Noted before: a function whose open() raises half-way is closed as well.
            self._opened.append(function)
            function.open(context)

    def open_callable(self, function: Any, context: RuntimeContext) -> Callable[..., Any]:
        """Open a function and return what to call."""
        self.open(function, context)
        return plain_callable(function)

    def close(self) -> None:
        """Close all, the last one first; the first error is raised when all are closed."""
        first: Exception | None = None
        while self._opened:
            try:
                self._opened.pop().close()
            except Exception as error:  # noqa: BLE001 - the others must be closed too
                first = first or error
        if first is not None:
            raise first
