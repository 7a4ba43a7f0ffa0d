"""Specifications of the operators that process functions become, like those in ``zmflow.api.operators``.

A key selector of None is an input without keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zmflow.api.functions import (
    CoFlatMapFunction,
    CoMapFunction,
    FilterFunction,
    FlatMapFunction,
    MapFunction,
)
from zmflow.api.operators import UserFunction
from zmflow.api.process_functions import (
    BroadcastProcessFunction,
    CoProcessFunction,
    KeyedBroadcastProcessFunction,
    KeyedCoProcessFunction,
    KeyedProcessFunction,
    ProcessFunction,
)

if TYPE_CHECKING:
    from zmflow.state.descriptors import MapStateDescriptor

__all__ = ["BroadcastProcessOperator", "CoProcessOperator", "ProcessOperator"]


@dataclass(frozen=True, slots=True)
class ProcessOperator:
    """A function with one input. Map, flat map and filter functions are here for the state of their key."""

    function: (
        ProcessFunction[Any, Any]
        | KeyedProcessFunction[Any, Any, Any]
        | MapFunction[Any, Any]
        | FlatMapFunction[Any, Any]
        | FilterFunction[Any]
    )
    key_selector: UserFunction | None = None


@dataclass(frozen=True, slots=True)
class CoProcessOperator:
    """A function with two inputs; either both have keys or none."""

    function: (
        CoProcessFunction[Any, Any, Any]
        | KeyedCoProcessFunction[Any, Any, Any, Any]
        | CoMapFunction[Any, Any, Any]
        | CoFlatMapFunction[Any, Any, Any]
    )
    key_selectors: tuple[UserFunction, UserFunction] | None = None


@dataclass(frozen=True, slots=True)
class BroadcastProcessOperator:
    """A function whose second input reaches every subtask and changes broadcast state."""

    function: BroadcastProcessFunction[Any, Any, Any] | KeyedBroadcastProcessFunction[Any, Any, Any, Any]
    state_descriptors: tuple[MapStateDescriptor[Any, Any], ...]
    key_selector: UserFunction | None = None
