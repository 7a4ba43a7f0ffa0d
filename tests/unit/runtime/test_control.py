"""Control connections: what arrives, what is dropped, and who has gone."""

import time
from collections.abc import Callable

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import AddressInUseError, ClusterError, JobGraphError
from zmflow.protocol.messages import Heartbeat, HeartbeatAck, Hello, Message, Refused, encode_message
from zmflow.protocol.session import HANG_UP, add_number
from zmflow.protocol.versions import Versions
from zmflow.runtime import control
from zmflow.runtime.control import Arrival, ControlClient, ControlServer, Departure, refusal

DEADLINE_MS = 10_000


class Ends:
    """Opens ends of connections, which log into one list; closes whatever a test leaves open."""

    def __init__(self) -> None:
        self.context: zmq.Context = zmq.Context()
        self.logged: list[str] = []
        self._opened: list[ControlServer | ControlClient | zmq.Socket] = []

    def server(self, endpoint: str = "", **options) -> ControlServer:
        """A server, bound when there is an endpoint."""
        server = ControlServer(self.context, log=self.logged.append, **options)
        self._opened.append(server)
        if endpoint:
            server.bind(endpoint)
        return server

    def client(self, endpoint: str) -> ControlClient:
        """A client that dials."""
        client = ControlClient(self.context, endpoint, log=self.logged.append)
        self._opened.append(client)
        return client

    def dealer(self, endpoint: str) -> zmq.Socket:
        """A socket that dials and numbers nothing."""
        socket = self.context.socket(zmq.DEALER)
        self._opened.append(socket)
        socket.connect(endpoint)
        return socket


@pytest.fixture
def ends():
    """Opens ends of connections."""
    ends = Ends()
    yield ends
    ends.context.destroy(linger=0)


@pytest.fixture(params=["tcp", "ipc"])
def pair(request, tmp_path_factory, ends):
    """A server, a client and the sentences both logged."""
    server = ends.server(epoch=3)
    if request.param == "tcp":
        endpoint = f"tcp://127.0.0.1:{server.bind_tcp('127.0.0.1', 0, setting='test')}"
    else:
        endpoint = f"ipc://{tmp_path_factory.mktemp('s')}/c.ipc"
        server.bind(endpoint)
    return server, ends.client(endpoint), ends.logged


def hear(server: ControlServer) -> list[Arrival | Departure]:
    """What the server hears next; fails when nothing comes."""
    poller = zmq.Poller()
    poller.register(server.socket, zmq.POLLIN)
    poller.register(server.monitor, zmq.POLLIN)
    news: list[Arrival | Departure] = []
    while not news:
        assert server.has_departures() or poller.poll(DEADLINE_MS), "nothing came"
        news = list(server.receive())
    return news


def hear_at_client(client: ControlClient) -> list[Message]:
    """What the client makes of what comes next; fails when nothing comes."""
    assert client.socket.poll(DEADLINE_MS), "nothing came"
    return list(client.receive())


def numbered(number: int, message: Message) -> bytes:
    """A message under a number of the test's choice."""
    return add_number(number, encode_message(message))


def test_question_and_answer(pair):
    """A message reaches the server with its connection, and an answer goes back over it."""
    server, client, _ = pair
    client.send(Heartbeat(3, "tm"))
    [arrival] = hear(server)
    assert arrival.message == Heartbeat(3, "tm")
    assert server.send(arrival.peer, HeartbeatAck(3, "tm"))
    assert client.socket.poll(DEADLINE_MS)
    assert list(client.receive()) == [HeartbeatAck(3, "tm")]
    assert client.epoch == 3


def test_garbage_and_old_epochs_are_dropped_and_logged(pair):
    """Bytes that are no message and messages of an older epoch never arrive; a Hello without epoch does."""
    server, client, logged = pair
    client.socket.send(b"\xc1 garbage")
    client.socket.send(add_number(1, b"\xc1 garbage"))
    client.socket.send(numbered(2, Heartbeat(2, "old")))
    client.socket.send(numbered(3, Hello(0, Versions(1, "3.11", "0"), "client", "new")))
    assert [type(news.message) for news in hear(server)] == [Hello]
    assert len(logged) == 3


