"""The metrics that operators of the engine register themselves; Flink's names where Flink has them."""

from __future__ import annotations

__all__ = ["LATE_RECORDS_DROPPED", "RECORDS_REJECTED"]

LATE_RECORDS_DROPPED = "numLateRecordsDropped"
"""Records that came too late for a window or a join and have no side output to go to."""

RECORDS_REJECTED = "numRecordsRejected"
"""Records that a function raised for and that the operator's ``on_error`` left out."""
