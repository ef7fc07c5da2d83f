"""Onion paths: their bytes, their hops, their life."""

import pytest

from core.crypto import KeyPair, PublicKey
from core.endpoint import Endpoint, from_text, prefix_of
from core.onion_client.path_nodes import MAX_PATH_NODES, REMEMBERED, PathNodes
from core.onion_client.paths import Path, PathPool
from core.packets.nodes import NodeInfo
from tests.onion.node import START, Network, Node, address
from tests.onion_client.hand import Hand, make_node, pair
from tests.simulation.chance import StreamedEntropy

CLIENT = from_text("198.51.100.7", 40000)
DESTINATION = from_text("198.51.100.9", 41000)
PAYLOAD = b"\x83" + bytes(range(176))


class Ways:
    """Gives nodes and relays to a pool."""

    def __init__(self) -> None:
        self.nodes: list[NodeInfo] = []
        self.relays: list[NodeInfo] = []
        self.udp = True

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        raise AssertionError

    def path_nodes(self) -> list[NodeInfo]:
        return self.nodes

    def onion_relays(self) -> list[NodeInfo]:
        return self.relays

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        raise AssertionError

    def uses_udp(self) -> bool:
        return self.udp

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        raise AssertionError

    def own_nodes(self, most: int) -> list[NodeInfo]:
        raise AssertionError


def make_pool(
    nodes: list[NodeInfo], relays: list[NodeInfo] | None = None, dht: KeyPair | None = None
) -> tuple[PathPool, PathNodes, Ways]:
    """Returns a pool, its nodes and its ways."""
    ways = Ways()
    ways.nodes = nodes
    if relays is not None:
        ways.relays, ways.udp = relays, False
    entropy = StreamedEntropy("pool")
    known = PathNodes(entropy)
    return PathPool(dht or pair("dht"), entropy, known, ways), known, ways


def picked(pool: PathPool, now: float, wanted: Path | None = None) -> Path:
    path = pool.pick(wanted, now)
    assert path is not None
    return path


# Bytes


def test_three_real_hops_peel_what_we_build_and_the_answer_comes_back() -> None:
    nodes = [Node(f"node {number}", address(number * 251)) for number in range(3)]
    infos = [NodeInfo(node.keys.public, node.endpoint) for node in nodes]
    dht = pair("dht")
    pool, _, _ = make_pool(infos, dht=dht)
    path = picked(pool, START)
    packet = path.wrap(dht.public, bytes(24), DESTINATION, PAYLOAD)
    network = Network(*nodes)
    network.send(CLIENT, path.hops[0].endpoint, packet, START)
    ((to, arrived),) = network.arrived
    assert (to, arrived[:-177]) == (DESTINATION, PAYLOAD)
    assert [len(row[2]) for row in network.carried] == [
        1 + 225 + len(PAYLOAD),
        1 + 225 + len(PAYLOAD) - 8,
        1 + 225 + len(PAYLOAD) - 16,
        len(PAYLOAD) + 177,
    ]
    network.arrived.clear()
    answer = b"\x84" + bytes(100)
    network.send(DESTINATION, path.hops[2].endpoint, b"\x8c" + arrived[-177:] + answer, START)
    assert network.arrived == [(CLIENT, answer)]


def test_a_relay_is_the_first_hop_and_gets_no_outermost_layer() -> None:
    nodes = [Node(f"node {number}", address(number * 251)) for number in range(3)]
    infos = [NodeInfo(node.keys.public, node.endpoint) for node in nodes]
    relay = infos[0]._replace(tcp=True)
    dht = pair("dht")
    pool, known, _ = make_pool(infos[1:], [relay], dht)
    path = picked(pool, START)
    assert path.relay == relay.key
    packet = path.wrap(dht.public, bytes(24), DESTINATION, PAYLOAD)
    assert packet[0] == 8
    assert nodes[0].relay_hops.relay_onion_request(packet, 77, START)
    network = Network(*nodes)
    network.settle(nodes[0], START)
    ((to, arrived),) = network.arrived
    assert (to, arrived[:-177]) == (DESTINATION, PAYLOAD)
    answer = b"\x84" + bytes(100)
    network.send(DESTINATION, path.hops[2].endpoint, b"\x8c" + arrived[-177:] + answer, START)
    assert nodes[0].relayed == [(77, b"\x09" + answer)]
    pool.answered(path, START)
    assert len(known) == 2  # the relay is no path node


