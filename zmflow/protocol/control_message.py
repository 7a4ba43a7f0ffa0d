"""What every control message is: see ``messages``, which offers them all."""

from __future__ import annotations

import msgspec

__all__ = ["ControlMessage"]


class ControlMessage(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """A message to or from a JobManager begins with the leader's term."""

    epoch: int
