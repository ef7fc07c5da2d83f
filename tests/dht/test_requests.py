"""DHT requests: passed on, opened or refused; NAT pings and LAN discovery."""

import pytest

from core.crypto import KeyPair, seal
from core.dht.lan import DEFAULT_PORT, LAST_PORT, LanBeacon
from core.endpoint import Endpoint, from_text, ip_of, port_of, to_text, with_port
from core.entropy import SeededEntropy
from core.module import NodeOptions
from core.packets.dht import DhtRequest
from tests.dht.actors import good_friend, introduce, keeper_of, module_of, packed, public
from tests.simulation import NatKind, Node, Peer, World


@pytest.fixture
def world() -> World:
    return World(seed=1, latency=(0.01, 0.01))


@pytest.fixture
def node(world: World) -> Node:
    return world.add_node("node")


def dht_request(sender: Peer, addressee: bytes, plain: bytes) -> bytes:
    """Returns a 0x20 packet."""
    nonce = bytes(24)
    sealed = seal(sender.shared(addressee), nonce, plain)
    return b"\x20" + addressee + sender.key + nonce + sealed


def drops_after(world: World, node: Node, packet: bytes) -> dict[str, int]:
    """Returns what the node counted for one packet."""
    before = node.drops()
    stranger = world.add_peer("stranger")
    stranger.send(node.endpoint, packet)
    world.run_for(0.1)
    return dict(node.drops() - before)


# DHT requests


def test_the_layout_is_that_of_the_declared_packet(world: World, node: Node) -> None:
    packet = dht_request(world.add_peer(), node.key, b"\xfe\x00" + bytes(8))
    assert DhtRequest.decode(packet).encode() == packet
    assert len(packet) == 105 + 10


def test_a_request_for_a_close_node_is_passed_on_unchanged_and_once(
    world: World, node: Node
) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    friend.handler = None
    friend.received.clear()
    sender = world.add_peer("sender")
    packet = dht_request(sender, friend.key, b"\x9c" + bytes(700))
    sender.send(node.endpoint, packet)
    world.run_for(0.5)
    assert [each for _, each in friend.received if each[0] == 0x20] == [packet]
    assert node.drops()["dht_request_no_route"] == 0


def test_a_request_goes_to_a_close_node_even_while_that_is_silent(
    world: World, node: Node
) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    friend.handler = None
    world.run_for(130.0)
    assert module_of(node).snapshot_of_table.rows == {}
    friend.received.clear()
    sender = world.add_peer("sender")
    sender.send(node.endpoint, dht_request(sender, friend.key, b"\x9c" + bytes(70)))
    world.run_for(0.1)
    assert [packet[0] for _, packet in friend.received] == [0x20]


def test_a_request_for_somebody_unknown_goes_nowhere(world: World, node: Node) -> None:
    packet = dht_request(world.add_peer(), KeyPair.generate(SeededEntropy(1)).public, b"\x9c1")
    assert drops_after(world, node, packet) == {"dht_request_no_route": 1}


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (0, "dht_request_size"),
        (1, "dht_request_unknown"),
        (919, "dht_request_unknown"),
        (920, "dht_request_size"),
        (935, "dht_request_size"),
        (936, "dht_request_size"),
        (1024, "dht_request_size"),
        (1500, "dht_request_size"),
        (1900, "dht_request_size"),
    ],
)
def test_a_request_to_us_has_at_most_919_bytes_of_text(
    world: World, node: Node, plain: int, reason: str
) -> None:
    """S-02: correctly encrypted requests around the size at which the reference once broke."""
    packet = dht_request(world.add_peer(), node.key, b"\x77" * plain)
    assert drops_after(world, node, packet) == {reason: 1}


@pytest.mark.parametrize(("size", "passed"), [(106, 1), (1024, 1), (1040, 1), (1041, 0)])
def test_a_request_that_is_passed_on_has_at_most_1040_bytes(
    world: World, node: Node, size: int, passed: int
) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    friend.handler = None
    friend.received.clear()
    sender = world.add_peer("sender")
    sender.send(node.endpoint, b"\x20" + friend.key + bytes(size - 33))
    world.run_for(0.5)
    assert sum(packet[0] == 0x20 for _, packet in friend.received) == passed
    assert node.drops()["dht_request_size"] == 1 - passed