@pytest.mark.parametrize("size", [0, 1022])
def test_a_letter_of_no_size_or_too_large_is_our_own_mistake(size: int) -> None:
    hand = Hand()
    with pytest.raises(ValueError, match="1 to 1021"):
        hand.client.send(pair("friend").public, bytes(size), hand.now)


def test_the_largest_letter_fits_the_onion() -> None:
    hand = Hand()
    hand.connect()
    friend = pair("friend")
    hand.client.add_friend(friend.public, hand.now)
    hand.go(0.9, pair("friend's data").public)
    hand.letters()
    assert hand.client.send(friend.public, bytes(1021), hand.now) == 8
    assert {len(packet) for _, packet in hand.sent} == {1400}


# Hops


def test_no_two_hops_share_a_prefix_while_there_is_a_choice() -> None:
    crowd = [make_node(number, f"20.0.0.{1 + number}").info for number in range(20)]
    few = [make_node(100 + number).info for number in range(3)]
    nodes = PathNodes(StreamedEntropy("nodes"))
    nodes.learn(few + crowd[:5])
    nodes.learn(crowd)
    nodes.learn(crowd)
    for _ in range(200):
        hops = nodes.choose(3)
        assert hops is not None
        assert len({prefix_of(hop.endpoint) for hop in hops}) == 3
    relay = make_node(50, "20.0.0.77").info._replace(tcp=True)
    for _ in range(200):
        hops = nodes.choose(2, relay)
        assert hops is not None
        assert len({prefix_of(hop.endpoint) for hop in (relay, *hops)}) == 3


def test_ipv6_prefixes_are_of_64_bits() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    hosts = ["2001:db8:0:1::1", "2001:db8:0:1::2", "2001:db8:0:2::1", "2001:db8:0:3::1"]
    nodes.learn(make_node(number, host).info for number, host in enumerate(hosts))
    for _ in range(50):
        hops = nodes.choose(3)
        assert hops is not None
        assert len({prefix_of(hop.endpoint) for hop in hops}) == 3


@pytest.mark.parametrize("count", [1, 2, 5])
def test_in_a_small_or_single_network_paths_are_made_all_the_same(count: int) -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    nodes.learn(make_node(number, f"20.0.0.{1 + number}").info for number in range(count))
    hops = nodes.choose(3)
    assert hops is not None
    assert len({hop.key for hop in hops}) == min(3, count)


def test_hops_inside_come_before_hops_outside_for_those_send_nothing_inside() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    nodes.learn([make_node(1, "192.168.1.1").info, make_node(2).info, make_node(3).info])
    for _ in range(20):
        hops = nodes.choose(3)
        assert hops is not None
        assert hops[0].endpoint == make_node(1, "192.168.1.1").info.endpoint
    nodes.add(make_node(4).info)
    relay = make_node(50).info._replace(tcp=True)
    for _ in range(20):
        hops = nodes.choose(2, relay)
        assert hops is not None
        assert make_node(1, "192.168.1.1").info not in hops


def test_the_first_hop_is_of_a_family_that_the_dht_talks_with() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    nodes.learn(make_node(number).info for number in range(2))
    for number in range(10, 20):  # named by others
        nodes.add(make_node(number, f"2001:db8:{number}::1").info)
    for _ in range(50):
        hops = nodes.choose(3)
        assert hops is not None
        assert len(hops[0].endpoint) == 16 or all(len(hop.endpoint) == 28 for hop in hops)


def test_the_ring_keeps_the_newest_32_and_bootstrap_nodes_help_until_three_are_proven() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    assert nodes.choose(3) is None
    given = [make_node(1000 + number).info for number in range(40)]
    for info in given:
        nodes.add_bootstrap(info)
    hops = nodes.choose(3)
    assert hops is not None
    assert len(nodes) == 0
    assert set(nodes.sample(99)) == set(given[8:])
    infos = [make_node(number).info for number in range(40)]
    for place in range(0, 40, 8):
        nodes.learn(infos[place:])
    assert len(nodes) == MAX_PATH_NODES
    assert set(nodes.sample(99)) == {*given[8:], *infos[8:]}
    assert nodes.to_save() == infos[:31:-1]
    hops = nodes.choose(3)
    assert hops is not None
    assert len(set(hops) & set(given)) >= 2  # believed in advance
    nodes.worked(infos[20:23])
    assert set(nodes.sample(99)) == set(infos[8:])
    for _ in range(20):
        hops = nodes.choose(3)
        assert hops is not None
        assert set(hops) <= set(infos)


