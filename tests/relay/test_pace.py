"""A client that does not read gets no more than a stock one can take, until it says it has read."""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from broker import tcp_pace
from broker.tcp_pace import LOOK_AFTER, Pace, window_of
from core.relay import RelayLimits
from tests.relay.joined import End, Joined

LIMITS = RelayLimits(per_address=0, per_prefix=0, unconfirmed_per_address=0, rest_s=0)
FRAME = 1000


def pair(shards: int = 1, second: int = 0) -> tuple[Joined, End, End, int, int]:
    relay = Joined(shards, LIMITS)
    alice, bob = relay.confirmed(0), relay.confirmed(second)
    return relay, alice, bob, *relay.linked(alice, bob)


def frames(link: int, count: int) -> list[bytes]:
    return [bytes((link,)) + n.to_bytes(4, "big") + bytes(FRAME - 5) for n in range(count)]


def unread(end: End) -> int:
    """How many bytes wait for the client's program."""
    return len(end.socket.recv(1 << 20, socket.MSG_PEEK))


@pytest.mark.parametrize(("shards", "second"), [(1, 0), (2, 1)])
def test_no_more_than_64_kib_wait_for_a_client_that_does_not_read(
    shards: int, second: int
) -> None:
    relay, alice, bob, a, b = pair(shards, second)
    bob.reads = False
    alice.send(*frames(a, 60))
    relay.run()
    assert LOOK_AFTER < unread(bob) < 1 << 16
    bob.reads = True
    relay.run()
    assert bob.take() == frames(b, 60)


def test_what_comes_to_a_halt_ends_with_a_frame_that_asks_and_goes_on_with_its_answer() -> None:
    relay, alice, bob, a, b = pair()
    bob.reads = False
    alice.send(*frames(a, 100))
    relay.run()
    assert bob.connection is not None
    assert bob.connection.level > 0
    bob.client.receive(bob.socket.recv(1 << 20))
    assert bob.client.packets[-1][:1] == b"\x04"
    relay.run()
    waits = bob.connection.level
    assert waits > 0  # read, and not said
    bob.answer()
    relay.run()
    assert bob.connection.level < waits
    bob.reads = True
    relay.run()
    assert bob.take() == frames(b, 100)


def test_two_who_send_and_have_not_read_do_not_wait_for_each_other() -> None:
    relay, alice, bob, a, b = pair()
    alice.reads = bob.reads = False
    for _ in range(4):
        alice.send(*frames(a, 20))
        bob.send(*frames(b, 20))
        relay.run()
    alice.reads = bob.reads = True
    relay.run()
    assert (alice.take(), bob.take()) == (frames(a, 20) * 4, frames(b, 20) * 4)
    assert relay.hooks.drops["relay_receiver_full"] == 0


def test_a_client_that_never_answers_gets_the_rest_when_its_ping_is_due() -> None:
    relay, alice, bob, a, _ = pair()
    bob.reads = False
    alice.send(*frames(a, 100))
    relay.run()
    assert bob.connection is not None
    assert bob.connection.level > 0
    relay.now += LIMITS.ping_s
    relay.tcp.clocks.run(relay.tcp, relay.now)
    assert bob.connection.out is None
    assert not bob.closed


def test_a_worker_that_dies_with_the_question_in_hand_leaves_it_to_its_successor() -> None:
    relay, alice, bob, a, b = pair()
    bob.reads = False
    deaths = iter([False] * 4 + [True] * 3)
    relay.killer = lambda shard, when: when == "after" and next(deaths, False)
    for _ in range(10):
        alice.send(*frames(a, 20))
        relay.run()
    bob.reads = True
    relay.run()
    assert bob.take() == frames(b, 20) * 10
    assert bob.connection is not None
    assert bob.connection.pace is not None
    assert not bob.connection.pace.gates


def test_a_window_that_stays_open_is_proof_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    windows = iter([100_000, 100_000, 90_000, 80_000])
    monkeypatch.setattr(tcp_pace, "window_of", lambda stream: next(windows))
    pace = Pace()
    one, _ = socket.socketpair()
    with one:
        asked = [
            pace.is_asked_now(one, (n + 1) * LOOK_AFTER, n * LOOK_AFTER, float(n + 1))
            for n in range(4)
        ]
    assert asked == [False, False, False, True]  # 20,000 bytes behind
    assert pace.read == 2 * LOOK_AFTER


def test_a_client_that_gets_much_at_once_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp_pace, "window_of", lambda stream: 100_000)
    pace = Pace()
    one, _ = socket.socketpair()
    with one:
        assert not pace.is_asked_now(one, LOOK_AFTER, 0, 1.0)
        assert not pace.is_asked_now(one, 2 * LOOK_AFTER - 1, LOOK_AFTER, 1.01)
        assert pace.is_asked_now(one, 2 * LOOK_AFTER, LOOK_AFTER, 1.01)


def test_a_pace_is_handed_over_whole() -> None:
    pace = Pace()
    pace.ask(70_000)
    pace.sealed(memoryview(struct.pack("!H", 25) + bytes(25)), 70_000)
    pace.ask(90_000)
    pace.behind = True
    again = Pace.from_body(pace.to_body())
    assert again.to_body() == pace.to_body()
    assert again.may_get() == 70_027
    assert again.may_have(27, 70_000)
    assert not again.may_have(28, 70_000)


@contextmanager
def streams() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a TCP stream."""
    door = socket.create_server(("127.0.0.1", 0))
    with door, socket.create_connection(door.getsockname()) as one:
        other, _ = door.accept()
        with other:
            yield one, other


def test_the_window_shrinks_by_what_is_not_read() -> None:
    with streams() as (one, other):
        before = window_of(one)
        assert before > 0
        one.sendall(bytes(40_000))
        assert len(other.recv(1 << 16, socket.MSG_PEEK)) > 0
        other.sendall(b"and what it offers comes along with this")
        assert one.recv(100)
        assert window_of(one) != before
    one, other = socket.socketpair()
    with one, other:
        assert window_of(one) == 0  # no TCP
