"""A TaskManager's link to its leader: whether it is registered, when it speaks, how long it may go on.

The lease is what keeps a TaskManager that was cut off from running what the leader has started elsewhere: it
counts from the sending of the last heartbeat the leader has answered, so it ends before the leader, which
counts from hearing it, gives the TaskManager up.
"""

from __future__ import annotations

from zmflow.config import Settings
from zmflow.config.options import HEARTBEAT_INTERVAL, HEARTBEAT_TIMEOUT, REGISTRATION_TIMEOUT
from zmflow.coordination.states import LINK, LinkEvent, LinkState
from zmflow.ids import Epoch, TaskManagerId
from zmflow.protocol.messages import (
    HeartbeatAck,
    Message,
    Refused,
    TaskManagerRegistered,
    UnknownTaskManager,
    Welcome,
)

__all__ = ["LeaderLink"]


class LeaderLink:
    """The state of the link and its instants.

    Args:
        settings: those of the TaskManager; the leader's own go over them once it has registered.
    """

    def __init__(self, settings: Settings) -> None:
        self.state: LinkState = LINK.initial
        self.timeout_ms = settings[HEARTBEAT_TIMEOUT]
        self._interval_ms = settings[HEARTBEAT_INTERVAL]
        self._registration_timeout_ms = settings[REGISTRATION_TIMEOUT]
        self._asked_ms = 0  # when it said Hello or asked to be registered
        self._beat_ms = 0
        self._lease_ms = 0
        self._unregistered_since_ms: int | None = None

    @property
    def registered(self) -> bool:
        """Whether a leader has accepted this TaskManager."""
        return self.state == "registered"

    def _advance(self, event: LinkEvent) -> bool:
        after = LINK.after(self.state, event)
        if after is None:
            return False
        self.state = after
        return True

    def greet(self, now_ms: int) -> None:
        """Begin anew with whoever leads."""
        self._advance("greet")
        self._asked_ms = now_ms
        if self._unregistered_since_ms is None:
            self._unregistered_since_ms = now_ms

    def welcomed(self, now_ms: int) -> None:
        """A leader has answered; the registration is on its way."""
        self._advance("welcome")
        self._asked_ms = now_ms

    def accepted(self, message: TaskManagerRegistered, now_ms: int) -> bool:
        """The leader has registered it. False when that was known or is not waited for."""
        if not self._advance("accepted"):
            return False
        self._unregistered_since_ms = None
        self._interval_ms = message.heartbeat_interval_ms
        self.timeout_ms = message.heartbeat_timeout_ms
        self._beat_ms = now_ms
        self._lease_ms = self._asked_ms + self.timeout_ms
        return True

    def acknowledged(self, message: HeartbeatAck) -> None:
        """The leader has answered a heartbeat."""
        self._lease_ms = max(self._lease_ms, message.sent_ms + self.timeout_ms)

    def expects(self, message: Message) -> bool:
        """Whether a message can be meant for what this TaskManager is since its last Hello."""
        if self.state == "registered" or isinstance(message, (Welcome, Refused)):
            return True
        return self.state == "registering" and isinstance(
            message, (TaskManagerRegistered, UnknownTaskManager)
        )

    # -- time -------------------------------------------------------------------------------------

    def deadline_ms(self) -> int:
        """When to look at the link again."""
        if self.registered:
            return min(self._lease_ms, self._beat_ms + self._interval_ms)
        again_ms = self._asked_ms + self.timeout_ms
        limit_ms = self._registration_deadline_ms()
        return again_ms if limit_ms is None else min(again_ms, limit_ms)

    def silence(self, now_ms: int) -> str:
        """Why to begin anew now, in a sentence; empty when there is no reason."""
        if self.registered and now_ms >= self._lease_ms:
            seconds = (now_ms - self._lease_ms + self.timeout_ms) / 1000
            return f"the JobManager has answered no heartbeat for {seconds:.1f} s"
        if not self.registered and now_ms >= self._asked_ms + self.timeout_ms:
            return f"nothing was heard of the JobManager for {self.timeout_ms / 1000:g} s"
        return ""

    def beats(self, now_ms: int) -> bool:
        """Whether a heartbeat is due; it is taken to be sent then."""
        if not self.registered or now_ms < self._beat_ms + self._interval_ms:
            return False
        self._beat_ms = now_ms
        return True

    def gives_up(self, now_ms: int) -> bool:
        """Whether it has tried to register for too long. True once."""
        limit_ms = self._registration_deadline_ms()
        if limit_ms is None or now_ms < limit_ms:
            return False
        self._unregistered_since_ms = None
        self._asked_ms = now_ms
        return True

    def unregistered(self, epoch: Epoch, taskmanager_id: TaskManagerId) -> Refused:
        """Why a TaskManager that has tried for too long gives up."""
        return Refused(
            epoch,
            0,
            "ClusterError",
            f"The TaskManager {taskmanager_id} could not register within "
            f"{self._registration_timeout_ms / 1000:g} s.",
            "No JobManager accepted it at the configured address.",
            "Look at the JobManager, or wait longer with taskmanager.registration.timeout.",
        )

    def _registration_deadline_ms(self) -> int | None:
        if self._unregistered_since_ms is None or self._registration_timeout_ms < 0:
            return None
        return self._unregistered_since_ms + self._registration_timeout_ms
