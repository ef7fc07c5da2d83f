"""Listening sockets, descriptors and the end of the relay: what only real sockets show."""

import errno
import select
import socket
import sys

import pytest

from broker.tcp import RelayTcp
from broker.tcp_connection import State
from core.crypto import KeyPair
from core.endpoint import Endpoint, from_text, is_private
from core.link import streams
from core.module import NodeOptions
from core.relay import RelayLimits
from tests.relay.client import RelayClient
from tests.relay.joined import Hooks, Joined

LIMITS = RelayLimits(rest_s=0)


def listening() -> tuple[Hooks, RelayTcp, socket.socket, tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    hooks = Hooks(1)
    tcp = RelayTcp(hooks, [listener], NodeOptions(), LIMITS)
    return hooks, tcp, listener, listener.getsockname()


def calling(address: tuple[str, int]) -> socket.socket:
    """Connects and says one byte, for a stream without any is not handed out."""
    client = socket.create_connection(address)
    client.sendall(b"\x01")
    return client


def turn(hooks: Hooks, now: float = 1.0) -> None:
    for fd, handler in list(hooks.handlers.items()):
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(1000)
        handler(select.EPOLLIN, now)


def test_connections_are_accepted_and_closed_with_the_node() -> None:
    hooks, tcp, _, address = listening()
    client = calling(address)
    turn(hooks)
    assert tcp.snapshot()["connections"]["greeting"] == 1
    (connection,) = tcp.connections.values()
    assert is_private(connection.source)
    assert connection.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    tcp.handle_stop(2.0)
    assert client.recv(1) == b""
    assert hooks.handlers == {}
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_who_calls_a_broker_that_knows_no_workers_yet_waits_and_is_let_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks, tcp, _, address = listening()
    with monkeypatch.context() as young:
        young.setattr(hooks, "slots", lambda role: None)
        client = calling(address)
        turn(hooks)
        assert (len(tcp.connections), tcp.door.accepting) == (0, False)
        assert hooks.drops == {}
    when = tcp.next_timer()
    assert when is not None
    assert when < 1.1
    tcp.handle_timer(when)
    turn(hooks)
    assert tcp.snapshot()["connections"]["greeting"] == 1
    client.close()
    tcp.handle_stop(2.0)


def test_a_stream_takes_up_nothing_before_it_says_something() -> None:
    hooks, tcp, _, address = listening()
    silent = socket.create_connection(address)
    talker = calling(address)
    turn(hooks)
    assert tcp.counts["accepted"] == len(tcp.connections) == 1
    silent.sendall(b"\x01")
    turn(hooks)
    assert tcp.counts["accepted"] == len(tcp.connections) == 2
    tcp.handle_stop(2.0)
    assert silent.recv(1) == talker.recv(1) == b""


def test_a_hello_that_came_with_its_stream_waits_for_no_event() -> None:
    relay = Joined(1, RelayLimits(rest_s=0))
    listener = socket.create_server(("127.0.0.1", 0))
    door = RelayTcp(relay.hooks, [listener], NodeOptions(), LIMITS)
    relay.hooks.sent[0].clear()
    door.handle_worker(0, 1, 1.0)
    client = RelayClient(relay.keys.public, KeyPair.generate(relay.entropy))
    with socket.create_connection(listener.getsockname()) as far:
        far.sendall(client.hello())
        select.select([door.poll.fileno()], [], [], 1.0)
        relay.hooks.handlers[door.poll.fileno()](select.EPOLLIN, 1.0)  # accepted, read and given
        (connection,) = door.connections.values()
        assert connection.state == State.GREETED
        assert len(relay.hooks.sent[0]) == 1
    door.handle_stop(2.0)


def test_without_descriptors_accepting_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hooks, tcp, _, address = listening()
    client = calling(address)

    def exhausted(_: socket.socket) -> tuple[streams.Stream, Endpoint]:
        raise OSError(errno.EMFILE, "too many")

    with monkeypatch.context() as patch:
        patch.setattr(streams, "accept", exhausted)
        turn(hooks)
    assert hooks.drops["relay_no_descriptor"] == 1
    assert tcp.next_timer() == 1.5
    for handler in list(hooks.handlers.values()):
        handler(select.EPOLLIN, 1.2)
    assert not tcp.connections
    tcp.handle_timer(1.6)
    turn(hooks, 1.7)
    assert len(tcp.connections) == 1
    client.close()
    tcp.handle_stop(2.0)


def test_a_client_that_resets_is_gone_at_once() -> None:
    hooks, tcp, _, address = listening()
    client = calling(address)
    turn(hooks)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    client.close()
    turn(hooks)
    assert not tcp.connections
    tcp.handle_stop(2.0)


def test_clients_leave_descriptors_for_the_links_to_all_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (1024, 1024))
    assert Joined(1).tcp.door.room == 1024 - 64 - 4
    assert Joined(32).tcp.door.room == 1024 - 64 - 4 * 32


