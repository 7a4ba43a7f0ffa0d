"""Which ``StreamOperator`` runs a specification of the API. What is not here is compiled into its chain.

Both sides are names, loaded on use: a worker imports the operators its job has and no others.
"""

from __future__ import annotations

from importlib import import_module

from zmflow.execution.stream_operator import StreamOperator

__all__ = ["OPERATORS", "is_stream_operator", "stream_operator"]

OPERATORS: dict[str, str] = {
    "zmflow.api.watermark_strategy.WatermarksOperator": (
        "zmflow.execution.timestamps_operator.TimestampsAndWatermarksOperator"
    ),
    "zmflow.api.async_functions.AsyncOperator": "zmflow.execution.async_operator.AsyncWaitOperator",
    "zmflow.api.process_operators.ProcessOperator": "zmflow.execution.process_factories.process",
    "zmflow.api.process_operators.CoProcessOperator": "zmflow.execution.process_factories.co_process",
    "zmflow.api.process_operators.BroadcastProcessOperator": (
        "zmflow.execution.process_factories.broadcast_process"
    ),
    "zmflow.api.interval_join.IntervalJoinOperator": (
        "zmflow.execution.interval_join_operator.IntervalJoinProcess"
    ),
    "zmflow.api.cached_rows.PackRowsOperator": "zmflow.execution.packing_operators.PackingOperator",
    "zmflow.api.cached_rows.UnpackRowsOperator": "zmflow.execution.packing_operators.UnpackingOperator",
    "zmflow.api.windows.operators.WindowOperator": "zmflow.execution.windows.operators.window_operator",
    "zmflow.api.windows.operators.PartitionWindowOperator": (
        "zmflow.execution.windows.partition_operator.FullPartitionOperator"
    ),
}
"""By the full name of the specification, the full name of the operator that one subtask runs."""


def _name_of(specification: object) -> str:
    kind = type(specification)
    return f"{kind.__module__}.{kind.__qualname__}"


def is_stream_operator(specification: object) -> bool:
    """Whether a specification is run by an operator of its own."""
    return _name_of(specification) in OPERATORS


def stream_operator(specification: object) -> StreamOperator:
    """The operator that runs a specification."""
    module, _, name = OPERATORS[_name_of(specification)].rpartition(".")
    operator: StreamOperator = getattr(import_module(module), name)(specification)
    return operator