@pytest.mark.parametrize(
    ("plain", "reason"),
    [
        (b"\x20" + bytes(60), "dht_request_not_served"),
        (b"\x9c" + bytes(60), "dht_request_not_served"),
        (b"\x00" + bytes(60), "dht_request_unknown"),
        (b"\xfe\x00" + bytes(8), "dht_nat_ping_stranger"),
        (b"\xfe\x00" + bytes(7), "dht_nat_ping_size"),
        (b"\xfe", "dht_nat_ping_size"),
    ],
)
def test_what_a_request_to_us_holds_is_counted_by_kind(
    world: World, node: Node, plain: bytes, reason: str
) -> None:
    assert drops_after(world, node, dht_request(world.add_peer(), node.key, plain)) == {reason: 1}


def test_a_request_to_us_that_does_not_open_is_counted(world: World, node: Node) -> None:
    sender = world.add_peer()
    packet = dht_request(sender, node.key, b"\xfe\x00" + bytes(8))
    assert drops_after(world, node, packet[:-1] + bytes((packet[-1] ^ 1,))) == {"dht_box": 1}
    ours = b"\x20" + node.key + node.key + bytes(50)
    assert drops_after(world, node, ours) == {"dht_box": 1}


# NAT pings


def searched_with_voices(world: World, node: Node, voices: int) -> tuple[Peer, list[Peer]]:
    """Has the node search a peer that so many nodes report at one address."""
    wanted = world.add_peer("wanted")
    where = b"\x01" + packed(wanted.key, wanted.endpoint)
    helpers = [good_friend(world, f"helper{number}", where) for number in range(voices)]
    for helper in helpers:
        introduce(world, helper, node)
    keeper_of(node).add_search(wanted.key, world.now)
    node.wake("dht")
    world.run_for(8.0)
    return wanted, helpers


def nat_pings(helpers: list[Peer]) -> int:
    return sum(packet[0] == 0x20 for helper in helpers for _, packet in helper.received)


def test_nat_pings_go_to_all_that_know_the_node_every_three_seconds_from_four_voices_on(
    world: World, node: Node
) -> None:
    _, helpers = searched_with_voices(world, node, 4)
    for helper in helpers:
        helper.received.clear()
    seen: list[float] = []

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        if packet[0] == 0x20:
            seen.append(world.now)
        return True

    world.watch = watch
    world.run_for(12.0)
    assert len(seen) == pytest.approx(3 * 4, abs=4)
    assert len(set(seen)) == len(seen) / 4


def test_three_voices_are_too_few(world: World, node: Node) -> None:
    searched_with_voices(world, node, 3)
    assert world.kinds[0x20] == 0


def test_a_nat_ping_of_a_searched_node_is_answered_by_one_way(world: World, node: Node) -> None:
    wanted, _ = searched_with_voices(world, node, 3)
    wanted.send(node.endpoint, dht_request(wanted, node.key, b"\xfe\x0012345678"))
    world.run_for(0.1)
    assert world.kinds[0x20] == 2
    search = keeper_of(node).searches[wanted.key]
    assert search.punching.heard_at > 0


def test_the_answer_to_our_nat_ping_counts_once_and_with_its_id(world: World, node: Node) -> None:
    wanted, _ = searched_with_voices(world, node, 3)
    punching = keeper_of(node).searches[wanted.key].punching
    packet = dht_request(wanted, node.key, b"\xfe\x01" + punching.nat_ping_id)
    wrong = dht_request(wanted, node.key, b"\xfe\x01" + bytes(8))
    odd = dht_request(wanted, node.key, b"\xfe\x02" + punching.nat_ping_id)
    assert drops_after(world, node, wrong) == {"dht_nat_ping_id": 1}
    assert drops_after(world, node, odd) == {"dht_nat_ping_id": 1}
    assert not punching.answered
    assert drops_after(world, node, packet) == {}
    assert punching.answered
    assert drops_after(world, node, packet) == {"dht_nat_ping_id": 1}


