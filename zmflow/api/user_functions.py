"""Is this something a stream method can call? The checks made when a function is handed over."""

from __future__ import annotations

from typing import Any

from zmflow.api.functions import Function
from zmflow.errors import JobGraphError

__all__ = ["checked_function"]


def checked_function(function: Any, kind: type[Function], call: str) -> Any:
    """The function, if it is a plain callable or an object of the function class ``call`` takes.

    Raises:
        JobGraphError: it is neither; says what to pass instead.
    """
    wanted = f"{call} takes a callable or a {kind.__name__}"
    if isinstance(function, kind):
        return function
    if isinstance(function, Function):
        raise JobGraphError(f"{wanted}, not the {_kind_of(function)} {type(function).__name__}.")
    if isinstance(function, type) and issubclass(function, Function):
        raise JobGraphError(
            f"{wanted}, not the class {function.__name__} itself.",
            hint=f"Make an object of it: {function.__name__}().",
        )
    if not callable(function):
        raise JobGraphError(f"{wanted}, not {function!r} of type {type(function).__name__}.")
    return function


def _kind_of(function: Function) -> str:
    for base in type(function).__mro__:
        if base.__module__ == Function.__module__:
            return base.__name__
    return "Function"
