"""The network between a JobManager and those who dial it: connections, and what can go wrong on them.

A connection keeps the order of its messages; connections among each other keep none. On the way a message
can be lost, repeated or late. The two ends number messages with ``Session``, so a repeated one is dropped
and after a lost one the connection is given up by the end that notices; the other end learns of it when
the news reaches it, or when it next says something. Between two machines the way can be *cut*, in one
direction or both: what is under way then waits for the end of the cut, as in a transport that repeats
itself, or is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Literal, Protocol

from zmflow.protocol.messages import Heartbeat, HeartbeatAck, Message
from zmflow.protocol.session import Session
from zmflow.testing.simulation.agenda import Agenda

__all__ = ["Connection", "Cut", "Dialer", "Listener", "Network", "Weather"]

DIAL_AGAIN_MS = 700
"""How long a dialler waits before it tries again: about what the transport's own back-off comes to."""

DIAL_MAX_MS = 4
"""Longest time to a new connection, when somebody listens."""

SPIKE_MAX_MS = 3_000
"""Longest delay of a single message: a retransmission or two, below the heartbeat timeout."""

RELICS_MAX = 6
"""Messages of each direction that are remembered, to be said again when their leader is no more."""

Direction = Literal["up", "down"]


class Listener(Protocol):
    """The JobManager's end of all connections. Another process is another listener."""

    @property
    def stalled(self) -> bool: ...
    def hear(self, connection: Connection, message: Message) -> None: ...
    def peer_gone(self, connection: Connection) -> None: ...
    def postpone(self, action: Callable[..., object], *arguments: object) -> None: ...


class Dialer(Protocol):
    """The other end: a TaskManager or a client."""

    @property
    def name(self) -> str: ...
    @property
    def stalled(self) -> bool: ...
    def hear(self, connection: Connection, message: Message) -> None: ...
    def connection_lost(self, connection: Connection, _reason: str, /) -> None: ...
    def postpone(self, action: Callable[..., object], *arguments: object) -> None: ...


class Weather:
    """How often single messages are lost, repeated or late (probabilities), and how long others travel."""

    __slots__ = ("late", "latency_max_ms", "loss", "repeat")

    def __init__(
        self, loss: float = 0.0, repeat: float = 0.0, late: float = 0.0, latency_max_ms: int = 4
    ) -> None:
        # Thresholds of one draw, so that a message costs one.
        self.loss = loss
        self.repeat = loss + repeat
        self.late = loss + repeat + late
        self.latency_max_ms = latency_max_ms


class Cut:
    """Nothing travels in this direction until ``until_ms``; what should have is late or lost."""

    __slots__ = ("loses", "until_ms")

    def __init__(self, until_ms: int, *, loses: bool) -> None:
        self.until_ms = until_ms
        self.loses = loses


class Connection:
    """One connection. ``peer`` is its name at the JobManager's end; no two have the same."""

    __slots__ = (
        "dialer",
        "dialer_open",
        "dialer_session",
        "down_ms",
        "heard_down",
        "heard_up",
        "listener",
        "listener_open",
        "listener_session",
        "peer",
        "up_ms",
        "waiting",
    )

    def __init__(self, peer: bytes, dialer: Dialer) -> None:
        self.peer = peer
        self.dialer = dialer
        self.dialer_open = True
        self.dialer_session = Session()
        self.listener: Listener | None = None  # None until it is established
        self.listener_open = False
        self.listener_session = Session()
        self.up_ms = self.down_ms = 0  # when the newest message of each direction arrives
        self.waiting: list[Message] = []  # said before it was established
        self.heard_up: deque[Message] = deque(maxlen=RELICS_MAX)
        self.heard_down: deque[Message] = deque(maxlen=RELICS_MAX)