def test_when_both_sides_try_the_ports_around_those_reported_are_pinged(
    world: World, node: Node
) -> None:
    wanted = world.add_peer("wanted")
    for number in range(6):  # a symmetric NAT: each helper sees another port
        seen = with_port(wanted.endpoint, 5000 + 100 * number)
        helper = good_friend(world, f"helper{number}", b"\x01" + packed(wanted.key, seen))
        introduce(world, helper, node)
    keeper_of(node).add_search(wanted.key, world.now)
    node.wake("dht")
    world.run_for(8.0)
    ports: list[int] = []

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        if packet[0] == 0x00 and ip_of(to) == ip_of(wanted.endpoint):
            ports.append(port_of(to))
        return True

    world.watch = watch
    world.run_for(10.0)
    assert ports == []  # the peer does not try
    punching = keeper_of(node).searches[wanted.key].punching
    for plain in (b"\xfe\x01" + punching.nat_ping_id, b"\xfe\x0012345678"):
        wanted.send(node.endpoint, dht_request(wanted, node.key, plain))
    world.run_for(2.0)
    assert len(ports) == 48
    assert len({5000, 5100, 5200, 5300, 5400, 5500} & set(ports)) >= 4
    assert {5001, 4999} <= set(ports)
    world.run_for(10.0)
    assert len(ports) == 48  # each round needs an answer of the peer


def test_two_nodes_behind_a_symmetric_and_a_port_restricted_nat_find_a_way_by_guessing() -> None:
    world = World(seed=3)
    first = world.add_node("first")
    for _ in range(20):
        world.add_node(bootstrap=[first])
    alice_nat = world.add_nat(NatKind.PORT_RESTRICTED)
    alice = world.add_node("alice", nat=alice_nat, bootstrap=[first])
    bob = world.add_node("bob", nat=world.add_nat(NatKind.SYMMETRIC), bootstrap=[first])
    world.run_for(30.0)
    for one, other in ((alice, bob), (bob, alice)):
        keeper_of(one).add_search(other.key, world.now)
        one.wake("dht")
    assert world.run_until(
        lambda: (
            keeper_of(alice).address_of(bob.key, world.now)
            and keeper_of(bob).address_of(alice.key, world.now)
        ),
        limit=600.0,
    )
    assert world.kinds[0x20] > 0


@pytest.mark.parametrize("kind", [NatKind.FULL_CONE, NatKind.RESTRICTED, NatKind.PORT_RESTRICTED])
def test_two_nodes_behind_nats_find_a_way_to_each_other(kind: NatKind) -> None:
    world = World(seed=3)
    first = world.add_node("first")
    for _ in range(20):
        world.add_node(bootstrap=[first])
    alice = world.add_node("alice", nat=world.add_nat(kind), bootstrap=[first])
    bob = world.add_node("bob", nat=world.add_nat(kind), bootstrap=[first])
    world.run_for(30.0)
    for one, other in ((alice, bob), (bob, alice)):
        keeper_of(one).add_search(other.key, world.now)
        one.wake("dht")
    assert world.run_until(
        lambda: (
            keeper_of(alice).address_of(bob.key, world.now)
            and keeper_of(bob).address_of(alice.key, world.now)
        ),
        limit=240.0,
    )


# Searches


def test_a_search_has_at_most_32_owners_and_ends_with_the_last(world: World, node: Node) -> None:
    keeper = keeper_of(node)
    key = bytes(32)
    assert all(keeper.add_search(key, world.now) for _ in range(32))
    assert not keeper.add_search(key, world.now)
    for _ in range(31):
        keeper.remove_search(key)
    assert key in keeper.searches
    keeper.remove_search(key)
    assert key not in keeper.searches
    keeper.remove_search(key)


def test_there_are_two_fake_searches_that_nobody_ends_and_1024_in_all(
    world: World, node: Node
) -> None:
    keeper = keeper_of(node)
    fakes = list(keeper.searches)
    assert len(fakes) == 2
    keeper.remove_search(fakes[0])
    assert list(keeper.searches) == fakes
    assert not keeper.add_search(node.key, world.now)
    added = [keeper.add_search(n.to_bytes(32, "big"), world.now) for n in range(1100)]
    assert sum(added) == 1022


