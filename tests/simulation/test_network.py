"""The simulated network: what arrives, in which order, and who learns of a broken connection."""

from __future__ import annotations

from random import Random

import pytest

from zmflow.protocol.messages import CollectAck, Message
from zmflow.testing.simulation.agenda import Agenda
from zmflow.testing.simulation.clock import Clock
from zmflow.testing.simulation.network import Network, Weather

LONG_MS = 20_000


def note(number: int) -> Message:
    """A message that can be told from others."""
    return CollectAck(1, "job", "v", "c", 0, number)


class End:
    """One end of connections: hears, and takes note."""

    def __init__(self, name: str = "jm") -> None:
        self.name = name
        self.stalled = False
        self.heard: list[int] = []
        self.lost: list[str] = []
        self.gone: list[bytes] = []
        self.inbox: list = []

    def hear(self, connection, message) -> None:
        self.heard.append(message.sequence)

    def peer_gone(self, connection) -> None:
        self.gone.append(connection.peer)

    def connection_lost(self, connection, reason) -> None:
        self.lost.append(reason)

    def postpone(self, action, *arguments) -> None:
        self.inbox.append((action, arguments))

    def go_on(self) -> None:
        """Handle what was postponed."""
        self.stalled = False
        for action, arguments in self.inbox:
            action(*arguments)


class Site:
    """A network with a JobManager and one who dials it."""

    def __init__(self, seed: int = 1, weather: Weather | None = None) -> None:
        self.agenda = Agenda()
        self.network = Network(self.agenda, Random(seed))
        self.jobmanager, self.taskmanager = End(), End("tm")
        self.network.listener = self.jobmanager
        self.connection = self.network.dial(self.taskmanager)
        self.pass_ms(LONG_MS)
        self.network.weather = weather or Weather()

    def pass_ms(self, duration_ms: int) -> None:
        self.agenda.run_until(self.agenda.now_ms + duration_ms)

    def up(self, *numbers: int) -> None:
        for number in numbers:
            self.network.say_up(self.connection, note(number))

    def down(self, *numbers: int) -> None:
        for number in numbers:
            self.network.say_down(self.connection, note(number))


@pytest.mark.parametrize("seed", range(10))
def test_a_connection_keeps_the_order_of_late_and_repeated_messages(seed):
    """Whatever is late or repeated, each message is heard once and in order, in both directions."""
    site = Site(seed, Weather(repeat=0.3, late=0.3))
    numbers = list(range(50))
    site.up(*numbers)
    site.down(*numbers)
    site.pass_ms(LONG_MS)
    assert site.jobmanager.heard == numbers
    assert site.taskmanager.heard == numbers


def test_connections_keep_no_order_among_each_other():
    """Of two connections the message that was said later can be heard first."""
    orders = set()
    for seed in range(30):
        site = Site(seed)
        other = site.network.dial(End("other"))
        site.pass_ms(LONG_MS)
        site.network.say_up(site.connection, note(1))
        site.network.say_up(other, note(2))
        site.pass_ms(LONG_MS)
        orders.add(tuple(site.jobmanager.heard))
    assert orders == {(1, 2), (2, 1)}


def test_a_lost_message_to_the_jobmanager_ends_the_connection_at_both_ends():
    """The JobManager hears nothing after the gap, reports the peer as gone, and the dialler learns of it."""
    site = Site()
    site.up(1)
    site.network.weather = Weather(loss=1)
    site.up(2)
    site.network.weather = Weather()
    site.up(3, 4)
    site.pass_ms(LONG_MS)
    assert site.jobmanager.heard == [1]
    assert site.jobmanager.gone == [site.connection.peer]
    assert len(site.taskmanager.lost) == 1


