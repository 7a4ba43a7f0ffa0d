"""What can be said about one operator after it was added: its name, uid, parallelism, chaining and slot."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import NoReturn, Self, get_args

from zmflow.api.checked_text import checked_text
from zmflow.api.slot_sharing_group import SlotSharingGroup
from zmflow.errors import JobGraphError
from zmflow.graph.job_graph import PARALLELISM_MAX
from zmflow.graph.managed_memory import OPERATOR, STATE_BACKEND, USE_CASES, WEIGHT_MAX
from zmflow.graph.transformations import ChainingStrategy, ErrorPolicy, Transformation

__all__ = ["OperatorProperties", "checked_parallelism"]

_OPERATOR_ID = re.compile("[0-9A-Fa-f]{32}")


def checked_parallelism(parallelism: int, what: str) -> int:
    """The number, if it can be a parallelism.

    Raises:
        JobGraphError: it cannot; names ``what`` it was for.
    """
    if isinstance(parallelism, bool) or not isinstance(parallelism, int):
        raise JobGraphError(f"{what} is {parallelism!r}, not a whole number.")
    if not 1 <= parallelism <= PARALLELISM_MAX:
        raise JobGraphError(f"{what} is {parallelism}.", hint=f"Allowed: 1 to {PARALLELISM_MAX}.")
    return parallelism


class OperatorProperties(ABC):
    """The calls that streams and sinks share. Each returns the object it was called on."""

    @abstractmethod
    def _operator(self, call: str) -> Transformation:
        """The operator that ``call`` is about; raises JobGraphError where there is none."""

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream cannot be used inside a function that runs on a worker")

    def name(self, name: str) -> Self:
        """Name the operator in plans, logs and errors."""
        self._operator("name()").name = checked_text(name, "name()")
        return self

    def get_name(self) -> str:
        """The operator's name."""
        return self._operator("get_name()").name

    def uid(self, uid: str) -> Self:
        """Give the operator an id that lasts: its state is found by it. Unique in a job."""
        self._operator("uid()").uid = checked_text(uid, "uid()")
        return self

    def set_uid_hash(self, uid_hash: str) -> Self:
        """Make this the operator's id, as it is: what ``uid`` would be hashed to.

        For state that was written under the id of an operator without uid, as ``zmflow explain --json``
        shows it. Elsewhere use ``uid``.

        Args:
            uid_hash: 32 hexadecimal digits.
        """
        operator = self._operator("set_uid_hash()")
        if not isinstance(uid_hash, str) or not _OPERATOR_ID.fullmatch(uid_hash):
            raise JobGraphError(
                f"set_uid_hash() takes 32 hexadecimal digits, not {uid_hash!r}.",
                hint="uid() takes any text.",
            )
        operator.uid_hash = uid_hash.lower()
        return self

    def set_description(self, description: str) -> Self:
        """Say in plans what the operator does, at more length than its name."""
        operator = self._operator("set_description()")
        operator.description = checked_text(description, "set_description()")
        return self

    def set_parallelism(self, parallelism: int) -> Self:
        """Run the operator in this many subtasks.

        Raises:
            JobGraphError: out of range, or the operator is not parallel.
        """
        operator = self._operator("set_parallelism()")
        checked_parallelism(parallelism, f"The parallelism of {operator.title!r}")
        if operator.non_parallel and parallelism != 1:
            raise JobGraphError(
                f"The operator {operator.title!r} is not parallel; its parallelism cannot be {parallelism}.",
                hint="Give the operators behind it the parallelism, or read from a parallel source.",
            )
        operator.parallelism, operator.parallelism_set = parallelism, True
        return self

    def set_max_parallelism(self, max_parallelism: int) -> Self:
        """Give the operator this many key groups: the most subtasks it can ever have."""
        operator = self._operator("set_max_parallelism()")
        checked_parallelism(max_parallelism, f"The max parallelism of {operator.title!r}")
        if operator.non_parallel and max_parallelism != 1:
            raise JobGraphError(
                f"The operator {operator.title!r} is not parallel; "
                f"its max parallelism cannot be {max_parallelism}.",
                hint="Give the operators behind it the max parallelism.",
            )
        operator.max_parallelism = max_parallelism
        return self

    def disable_chaining(self) -> Self:
        """Run the operator in tasks of its own."""
        self._operator("disable_chaining()").chaining = ChainingStrategy.NEVER
        return self

    def on_error(self, policy: ErrorPolicy) -> Self:
        """What becomes of a record for which a function of this operator raises, or whose result does not fit
        the declared type.

        Args:
            policy: ``fail``, the default, fails the job; ``skip`` leaves the record out; ``dead_letter``
                sends it to the side output ``DEAD_LETTERS``, as a pair of the record and the error's text.
                Of what does not fit, process functions, windows and joins set the result aside, as there need
                be no one record it came from.
        """
        operator = self._operator("on_error()")
        if policy not in get_args(ErrorPolicy):
            raise JobGraphError(f"on_error() was given {policy!r}.", hint="Allowed: fail, skip, dead_letter.")
        operator.on_error = policy
        return self

    def slot_sharing_group(self, slot_sharing_group: str | SlotSharingGroup) -> Self:
        """Share slots only with operators of this group. Operators behind it inherit the group.

        Args:
            slot_sharing_group: a name, or a name with the resources of each slot of the group.
        """
        operator = self._operator("slot_sharing_group()")
        if isinstance(slot_sharing_group, SlotSharingGroup):
            operator.sharing_group = slot_sharing_group.get_name()
            profile = slot_sharing_group.get_resource_profile()
            operator.sharing_resources = None if profile.is_default else profile
        else:
            operator.sharing_group = checked_text(slot_sharing_group, "slot_sharing_group()")
            operator.sharing_resources = None
        return self

    def co_location_group(self, key: str) -> Self:
        """Keep subtask i of this operator in one slot with subtask i of every other operator of this key.

        They must be in one slot sharing group and have the same parallelism; ``execute`` refuses others.
        """
        self._operator("co_location_group()").co_location_group = checked_text(key, "co_location_group()")
        return self

    def managed_memory_weight(self, weight: int, use_case: str = OPERATOR) -> Self:
        """Give the operator a part of its slot's managed memory.

        Args:
            weight: for the use case OPERATOR, its part beside the weights of the other operators of its
                slot sharing group.
            use_case: OPERATOR, or STATE_BACKEND, whose users in a slot share one pool: its weight is 1.
        """
        operator = self._operator("managed_memory_weight()")
        if use_case not in USE_CASES:
            raise JobGraphError(
                f"Managed memory has no use case {use_case!r}.", hint="Allowed: " + ", ".join(USE_CASES) + "."
            )
        most = 1 if use_case == STATE_BACKEND else WEIGHT_MAX
        if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= most:
            raise JobGraphError(
                f"The managed memory weight of {operator.title!r} for {use_case} is {weight!r}.",
                hint="Allowed: 1, as all share the pool." if most == 1 else f"Allowed: 1 to {most}.",
            )
        operator.managed_memory_weights[use_case] = weight
        return self