def test_closed_connection_is_reported_after_its_last_message(pair):
    """A peer's departure follows its last words, and sending to it afterwards fails without raising."""
    server, client, _ = pair
    client.send(Heartbeat(3, "tm"))
    client.close()
    news = hear(server)
    while not isinstance(news[-1], Departure):
        news += hear(server)
    assert [type(item) for item in news] == [Arrival, Departure]
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while server.send(news[0].peer, HeartbeatAck(3, "tm")):  # the pipe goes a moment after the connection
        assert time.monotonic() < deadline


def test_client_notices_that_the_server_went(pair):
    """A client learns from its monitor that the connection was closed."""
    server, client, _ = pair
    client.send(Heartbeat(3, "tm"))
    hear(server)
    assert client.poll_connection()
    server.close()
    assert client.monitor.poll(DEADLINE_MS)
    assert not client.poll_connection()


def test_taken_port_names_port_and_setting(ends):
    """Binding a taken port is an error that says which, from which setting, and what to do."""
    port = ends.server().bind_tcp("127.0.0.1", 0, setting="jobmanager.rpc.port")
    with pytest.raises(AddressInUseError) as caught:
        ends.server().bind_tcp("127.0.0.1", port, setting="jobmanager.rpc.port")
    assert str(port) in caught.value.message
    assert "jobmanager.rpc.port" in str(caught.value)


def test_refusals_become_the_named_error():
    """A refusal is raised as the class it names, and as ClusterError when there is none such."""
    assert type(refusal(Refused(1, 0, "JobGraphError", "m"))) is JobGraphError
    assert type(refusal(Refused(1, 0, "SystemExit", "m"))) is ClusterError
    assert type(refusal(Refused(1, 0, "annotations", "m"))) is ClusterError


def test_peers_that_do_not_number_are_not_heard(pair):
    """A message of protocol version 1 is dropped with a sentence that says what to do about it."""
    server, client, logged = pair
    client.socket.send(encode_message(Hello(0, Versions(1, "3.11", "0"), "client", "old")))
    client.send(Heartbeat(3, "new"))
    assert [news.message for news in hear(server)] == [Heartbeat(3, "new")]
    [sentence] = logged
    assert "protocol version 1 do not number" in sentence
    assert "Install the same zmflow release" in sentence


def test_missing_message_is_the_end_of_the_connection_at_both_ends(pair, ends):
    """The server reports the departure once, hears and sends no more; the client learns it at once."""
    server, client, logged = pair
    client.send(Heartbeat(3, "first"))
    [arrival] = hear(server)
    server.send(arrival.peer, HeartbeatAck(3, "tm"))
    assert hear_at_client(client) == [HeartbeatAck(3, "tm")]
    client.socket.send(numbered(3, Heartbeat(3, "third")))
    client.socket.send(numbered(2, Heartbeat(3, "second, late")))
    [departure] = hear(server)
    assert isinstance(departure, Departure)
    assert departure.peer == arrival.peer
    assert not server.send(arrival.peer, HeartbeatAck(3, "tm"))
    assert "Message 2 is missing; 3 came in its place." in logged[-1]
    assert hear_at_client(client) == []
    assert client.disconnected
    assert not client.poll_connection()
    client.close()
    again = ends.client(client.endpoint)
    again.send(Heartbeat(3, "again"))
    [arrival] = hear(server)  # no second departure of the connection that closed, either
    assert arrival.message == Heartbeat(3, "again")


def test_repeated_messages_are_heard_once(pair):
    """A number that comes again changes nothing, at either end."""
    server, client, logged = pair
    for number in (1, 1, 2, 1, 2, 3):
        client.socket.send(numbered(number, Heartbeat(3, f"tm {number}")))
    heard: list[Arrival | Departure] = []
    while len(heard) < 3:
        heard += hear(server)
    assert [news.message.taskmanager_id for news in heard] == ["tm 1", "tm 2", "tm 3"]
    for number in (1, 1, 2):
        server.socket.send_multipart([heard[0].peer, numbered(number, HeartbeatAck(3, f"tm {number}"))])
    answers: list[Message] = []
    while len(answers) < 2:
        answers += hear_at_client(client)
    assert answers == [HeartbeatAck(3, "tm 1"), HeartbeatAck(3, "tm 2")]
    assert sum("repetition" in sentence for sentence in logged) == 4


