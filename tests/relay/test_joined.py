"""The relay as its clients see it: broker half and shards joined, with 1 and 2 shards."""

import pytest

from core.endpoint import from_text
from core.messages import RelayDeliver
from core.relay import RelayLimits
from tests.relay.joined import End, Joined

PLACES = [(1, 0, 0), (2, 0, 0), (2, 0, 1), (2, 1, 0)]


def pair(shards: int, first: int, second: int) -> tuple[Joined, End, End]:
    relay = Joined(shards)
    return relay, relay.confirmed(first), relay.confirmed(second)


@pytest.mark.parametrize("place", PLACES)
def test_two_clients_link_and_pass_data_both_ways(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    a, b = relay.linked(alice, bob)
    assert (a, b) == (16, 16)
    for number in range(50):
        alice.send(bytes((a, number)) + b"hello")
        bob.send(bytes((b, number)) + b"hi")
    relay.run()
    assert bob.take() == [bytes((b, number)) + b"hello" for number in range(50)]
    assert alice.take() == [bytes((a, number)) + b"hi" for number in range(50)]


@pytest.mark.parametrize("place", PLACES)
def test_data_is_dropped_until_both_sides_have_asked(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    alice.send(b"\x00" + bob.key, b"\x10early")
    relay.run()
    assert alice.take() == [b"\x01\x10" + bob.key]
    assert bob.take() == []
    assert not alice.closed
    assert relay.hooks.drops["relay_link_down"] == 1


@pytest.mark.parametrize("place", PLACES)
def test_data_right_behind_the_routing_request_waits_for_the_response(
    place: tuple[int, int, int],
) -> None:
    relay, alice, bob = pair(*place)
    bob.send(b"\x00" + alice.key)
    relay.run()
    bob.take()
    alice.send(b"\x00" + bob.key, b"\x10first", b"\x10second")
    relay.run()
    assert alice.take() == [b"\x01\x10" + bob.key, b"\x02\x10"]
    assert bob.take() == [b"\x02\x10", b"\x10first", b"\x10second"]


@pytest.mark.parametrize("place", PLACES)
def test_disconnect_tells_the_peer_and_frees_the_id(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    a, b = relay.linked(alice, bob)
    alice.send(bytes((3, a)))
    relay.run()
    assert bob.take() == [bytes((3, b))]
    bob.send(bytes((b,)) + b"nobody")
    relay.run()
    assert not bob.closed
    alice.send(b"\x00" + bob.key)
    relay.run()
    assert alice.take() == [b"\x01\x10" + bob.key, b"\x02\x10"]
    assert bob.take() == [b"\x02\x10"]


@pytest.mark.parametrize("place", PLACES)
def test_a_closed_connection_is_a_disconnect_for_its_peers(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    _, b = relay.linked(alice, bob)
    alice.socket.close()
    alice.closed = True
    relay.run()
    assert bob.take() == [bytes((3, b))]
    assert len(relay.tcp.directory) == 1


@pytest.mark.parametrize("place", PLACES)
def test_the_newer_connection_of_a_key_replaces_the_older(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    _, b = relay.linked(alice, bob)
    for _ in range(20):
        newer = relay.confirmed(keys=alice.client.keys)
        assert alice.closed
        newer.send(b"\x00" + bob.key)
        relay.run()
        assert newer.take() == [b"\x01\x10" + bob.key, b"\x02\x10"]
        assert bob.take() == [bytes((3, b)), bytes((2, b))]
        alice = newer
    alice.send(b"\x10again")
    relay.run()
    assert bob.take() == [bytes((b,)) + b"again"]
    assert len(relay.tcp.directory) == 2 == len(relay.tcp.connections)
    assert sum(len(worker) for worker in relay.workers.values()) == 2


def test_a_second_hello_alone_replaces_nobody() -> None:
    relay, alice, bob = pair(1, 0, 0)
    relay.linked(alice, bob)
    relay.greeted(keys=alice.client.keys)
    assert not alice.closed
    assert bob.take() == []


def test_a_replayed_hello_is_answered_but_never_confirmed() -> None:
    relay = Joined()
    first = relay.connect()
    hello = first.client.hello()
    first.socket.sendall(hello)
    relay.run()
    recorded = first.client.frame(b"\x04" + bytes(7) + b"\x01")
    first.socket.sendall(recorded)
    relay.run()
    assert len(first.take()) == 1
    second = relay.connect(keys=first.client.keys)
    second.reads = False
    second.socket.sendall(hello + recorded)
    relay.run()
    assert len(second.socket.recv(4096)) == 96
    second.socket.setblocking(True)
    assert second.socket.recv(1) == b""  # the recorded frame does not open
    assert not first.closed


@pytest.mark.parametrize("place", PLACES)
def test_oob_reaches_the_client_with_that_key(place: tuple[int, int, int]) -> None:
    relay, alice, bob = pair(*place)
    alice.send(b"\x06" + bob.key + b"psst", b"\x06" + bytes(32) + b"nobody")
    relay.run()
    assert bob.take() == [b"\x07" + alice.key + b"psst"]
    assert relay.hooks.drops["relay_oob_nobody"] == 1


def test_answers_of_the_onion_reach_their_client() -> None:
    relay, alice, _bob = pair(2, 0, 1)
    assert alice.connection is not None
    for frame in (b"\x09onion", b"\x0bforward", b"\x04forged"):
        relay.tcp.handle_message(RelayDeliver(alice.connection.serial, frame), relay.now)
    relay.tcp.handle_message(RelayDeliver(1, b"\x09"), relay.now)
    relay.run()
    assert alice.take() == [b"\x09onion", b"\x0bforward"]
    assert relay.hooks.drops["relay_message"] == 1
    assert relay.hooks.drops["relay_answer_for_nobody"] == 1


def test_onion_and_forward_requests_go_to_their_hops_with_the_serial() -> None:
    relay, alice, _bob = pair(1, 0, 0)
    assert alice.connection is not None
    alice.send(b"\x08" + bytes(200), b"\x0a" + bytes(60))
    relay.run()
    serial = alice.connection.serial
    assert [(row[0], row[2]) for row in relay.hops] == [("onion", serial), ("forward", serial)]


@pytest.mark.parametrize(
    "packets",
    [
        [b"\x00" + bytes(31)],
        [b"\x01" + bytes(33)],
        [b"\x02"],
        [b"\x03\x10\x00"],
        [b"\x03\x10"],
        [b"\x03\x00"],
        [b"\x04" + bytes(7)],
        [b"\x05" + bytes(8)],
        [b"\x05" + bytes(7)],
        [b"\x06" + bytes(32)],
        [b"\x06" + bytes(32 + 1025)],
        [b"\x07" + bytes(40)],
        [b"\x08" + bytes(158)],
        [b"\x09" + bytes(40)],
        [b"\x0b" + bytes(40)],
        [b"\x0c" + bytes(40)],
        [b"\x0f" + bytes(40)],
        [b"\x10data on a link that was never given out"],
    ],
    ids=lambda packets: packets[0][:2].hex() + f"_{len(packets[0])}",
)
def test_what_the_reference_closes_for_closes(packets: list[bytes]) -> None:
    relay, alice, bob = pair(2, 0, 1)
    _, b = relay.linked(bob, alice)
    alice.send(bytes((3, b)))  # so that no link is left
    bob_answer = b"\x03\x10"
    alice.send(*packets)
    relay.run()
    assert alice.closed
    assert alice.take() == []
    assert not bob.closed
    assert bob.take() == [bob_answer]
    assert relay.tcp.directory.find(alice.key) is None


@pytest.mark.parametrize(
    "packet",
    [
        b"\x02\x10",
        b"\x02\x00",
        b"\x05" + bytes(7) + b"\x09",
        b"\x06" + bytes(33),
        b"\x06" + bytes(32 + 1024),
        b"\x08" + bytes(159),
    ],
    ids=lambda packet: f"{packet[0]:02x}_{len(packet)}",
)
def test_what_the_reference_ignores_is_ignored(packet: bytes) -> None:
    relay, alice, _ = pair(1, 0, 0)
    alice.send(packet, b"\x04" + bytes(7) + b"\x02")
    relay.run()
    assert alice.take() == [b"\x05" + bytes(7) + b"\x02"]


@pytest.mark.parametrize(
    "junk", [b"\x08\x01" + bytes(2049), b"\xff\xff", b"\x00\x10" + bytes(16), b"\x00\x01\x00"]
)
def test_bytes_that_are_no_frame_close(junk: bytes) -> None:
    relay, alice, bob = pair(1, 0, 0)
    alice.socket.sendall(junk)
    relay.run()
    assert alice.closed
    assert not bob.closed


def test_a_route_to_oneself_and_a_241st_route_are_refused() -> None:
    relay = Joined()
    alice = relay.confirmed()
    keys = [bytes((number, 7)) + bytes(30) for number in range(241)]
    alice.send(b"\x00" + alice.key, *(b"\x00" + key for key in keys), b"\x00" + keys[3])
    relay.run()
    answers = alice.take()
    assert answers[0] == b"\x01\x00" + alice.key
    assert answers[1:241] == [bytes((1, 16 + i)) + key for i, key in enumerate(keys[:240])]
    assert answers[241:] == [b"\x01\x00" + keys[240], b"\x01\x13" + keys[3]]
    alice.send(b"\x03\x20", b"\x00" + keys[240])
    relay.run()
    assert alice.take() == [b"\x01\x20" + keys[240]]


def test_frames_may_come_byte_by_byte() -> None:
    relay, alice, bob = pair(2, 0, 1)
    a, b = relay.linked(alice, bob)
    for byte in alice.client.frames(bytes((a,)) + b"slow", bytes((a,)) + b"ly"):
        alice.socket.sendall(bytes((byte,)))
        relay.run()
    assert bob.take() == [bytes((b,)) + b"slow", bytes((b,)) + b"ly"]


def test_a_silent_hello_is_closed_after_ten_seconds_in_all() -> None:
    relay = Joined()
    ends = [relay.connect() for _ in range(5)]
    hellos = [end.client.hello() for end in ends]
    for second in range(9):
        for end, hello in zip(ends, hellos, strict=True):
            end.socket.sendall(hello[second : second + 1])
        relay.run()
        relay.wait(1.0)
        assert not any(end.closed for end in ends)
    relay.wait(1.5)
    assert all(end.closed for end in ends)
    assert relay.tcp.connections == {}
    assert relay.hooks.drops["relay_hello_late"] == 5


def test_a_client_that_never_sends_a_frame_is_closed() -> None:
    relay = Joined()
    end = relay.greeted()
    relay.wait(9.0)
    assert not end.closed
    relay.wait(2.0)
    assert end.closed
    assert relay.hooks.drops["relay_confirm_late"] == 1


def test_pings_come_every_thirty_seconds_and_want_an_answer_in_ten() -> None:
    relay, alice, bob = pair(2, 0, 1)
    carol = relay.confirmed(0)
    relay.wait(29.0)
    assert alice.take() == []
    relay.wait(1.5)
    for end in (alice, bob, carol):
        (ping,) = end.take()
        assert ping[0] == 4
        if end is alice:
            end.send(b"\x05" + ping[1:])
        elif end is bob:
            end.send(b"\x05" + bytes(7) + b"\x01")  # a wrong id is no answer
    relay.wait(9.0)
    assert not (alice.closed)
    assert not (bob.closed)
    assert not (carol.closed)
    relay.wait(1.5)
    assert (alice.closed, bob.closed, carol.closed) == (False, True, True)
    relay.wait(19.5)
    assert [packet[0] for packet in alice.take()] == [4]
    assert relay.hooks.drops["relay_pong_late"] == 2


def test_limits_by_address_by_prefix_and_on_unconfirmed_ones() -> None:
    limits = RelayLimits(
        per_address=3, per_prefix=5, unconfirmed=4, unconfirmed_per_address=2, rest_s=0
    )
    relay = Joined(limits=limits)
    sources = [from_text(f"192.0.2.{i}", 5) for i in range(4)] + [from_text("198.51.100.1", 5)]
    first = [relay.connect(source=sources[0]) for _ in range(3)]
    relay.run()
    assert [end.closed for end in first] == [False, False, True]
    assert relay.hooks.drops["relay_unconfirmed_per_address"] == 1
    second = [relay.connect(source=source) for source in (sources[1], sources[2])]
    third = relay.connect(source=sources[4])
    relay.run()
    assert first[0].closed
    assert not any(end.closed for end in (first[1], *second, third))
    assert relay.hooks.drops["relay_unconfirmed_oldest"] == 1
    for end in (first[1], *second, third):
        end.socket.sendall(end.client.hello())
        relay.run()
        end.send(b"\x04" + bytes(7) + b"\x01")
        relay.run()
    fourth = [relay.connect(source=source) for source in (sources[3], sources[3], sources[1])]
    relay.run()
    assert [end.closed for end in fourth] == [False, False, True]
    assert relay.hooks.drops["relay_per_prefix"] == 1


def test_a_wrong_hello_closes_at_once() -> None:
    relay = Joined()
    end = relay.connect()
    end.socket.sendall(bytes(128))
    relay.run()
    assert end.closed
