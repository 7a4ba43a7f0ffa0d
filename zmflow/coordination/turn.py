"""One turn of the JobManager's brain: an event's instant, its cause, and the effects decided so far."""

from __future__ import annotations

from typing import Literal

from zmflow.coordination.effects import Effect, Log, Send, Story
from zmflow.ids import Epoch
from zmflow.protocol.messages import Message

__all__ = ["Turn"]


class Turn:
    """What the parts of the brain share while they handle one event.

    Args:
        epoch: the leader's term, for every message that leaves.
        now_ms: monotonic milliseconds, for deadlines and durations.
        wall_ms: wall clock, only for what people see.
        cause: the name of the event, for the story.
    """

    def __init__(self, epoch: Epoch, now_ms: int, wall_ms: int, cause: str, story: Story) -> None:
        self.epoch = epoch
        self.now_ms = now_ms
        self.wall_ms = wall_ms
        self.cause = cause
        self.effects: list[Effect] = []
        self._story = story

    def send(self, peer: bytes, message: Message) -> None:
        """The message leaves after those decided before it."""
        self.effects.append(Send(peer, message))

    def do(self, effect: Effect) -> None:
        """Carry this out after what was decided before it."""
        self.effects.append(effect)

    def log(self, level: Literal["debug", "info", "warning", "error"], sentence: str, **fields: str) -> None:
        """A line for the log of the JobManager."""
        self.effects.append(Log(level, sentence, fields))

    def tell(self, subject: str, sentence: str) -> None:
        """An entry of the story, under the event of this turn."""
        self._story.tell(self.now_ms, subject, sentence, self.cause)
