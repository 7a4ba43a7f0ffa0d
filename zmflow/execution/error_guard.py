"""What becomes of a record for which a user function raises, in operators that are not compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

from zmflow.api.output_tag import DEAD_LETTERS
from zmflow.graph.transformations import ErrorPolicy

__all__ = ["ProcessCall", "guarded"]

ProcessCall: TypeAlias = Callable[[Any, Any], Iterable[Any] | None]
"""Takes a record and its context."""


def guarded(call: ProcessCall, policy: ErrorPolicy, rejected: Callable[[], None]) -> ProcessCall:
    """The call, or one that raises for no record: it answers with nothing, or with a dead letter.

    A record is rejected whole: what its call had yielded before it raised is not emitted. State that it had
    changed stays changed.

    Args:
        call: a function of the user.
        policy: with ``fail`` the call comes back as it is and costs nothing.
        rejected: called for each record that is left out.
    """
    if policy == "fail":
        return call

    def answer(value: Any, context: Any) -> Iterable[Any] | None:
        try:
            results = call(value, context)
            return None if results is None else list(results)
        except Exception as error:  # noqa: BLE001 - whatever user code raises; that is the policy
            rejected()
            if policy == "skip":
                return None
            return ((DEAD_LETTERS, (value, f"{type(error).__name__}: {error}")),)

    return answer
