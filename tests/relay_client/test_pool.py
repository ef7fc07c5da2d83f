"""Pools of relays that meet at in-memory relays: linking, sending, sleeping, healing."""

import pytest

from core.crypto import Nonce, PublicKey
from core.endpoint import from_text
from core.onion.hops import MIN_RELAY_REQUEST
from core.packets.relay import RelayOnionRequest
from core.relay_client import Proxy
from core.relay_client.choosing import ONION_RELAYS, STANDING
from core.relay_client.lines import MAX_GENERAL, MAX_LINES
from core.relay_client.peers import MAX_TIES
from core.relay_client.pool import MAX_STRANGERS
from tests.relay_client.keys import some_key
from tests.relay_client.world import Party, World


def pair(relays: int = 1, standing: int = 3) -> tuple[World, Party, Party]:
    """Returns two parties that are linked by all relays of a world."""
    world = World(relays)
    alice, bob = world.party("alice", standing), world.party("bob", standing)
    world.meet(alice, bob, *world.places)
    assert alice.pool.is_linked(bob.key)
    assert bob.pool.is_linked(alice.key)
    return world, alice, bob


def test_two_pools_link_by_a_relay_and_exchange_data() -> None:
    world, alice, bob = pair()
    assert alice.links == [(bob.key, True)]
    assert alice.connected == [True]
    assert alice.pool.send(bob.key, b"\x1bhello", world.now)
    assert bob.pool.send(alice.key, b"\x1bhello too", world.now)
    world.run()
    assert bob.data == [(alice.key, b"\x1bhello")]
    assert alice.data == [(bob.key, b"\x1bhello too")]
    assert not alice.drops
    row = alice.pool.status()[0]
    assert (row.state, row.peers, row.linked) == ("connected", 1, 1)
    assert row.received > 0
    assert row.sent > 0


def test_data_of_the_largest_size_passes_and_larger_is_refused() -> None:
    world, alice, bob = pair()
    assert alice.pool.send(bob.key, bytes(2031), world.now)
    assert not alice.pool.send(bob.key, bytes(2032), world.now)
    assert not alice.pool.send(bob.key, b"", world.now)
    world.run()
    assert bob.take() == [bytes(2031)]


def test_a_connection_lives_by_pings_for_an_hour() -> None:
    world, alice, bob = pair()
    world.wait(3600)
    assert alice.links == [(bob.key, True)]
    assert bob.online() == 1
    assert not alice.drops
    assert not world.relays[world.places[0]].hooks.drops


def test_data_goes_out_of_band_until_the_peer_is_linked_and_comes_as_oob_to_who_knows_nothing() -> (
    None
):
    world = World()
    alice, bob = world.party("alice"), world.party("bob")
    world.knows_all(bob)
    place = world.places[0]
    alice.pool.add_peer(bob.key, world.now)
    alice.pool.add_relay_of(bob.key, place, world.key(place), world.now)
    world.run()
    assert not alice.pool.is_linked(bob.key)
    assert alice.pool.send(bob.key, b"\x18cookie?", world.now)
    assert not alice.pool.send(bob.key, bytes(1025), world.now)  # too long for that
    world.run()
    assert bob.oob == [(world.key(place), alice.key, b"\x18cookie?")]
    assert bob.pool.send_oob(world.key(place), alice.key, b"\x19cookie", world.now)
    world.run()
    assert alice.data == [(bob.key, b"\x19cookie")]


def test_who_wrote_out_of_band_is_linked_by_that_relay_once_it_is_wanted() -> None:
    world = World(2)
    alice, bob = world.party("alice"), world.party("bob")
    world.knows_all(bob)
    place = world.places[1]
    bob.on_oob = lambda relay, key, data: bob.pool.add_peer(key, world.now)
    alice.pool.add_peer(bob.key, world.now)
    alice.pool.add_relay_of(bob.key, place, world.key(place), world.now)
    world.run()
    alice.pool.send(bob.key, b"\x18", world.now)
    world.run()
    assert bob.pool.is_linked(alice.key)
    assert alice.pool.is_linked(bob.key)


