"""Adding an operator that tells two inputs apart."""

from __future__ import annotations

from typing import Any, cast

from zmflow.api.datastream import DataStream
from zmflow.api.types import TypeInformation

__all__ = ["two_input_stream"]


def two_input_stream(
    first: DataStream[Any],
    second: DataStream[Any],
    name: str,
    operator: object,
    output_type: TypeInformation | None,
) -> DataStream[Any]:
    """The result of an operator whose first input is ``first`` and whose second is ``second``."""
    added = first._environment._add("operator", name, cast("Any", operator), (first._node,))
    added.second_inputs = (second._node,)
    added.output_type = output_type
    return DataStream(first._environment, added, output_type)