def test_client_that_misses_a_message_hears_no_more(pair):
    """What comes after the gap is not acted on; the connection counts as closed."""
    server, client, logged = pair
    client.send(Heartbeat(3, "tm"))
    [arrival] = hear(server)
    for number in (1, 3, 4):
        server.socket.send_multipart([arrival.peer, numbered(number, HeartbeatAck(3, f"tm {number}"))])
    heard = hear_at_client(client)
    while not client.disconnected:
        heard += hear_at_client(client)
    assert heard == [HeartbeatAck(3, "tm 1")]
    assert "Message 2 is missing" in logged[-1]


def test_connection_dialled_again_in_the_middle_is_hung_up_on(ends):
    """ZeroMQ mends a connection by itself; the server that came back does not take it for a new one."""
    server = ends.server()
    port = server.bind_tcp("127.0.0.1", 0, setting="test")
    client = ends.client(f"tcp://127.0.0.1:{port}")
    client.send(Heartbeat(1, "one"))
    [arrival] = hear(server)
    server.send(arrival.peer, HeartbeatAck(1, "tm"))
    assert hear_at_client(client)
    server.close()
    assert client.monitor.poll(DEADLINE_MS)
    successor = bound_again(ends, port)
    client.send(Heartbeat(1, "two"))
    assert [type(news) for news in hear(successor)] == [Departure]
    assert "Message 1 is missing; 2 came in its place." in ends.logged[-1]
    assert hear_at_client(client) == []
    assert client.disconnected


def bound_again(ends: Ends, port: int) -> ControlServer:
    """Another server at the same port, which the kernel may hold a moment longer."""
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while True:
        server = ends.server()
        try:
            server.bind_tcp("127.0.0.1", port, setting="test")
        except AddressInUseError:
            server.close()
            assert time.monotonic() < deadline
        else:
            return server


@pytest.mark.parametrize("noticed", [True, False])
def test_greeting_that_was_lost_can_be_said_again(noticed, ends):
    """Nothing was heard yet: whether the client saw that ZeroMQ dialled again or not, it gets through."""
    server = ends.server()
    port = server.bind_tcp("127.0.0.1", 0, setting="test")
    client = ends.client(f"tcp://127.0.0.1:{port}")
    client.send(Heartbeat(1, "lost"))
    hear(server)
    server.close()
    assert client.monitor.poll(DEADLINE_MS)
    if noticed:
        assert not client.poll_connection()
    successor = bound_again(ends, port)
    client.send(Heartbeat(1, "again"))
    [news] = hear(successor)
    if not noticed:
        assert isinstance(news, Departure)
        assert hear_at_client(client) == []
        client.send(Heartbeat(1, "again"))
        [news] = hear(successor)
    assert news.message == Heartbeat(1, "again")
    successor.send(news.peer, HeartbeatAck(1, "tm"))
    assert hear_at_client(client) == [HeartbeatAck(1, "tm")]


def test_peer_that_does_not_read_is_hung_up_on_when_it_reads_again(monkeypatch, ends):
    """Messages that find no room are lost, so the conversation is over; the peer is told when it can be."""
    monkeypatch.setattr(control, "SEND_QUEUE_MAX", 2)
    server = ends.server("inproc://behind")
    client = ends.client("inproc://behind")
    client.send(Heartbeat(1, "tm"))
    [arrival] = hear(server)
    sent = 0
    while server.send(arrival.peer, HeartbeatAck(1, "tm")):
        sent += 1
    assert server.has_departures()
    assert [type(news) for news in server.receive()] == [Departure]
    assert "messages wait for it already" in ends.logged[-1]
    heard = 0
    while heard < sent:
        heard += len(hear_at_client(client))
    assert not client.disconnected
    client.send(Heartbeat(1, "tm"))
    poll_until(server, lambda: client.socket.poll(0))
    assert hear_at_client(client) == []
    assert client.disconnected


def poll_until(server: ControlServer, done: Callable[[], object]) -> None:
    """Let the server hear what comes, which nobody is to learn of, until this holds."""
    deadline = time.monotonic() + DEADLINE_MS / 1000
    while not done():
        assert time.monotonic() < deadline
        server.socket.poll(10)
        assert list(server.receive()) == []