def test_a_relay_by_which_a_wanted_peer_writes_is_tied_to_it() -> None:
    world = World(2)
    alice, bob = world.party("alice"), world.party("bob")
    world.knows_all(bob)
    bob.pool.add_peer(alice.key, world.now)
    place = world.places[0]
    alice.pool.add_peer(bob.key, world.now)
    alice.pool.add_relay_of(bob.key, place, world.key(place), world.now)
    world.run()
    alice.pool.send(bob.key, b"\x18", world.now)
    world.run()
    assert bob.oob == [(world.key(place), alice.key, b"\x18")]  # as it was not asked for before
    assert bob.pool.is_linked(alice.key)


def test_strangers_that_write_are_remembered_up_to_a_bound() -> None:
    world = World()
    bob = world.party("bob")
    world.knows_all(bob)
    relay = world.relays[world.places[0]]
    ends = [relay.confirmed() for _ in range(MAX_STRANGERS + 1)]
    for end in ends:
        end.send(b"\x06" + bob.key + b"\x18")
    world.run()
    assert len(bob.oob) == MAX_STRANGERS + 1
    bob.pool.add_peer(PublicKey(ends[0].key), world.now)  # the oldest was forgotten
    bob.pool.add_peer(PublicKey(ends[-1].key), world.now)
    assert [row.peers for row in bob.pool.status()] == [1]


def test_one_relay_carries_the_data() -> None:
    world, alice, bob = pair(3)
    for number in range(50):
        assert alice.pool.send(bob.key, b"\x1b%d" % number, world.now)
    world.run()
    assert bob.take() == [b"\x1b%d" % number for number in range(50)]
    sent = sorted(row.sent for row in alice.pool.status())
    assert sent[1] < 400 < sent[2]


def test_when_the_relay_that_carries_dies_another_does_and_it_is_tried_again() -> None:
    world, alice, bob = pair(2)
    alice.pool.send(bob.key, b"1", world.now)
    world.run()
    bob.take()
    busy = max(alice.pool.status(), key=lambda row: row.sent).key
    place = next(place for place in world.places if world.key(place) == busy)
    old = world.kill(place)
    assert alice.pool.is_linked(bob.key)
    assert alice.links == [(bob.key, True)]
    assert alice.pool.send(bob.key, b"2", world.now)
    world.run()
    assert bob.take() == [b"2"]
    assert alice.drops["relay_client_lost"] == 1
    assert alice.states()[busy] == "rests after a failure"
    world.wait(20)
    assert alice.drops["relay_client_unreachable"] > 1
    world.revive(place, old)
    world.wait_for(lambda: alice.online() == bob.online() == 2)
    assert [row.linked for row in alice.pool.status()] == [1, 1]


def test_back_off_doubles_up_to_five_minutes_and_a_peers_relay_is_forgotten_in_the_end() -> None:
    world, alice, bob = pair()
    alice.pool.add_relay(world.places[0], world.key(world.places[0]), world.now)
    world.wait(100)
    world.kill(world.places[0])
    world.wait(3600)
    assert bob.pool.status() == []  # it was only known as a relay of a peer
    assert bob.pool.next_timer() is None
    assert 8 <= len(bob.dialed) <= 10
    assert [row.state for row in alice.pool.status()] == ["rests after a failure"]
    due = alice.pool.next_timer()
    assert due is not None
    assert due - world.now <= 300
    assert 12 < len(alice.dialed) < 40
    assert alice.connected == [True, False]
    assert alice.links == [(bob.key, True), (bob.key, False)]


def test_a_peers_relay_that_never_answers_is_forgotten_at_once() -> None:
    world = World(0)
    alice = world.party("alice")
    alice.pool.add_peer(some_key(1), world.now)
    alice.pool.add_relay_of(some_key(1), from_text("192.0.2.7", 443), some_key(2), world.now)
    assert alice.states() == {some_key(2): "connecting"}
    world.run()
    assert alice.pool.status() == []
    assert alice.pool.next_timer() is None
    assert alice.drops == {"relay_client_unreachable": 1}


