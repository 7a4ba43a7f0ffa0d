"""The identifiers that appear on the wire, in logs and in the command line.

All of them are short strings, so that they can be printed, grepped and used as dictionary keys
without conversion. Random ones are made at the edges (client, TaskManager start); those the
JobManager makes are derived from its epoch and a counter, so its decisions stay reproducible.
"""

from __future__ import annotations

import hashlib
from typing import NewType

__all__ = [
    "AllocationId",
    "AttemptId",
    "Epoch",
    "JobId",
    "OperatorId",
    "TaskManagerId",
    "VertexId",
    "allocation_id",
    "attempt_id",
    "digest",
    "operator_id_of",
]

Epoch = NewType("Epoch", int)
"""The leader's term; the fencing token in every control message. 0 means "none known yet"."""

JobId = NewType("JobId", str)
"""32 hexadecimal digits, made by the client that submits the job."""

VertexId = NewType("VertexId", str)
"""A vertex of one JobGraph, ``v1``, ``v2``, ... in topological order."""

OperatorId = NewType("OperatorId", str)
"""An operator of one StreamGraph, stable over resubmission when the operator has a uid."""

TaskManagerId = NewType("TaskManagerId", str)
"""``host-<random>``; a TaskManager that restarts is another TaskManager."""

AllocationId = NewType("AllocationId", str)
"""One tenure of one slot by one job; messages about an older tenure are ignored."""

AttemptId = NewType("AttemptId", str)
"""One try at running one subtask; messages about an older try are ignored."""


def allocation_id(epoch: Epoch, number: int) -> AllocationId:
    """The number-th allocation a leader of this epoch makes.

    >>> allocation_id(Epoch(3), 7)
    'a3-7'
    """
    return AllocationId(f"a{epoch}-{number}")


def attempt_id(job: JobId, vertex: VertexId, subtask: int, attempt: int) -> AttemptId:
    """The attempt-th try (from 0) of a subtask (from 0).

    >>> attempt_id(JobId("9f"), VertexId("v2"), 1, 0)
    '9f/v2/1/0'
    """
    return AttemptId(f"{job}/{vertex}/{subtask}/{attempt}")


def digest(*parts: str) -> str:
    """32 hexadecimal digits that stand for these texts."""
    hashed = hashlib.blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        hashed.update(len(encoded).to_bytes(4, "big") + encoded)
    return hashed.hexdigest()


def operator_id_of(uid: str) -> OperatorId:
    """The id of the operator with this uid, in every job.

    >>> operator_id_of("counts") == operator_id_of("counts") != operator_id_of("count")
    True
    """
    return OperatorId(digest("uid", uid))
