"""The JobManager's process: the real brain, and the connections of those who dialled."""

from __future__ import annotations

from zmflow.config import Settings
from zmflow.coordination.dispatcher import Dispatcher
from zmflow.coordination.effects import (
    CheckpointStored,
    DeadlinePassed,
    DiscardCheckpoint,
    Event,
    Log,
    MessageReceived,
    PeerGone,
    Send,
    StoreCheckpoint,
)
from zmflow.ids import Epoch
from zmflow.protocol.messages import (
    AllocateSlot,
    DeployTasks,
    GetCluster,
    GetJob,
    Heartbeat,
    Hello,
    ListJobs,
    Message,
    NotifyCheckpoint,
    SnapshotCoordinator,
    TriggerCheckpoint,
)
from zmflow.protocol.versions import Versions
from zmflow.testing.simulation.network import Connection
from zmflow.testing.simulation.storage import Storage
from zmflow.testing.simulation.world import Component, World

__all__ = ["OBSERVER", "QUIET", "VERSIONS", "JobManagerProcess"]

VERSIONS = Versions(1, "3.11", "0.1.0")
"""What everybody in the simulated cluster runs."""

OBSERVER = b"observer"
"""The connection over which the simulator itself asks: without delay and without faults."""

QUIET = frozenset({GetCluster, GetJob, Heartbeat, Hello, ListJobs})
"""What changes nothing that ``check`` could find wrong; a third of what a leader hears. Checking takes as
long as deciding."""


OF_CHECKPOINTS = frozenset({DeployTasks, NotifyCheckpoint, SnapshotCoordinator, TriggerCheckpoint})
"""What the rules of checkpoints are about."""


class JobManagerProcess(Component):
    """One term of a leader."""

    __slots__ = ("brain", "connections", "epoch", "heard_by_observer", "storage")

    def __init__(self, epoch: int, settings: Settings, world: World) -> None:
        super().__init__("jm", world)
        self.epoch = epoch
        self.connections: dict[bytes, Connection] = {}
        self.heard_by_observer: list[Message] = []
        self.storage = Storage(self, world)
        now_ms = world.agenda.now_ms
        self.brain = Dispatcher(
            Epoch(epoch), "jm", settings, VERSIONS, self.clock.wall(now_ms), world.chance.random
        )

    def local_deadline_ms(self) -> int | None:
        return self.brain.deadline_ms()

    def deadline_passed(self) -> None:
        self._feed(DeadlinePassed())

    def hear(self, connection: Connection, message: Message) -> None:
        """A message arrived."""
        self.connections[connection.peer] = connection
        wall_ms = self.clock.wall(self.world.agenda.now_ms)
        self._feed(MessageReceived(connection.peer, message, wall_ms))
        self.set_alarm()

    def peer_gone(self, connection: Connection) -> None:
        """A connection is closed."""
        self.connections.pop(connection.peer, None)
        self._feed(PeerGone(connection.peer))
        self.set_alarm()

    def stored(self, event: CheckpointStored) -> None:
        """The storage has written metadata, or could not."""
        if not self.alive:
            return
        if self.stalled:
            self.postpone(self.stored, event)
        else:
            self._feed(event)
            self.set_alarm()

    def ask(self, message: Message) -> list[Message]:
        """A question of the simulator, answered at once."""
        self.heard_by_observer = []
        self._feed(MessageReceived(OBSERVER, message, self.clock.wall(self.world.agenda.now_ms)))
        self.set_alarm()
        return self.heard_by_observer

    def decide(self, event: Event) -> list[Send]:
        """The brain handles an event; returns what it would send, in order."""
        world = self.world
        world.steps += 1
        now_ms = self.clock.read(world.agenda.now_ms)
        if world.journal.on:
            world.journal.note(world.agenda.now_ms, self.name, event)
        effects = self.brain.handle(event, now_ms)
        if not (isinstance(event, MessageReceived) and type(event.message) in QUIET):
            self.brain.check()
        sends = []
        for effect in effects:
            if type(effect) is Send:
                sends.append(effect)
            elif type(effect) is Log:
                world.invariants.logged(self.name, effect)
            elif isinstance(effect, (StoreCheckpoint, DiscardCheckpoint)):
                self.storage.order(effect)
            else:
                raise TypeError(f"the Dispatcher asked for {type(effect).__name__}")
        return sends

    def _feed(self, event: Event) -> None:
        world = self.world
        for effect in self.decide(event):
            if world.journal.on:
                world.journal.note(world.agenda.now_ms, self.name, f"-> {effect.peer!r} {effect.message}")
            if effect.peer == OBSERVER:
                self.heard_by_observer.append(effect.message)
                continue
            if type(effect.message) in OF_CHECKPOINTS:
                world.invariants.checkpoints.said(self, effect.message)
            connection = self.connections.get(effect.peer)
            if connection is not None:
                if type(effect.message) is AllocateSlot:
                    name = connection.dialer.name
                    world.invariants.slot_allocated(self, name, effect.message.allocation_id)
                world.network.say_down(connection, effect.message)
        world.invariants.leader_moved(self)

    def crash(self, *, silently: bool) -> None:
        """The process is gone with all it knew; ``silently``: and its machine, so that nobody is told."""
        self.alive = False
        network = self.world.network
        network.listener = None
        for connection in self.connections.values():
            network.remember(connection)
            network.shut(connection, silently=silently)