def test_dials_that_lead_nowhere_end_after_ten_seconds() -> None:
    world = World(0)
    alice = world.party("alice")
    alice.pool.add_relay(from_text("192.0.2.7", 443), some_key(2), world.now)
    alice.dials.clear()  # nothing answers, nothing refuses
    assert alice.pool.next_timer() == world.now + 10
    world.wait(9.9)
    assert alice.states() == {some_key(2): "connecting"}
    world.wait(0.1)
    assert alice.states() == {some_key(2): "rests after a failure"}
    assert alice.drops == {"relay_client_connect_late": 1}
    assert "no answer in time" in alice.pool.status()[0].trouble


def test_a_silent_relay_is_left_after_its_ping_and_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world, alice, _bob = pair()
    for plug in alice.plugs.values():
        monkeypatch.setattr(plug, "pull", lambda: 0)  # nothing comes any more
    world.wait(30)
    assert alice.online() == 1
    world.wait(10)
    assert alice.online() == 0
    assert alice.drops["relay_client_pong_late"] == 1


def test_links_of_a_peer_sleep_and_wake() -> None:
    world, alice, bob = pair(2, standing=0)
    alice.pool.set_sleeping(bob.key, True, world.now)
    assert alice.online() == 2  # used a moment ago
    world.wait(10)
    assert alice.online() == 0
    assert sorted(alice.states().values()) == ["idle", "idle"]
    assert alice.links[-1] == (bob.key, False)
    assert alice.pool.next_timer() is None
    alice.pool.set_sleeping(bob.key, False, world.now)
    world.run()
    assert alice.online() == 2
    assert alice.pool.is_linked(bob.key)
    bob.pool.send(alice.key, b"awake", world.now)
    world.run()
    assert alice.take() == [b"awake"]


def test_a_relay_that_another_peer_needs_does_not_sleep() -> None:
    world, alice, bob = pair(1, standing=0)
    carol = world.party("carol", 0)
    world.meet(alice, carol, world.places[0])
    alice.pool.set_sleeping(bob.key, True, world.now)
    world.wait(60)
    assert alice.pool.is_linked(bob.key)
    alice.pool.set_sleeping(carol.key, True, world.now)
    assert alice.online() == 0


def test_three_relays_stay_connected_though_nobody_needs_them() -> None:
    world = World(6)
    alice = world.party("alice")
    world.knows_all(alice)
    assert len(alice.dialed) == STANDING == 3
    world.wait(120)
    assert alice.online() == 3
    carried = next(row.key for row in alice.pool.status() if row.state == "connected")
    place = next(place for place in world.places if world.key(place) == carried)
    world.kill(place)
    assert alice.online() == 3  # another one is at hand


def test_relays_that_are_not_needed_are_dropped_after_ten_seconds_where_more_than_three_are() -> (
    None
):
    world = World(6)
    alice = world.party("alice")
    alice.pool.add_peer(some_key(1), world.now)  # who is not there
    for place in world.places:
        alice.pool.add_relay_of(some_key(1), place, world.key(place), world.now)
    world.run()
    assert alice.online() == 6
    world.wait(9.9)
    assert alice.online() == 6
    world.wait(0.2)
    assert alice.online() == 3
    assert sorted(alice.states().values()) == ["connected"] * 3 + ["idle"] * 3
    world.wait(300)
    assert alice.online() == 3
    idle = next(row.key for row in alice.pool.status() if row.state == "idle")
    place = next(place for place in world.places if world.key(place) == idle)
    alice.pool.add_relay_of(some_key(1), place, idle, world.now)  # the peer has named it again
    world.run()
    assert alice.states()[idle] == "connected"


def test_a_peer_that_is_linked_three_times_needs_no_more_relays() -> None:
    world, alice, bob = pair(3)
    extra = from_text("192.0.2.9", 443)
    alice.pool.add_relay_of(bob.key, extra, some_key(9), world.now)
    assert some_key(9) not in alice.states()


def test_six_relays_are_tied_to_a_peer_at_most() -> None:
    world = World(8)
    alice = world.party("alice")
    alice.pool.add_peer(some_key(1), world.now)
    for place in world.places:
        alice.pool.add_relay_of(some_key(1), place, world.key(place), world.now)
    world.run()
    assert len(alice.states()) == MAX_TIES == 6
    assert alice.drops == {"relay_client_ties_full": 2}
    world.wait(11)  # the peer was at none of them: these may make room
    for place in world.places[6:]:
        alice.pool.add_relay_of(some_key(1), place, world.key(place), world.now)
    world.run()
    assert {world.key(place) for place in world.places[6:]} <= set(alice.states())
    assert sum(row.peers for row in alice.pool.status()) == 6


