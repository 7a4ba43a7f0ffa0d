"""``OutputTag``: the name of a side output."""

from __future__ import annotations

from typing import Generic, TypeVar

from zmflow.api.types import TypeInformation
from zmflow.errors import JobGraphError

__all__ = ["DEAD_LETTERS", "OutputTag"]

T = TypeVar("T")


class OutputTag(Generic[T]):
    """The name of a side output: records of type ``T`` beside an operator's main output.

    A function sends a record there by yielding the pair ``(tag, record)``; ``get_side_output(tag)`` is the
    stream of them. Tags with one ``tag_id`` are one tag.

    Args:
        tag_id: the name, not empty; unique for an operator.
        type_info: what the records are; optional.

    >>> late: OutputTag[int] = OutputTag("late")
    >>> late == OutputTag("late")
    True
    """

    __slots__ = ("tag_id", "type_info")

    def __init__(self, tag_id: str, type_info: TypeInformation | None = None) -> None:
        if not isinstance(tag_id, str) or not tag_id:
            raise JobGraphError(f"An output tag was given the id {tag_id!r}.", hint="Give it a name.")
        self.tag_id = tag_id
        self.type_info = type_info

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OutputTag) and other.tag_id == self.tag_id

    def __hash__(self) -> int:
        return hash(self.tag_id)

    def __repr__(self) -> str:
        return f"OutputTag({self.tag_id!r})"


DEAD_LETTERS: OutputTag[tuple[object, str]] = OutputTag("dead-letters")
"""Where an operator with ``on_error("dead_letter")`` sends each record its function raised for, with the
text of the error."""