def test_an_event_of_a_closed_connection_does_not_reach_the_next_one_on_its_descriptor() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    hooks = Hooks(1)
    tcp = RelayTcp(hooks, [listener], NodeOptions(), RelayLimits(rest_s=0, unconfirmed=1))
    first = calling(listener.getsockname())
    turn(hooks)
    others = [calling(listener.getsockname()) for _ in range(2)]
    first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    first.close()
    turn(hooks)
    assert len(tcp.connections) == 1
    others[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        others[1].recv(1)
    tcp.handle_stop(2.0)
    for client in others:
        client.close()


def test_what_a_client_sent_before_it_closed_is_still_relayed() -> None:
    relay = Joined(1, RelayLimits(rest_s=0))
    bob = relay.confirmed()
    server = socket.create_server(("127.0.0.1", 0))
    far = socket.create_connection(server.getsockname())
    near, _ = server.accept()
    near.setblocking(False)
    keys = KeyPair.generate(relay.entropy)
    client = RelayClient(relay.keys.public, keys)
    relay.tcp.admit(near, from_text("127.0.0.1", 5), relay.now)
    far.sendall(client.hello())
    relay.run()
    client.receive(far.recv(4096))
    far.sendall(client.frames(*(b"\x06" + bob.key + bytes((n,)) for n in range(3))))
    far.close()
    server.close()
    relay.run()
    assert bob.take() == [b"\x07" + keys.public + bytes((n,)) for n in range(3)]
    assert len(relay.tcp.connections) == 1


def test_an_idle_connection_costs_little() -> None:
    relay = Joined(1, RelayLimits(per_address=0, per_prefix=0, rest_s=0))
    end = relay.confirmed()
    relay.wait(1.0)
    connection = end.connection
    session = next(iter(relay.workers[0].sessions.values()))
    assert connection is not None
    size = 0
    for row in (connection, session):
        size += sys.getsizeof(row)
        for name in type(row).__slots__:
            value = getattr(row, name)
            if not isinstance(value, int | float | bool) and name not in ("waits_for",):
                size += sys.getsizeof(value)
    assert size < 4096


def addresses() -> list[str]:
    """One of each family that this machine has."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return ["127.0.0.1"]
    return ["127.0.0.1", "::1"]


@pytest.mark.parametrize("address", addresses())
@pytest.mark.parametrize("accept", [streams.accept, streams._accept_one])
def test_a_new_stream_does_not_wait_and_says_where_it_is_from(
    accept: streams.Accept, address: str
) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    listener.setblocking(False)
    with pytest.raises(BlockingIOError):
        accept(listener)
    with listener, socket.create_connection(listener.getsockname()[:2]) as client:
        stream, source = accept(listener)
        assert source == from_text(*client.getsockname()[:2])
        with pytest.raises(BlockingIOError):
            stream.recv(1)
        client.sendall(b"x")
        select.select([stream.fileno()], [], [], 1.0)
        assert stream.recv(2) == b"x"
        stream.close()