def test_a_node_that_was_in_failing_paths_alone_is_avoided_until_it_works() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(8)]
    nodes.learn(infos)
    bad = infos[:4]
    for _ in range(2):
        nodes.failed(bad)
    assert nodes.expected(12, 3) == 4
    for _ in range(50):
        hops = nodes.choose(3)
        assert hops is not None
        assert not set(hops) & set(bad)
    nodes.worked(bad[:1])
    assert not nodes.is_suspect(bad[0].key)


def test_who_is_proven_is_not_blamed_for_an_unproven_one_and_not_trusted_for_ever() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(3)]
    nodes.learn(infos)
    nodes.worked(infos[:2])
    for _ in range(2):
        nodes.failed(infos)
    assert [nodes.is_suspect(info.key) for info in infos] == [False, False, True]
    assert all(nodes.is_proven(info.key) for info in infos[:2])
    for _ in range(4 + 2):
        nodes.failed(infos[:2])
    assert all(nodes.is_suspect(info.key) for info in infos)
    assert nodes.choose(3) is not None  # all there are


def test_among_suspects_two_good_nodes_are_a_path_now_and_then_and_one_is_not() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(8)]
    nodes.learn(infos)
    nodes.worked(infos[:2])
    for _ in range(2):
        nodes.failed(infos[2:])
    alone = 0
    for _ in range(400):
        hops = nodes.choose(3)
        assert hops is not None
        assert hops[0] != hops[2]
        alone += set(hops) == set(infos[:2])
    assert 60 <= alone <= 140
    for _ in range(4 + 2):
        nodes.failed(infos[1:2])
    for _ in range(100):
        hops = nodes.choose(3)
        assert hops is not None
        assert hops[0] != hops[2]  # whoever loses what goes to others is not alone with us


def test_where_all_are_suspects_for_the_sake_of_one_the_others_are_a_path_now_and_then() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    live, gone = [make_node(1).info, make_node(2).info], make_node(3).info
    nodes.add_saved(gone)
    for row in (gone, *live):
        for _ in range(2):
            nodes.failed([row])
    for node in live:
        nodes.add(node)
    tries = [set(nodes.choose(3) or ()) for _ in range(100)]
    assert 10 <= tries.count(set(live)) <= 40


def test_saved_nodes_are_believed_no_more_than_others_until_they_are_given_too() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    saved, given, *many = [make_node(number).info for number in range(40)]
    nodes.add_saved(saved)
    nodes.add_bootstrap(given)
    nodes.add_saved(given)
    assert [nodes.is_proven(node.key) for node in (saved, given)] == [False, True]
    nodes.add_bootstrap(saved)
    assert nodes.is_proven(saved.key)
    nodes.add_saved(many[0])
    for _ in range(2):
        nodes.failed(many[:1])
    assert set(nodes.sample(9)) == {saved, given, many[0]}  # there is nothing better
    nodes.learn(many[1:3])
    nodes.failed(many[:1])
    assert set(nodes.sample(9)) == {saved, given, *many[1:3]}
    for node in many[3:]:
        nodes.add_saved(node)
    assert len(nodes._bootstrap) == len(nodes._saved) == MAX_PATH_NODES


def test_of_two_nodes_one_is_first_and_the_other_last() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(2)]
    nodes.learn(infos)
    for _ in range(50):
        hops = nodes.choose(3)
        assert hops is not None
        assert hops[0] == hops[1] != hops[2]


def test_a_path_tries_one_unproven_hop_at_a_time() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    proven = [make_node(number).info for number in range(4)]
    nodes.worked(proven)
    strangers = [make_node(100 + number).info for number in range(28)]
    for place in range(0, 28, 8):
        nodes.learn(strangers[place:])
    tried = set()
    for _ in range(300):
        hops = nodes.choose(3)
        assert hops is not None
        assert len(set(hops) & set(proven)) >= 2
        tried |= set(hops) - set(proven)
    assert tried == set(strangers)


def test_suspects_leave_the_ring_first_and_do_not_come_back_from_the_dht() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(64)]
    for place in range(0, 32, 8):
        nodes.learn(infos[place:])
    for _ in range(2):
        nodes.failed(infos[24:32])
    nodes.learn(infos[32:])
    assert set(nodes.sample(99)) == {*infos[:24], *infos[32:40]}
    nodes.learn(infos[24:32])
    assert not set(nodes.sample(99)) & set(infos[24:32])