def test_a_removed_peer_leaves_nothing() -> None:
    world, alice, bob = pair(2, standing=0)
    alice.pool.remove_peer(bob.key, world.now)
    world.run()
    assert not alice.pool.is_linked(bob.key)
    assert not alice.pool.send(bob.key, b"1", world.now)
    assert not bob.pool.is_linked(alice.key)  # it was told
    world.wait(11)
    assert alice.pool.status() == []
    assert alice.pool.next_timer() is None
    assert alice.links == [(bob.key, True)]


def test_a_peer_is_found_again_after_it_was_removed_and_added() -> None:
    world, alice, bob = pair(2)
    for _ in range(5):
        alice.pool.remove_peer(bob.key, world.now)
        world.meet(alice, bob, *world.places)
        assert alice.pool.is_linked(bob.key)
    alice.pool.send(bob.key, b"again", world.now)
    world.run()
    assert bob.take() == [b"again"]


def test_three_connections_are_kept_for_the_onion() -> None:
    world = World(5)
    alice = world.party("alice", standing=0)
    world.knows_all(alice)
    assert alice.dialed == []
    alice.pool.keep_for_onion(True, world.now)
    world.run()
    nodes = alice.pool.onion_relays()
    assert len(nodes) == ONION_RELAYS == 3
    assert all(node.tcp for node in nodes)
    world.wait(300)
    assert alice.pool.onion_relays() == nodes
    packet = RelayOnionRequest(
        nonce=Nonce(alice.entropy.bytes(24)),
        next_hop=world.places[0],
        sender=some_key(3),
        sealed=alice.entropy.bytes(MIN_RELAY_REQUEST),
    ).encode()
    assert alice.pool.send_onion(nodes[0].key, packet, world.now)
    assert not alice.pool.send_onion(some_key(5), packet, world.now)
    world.wait(0.05)  # what is not urgent gathers at a relay: broker/tcp_shard.py
    relay = world.relays[nodes[0].endpoint]
    assert [(kind, arrived) for kind, arrived, *_ in relay.hops] == [("onion", packet)]
    place = world.kill(nodes[1].endpoint)
    assert len(alice.pool.onion_relays()) == 3  # another one took over
    assert place.keys.public not in {node.key for node in alice.pool.onion_relays()}
    alice.pool.keep_for_onion(False, world.now)
    world.wait(11)
    assert alice.pool.onion_relays() == []
    assert alice.online() == 0


def test_relays_to_share_are_connected_ones_in_turn() -> None:
    world = World(5)
    alice = world.party("alice", standing=5)
    world.knows_all(alice)
    world.kill(world.places[4])
    rounds = [alice.pool.relays(2) for _ in range(4)]
    assert {node.key for row in rounds for node in row} == {
        world.key(place) for place in world.places[:4]
    }
    assert rounds[0] != rounds[1]
    assert all(node.tcp for row in rounds for node in row)
    assert len(alice.pool.relays(10)) == 4


def test_addresses_and_keys_that_can_be_no_relays_are_refused() -> None:
    world = World(0)
    alice = world.party("alice")
    good = from_text("192.0.2.1", 443)
    for place in (("224.0.0.1", 1), ("0.0.0.0", 1), ("192.0.2.1", 0), ("ff02::1", 1), ("::", 1)):
        alice.pool.add_relay(from_text(*place), some_key(1), world.now)
    alice.pool.add_relay(("", 443), some_key(1), world.now)
    assert alice.drops == {"relay_client_address": 6}
    alice.pool.add_relay(good, PublicKey(bytes(32)), world.now)
    alice.pool.add_relay(good, alice.key, world.now)
    assert alice.drops["relay_client_weak_key"] == 2
    assert alice.pool.status() == []


def test_general_relays_are_bounded_and_those_that_fail_make_room() -> None:
    world = World(0)
    alice = world.party("alice", standing=0)
    for number in range(MAX_GENERAL + 3):
        alice.pool.add_relay(from_text("192.0.2.1", 1000 + number), some_key(number), world.now)
    assert len(alice.states()) == MAX_GENERAL
    assert alice.drops == {"relay_client_relays_full": 3}
    alice.pool.keep_for_onion(True, world.now)
    world.run()
    alice.pool.add_relay(from_text("192.0.2.1", 5000), some_key(99), world.now)
    assert some_key(99) in alice.states()