def test_a_lost_message_to_the_dialler_ends_the_connection_at_both_ends():
    """The dialler hears nothing after the gap, and the JobManager is told that it hung up."""
    site = Site()
    site.network.weather = Weather(loss=1)
    site.down(1)
    site.network.weather = Weather()
    site.down(2, 3)
    site.pass_ms(LONG_MS)
    assert site.taskmanager.heard == []
    assert site.taskmanager.lost == ["a message is missing"]
    assert site.jobmanager.gone == [site.connection.peer]


def test_a_cut_way_holds_one_direction_and_leaves_the_other():
    """What is said into a cut that does not lose is heard when it ends; the other direction goes on."""
    site = Site()
    site.network.cut("tm", "up", site.agenda.now_ms + 5_000, loses=False)
    site.up(1)
    site.down(2)
    site.pass_ms(4_900)
    assert (site.jobmanager.heard, site.taskmanager.heard) == ([], [2])
    site.pass_ms(200)
    assert site.jobmanager.heard == [1]


def test_what_is_said_into_a_cut_that_loses_is_noticed_afterwards():
    """The next message after the cut shows that one is missing."""
    site = Site()
    site.network.cut("tm", "up", site.agenda.now_ms + 5_000, loses=True)
    site.up(1)
    site.pass_ms(5_000)
    assert not site.jobmanager.gone
    site.up(2)
    site.pass_ms(100)
    assert (site.jobmanager.heard, len(site.jobmanager.gone)) == ([], 1)


def test_a_restarted_jobmanager_does_not_know_the_connections_of_the_last():
    """A message on an old connection is answered by a reset, and nothing of it is heard."""
    site = Site()
    site.network.listener = None
    site.up(1)
    site.pass_ms(100)
    assert not site.taskmanager.lost  # nobody is there to say anything
    site.network.listener = restarted = End()
    site.up(2)
    site.pass_ms(100)
    assert len(site.taskmanager.lost) == 1
    assert not restarted.heard


def test_dialling_goes_on_until_somebody_listens():
    """What is said before the connection stands is heard once it does."""
    site = Site()
    site.network.listener = None
    site.connection = site.network.dial(site.taskmanager)
    site.up(1, 2)
    site.pass_ms(5_000)
    site.network.listener = site.jobmanager
    site.pass_ms(1_000)
    assert site.jobmanager.heard == [1, 2]


def test_a_connection_closed_silently_is_found_out_by_the_next_message():
    """Half open: the JobManager's end is closed, and the dialler learns of it when it says something."""
    site = Site()
    site.network.shut(site.connection, silently=True)
    site.pass_ms(LONG_MS)
    assert not site.taskmanager.lost
    site.up(1)
    site.pass_ms(100)
    assert len(site.taskmanager.lost) == 1
    assert not site.jobmanager.heard


def test_a_stalled_end_hears_everything_later_in_order():
    """What arrives at a slow component is handled in its order once it goes on."""
    site = Site()
    site.jobmanager.stalled = True
    site.up(1, 2)
    site.pass_ms(100)
    site.up(3)
    site.pass_ms(100)
    assert site.jobmanager.heard == []
    site.jobmanager.go_on()
    site.up(4)
    site.pass_ms(100)
    assert site.jobmanager.heard == [1, 2, 3, 4]


def test_what_a_leader_heard_and_said_is_remembered():
    """The messages of a leader that died can turn up again."""
    site = Site()
    site.up(1)
    site.down(2)
    site.pass_ms(100)
    site.network.remember(site.connection)
    assert site.network.relics == [("tm", "up", note(1)), ("tm", "down", note(2))]


@pytest.mark.parametrize("rate", [800, 1000, 1001, 1250])
def test_a_clock_reaches_each_instant_when_it_says(rate):
    """``when`` is the first instant at which the clock shows a time, whatever its rate."""
    clock = Clock(offset_ms=77)
    clock.set_rate(500, rate)
    clock.step(13)
    for local_ms in range(clock.read(500), clock.read(500) + 300):
        at_ms = clock.when(local_ms)
        assert clock.read(at_ms) >= local_ms
        assert at_ms <= 500 or clock.read(at_ms - 1) < local_ms