def test_suspects_with_whom_the_dht_talks_no_more_leave_the_ring() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    infos = [make_node(number).info for number in range(4)]
    nodes.learn(infos)
    for _ in range(2):
        nodes.failed(infos[:2])
    nodes.learn(infos[1:3])  # 0 is gone, 1 does no hops, and 3 may do them still
    assert set(nodes.sample(9)) == set(infos[1:])


def test_records_of_path_nodes_are_bounded() -> None:
    nodes = PathNodes(StreamedEntropy("nodes"))
    for number in range(1000):
        nodes.failed(
            [make_node(number % 300).info._replace(key=PublicKey(number.to_bytes(32, "big")))]
        )
    assert len(nodes._failures) == REMEMBERED * MAX_PATH_NODES


def test_identities_of_this_process_are_hops_only_where_there_is_nobody_else() -> None:
    infos = [make_node(number).info for number in range(12)]
    ours, others = infos[:4], infos[4:]
    nodes = PathNodes(StreamedEntropy("nodes"), 5, {node.key for node in ours})
    nodes.learn(ours)
    assert set(nodes.sample(99)) == set(ours)
    nodes.learn(others)
    assert set(nodes.sample(99)) == set(others[-5:])
    assert not any(nodes.add(node) for node in ours)


# Life


def test_a_new_path_dies_four_seconds_after_two_unanswered_uses() -> None:
    pool, _, _ = make_pool([make_node(number).info for number in range(9)])
    path = picked(pool, START)
    assert picked(pool, START + 1, path) is path
    assert picked(pool, START + 4.9, path) is path  # a third use does not make it live longer
    assert pool.holds(path)
    assert path.dead_at() == START + 5
    other = picked(pool, START + 5, path)
    assert other is not path
    assert other.slot == path.slot


def test_a_path_that_worked_dies_ten_seconds_after_four_unanswered_uses() -> None:
    pool, _, _ = make_pool([make_node(number).info for number in range(9)])
    path = picked(pool, START)
    pool.answered(path, START)
    for second in range(4):
        assert picked(pool, START + second, path) is path
    assert picked(pool, START + 12.9, path) is path
    assert picked(pool, START + 13, path) is not path


def test_no_path_lives_longer_than_twenty_minutes() -> None:
    pool, _, _ = make_pool([make_node(number).info for number in range(9)])
    path = picked(pool, START)
    for second in range(1, 1200, 10):
        assert picked(pool, START + second, path) is path
        pool.answered(path, START + second)
    assert picked(pool, START + 1200, path) is not path


def test_a_late_answer_of_a_path_that_is_gone_changes_nothing() -> None:
    pool, known, _ = make_pool([make_node(number).info for number in range(9)])
    path = picked(pool, START)
    picked(pool, START, path)
    other = picked(pool, START + 50, path)
    pool.answered(path, START + 50)
    assert not path.confirmed
    assert pool.holds(other)
    assert not pool.holds(path)
    assert not any(known.is_suspect(hop.key) for hop in path.hops)  # it failed once


def test_six_paths_are_drawn_at_random() -> None:
    pool, _, _ = make_pool([make_node(number).info for number in range(32)])
    paths = {id(picked(pool, START)) for _ in range(200)}
    assert len(paths) == len(pool) == 6


def test_when_udp_works_again_paths_begin_there() -> None:
    relay = make_node(50).info._replace(tcp=True)
    pool, _, ways = make_pool([make_node(number).info for number in range(9)], [relay])
    path = picked(pool, START)
    assert path.relay == relay.key
    ways.udp = True
    assert picked(pool, START + 1, path).relay is None
    ways.udp = False
    ways.relays = []
    assert pool.pick(path, START + 2) is None


def test_our_own_paths_and_those_for_friends_have_keys_of_their_own() -> None:
    hand = Hand()
    hand.connect()
    hand.client.add_friend(pair("friend").public, hand.now)
    hand.client.handle_timer(hand.now + 1)
    own, friends = hand.client._asker.for_self._paths, hand.client._asker.for_friends._paths
    heads = [path._layers[51:102] for path in own + friends if path is not None]
    assert len(set(heads)) == len(heads) > 6


def test_every_packet_has_a_nonce_of_its_own() -> None:
    hand = Hand()
    hand.go(50.0)
    nonces = [packet[1:25] for _, packet in hand.log]
    assert len(set(nonces)) == len(nonces) > 40
