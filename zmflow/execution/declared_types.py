"""What makes the records of a chain's nodes fit what was declared for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zmflow.api.typeinfo import Coercer, coercer_for
from zmflow.api.types import TypeInformation
from zmflow.graph.job_graph import ChainNode

__all__ = ["coercer_of", "fit_of", "projection"]


def fit_of(node: ChainNode) -> Coercer | None:
    """What makes the records of a node fit the type declared for them; None where nothing has to."""
    return coercer_of(node.output_type)


def coercer_of(declared: object) -> Coercer | None:
    """What makes values fit a declared type; None where nothing has to."""
    return coercer_for(declared) if isinstance(declared, TypeInformation) else None


def projection(fields: tuple[int, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """Those fields of a record, as a tuple."""
    return lambda record: tuple(record[field] for field in fields)
