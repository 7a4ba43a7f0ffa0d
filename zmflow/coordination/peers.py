"""Who is connected to the JobManager: the handshake, what each may say, and what becomes of the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zmflow.coordination.turn import Turn
from zmflow.errors import ClusterError, IncompatiblePeerError, ZmflowError
from zmflow.ids import Epoch
from zmflow.protocol import messages as m
from zmflow.protocol.versions import Versions, check_compatible

__all__ = ["Peer", "Peers"]


@dataclass(slots=True)
class Peer:
    """One connection whose other end has said Hello."""

    role: Literal["taskmanager", "client"]
    name: str
    greeted: bool = True  # said Hello and has not registered since


class Peers:
    """The connections of one leader.

    Args:
        epoch: the leader's term; messages of another one change nothing.
        name: the JobManager's name, for messages to people.
    """

    def __init__(self, epoch: Epoch, name: str, versions: Versions) -> None:
        self._epoch = epoch
        self._name = name
        self._versions = versions
        self._peers: dict[bytes, Peer] = {}

    def greet(self, turn: Turn, peer: bytes, message: m.Hello) -> None:
        """Answer a Hello: welcome, or refuse with the reason."""
        if message.epoch > self._epoch:
            self._wrong_epoch(turn, peer, message)
            return
        kind = "TaskManager" if message.role == "taskmanager" else "client"
        try:
            check_compatible(
                self._versions,
                message.versions,
                our_name=f"the JobManager {self._name}",
                their_name=f"the {kind} {message.name}",
            )
        except IncompatiblePeerError as error:
            turn.log("warning", error.message, peer=message.name)
            self.refuse(turn, peer, 0, error)
            return
        self._peers[peer] = Peer(message.role, message.name)
        turn.send(peer, m.Welcome(self._epoch, self._versions, self._name))

    def admit(self, turn: Turn, peer: bytes, message: m.Message) -> Peer | None:
        """Who sent a message of this term. None when it is not to be acted upon; that is told."""
        if message.epoch != self._epoch:
            self._wrong_epoch(turn, peer, message)
            return None
        known = self._peers.get(peer)
        if known is None:
            self._unknown(turn, peer, message)
        return known

    def gone(self, peer: bytes) -> bool:
        """A connection is closed. False when nobody had said Hello on it."""
        return self._peers.pop(peer, None) is not None

    def refuse(self, turn: Turn, peer: bytes, request_id: int, error: ZmflowError) -> None:
        """Answer a request, or a handshake (0), with an error."""
        kind = type(error).__name__
        detail, hint = error.detail or "", error.hint or ""
        turn.send(peer, m.Refused(self._epoch, request_id, kind, error.message, detail, hint))

    def _wrong_epoch(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        age = "an older" if message.epoch < self._epoch else "a newer"
        name = type(message).__name__
        turn.tell(peer.hex(), f"dropped {name}: epoch {message.epoch}, ours is {self._epoch}")
        sentence = f"Dropped {name} of {age} leader's term."
        turn.log("warning", sentence, epoch=str(message.epoch), peer=peer.hex())
        if message.epoch > self._epoch:
            return
        # Not acted upon, but who sent it can stop waiting for the leader that was.
        request_id = getattr(message, "request_id", 0)
        if isinstance(message, m.Heartbeat):
            turn.send(peer, m.UnknownTaskManager(self._epoch, message.taskmanager_id))
        elif request_id and not isinstance(message, m.LogChunk):
            error = ClusterError(
                "The JobManager has started anew since this client connected.",
                detail=f"The client knows epoch {message.epoch}; {self._name} has epoch {self._epoch}.",
                hint="Connect again; 'zmflow list' shows the jobs it knows.",
            )
            self.refuse(turn, peer, request_id, error)

    def _unknown(self, turn: Turn, peer: bytes, message: m.Message) -> None:
        # This leader's term is right but the connection is not known: it was given up in between.
        request_id = getattr(message, "request_id", None)
        if isinstance(message, m.Heartbeat):
            turn.send(peer, m.UnknownTaskManager(self._epoch, message.taskmanager_id))
        elif request_id:
            error = ClusterError("The connection to the JobManager was closed.", hint="Try again.")
            self.refuse(turn, peer, request_id, error)
        turn.tell(peer.hex(), f"dropped {type(message).__name__}: no Hello on this connection")