def test_client_whose_message_finds_no_room_is_disconnected(monkeypatch, ends):
    """A message that could not be sent is missing: the connection counts as closed."""
    monkeypatch.setattr(control, "SEND_QUEUE_MAX", 2)
    server = ends.server("inproc://full")
    client = ends.client("inproc://full")
    client.send(Heartbeat(1, "tm"))
    [arrival] = hear(server)
    server.send(arrival.peer, HeartbeatAck(1, "tm"))
    assert hear_at_client(client)
    while client.send(Heartbeat(1, "tm")):
        assert not client.disconnected
    assert client.disconnected
    assert "2 messages wait already" in ends.logged[-1]


def test_peer_silent_for_longest_makes_room(monkeypatch, ends):
    """Sessions are bounded; what goes is told so and can dial anew."""
    monkeypatch.setattr(control, "PEERS_MAX", 2)
    server = ends.server("inproc://crowd")
    clients = [ends.client("inproc://crowd") for _ in range(3)]
    peers, departed = [], []
    for client in clients:
        client.send(Heartbeat(1, "tm"))
        for news in hear(server):
            (peers if isinstance(news, Arrival) else departed).append(news.peer)
        server.send(peers[0], HeartbeatAck(1, "tm"))  # so the first is not the one
    assert departed == [peers[1]]
    assert [server.send(peer, HeartbeatAck(1, "tm")) for peer in peers] == [True, False, True]


def test_servers_of_workers_do_not_number(tmp_path, ends):
    """Where messages are not numbered they travel as they are, both ways."""
    server = ends.server(f"ipc://{tmp_path}/w.ipc", numbered=False)
    worker = ends.dealer(f"ipc://{tmp_path}/w.ipc")
    worker.send(encode_message(Heartbeat(0, "worker")))
    [arrival] = hear(server)
    server.send(arrival.peer, HeartbeatAck(0, "worker"))
    assert worker.poll(DEADLINE_MS)
    assert worker.recv() == encode_message(HeartbeatAck(0, "worker"))
    worker.close(0)
    assert [type(news) for news in hear(server)] == [Departure]
    assert ends.logged == []


def test_random_bytes_never_hurt(ends):
    """Whatever bytes come, under whatever numbers, the server goes on and hears the next one who dials."""
    server = ends.server("inproc://fuzz")
    heartbeat = encode_message(Heartbeat(1, "t"))
    body = st.one_of(st.binary(max_size=64), st.binary(max_size=8).map(lambda more: heartbeat + more))
    anything = st.one_of(
        st.binary(max_size=64), body, st.builds(add_number, st.integers(0, 5), body), st.just(HANG_UP)
    )

    @settings(max_examples=300, deadline=None)
    @given(st.lists(anything, max_size=5))
    def throw(bodies):
        fuzzer = ends.client("inproc://fuzz")
        client = ends.client("inproc://fuzz")
        for data in bodies:
            fuzzer.socket.send(data)
        fuzzer.send(Heartbeat(9, "perhaps"))
        client.send(HeartbeatAck(9, "end"))
        heard = []
        while HeartbeatAck(9, "end") not in heard:
            heard += [news.message for news in hear(server) if isinstance(news, Arrival)]
        assert list(fuzzer.receive()) == []
        client.close(0)
        fuzzer.close(0)

    throw()


def test_random_bytes_never_hurt_clients(ends):
    """Whatever bytes come, a client only hears what is numbered from 1 without a gap."""
    server = ends.server("inproc://fuzzed")
    acknowledged = encode_message(HeartbeatAck(1, "t"))
    without_number = st.one_of(st.binary(max_size=7), st.binary(max_size=20).map(lambda more: b"\x93" + more))

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.one_of(st.integers(0, 6), without_number), max_size=8))
    def throw(items):
        client = ends.client("inproc://fuzzed")
        client.send(Heartbeat(1, "tm"))
        [arrival] = [news for news in hear(server) if isinstance(news, Arrival)]
        server.socket.send_multipart([arrival.peer, add_number(1, acknowledged)])
        expected, gap = 1, False
        for item in items:
            data = add_number(item, acknowledged) if isinstance(item, int) else item
            server.socket.send_multipart([arrival.peer, data])
            if isinstance(item, int):
                gap = gap or item > expected + 1
                expected += not gap and item == expected + 1
        assert hear_at_client(client) == [HeartbeatAck(1, "t")] * expected
        assert client.disconnected == gap
        client.close(0)

    throw()
