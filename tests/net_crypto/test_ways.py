"""UDP is preferred, relays carry what it cannot, and a session moves between them in flight."""

import pytest

from core.endpoint import from_text
from core.net_crypto.path import DirectPath
from tests.net_crypto.test_sessions import pair
from tests.net_crypto.world import Person, Stream, World


def test_a_session_over_relays_alone() -> None:
    world = World()
    world.udp, world.relay = False, True
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob, endpoint=False)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 2)
    stream = Stream(alice, bob, 300)
    stream.feed()
    assert world.run_until(stream.arrived, 20)
    assert stream.exact()
    assert alice.directs == bob.directs == []
    status = alice.crypto.status(bob.real.public)
    assert status is not None
    assert (status.direct, status.endpoint) == (False, None)
    world.run_for(30)
    assert alice.sees(bob)
    assert bob.sees(alice)


def test_by_relay_less_is_on_the_way_than_blocks_a_stock_client() -> None:
    world = World(delay=(0.005, 0.005))
    world.udp, world.relay = False, True
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob, endpoint=False)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 2)
    stream = Stream(alice, bob, 5_000)
    stream.feed()
    sending = alice.crypto._sessions[bob.real.public].sending
    most = 0
    while not stream.arrived():
        world.run_for(0.001)
        most = max(most, sending.in_flight)
    assert most * 1400 < 1 << 16
    assert world.now < 130


def test_a_session_begun_out_of_band_is_answered_through_the_same_relay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World()
    world.udp, world.relay = False, True
    alice, bob = world.add("alice"), world.add("bob")
    ways: list[tuple[str, int, str]] = []

    def watch(way: str, sender: Person, packet: bytes) -> bool:
        ways.append((way, packet[0], sender.name))
        return True

    world.watch = watch
    relay = alice.dht.public

    def by_oob(dht_key: bytes, packet: bytes, now: float) -> bool:
        if packet[0] in (0x18, 0x1A):
            return alice.send_oob(relay, bob.dht.public, packet, now)
        return Person.send_relay(alice, bob.dht.public, packet, now)

    monkeypatch.setattr(alice, "send_relay", by_oob)
    world_handle = alice.crypto.handle_oob

    def oob(relay_key: bytes, dht_key: bytes, packet: bytes, now: float) -> None:
        if packet[0] == 0x19:  # alice's pool knows bob: what he sends comes as if on a link
            alice.crypto.handle_relay(bob.dht.public, packet, now)
        else:
            world_handle(relay, bob.dht.public, packet, now)

    monkeypatch.setattr(alice.crypto, "handle_oob", oob)
    alice.open(bob, endpoint=False)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 2)
    assert ("oob", 0x19, "bob") in ways
    assert ("oob", 0x1A, "bob") in ways


def test_udp_is_cut_in_the_middle_of_a_stream_which_goes_on_by_relay_and_back() -> None:
    world = World(5)
    world.relay = True
    alice, bob = pair(world)
    world.run_for(1)
    assert alice.directs == bob.directs == [True]
    stream = Stream(alice, bob, 60_000)
    stream.feed()
    world.run_for(2)
    before = len(bob.taken)
    assert 0 < before < 60_000
    world.udp = False
    assert world.run_until(lambda: alice.directs == bob.directs == [True, False], 10)
    at_switch = len(bob.taken)
    world.run_for(3)
    assert len(bob.taken) > at_switch
    world.udp = True
    assert world.run_until(lambda: alice.directs == bob.directs == [True, False, True], 6)
    assert world.run_until(stream.arrived, 200)
    assert stream.exact()
    assert alice.down == bob.down == []


def test_an_address_that_the_dht_finds_later_brings_the_session_to_udp() -> None:
    world = World()
    world.relay = True
    alice, bob = world.add("alice"), world.add("bob")
    alice.open(bob, endpoint=False)
    assert world.run_until(lambda: alice.sees(bob) and bob.sees(alice), 2)
    world.run_for(10)
    assert alice.directs == []
    alice.crypto.set_endpoint(bob.real.public, bob.endpoint, world.now)
    bob.crypto.set_endpoint(alice.real.public, alice.endpoint, world.now)
    assert world.run_until(lambda: alice.directs == bob.directs == [True], 5)


def test_a_wrong_hint_harms_no_other_session() -> None:
    world = World()
    alice, bob = pair(world)
    carol = world.add("carol")
    alice.crypto.open(carol.real.public, carol.dht.public, world.now)
    alice.crypto.set_endpoint(carol.real.public, bob.endpoint, world.now)
    bob.send(alice, b"\x40it is me")
    world.run_for(1)
    assert alice.taken == [b"\x40it is me"]


V4, LAN, V6 = from_text("1.2.3.4", 5), from_text("192.168.1.7", 5), from_text("2001:db8::1", 5)
OTHER_LAN = from_text("192.168.1.8", 5)


def test_lan_is_better_than_v6_and_that_than_v4() -> None:
    path = DirectPath()
    assert path.best(0.0) is None
    path.heard(V4, 0.0)
    assert path.best(1.0) == V4
    path.heard(V6, 1.0)
    assert path.best(1.0) == V6
    path.heard(LAN, 1.0)
    assert path.best(1.0) == LAN
    path.heard(V4, 2.0)  # a LAN address that is alive stays
    assert path.best(8.9) == LAN
    assert path.best(9.1) is None
    path.heard(V4, 9.5)  # and one that is not, does not
    assert path.best(9.5) == V4


def test_hints_replace_what_is_not_alive_and_nothing_else() -> None:
    path = DirectPath()
    assert path.hint(V4, 0.0)
    assert not path.hint(V4, 0.0)
    assert path.best(0.0) is None
    assert path.to_probe(50, False, 0.0) == [V4]
    assert path.to_probe(50, False, 3.9) == []
    assert path.to_probe(50, False, 4.0) == [V4]
    assert path.to_probe(96, False, 9.0) == []
    assert path.to_probe(385, True, 9.0) == [V4]
    path.heard(V4, 10.0)
    assert not path.hint(LAN, 12.0)
    assert path.hint(LAN, 18.0)
    assert path.hint(V6, 18.0)
    assert path.to_probe(50, False, 18.0) == [LAN, V6]
    path.heard(V6, 20.0)
    assert not path.hint(from_text("2001:db8::2", 5), 21.0)
