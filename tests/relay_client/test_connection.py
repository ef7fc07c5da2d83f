"""One connection to a relay that keeps the rules, and to relays that do not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.crypto import KeyPair, PublicKey
from core.entropy import SeededEntropy
from core.packets.relay import FIRST_LINK, MAX_FRAME_SIZE
from core.relay_client.connection import (
    CONNECT_TIMEOUT_S,
    HEARD_S,
    MAX_LINKS,
    MOST_SPARED,
    PING_INTERVAL_S,
    PONG_TIMEOUT_S,
    RelayConnection,
    RouteState,
    Stage,
)
from core.relay_client.greeting import Greeting
from core.relay_client.outgoing import MAX_CONTROL, MAX_DATA_SIZE
from tests.relay_client.fake_relay import NOW, FakeRelay

PEER = PublicKey(bytes(range(32)))
OTHER = PublicKey(bytes(range(1, 33)))


def linked(link: int = 16) -> FakeRelay:
    """Returns a relay that has linked PEER."""
    relay = FakeRelay().greet()
    relay.connection.route(PEER, NOW)
    assert relay.take() == [b"\x00" + PEER]
    relay.say(bytes((1, link)) + PEER)
    relay.say(bytes((2, link)))
    assert relay.connection.linked == 1
    relay.told.clear()
    return relay


def peers(count: int) -> list[PublicKey]:
    return [PublicKey(number.to_bytes(32, "big")) for number in range(1, count + 1)]


def test_the_first_frame_is_a_ping_and_the_hello_has_128_bytes() -> None:
    relay = FakeRelay()
    relay.connection.handle_connected(NOW)
    assert len(relay.wire) == 128
    assert relay.wire[:32] == relay.client.public
    relay.connection.handle_bytes(relay.answer(), NOW)
    assert relay.told == [("ready",)]
    (ping,) = relay.take()
    assert ping[0] == 4
    assert len(ping) == 9
    assert ping[1:] != bytes(8)


def test_an_answer_may_come_byte_by_byte_with_frames_behind_it() -> None:
    relay = FakeRelay()
    relay.connection.handle_connected(NOW)
    stream = relay.answer() + relay.frame(b"\x04" + bytes(7) + b"\x09") + relay.frame(b"\x09abc")
    for byte in stream:
        relay.connection.handle_bytes(bytes((byte,)), NOW)
    assert relay.take()[1:] == [b"\x05" + bytes(7) + b"\x09"]
    assert relay.told == [("ready",), ("onion", b"abc")]


@given(st.binary(min_size=96, max_size=200))
def test_no_answer_but_the_relays_own_is_believed(answer: bytes) -> None:
    relay = FakeRelay()
    relay.connection.handle_connected(NOW)
    relay.connection.handle_bytes(answer, NOW)
    assert relay.told == [("failed", "relay_client_closed:hello")]
    assert relay.drops == {"relay_client_closed:hello": 1}
    relay.connection.handle_bytes(answer, NOW)
    assert len(relay.told) == 1


def test_an_answer_with_a_key_of_low_order_is_none() -> None:
    entropy = SeededEntropy("low")
    own, relay = KeyPair.generate(entropy), KeyPair.generate(entropy)
    assert Greeting.to(PublicKey(bytes(32)), own, entropy) is None
    greeting = Greeting.to(relay.public, own, entropy)
    assert greeting is not None
    assert greeting.session(bytes(95)) is None
    made = RelayConnection.to(
        1, PublicKey(bytes(32)), own, len, FakeRelay(), entropy, FakeRelay().drops, NOW
    )
    assert made is None


def test_pings_go_out_every_30_s_and_their_answer_is_waited_for_10_s() -> None:
    relay = FakeRelay().greet()
    connection = relay.connection
    assert connection.next_timer() == NOW + PING_INTERVAL_S
    connection.handle_timer(NOW + 29)
    assert relay.take() == []
    connection.handle_timer(NOW + 30)
    (ping,) = relay.take()
    assert connection.next_timer() == NOW + 30 + PONG_TIMEOUT_S
    relay.say(b"\x05" + ping[1:], NOW + 32)
    assert connection.rtt_s == 2
    assert connection.next_timer() == NOW + 60
    connection.handle_timer(NOW + 60)
    relay.say(b"\x05" + ping[1:], NOW + 61)  # of the ping before
    assert relay.drops == {"relay_client_unasked_pong": 1}
    connection.handle_timer(NOW + 70)
    assert relay.told == [("failed", "relay_client_pong_late")]


def test_a_relay_that_pings_is_there_and_asked_itself_each_tenth_time() -> None:
    relay = FakeRelay().greet()
    connection = relay.connection
    now = NOW
    for number in range(MOST_SPARED):
        now += 29
        relay.say(b"\x04" + bytes(7) + bytes((number + 1,)), now)
        assert connection.next_timer() == now + HEARD_S
    relay.say(b"\x04" + bytes(7) + b"\x77", now + 29)
    assert connection.next_timer() == now + HEARD_S
    relay.take()
    connection.handle_timer(now + HEARD_S)
    (ping,) = relay.take()
    relay.say(b"\x04" + bytes(7) + b"\x78", now + HEARD_S + 1)  # is no answer to this
    assert connection.next_timer() == now + HEARD_S + PONG_TIMEOUT_S
    relay.say(b"\x05" + ping[1:], now + HEARD_S + 2)
    assert connection.rtt_s == 2


def test_a_relay_that_never_answers_is_given_up_after_10_s_of_each_step() -> None:
    relay = FakeRelay()
    assert relay.connection.next_timer() == NOW + CONNECT_TIMEOUT_S
    relay.connection.handle_connected(NOW + 9)
    relay.connection.handle_timer(NOW + 10)
    assert relay.told == []
    relay.connection.handle_timer(NOW + 19)
    assert relay.told == [("failed", "relay_client_connect_late")]


def test_a_link_is_asked_for_given_linked_and_lost() -> None:
    relay = FakeRelay().greet()
    connection = relay.connection
    assert connection.route(PEER, NOW)
    assert connection.route(PEER, NOW)
    assert relay.take() == [b"\x00" + PEER]  # once
    assert connection.route_state(PEER) is RouteState.ASKED
    assert not connection.send(PEER, b"early")
    relay.say(b"\x01\x20" + PEER)
    relay.say(b"\x02\x20")
    relay.say(b"\x02\x20")  # again: nothing new
    assert connection.send(PEER, b"data")
    assert relay.take() == [b"\x20data"]
    relay.say(b"\x20back")
    relay.say(b"\x03\x20")
    assert not connection.send(PEER, b"late")
    assert relay.told == [
        ("route", PEER, RouteState.GIVEN),
        ("route", PEER, RouteState.LINKED),
        ("data", PEER, b"back"),
        ("route", PEER, RouteState.GIVEN),
    ]
    assert connection.linked == 0
    connection.unroute(PEER, NOW)
    assert relay.take() == [b"\x03\x20"]
    relay.say(b"\x20ghost")
    assert relay.drops == {"relay_client_unknown_link": 1}


def test_a_refused_link_is_counted_and_not_asked_for_again() -> None:
    relay = FakeRelay().greet()
    relay.connection.route(PEER, NOW)
    relay.say(b"\x01\x00" + PEER)
    assert relay.told == [("route", PEER, RouteState.REFUSED)]
    assert relay.drops == {"relay_client_route_refused": 1}
    relay.take()
    relay.connection.route(PEER, NOW)
    assert relay.take() == []
    relay.connection.unroute(PEER, NOW)
    assert relay.take() == []  # there is no link to give up


def test_a_link_that_came_too_late_is_given_back() -> None:
    relay = FakeRelay().greet()
    connection = relay.connection
    connection.route(PEER, NOW)
    connection.unroute(PEER, NOW)
    connection.unroute(PEER, NOW)
    relay.take()
    relay.say(b"\x01\x30" + PEER)
    assert relay.take() == [b"\x03\x30"]
    assert relay.told == []
    connection.route(OTHER, NOW)
    connection.unroute(OTHER, NOW)
    connection.route(OTHER, NOW)  # wanted after all
    relay.say(b"\x01\x30" + OTHER)
    assert relay.told == [("route", OTHER, RouteState.GIVEN)]


def test_what_is_on_its_way_when_a_link_is_given_up_belongs_to_nobody() -> None:
    relay = linked(16)
    relay.connection.unroute(PEER, NOW)
    relay.connection.route(OTHER, NOW)
    relay.say(b"\x10for the old one")
    relay.say(b"\x02\x10")
    relay.say(b"\x03\x10")
    assert relay.drops == {"relay_client_unknown_link": 3}
    relay.say(b"\x01\x10" + OTHER)  # the same link once more
    relay.say(b"\x02\x10")
    relay.say(b"\x10for the new one")
    assert relay.told[-1] == ("data", OTHER, b"for the new one")


def test_all_240_links_may_be_in_use_and_no_more() -> None:
    relay = FakeRelay().greet()
    keys = peers(MAX_LINKS + 1)
    assert [relay.connection.route(key, NOW) for key in keys] == [True] * MAX_LINKS + [False]
    assert relay.drops == {"relay_client_links_full": 1}
    for number, key in enumerate(keys[:-1]):
        relay.say(bytes((1, FIRST_LINK + number)) + key)
        relay.say(bytes((2, FIRST_LINK + number)))
    assert relay.connection.linked == MAX_LINKS == 240
    relay.say(b"\xff!")
    assert relay.told[-1] == ("data", keys[-2], b"!")


def test_a_peer_that_sends_nothing_does_not_end_our_connection() -> None:
    relay = linked()
    relay.say(b"\x10")
    assert relay.drops == {"relay_client_empty": 1}
    assert relay.connection.stage is Stage.CONFIRMED


def test_a_ping_of_zero_has_no_answer() -> None:
    relay = FakeRelay().greet()
    relay.say(b"\x04" + bytes(8))
    assert relay.take() == []
    assert relay.told == []


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\x00" + PEER, "relay_client_closed:kind"),
        (b"\x06" + PEER + b"x", "relay_client_closed:kind"),
        (b"\x08" + bytes(200), "relay_client_closed:kind"),
        (b"\x0a" + bytes(20), "relay_client_closed:kind"),
        *((bytes((kind,)) + bytes(20), "relay_client_closed:kind") for kind in range(0x0C, 0x10)),
        (b"\x01\x10" + PEER[:-1], "relay_client_closed:RouteResponse"),
        (b"\x01\x10" + PEER + b"x", "relay_client_closed:RouteResponse"),
        (b"\x01\x0f" + PEER, "relay_client_closed:RouteResponse"),
        (b"\x01\x10" + OTHER, "relay_client_closed:unasked_route"),
        (b"\x01\x10" + PEER, "relay_client_closed:unasked_route"),  # linked already
        (b"\x02", "relay_client_closed:ConnectNotice"),
        (b"\x02\x0f", "relay_client_closed:ConnectNotice"),
        (b"\x02\x10\x10", "relay_client_closed:ConnectNotice"),
        (b"\x03\x0f", "relay_client_closed:DisconnectNotice"),
        (b"\x03", "relay_client_closed:DisconnectNotice"),
        (b"\x04" + bytes(7), "relay_client_closed:RelayPing"),
        (b"\x05" + bytes(8), "relay_client_closed:RelayPong"),
        (b"\x05" + bytes(9), "relay_client_closed:RelayPong"),
        (b"\x07" + PEER, "relay_client_closed:OobReceive"),
        (b"\x07" + PEER + bytes(1025), "relay_client_closed:OobReceive"),
        (b"\x09", "relay_client_closed:RelayOnionResponse"),
    ],
)
def test_a_relay_that_breaks_a_rule_is_left(packet: bytes, reason: str) -> None:
    relay = linked(16)
    relay.say(packet)
    assert relay.told == [("failed", reason)]
    assert relay.drops == {reason: 1}
    assert relay.connection.stage is Stage.ENDED
    relay.connection.handle_bytes(relay.frame(b"\x09abc"), NOW)  # nothing of it is heard any more
    assert len(relay.told) == 1
    assert not relay.connection.send(PEER, b"x")
    assert not relay.connection.send_oob(PEER, b"x")
    assert not relay.connection.send_onion(b"\x08x")


def test_a_link_that_is_given_twice_ends_the_connection() -> None:
    relay = linked(16)
    relay.connection.route(OTHER, NOW)
    relay.say(b"\x01\x10" + OTHER)
    assert relay.told == [("failed", "relay_client_closed:link_twice")]
    assert "relay_client_closed:unasked_route" not in relay.drops


@pytest.mark.parametrize("size", [0, 1, 16, MAX_FRAME_SIZE + 1, 65535])
def test_frames_of_impossible_sizes_end_the_connection(size: int) -> None:
    relay = FakeRelay().greet()
    relay.connection.handle_bytes(size.to_bytes(2, "big"), NOW)
    assert relay.told == [("failed", "relay_client_closed:frame_size")]


def test_a_frame_that_is_repeated_or_changed_ends_the_connection() -> None:
    relay = FakeRelay().greet()
    frame = relay.frame(b"\x09abc")
    relay.connection.handle_bytes(frame + frame, NOW)
    assert relay.told == [("onion", b"abc"), ("failed", "relay_client_closed:frame_box")]


def test_forwardings_are_counted_for_we_never_ask_for_them() -> None:
    relay = FakeRelay().greet()
    relay.say(b"\x0bsomething")
    assert relay.drops == {"relay_client_unasked_forwarding": 1}
    assert relay.told == []


def test_a_bug_over_one_frame_does_not_lose_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    relay = linked()
    heard: list[bytes] = []

    def broken(line: int, peer: PublicKey, data: bytes, now: float) -> None:
        heard.append(data)
        if data == b"bug":
            raise ZeroDivisionError

    monkeypatch.setattr(relay, "link_data", broken)
    stream = relay.frame(b"\x10bug") + relay.frame(b"\x10next")
    with pytest.raises(ZeroDivisionError):
        relay.connection.handle_bytes(stream, NOW)
    relay.connection.handle_bytes(relay.frame(b"\x10last"), NOW)
    assert heard == [b"bug", b"next", b"last"]
    assert not relay.drops


def test_control_goes_before_data_and_pongs_do_not_pile_up() -> None:
    relay = linked()
    relay.room = 5  # of the first frame; then the socket is full
    assert relay.connection.send(PEER, b"first")
    assert relay.connection.send(PEER, b"second")
    relay.connection.route(OTHER, NOW)
    for number in range(1, 1000):
        relay.say(b"\x04" + number.to_bytes(8, "big"))
    relay.room = 1 << 20
    relay.connection.handle_writable()
    assert relay.take() == [
        b"\x10first",
        b"\x00" + OTHER,
        b"\x05" + (999).to_bytes(8, "big"),
        b"\x10second",
    ]


def test_data_that_waits_is_bounded() -> None:
    relay = linked()
    relay.room = 0
    taken = 0
    while relay.connection.send(PEER, bytes(1000)):
        taken += 1
    assert MAX_DATA_SIZE // 1001 <= taken <= MAX_DATA_SIZE // 1001 + 1
    assert not relay.connection.send_oob(OTHER, bytes(1000))
    assert not relay.connection.send_onion(b"\x08" + bytes(1000))
    assert relay.connection.waiting < MAX_DATA_SIZE + 2048
    relay.room = 1 << 20
    relay.connection.handle_writable()
    assert relay.take() == [b"\x10" + bytes(1000)] * taken


def test_a_relay_that_takes_nothing_is_left_when_too_much_control_waits() -> None:
    relay = FakeRelay().greet()
    relay.room = 0
    for _ in range(MAX_CONTROL):
        for peer in peers(200):
            relay.connection.route(peer, NOW)
        for number, peer in enumerate(peers(200)):
            relay.say(bytes((1, FIRST_LINK + number)) + peer)
            relay.connection.unroute(peer, NOW)
            if relay.connection.stage is Stage.ENDED:
                break
        if relay.connection.stage is Stage.ENDED:
            break
    assert relay.told[-1] == ("failed", "relay_client_stuck")
    assert relay.connection.waiting < 64 * 1024


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=12), st.integers(1, 50))
def test_whatever_a_relay_seals_nothing_unexpected_follows(
    packets: list[bytes], piece: int
) -> None:
    relay = linked(16)
    relay.connection.route(OTHER, NOW)
    stream = b"".join(relay.frame(packet) for packet in packets)
    for start in range(0, len(stream), piece):
        relay.connection.handle_bytes(stream[start : start + piece], NOW)
    check(relay)


@given(st.lists(st.binary(max_size=3000), max_size=5))
def test_whatever_bytes_a_relay_sends_nothing_unexpected_follows(chunks: list[bytes]) -> None:
    relay = linked(16)
    for chunk in chunks:
        relay.connection.handle_bytes(chunk, NOW)
    check(relay)


_PEERS = st.sampled_from(peers(4))
_STEPS = st.one_of(
    st.tuples(st.just("route"), _PEERS),
    st.tuples(st.just("unroute"), _PEERS),
    st.tuples(st.just("send"), _PEERS),
    st.tuples(
        st.just("response"),
        st.builds(lambda link, peer: bytes((1, link)) + peer, st.integers(16, 20), _PEERS),
    ),
    st.tuples(
        st.just("notice"),
        st.builds(
            lambda kind, link: bytes((kind, link)), st.sampled_from((2, 3)), st.integers(16, 20)
        ),
    ),
    st.tuples(st.just("data"), st.builds(lambda link: bytes((link, 1)), st.integers(16, 20))),
)


@given(st.lists(_STEPS, max_size=40))
def test_links_stay_consistent_whatever_both_sides_do(steps: list[tuple[str, bytes]]) -> None:
    relay = FakeRelay().greet()
    for step, value in steps:
        if step == "route":
            relay.connection.route(PublicKey(value), NOW)
        elif step == "unroute":
            relay.connection.unroute(PublicKey(value), NOW)
        elif step == "send":
            relay.connection.send(PublicKey(value), b"x")
        else:
            relay.say(value)
    check(relay)


def check(relay: FakeRelay) -> None:
    """What holds whatever a relay did."""
    connection = relay.connection
    states = [connection.route_state(peer) for peer in {PEER, OTHER, *peers(4)}]
    assert connection.linked == states.count(RouteState.LINKED)
    assert len(connection._rest) <= 2 + MAX_FRAME_SIZE
    failures = [row for row in relay.told if row[0] == "failed"]
    assert (connection.stage is Stage.ENDED) == (len(failures) == 1)
    if failures:
        assert relay.told[-1] is failures[0]
        assert connection.linked == 0
        assert str(failures[0][1]).startswith("relay_client_closed:")
