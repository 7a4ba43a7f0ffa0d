"""Control connections: what arrives, what is dropped, and who has gone."""

import time

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from zmflow.errors import AddressInUseError, ClusterError, JobGraphError
from zmflow.protocol.messages import Heartbeat, HeartbeatAck, Hello, Refused, encode_message
from zmflow.protocol.versions import Versions
from zmflow.runtime.control import Arrival, ControlClient, ControlServer, Departure, refusal

DEADLINE_MS = 10_000


@pytest.fixture(params=["tcp", "ipc"])
def pair(request, tmp_path_factory):
    """A server, a client and the sentences the server logged."""
    context, logged = zmq.Context(), []
    server = ControlServer(context, log=logged.append, epoch=3)
    if request.param == "tcp":
        endpoint = f"tcp://127.0.0.1:{server.bind_tcp('127.0.0.1', 0, setting='test')}"
    else:
        endpoint = f"ipc://{tmp_path_factory.mktemp('s')}/c.ipc"
        server.bind(endpoint)
    client = ControlClient(context, endpoint, log=logged.append)
    yield server, client, logged
    client.close(0)
    server.close()
    context.term()


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
    client.send(Heartbeat(2, "old"))
    client.send(Hello(0, Versions(1, "3.11", "0"), "client", "new"))
    assert [type(news.message) for news in hear(server)] == [Hello]
    assert len(logged) == 2


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


def test_taken_port_names_port_and_setting():
    """Binding a taken port is an error that says which, from which setting, and what to do."""
    context = zmq.Context()
    first = ControlServer(context, log=print)
    second = ControlServer(context, log=print)
    port = first.bind_tcp("127.0.0.1", 0, setting="jobmanager.rpc.port")
    with pytest.raises(AddressInUseError) as caught:
        second.bind_tcp("127.0.0.1", port, setting="jobmanager.rpc.port")
    assert str(port) in caught.value.message
    assert "jobmanager.rpc.port" in str(caught.value)
    first.close()
    second.close()
    context.term()


def test_refusals_become_the_named_error():
    """A refusal is raised as the class it names, and as ClusterError when there is none such."""
    assert type(refusal(Refused(1, 0, "JobGraphError", "m"))) is JobGraphError
    assert type(refusal(Refused(1, 0, "SystemExit", "m"))) is ClusterError
    assert type(refusal(Refused(1, 0, "annotations", "m"))) is ClusterError


def test_random_bytes_never_hurt():
    """Whatever bytes come, the server goes on and hears the next proper message."""
    context = zmq.Context()
    server = ControlServer(context, log=lambda _: None)
    server.bind("inproc://fuzz")
    client = ControlClient(context, "inproc://fuzz", log=lambda _: None)

    @settings(max_examples=300, deadline=None)
    @given(
        st.one_of(
            st.binary(max_size=64), st.binary(max_size=8).map(lambda b: encode_message(Heartbeat(1, "t")) + b)
        )
    )
    def throw(data):
        client.socket.send(data)
        client.send(HeartbeatAck(9, "end"))
        last = None
        while last != HeartbeatAck(9, "end"):
            for news in hear(server):
                last = news.message if isinstance(news, Arrival) else last

    throw()
    client.close(0)
    server.close()
    context.term()