def test_nodes_of_an_ended_search_leave_the_answers(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    keeper = keeper_of(node)
    keeper.add_search(friend.key, world.now)
    introduce(world, friend, node)
    world.run_for(1.0)
    friend.handler = None
    world.run_for(1.0)
    keeper.close.remove(keeper.close.by_key[friend.key])
    for fake in keeper._fake:
        keeper.searches[fake].clear()
    world.run_for(1.0)
    assert keeper.address_of(friend.key, world.now) == friend.endpoint
    assert friend.key in module_of(node).snapshot_of_table.rows
    keeper.remove_search(friend.key)
    node.wake("dht")
    world.run_for(0.1)
    assert friend.key not in module_of(node).snapshot_of_table.rows


# LAN discovery

LAN_ON = NodeOptions(lan_discovery=True)


def test_two_nodes_of_a_local_network_meet_by_discovery_alone() -> None:
    world = World(seed=1)
    alice = world.add_node("alice", endpoint=from_text("192.168.1.2", 33445), options=LAN_ON)
    bob = world.add_node("bob", endpoint=from_text("192.168.1.3", 33445), options=LAN_ON)
    assert world.run_until(lambda: bob.key in keeper_of(alice).close.by_key, limit=5.0)
    assert world.run_until(lambda: alice.key in keeper_of(bob).close.by_key, limit=5.0)


def test_the_beacon_walks_ten_ports_at_a_time_through_the_range() -> None:
    beacon = LanBeacon(NodeOptions(has_ipv6=False, lan_targets=(from_text("192.168.1.255", 0),)))
    first = beacon.targets()
    assert {to_text(target).split(":")[0] for target in first} == {
        "192.168.1.255",
        "255.255.255.255",
        "127.255.255.255",
    }
    assert {port_of(target) for target in first} == {DEFAULT_PORT, *range(33446, 33456)}
    ports = {port_of(target) for _ in range(9) for target in beacon.targets()}
    assert max(ports) == LAST_PORT - 1
    assert {port_of(target) for target in beacon.targets()} == {port_of(each) for each in first}


def test_a_beacon_of_a_node_without_ipv4_goes_to_multicast_alone() -> None:
    targets = LanBeacon(NodeOptions(has_ipv4=False)).targets()
    assert {to_text(target).rsplit(":", 1)[0] for target in targets} == {"[ff02::1]"}


def test_a_beacon_from_loopback_stays_on_this_machine() -> None:
    there = (from_text("192.168.1.255", 0),)
    targets = LanBeacon(NodeOptions(loopback_ipv4=True, lan_targets=there)).targets()
    assert {to_text(target).rsplit(":", 1)[0] for target in targets} == {
        "127.255.255.255",
        "[ff02::1]",
    }
    both = NodeOptions(loopback_ipv4=True, loopback_ipv6=True)
    targets = LanBeacon(both).targets()
    assert {to_text(target).rsplit(":", 1)[0] for target in targets} == {"127.255.255.255"}
    assert LanBeacon(NodeOptions(has_ipv4=False, loopback_ipv6=True)).targets() == []


def test_beacons_are_bounded_whatever_interfaces_there_are() -> None:
    many = tuple(from_text(f"10.0.{n}.255", 0) for n in range(100))
    assert len(LanBeacon(NodeOptions(lan_targets=many)).targets()) == 11 * 19


@pytest.mark.parametrize(
    ("source", "packet", "options", "reason"),
    [
        (public(5), b"\x21" + b"\x07" * 32, LAN_ON, "dht_lan_from_outside"),
        (from_text("192.168.1.9", 1), b"\x21" + b"\x07" * 31, LAN_ON, "dht_lan_size"),
        (from_text("192.168.1.9", 1), b"\x21" + b"\x07" * 33, LAN_ON, "dht_lan_size"),
        (
            from_text("192.168.1.9", 1),
            b"\x21" + b"\x07" * 32,
            NodeOptions(lan_discovery=False),
            "dht_lan_off",
        ),
    ],
)
def test_a_beacon_from_outside_or_misshapen_or_unwanted_is_ignored(
    world: World, source: Endpoint, packet: bytes, options: NodeOptions, reason: str
) -> None:
    node = world.add_node("lan", options=options)
    module_of(node).handle_packet(packet, source, world.now)
    assert world.kinds[0x02] == 0
    assert node.drops() == {reason: 1}


def test_our_own_beacon_is_ignored(world: World) -> None:
    node = world.add_node("lan", options=LAN_ON)
    here = from_text("127.0.0.1", 33445)
    module_of(node).handle_packet(b"\x21" + node.key, here, world.now)
    assert world.kinds[0x02] == 0
    assert node.drops() == {"dht_own_key": 1}


def test_a_flood_of_beacons_is_asked_32_times_in_ten_seconds(world: World) -> None:
    node = world.add_node("lan", options=LAN_ON)
    world.run_for(0.1)
    for number in range(100):
        peer = world.add_peer(f"peer{number}")
        source = from_text("192.168.1.9", number + 1)
        for _ in range(2):
            module_of(node).handle_packet(b"\x21" + peer.key, source, world.now)
    assert world.kinds[0x02] == 32
    assert node.drops()["dht_lan_repeated"] == 32
    assert node.drops()["dht_lan_too_many"] == 136
