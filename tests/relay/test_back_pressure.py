"""Clients that send too much, read too slowly, or not at all."""

import contextlib
import socket

import pytest

from core.relay import RelayLimits
from tests.relay.joined import End, Joined

PLACES = [(1, 0, 0), (2, 0, 1)]
LIMITS = RelayLimits(
    per_address=0, per_prefix=0, unconfirmed_per_address=0, rest_s=0
)
SLACK = 4096  # one frame more, and its length


def pair(shards: int, first: int, second: int) -> tuple[Joined, End, End, int, int]:
    relay = Joined(shards, LIMITS)
    alice, bob = relay.confirmed(first), relay.confirmed(second)
    a, b = relay.linked(alice, bob)
    squeeze(bob)
    return relay, alice, bob, a, b


def squeeze(end: End) -> None:
    """Makes the kernel keep little of what the relay sends."""
    assert end.connection is not None
    end.connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def level(end: End) -> int:
    assert end.connection is not None
    return end.connection.level


@pytest.mark.parametrize("place", PLACES)
def test_a_receiver_that_reads_slowly_gets_every_frame(place: tuple[int, int, int]) -> None:
    relay, alice, bob, a, b = pair(*place)
    bob.reads = False
    count = 2000
    alice.send(*(bytes((a,)) + number.to_bytes(4, "big") + bytes(996) for number in range(count)))
    got: list[bytes] = []
    for _ in range(4000):
        relay.run()
        assert level(bob) <= LIMITS.queue_limit + SLACK
        with contextlib.suppress(BlockingIOError):
            bob.client.receive(bob.socket.recv(8192))
            bob.answer()
        got += bob.take()
        relay.wait(0.02, 0.02)
        if len(got) == count:
            break
    assert [packet[:5] for packet in got] == [
        bytes((b,)) + number.to_bytes(4, "big") for number in range(count)
    ]
    assert relay.hooks.drops["relay_receiver_full"] == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_receiver_that_reads_nothing_holds_its_sender_for_one_second(
    place: tuple[int, int, int],
) -> None:
    relay, alice, bob, a, _ = pair(*place)
    carol = relay.confirmed(place[1])
    c, carols = relay.linked(alice, carol)
    bob.reads = False
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(500)), bytes((c,)) + b"behind it")
    relay.run()
    assert relay.hooks.drops["relay_receiver_full"] == 0
    assert carol.take() == []
    relay.wait(0.8)
    assert carol.take() == []
    assert LIMITS.queue_high <= level(bob) <= LIMITS.queue_limit + SLACK
    relay.wait(0.5)
    assert carol.take() == [bytes((carols,)) + b"behind it"]
    assert relay.hooks.drops["relay_receiver_full"] > 300
    alice.send(bytes((a,)) + b"dropped at once", bytes((c,)) + b"not held")
    relay.run()
    assert carol.take() == [bytes((carols,)) + b"not held"]
    assert not bob.closed
    relay.wait(9.0)
    bob.reads = True
    relay.run()
    assert relay.hooks.drops["relay_stuck"] == 1
    assert bob.closed
    assert alice.take()[-1] == bytes((3, a))
    assert relay.tcp.full == {}


def test_a_receiver_that_reads_again_is_waited_for_again() -> None:
    relay, alice, bob, a, _ = pair(1, 0, 0)
    bob.reads = False
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(500)))
    relay.wait(1.5)
    dropped = relay.hooks.drops["relay_receiver_full"]
    assert dropped > 0
    bob.reads = True
    relay.wait(0.2)
    bob.take()
    alice.send(bytes((a,)) + b"arrives")
    relay.run()
    assert len(bob.take()) == 1
    bob.reads = False
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(500)))
    relay.wait(0.5)
    assert relay.hooks.drops["relay_receiver_full"] == dropped  # held again, not dropped


def test_no_pause_while_a_pong_is_due() -> None:
    relay, alice, bob, a, _ = pair(1, 0, 0)
    bob.reads = False
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(40)))
    relay.run()
    relay.wait(3.0)
    relay.now += 27.5
    relay.tcp.clocks.run(relay.tcp, relay.now)  # the ping goes out
    relay.run()
    ping = alice.take()[-1]
    assert ping[0] == 4
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(100)), b"\x05" + ping[1:])
    relay.run()
    assert relay.hooks.drops["relay_receiver_full"] > 0
    assert alice.connection is not None
    assert alice.connection.ping_id is None


def test_no_pause_when_the_clients_own_ping_is_due() -> None:
    relay, alice, bob, a, _ = pair(1, 0, 0)
    bob.reads = False
    relay.now += 29.5
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(200)), b"\x04" + bytes(7) + b"\x07")
    relay.run()
    assert alice.take()[-1] == b"\x05" + bytes(7) + b"\x07"
    assert relay.hooks.drops["relay_receiver_full"] > 0