class Network:
    """All connections. ``listener`` is the JobManager that can be dialled now, if any."""

    __slots__ = ("_chance", "_numbers", "agenda", "counted", "cuts", "listener", "relics", "weather")

    def __init__(self, agenda: Agenda, chance: Random) -> None:
        self.agenda = agenda
        self.listener: Listener | None = None
        self.weather = Weather()
        self.cuts: dict[tuple[str, Direction], Cut] = {}
        self.counted: dict[str, int] = {}
        self.relics: list[tuple[str, Direction, Message]] = []
        self._chance = chance
        self._numbers: dict[str, int] = {}

    # -- the dialler's end ------------------------------------------------------------------------

    def dial(self, dialer: Dialer) -> Connection:
        """Begin a new connection; what is said before it is established travels afterwards."""
        number = self._numbers.get(dialer.name, 0) + 1
        self._numbers[dialer.name] = number
        connection = Connection(f"{dialer.name}#{number}".encode(), dialer)
        self.agenda.after(1 + int(self._chance.random() * DIAL_MAX_MS), self._establish, connection)
        return connection

    def say_up(self, connection: Connection, message: Message) -> None:
        """A dialler's message to the JobManager."""
        if not connection.dialer_open:
            return
        if connection.listener is None:
            connection.waiting.append(message)
            return
        sequence = connection.dialer_session.stamp()
        at_ms, copies = self._way(connection.dialer.name, "up", connection.up_ms)
        for _ in range(copies):
            self.agenda.at(at_ms, self._arrive_up, connection, sequence, message)
        if copies:
            connection.up_ms = at_ms

    def hang_up(self, connection: Connection, *, silently: bool = False) -> None:
        """The dialler closes; the JobManager hears of it unless that is lost or not said."""
        connection.dialer_open = False
        if connection.listener is not None and not silently:
            at_ms, copies = self._way(connection.dialer.name, "up", connection.up_ms)
            if copies:
                self.agenda.at(at_ms, self._hung_up, connection)

    def _establish(self, connection: Connection) -> None:
        if not connection.dialer_open:
            return
        name = connection.dialer.name
        if self.listener is None or self._is_cut(name, "up") or self._is_cut(name, "down"):
            self.agenda.after(DIAL_AGAIN_MS, self._establish, connection)
            return
        connection.listener = self.listener
        connection.listener_open = True
        waiting, connection.waiting = connection.waiting, []
        for message in waiting:
            self.say_up(connection, message)

    # -- the JobManager's end ---------------------------------------------------------------------

    def say_down(self, connection: Connection, message: Message) -> None:
        """A JobManager's message to who dialled."""
        sequence = connection.listener_session.stamp()
        at_ms, copies = self._way(connection.dialer.name, "down", connection.down_ms)
        for _ in range(copies):
            self.agenda.at(at_ms, self._arrive_down, connection, sequence, message)
        if copies:
            connection.down_ms = at_ms

    def shut(self, connection: Connection, *, silently: bool = False) -> None:
        """The JobManager closes; the dialler hears of it unless that is lost or not said."""
        connection.listener_open = False
        if not silently:
            self._reset(connection, "it was closed by the JobManager")

    def _reset(self, connection: Connection, reason: str) -> None:
        at_ms, copies = self._way(connection.dialer.name, "down", connection.down_ms)
        if copies:
            self.agenda.at(at_ms, self._lost_at_dialer, connection, reason)

    def remember(self, connection: Connection) -> None:
        """Keep what was said on it: its leader is no more, but its messages may turn up."""
        name = connection.dialer.name
        self.relics += [(name, "up", message) for message in connection.heard_up]
        self.relics += [(name, "down", message) for message in connection.heard_down]

    # -- on the way -------------------------------------------------------------------------------

    def cut(self, name: str, direction: Direction, until_ms: int, *, loses: bool) -> None:
        """Cut the way between this component and the JobManager."""
        self.cuts[name, direction] = Cut(until_ms, loses=loses)

    def heal(self) -> None:
        """Good weather and open ways from now on; what waits for the end of a cut still does."""
        self.weather = Weather()
        self.cuts.clear()

    def _is_cut(self, name: str, direction: Direction) -> bool:
        cut = self.cuts.get((name, direction))
        return cut is not None and cut.until_ms > self.agenda.now_ms

    def _way(self, name: str, direction: Direction, after_ms: int) -> tuple[int, int]:
        """When a message arrives, not before the one before it, and how often."""
        draw = self._chance.random()
        now_ms = self.agenda.now_ms
        weather = self.weather
        # Digits of the draw that do not decide whether it is lost.
        at_ms = now_ms + 1 + int(draw * 1e6) % weather.latency_max_ms
        copies = 1
        if draw < weather.late:
            if draw < weather.loss:
                self._count("message lost")
                return 0, 0
            if draw < weather.repeat:
                self._count("message repeated")
                copies = 2
            else:
                self._count("message late")
                at_ms += int(self._chance.random() * SPIKE_MAX_MS)
        if self.cuts:
            cut = self.cuts.get((name, direction))
            if cut is not None and cut.until_ms > now_ms:
                if cut.loses:
                    return 0, 0
                at_ms = max(at_ms, cut.until_ms)
        return max(at_ms, after_ms), copies

    def _count(self, kind: str) -> None:
        self.counted[kind] = self.counted.get(kind, 0) + 1

    def _arrive_up(self, connection: Connection, sequence: int, message: Message) -> None:
        listener = connection.listener
        assert listener is not None, "it was established when this was said"
        if listener.stalled:
            listener.postpone(self._arrive_up, connection, sequence, message)
            return
        if listener is not self.listener or not connection.listener_open:
            if self.listener is not None:  # a running machine says that it does not know the connection
                self._reset(connection, "the JobManager does not know it")
            return
        verdict = connection.listener_session.admit(sequence)
        if verdict == "next":
            if type(message) is not Heartbeat:
                connection.heard_up.append(message)
            listener.hear(connection, message)
        elif verdict == "gap":
            self.shut(connection)
            listener.peer_gone(connection)

    def _hung_up(self, connection: Connection) -> None:
        listener = connection.listener
        if listener is None or listener is not self.listener or not connection.listener_open:
            return
        if listener.stalled:
            listener.postpone(self._hung_up, connection)
            return
        connection.listener_open = False
        listener.peer_gone(connection)

    def _arrive_down(self, connection: Connection, sequence: int, message: Message) -> None:
        dialer = connection.dialer
        if dialer.stalled:
            dialer.postpone(self._arrive_down, connection, sequence, message)
            return
        if not connection.dialer_open:
            if connection.listener_open:
                self.hang_up(connection)  # the answer of a machine that does not know the connection
            return
        verdict = connection.dialer_session.admit(sequence)
        if verdict == "next":
            if type(message) is not HeartbeatAck:
                connection.heard_down.append(message)
            dialer.hear(connection, message)
        elif verdict == "gap":
            self.hang_up(connection)
            dialer.connection_lost(connection, "a message is missing")

    def _lost_at_dialer(self, connection: Connection, reason: str) -> None:
        dialer = connection.dialer
        if not connection.dialer_open:
            return
        if dialer.stalled:
            dialer.postpone(self._lost_at_dialer, connection, reason)
            return
        connection.dialer_open = False
        dialer.connection_lost(connection, reason)