def test_connections_at_a_time_are_bounded() -> None:
    world = World(0)
    alice = world.party("alice", standing=0)
    for peer in range(MAX_LINES):
        alice.pool.add_peer(some_key(peer), world.now)
        for number in range(2):
            place = from_text("192.0.2.1", 1000 + 2 * peer + number)
            alice.pool.add_relay_of(some_key(peer), place, some_key(1000 + 2 * peer + number), 0)
    assert len(alice.dials) == MAX_LINES
    assert len(alice.states()) == 2 * MAX_LINES
    line = alice.dials[0][0]
    alice.pool.handle_closed(line, world.now)
    assert len(alice.dialed) == MAX_LINES + 1  # the next one in turn


def test_another_address_of_a_relay_is_tried_when_one_fails() -> None:
    world = World()
    alice = world.party("alice")
    place = world.places[0]
    alice.pool.add_relay(from_text("192.0.2.66", 443), world.key(place), world.now)
    alice.pool.add_relay(place, world.key(place), world.now)
    world.wait_for(lambda: alice.online() == 1)
    node = alice.pool.relays(1)[0]
    assert node.endpoint == place
    old = world.kill(place)
    world.revive(place, old)
    world.wait(5)
    assert alice.dialed[-1] == place
    assert alice.online() == 1


def test_with_a_proxy_nothing_is_dialed_but_the_proxy() -> None:
    world = World(2)
    proxy = Proxy("socks5", ("proxy.example", 1080))
    alice = Party(world, "alice", proxy=proxy)
    world.knows_all(alice)
    alice.pool.add_relay(("relay.example", 443), some_key(1), world.now)
    alice.pool.add_peer(some_key(2), world.now)
    alice.pool.add_relay_of(some_key(2), from_text("192.0.2.9", 443), some_key(3), world.now)
    assert alice.dialed == [("proxy.example", 1080)] * 4
    world.parties.append(alice)
    world.run()  # nothing answers there
    assert alice.drops == {"relay_client_unreachable": 4}
    assert {row.address for row in alice.pool.status()} == {
        "198.51.100.1:3389",
        "198.51.100.2:3389",
        "relay.example:443",
    }


def test_data_for_a_relay_whose_socket_is_full_is_refused_and_control_is_not_lost() -> None:
    world, alice, bob = pair()
    plug = next(iter(alice.plugs.values()))
    sent = 0
    while alice.pool.send(bob.key, bytes(2000), world.now):
        sent += 1
        assert sent < 2000
    carol = world.party("carol")
    alice.pool.add_peer(carol.key, world.now)
    place = world.places[0]
    alice.pool.add_relay_of(carol.key, place, world.key(place), world.now)
    assert plug.blocked
    assert alice.pool.status()[0].waiting > 16_000
    world.meet(carol, alice, place)
    assert alice.pool.is_linked(carol.key)
    assert len(bob.take()) == sent
    assert alice.pool.send(bob.key, bytes(2000), world.now)


def test_nothing_is_due_and_nothing_is_told_twice_when_lines_are_unknown() -> None:
    world = World(0)
    alice = world.party("alice")
    alice.pool.handle_connected(7, world.now)
    alice.pool.handle_bytes(7, b"x", world.now)
    alice.pool.handle_writable(7, world.now)
    alice.pool.handle_closed(7, world.now)
    alice.pool.remove_peer(some_key(1), world.now)
    alice.pool.set_sleeping(some_key(1), True, world.now)
    alice.pool.relay_works(some_key(1), world.now)
    alice.pool.add_relay_of(some_key(1), from_text("192.0.2.1", 1), some_key(2), world.now)
    assert not alice.pool.send(some_key(1), b"x", world.now)
    assert not alice.pool.send_oob(some_key(2), some_key(1), b"x", world.now)
    assert alice.pool.next_timer() is None
    assert not alice.pool.is_connected()
    assert alice.pool.relays(3) == []
    assert not alice.drops