@pytest.mark.parametrize("place", PLACES)
def test_many_senders_cannot_fill_a_receivers_queue(place: tuple[int, int, int]) -> None:
    relay, _, bob, _, _ = pair(*place)
    senders = [relay.confirmed(number % place[0]) for number in range(20)]
    links = [relay.linked(sender, bob)[0] for sender in senders]
    bob.reads = False
    for sender, a in zip(senders, links, strict=True):
        sender.send(*(bytes((a,)) + bytes(1300) for _ in range(100)))
        sender.send(*(b"\x06" + bob.key + bytes(1024) for _ in range(20)))
    relay.run()
    assert level(bob) <= LIMITS.queue_limit + SLACK
    relay.wait(5.0)
    assert level(bob) <= LIMITS.queue_limit + SLACK
    relay.wait(8.0)
    assert relay.hooks.drops["relay_stuck"] == 1
    assert sum(len(worker.remotes) for worker in relay.workers.values()) == 0


def test_a_client_that_floods_pings_and_does_not_read_is_not_read_either() -> None:
    relay = Joined(1, LIMITS)
    end = relay.confirmed()
    squeeze(end)
    end.reads = False
    end.send(*(b"\x04" + number.to_bytes(8, "big") for number in range(20_000)))
    relay.run()
    assert level(end) <= LIMITS.queue_limit + SLACK
    assert len(end.unsent) > 0
    end.reads = True
    relay.wait(5.0)
    assert [packet[1:] for packet in end.take()] == [n.to_bytes(8, "big") for n in range(20_000)]


def test_a_busy_sender_gets_one_share_a_turn() -> None:
    relay, alice, bob, a, _ = pair(1, 0, 0)
    quiet, other = relay.confirmed(), relay.confirmed()
    q, o = relay.linked(quiet, other)
    alice.send(*(bytes((a,)) + bytes(1300) for _ in range(3000)))
    quiet.send(bytes((q,)) + b"small")
    for _ in range(3):
        relay.sockets()
        relay.work(0)
    other.pull()
    assert other.take() == [bytes((o,)) + b"small"]
    relay.run()
    assert len(bob.take()) == 3000


def test_sockets_rest_after_a_turn_with_little_to_read() -> None:
    relay = Joined(1, RelayLimits(per_address=0, per_prefix=0))
    ends = [relay.greeted_slowly() for _ in range(6)]
    relay.wait(1.0)
    ends[0].send(b"\x04" + bytes(7) + b"\x01")
    relay.run()
    assert len(ends[0].take()) == 1  # the first does not wait
    for end in ends:
        end.send(b"\x04" + bytes(7) + b"\x02")
    relay.run()
    assert ends[0].take() == []
    when = relay.tcp.next_timer()
    assert when is not None
    assert relay.now < when <= relay.now + relay.limits.rest_s
    relay.now = when
    relay.tcp.handle_timer(when)
    assert len(relay.hooks.sent[0]) == 1  # all in one input
    relay.run()
    assert [len(end.take()) for end in ends] == [1] * 6
    relay.wait(0.01, 0.001)
    assert not relay.hooks.paused


def test_a_busy_relay_does_not_rest() -> None:
    relay = Joined(1, RelayLimits(per_address=0, per_prefix=0))
    end = relay.greeted_slowly()
    relay.wait(1.0)
    for _ in range(20):
        end.send(*(b"\x04" + bytes(7) + b"\x01" for _ in range(20)))
        relay.run()
        relay.wait(0.004, 0.004)
    assert len(end.take()) == 400


def test_a_receiver_whose_worker_is_away_holds_its_senders_and_loses_nothing() -> None:
    relay, alice, bob, a, b = pair(2, 0, 1)
    relay.kill(1)
    count = 200
    alice.send(*(bytes((a,)) + number.to_bytes(4, "big") + bytes(996) for number in range(count)))
    relay.run()
    relay.wait(15.0)
    assert level(bob) <= LIMITS.queue_limit + SLACK
    relay.start(1)
    relay.run()
    relay.wait(0.5)
    assert [packet[:5] for packet in bob.take()] == [
        bytes((b,)) + number.to_bytes(4, "big") for number in range(count)
    ]
    assert relay.hooks.drops["relay_receiver_full"] == 0
    assert not bob.closed


@pytest.mark.parametrize(("away_s", "all_arrive"), [(5.0, True), (9.0, False)])
def test_senders_are_held_while_a_worker_is_away_as_long_as_their_pings_have_time(
    away_s: float, all_arrive: bool
) -> None:
    relay, alice, bob, a, _ = pair(2, 0, 1)
    relay.kill(1)
    relay.now += 29.5  # alice's own ping is due in the stream
    count = 200
    ping = b"\x04" + bytes(7) + b"\x07"
    alice.send(*(bytes((a,)) + bytes(1000) for _ in range(count)), ping)
    relay.run()
    relay.wait(away_s)
    answered = [packet for packet in alice.take() if packet == b"\x05" + ping[1:]]
    assert bool(answered) is not all_arrive  # c-toxcore TCP_common.h: TCP_PING_TIMEOUT, 10 s
    relay.start(1)
    relay.run()
    relay.wait(1.0)
    assert (relay.hooks.drops["relay_receiver_full"] == 0) is all_arrive
    got = [packet for packet in bob.take() if packet[0] >= 16]
    assert (len(got) == count) is all_arrive
    assert not alice.closed
    assert not bob.closed
