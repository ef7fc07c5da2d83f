"""dht.0 at work: timings, candidates, named nodes, probes, what it tells and what it takes back."""

import pytest

from core.crypto import open_sealed
from core.dht.addresses import refusal
from core.endpoint import Endpoint, from_text
from core.module import NodeOptions
from tests.dht.actors import (
    good_friend,
    introduce,
    keeper_of,
    key_at,
    module_of,
    packed,
    public,
)
from tests.simulation import Node, Peer, World


@pytest.fixture
def world() -> World:
    return World(seed=1, latency=(0.01, 0.01))


@pytest.fixture
def node(world: World) -> Node:
    return world.add_node("node")


def heard(world: World, peer: Peer) -> list[tuple[float, int]]:
    """Returns a list that grows by (time, kind) for each packet that comes to the peer."""
    log: list[tuple[float, int]] = []
    answer = peer.handler

    def listen(packet: bytes, source: Endpoint) -> None:
        log.append((world.now, packet[0]))
        if answer is not None:
            answer(packet, source)

    peer.handler = listen
    return log


def targets_asked(peer: Peer, node: Node) -> list[bytes]:
    """Returns the keys for which the node asked this (silent) peer."""
    texts = []
    for _, packet in peer.received:
        if packet[0] == 0x02:
            text = open_sealed(peer.shared(node.key), packet[33:57], packet[57:])
            assert text is not None
            texts.append(text[:32])
    return texts


# Liveness


def test_a_new_node_is_asked_at_once_five_times_quickly_and_then_each_20_and_60_seconds(
    world: World, node: Node
) -> None:
    friend = good_friend(world, "friend")
    log = heard(world, friend)
    introduce(world, friend, node)
    world.run_for(8.0)
    early = [when for when, kind in log if kind == 0x02]
    # For each of three lists (ours, two fake searches): one check and five quick random rounds.
    assert len(early) == 3 * 6
    log.clear()
    world.run_for(120.0)
    later = [when for when, kind in log if kind == 0x02]
    # In two minutes each list: two checks (every 60 s) and six random rounds (every 20 s).
    assert len(later) == pytest.approx(3 * 8, abs=3)


def test_a_silent_node_is_bad_after_122_s_and_killed_after_182_s(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    stays = good_friend(world, "stays")
    introduce(world, stays, node)
    introduce(world, friend, node)
    friend.handler = None
    world.run_for(6.0)  # what was under way is lost
    since = world.now - 6.0
    rows = module_of(node).snapshot_of_table.rows
    assert friend.key in rows
    world.run_for(110.0)
    assert friend.key in rows
    assert world.run_until(lambda: friend.key not in rows, limit=20.0, every=0.1)
    assert 117.0 < world.now - since < 124.0
    friend.received.clear()
    world.run_for(60.0)
    assert len(friend.received) == pytest.approx(3, abs=1)  # one more check for each list
    friend.received.clear()
    world.run_for(300.0)
    assert friend.received == []
    assert stays.key in rows


def test_a_node_that_lost_everybody_keeps_asking(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    answer, friend.handler = friend.handler, None
    world.run_for(1000.0)
    assert module_of(node).snapshot_of_table.rows == {}
    friend.received.clear()
    world.run_for(130.0)
    assert len(friend.received) >= 2
    friend.handler = answer
    assert world.run_until(lambda: module_of(node).snapshot_of_table.rows, limit=70.0)


def test_a_full_table_is_checked_in_portions(world: World, node: Node) -> None:
    keeper = keeper_of(node)
    for bucket in range(8):
        for number in range(8):
            endpoint = public(bucket * 8 + number)
            keeper.close.add(key_at(node.key, bucket, number), endpoint, world.now)
    keeper._check_lists(world.now)
    assert len(keeper.asker.requests) == 33  # 32 checks and a random round


# Candidates


def test_whoever_asks_is_pinged_and_taken_in_when_it_answers(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    (row,) = module_of(node).snapshot_of_table.rows.values() or [None]
    assert row is not None
    assert (row.key, row.endpoint4) == (friend.key, friend.endpoint)


def test_whoever_does_not_answer_the_ping_is_not_taken_in(world: World, node: Node) -> None:
    silent = world.add_peer("silent")
    silent.send(node.endpoint, silent.sealed(0x00, node.key, b"\x00pingping"))
    world.run_for(10.0)
    assert len(keeper_of(node).close) == 0
    assert [packet[0] for _, packet in silent.received] == [0x01, 0x00]


def test_at_most_32_candidates_are_pinged_in_two_seconds(world: World, node: Node) -> None:
    peers = [world.add_peer(f"peer{number}") for number in range(100)]
    for peer in peers:
        peer.send(node.endpoint, peer.sealed(0x00, node.key, b"\x00pingping"))
    world.run_for(1.9)
    assert world.kinds[0x00] - 100 == 32
    world.run_for(20.0)
    assert world.kinds[0x00] - 100 == 32


def test_the_same_stranger_is_not_pinged_for_each_of_its_packets(world: World, node: Node) -> None:
    silent = world.add_peer("silent")
    for _ in range(200):
        silent.send(node.endpoint, silent.sealed(0x00, node.key, b"\x00pingping"))
        world.run_for(0.1)
    assert 2 <= [packet[0] for _, packet in silent.received].count(0x00) <= 4  # in 20 s


def test_no_candidate_for_a_full_bucket(world: World, node: Node) -> None:
    keeper = keeper_of(node)
    stranger = world.add_peer("stranger")
    bucket = next(
        number
        for number in range(128)
        if (stranger.key[number // 8] ^ node.key[number // 8]) >> (7 - number % 8) & 1
    )
    for number in range(8):
        keeper.close.add(key_at(node.key, bucket, number), public(number), world.now)
    keeper._handle_candidate(stranger.key, stranger.endpoint, world.now)
    world.run_for(5.0)
    assert stranger.received == []
    assert node.drops()["dht_candidate_no_room"] == 1


def test_a_known_node_at_a_new_address_is_pinged_there(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    world.run_for(10.0)  # a key that was proposed is proposed again after 5 to 10 s
    moved = good_friend(world, "friend", endpoint=public(77))
    world.remove(friend)
    moved.send(node.endpoint, moved.sealed(0x00, node.key, b"\x00pingping"))
    rows = module_of(node).snapshot_of_table.rows
    assert world.run_until(lambda: rows[friend.key].endpoint4 == public(77), limit=30.0)


# Nodes that others name


def test_named_nodes_are_asked_for_our_own_key(world: World, node: Node) -> None:
    named = world.add_peer("named")
    nodes = b"\x01" + packed(named.key, named.endpoint)
    introduce(world, good_friend(world, "friend", nodes), node)
    world.run_for(3.0)
    assert node.key in targets_asked(named, node)


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("192.168.1.5", 33445, "dht_address_lan"),
        ("127.0.0.1", 33445, "dht_address_lan"),
        ("100.64.0.1", 33445, "dht_address_lan"),
        ("::1", 33445, "dht_address_lan"),
        ("fe80::5", 33445, "dht_address_lan"),
        ("::ffff:127.0.0.1", 33445, "dht_address_lan"),
        ("0.0.0.0", 33445, "dht_address_nowhere"),
        ("224.0.0.1", 33445, "dht_address_nowhere"),
        ("255.255.255.255", 33445, "dht_address_nowhere"),
        ("::", 33445, "dht_address_nowhere"),
        ("ff02::1", 33445, "dht_address_nowhere"),
        ("198.51.100.5", 0, "dht_address_port"),
    ],
)
def test_nobody_outside_makes_us_send_to_such_an_address(
    world: World, node: Node, host: str, port: int, reason: str
) -> None:
    target = from_text(host, port)
    sent: list[Endpoint] = []

    def watch(source: Endpoint, to: Endpoint, packet: bytes) -> bool:
        sent.append(to)
        return True

    world.watch = watch
    nodes = b"\x01" + packed(b"\x07" * 32, target)
    introduce(world, good_friend(world, "friend", nodes), node)
    world.run_for(100.0)
    assert target not in sent
    assert node.drops()[reason] > 0


def test_a_local_node_may_name_local_nodes(world: World, node: Node) -> None:
    named = world.add_peer("named", endpoint=from_text("192.168.1.5", 33445))
    nodes = b"\x01" + packed(named.key, named.endpoint)
    local = good_friend(world, "friend", nodes, endpoint=from_text("192.168.1.6", 33445))
    introduce(world, local, node)
    world.run_for(3.0)
    assert named.received


def test_a_node_without_ipv6_asks_no_ipv6_node(world: World) -> None:
    node = world.add_node("four", options=NodeOptions(lan_discovery=False, has_ipv6=False))
    keeper = keeper_of(node)
    keeper.asker.ask(from_text("2001:db8::5", 1), b"\x07" * 32, bytes(32), world.now)
    assert len(keeper.asker.requests) == 0
    assert node.drops()["dht_address_family"] == 1


def test_an_address_of_a_family_that_we_lack_is_refused() -> None:
    four, six = public(1), from_text("2001:db8::5", 1)
    assert refusal(four, from_lan=False) is refusal(six, from_lan=False) is None
    assert refusal(four, False, has_ipv4=False) == "dht_address_family"
    assert refusal(six, False, has_ipv6=False) == "dht_address_family"


def test_we_learn_our_own_address_from_what_others_say(world: World, node: Node) -> None:
    friend = good_friend(world, "friend", b"\x01" + packed(node.key, node.endpoint))
    introduce(world, friend, node)
    world.run_for(5.0)
    table = module_of(node).snapshot()["table"]
    assert table["own_addresses"] == [["20.0.1.1:33445", 1]]
    assert table["connected_outside"] is True


# Answers to nodes requests: SECURITY S-05, S-16


def answered_with(world: World, node: Node, nodes: bytes) -> Node:
    """Has a friend answer nodes requests with this text; returns the node."""
    friend = good_friend(world, "friend", nodes)
    friend_key = friend.key
    keeper_of(node).asker.ask(friend.endpoint, friend_key, node.key, world.now)
    world.run_for(2.0)
    return node


FOUR = b"".join(packed(bytes((n,)) * 32, public(n)) for n in range(1, 5))
FIVE = FOUR + packed(b"\x09" * 32, public(9))
TCP = b"\x82" + FOUR[1:39]


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (b"\x05" + FOUR, "dht_nodes_count"),
        (b"\x05" + FIVE, "dht_nodes_count"),
        (b"\xff" + FOUR, "dht_nodes_count"),
        (b"\x03" + FOUR, "dht_nodes_body"),
        (b"\x00" + FOUR, "dht_nodes_body"),
        (b"\x04" + FOUR[:-1], "dht_nodes_body"),
        (b"\x04" + FOUR[:-39], "dht_nodes_body"),
        (b"\x01" + TCP, "dht_nodes_body"),
        (b"\x04" + FOUR + bytes(60), "dht_nodes_size"),
    ],
)
def test_a_nodes_answer_of_wrong_count_or_body_is_dropped_whole(
    world: World, node: Node, nodes: bytes, reason: str
) -> None:
    answered_with(world, node, nodes)
    assert node.drops()[reason] == 1
    assert len(keeper_of(node).close) == 0


@pytest.mark.parametrize("nodes", [b"\x00", b"\x04" + FOUR])
def test_a_nodes_answer_is_a_sign_of_life_even_without_nodes(
    world: World, node: Node, nodes: bytes
) -> None:
    answered_with(world, node, nodes)
    assert len(keeper_of(node).close) == 1


def test_nodes_of_both_families_may_stand_in_one_answer(world: World, node: Node) -> None:
    six = from_text("2001:db8::5", 33445)
    answered_with(world, node, b"\x02" + packed(b"\x05" * 32, six) + FOUR[:39])
    assert len(keeper_of(node).close) == 1
    assert not any(reason.startswith("dht_nodes") for reason in node.drops())


def test_answers_that_nobody_asked_for_are_not_even_opened(world: World, node: Node) -> None:
    stranger = world.add_peer("stranger")
    misses = keeper_of(node)._keys.misses
    for number in range(1000):
        text = b"\x00" + number.to_bytes(8, "big")
        stranger.send(node.endpoint, stranger.sealed(0x04, node.key, text))
        stranger.send(node.endpoint, stranger.sealed(0x01, node.key, b"\x01" + text[1:]))
    world.run_for(1.0)
    assert node.drops()["dht_unasked"] == 2000
    assert keeper_of(node)._keys.misses == misses


def test_an_answer_counts_once_and_only_with_its_id_from_its_address(
    world: World, node: Node
) -> None:
    friend = world.add_peer("friend")
    keeper = keeper_of(node)
    keeper.asker.ask(friend.endpoint, friend.key, node.key, world.now)
    keeper.asker.ping(friend.endpoint, friend.key, world.now)
    world.run_for(0.1)
    (question,) = (text for text in friend.opened(0x02))
    good = friend.sealed(0x04, node.key, b"\x00" + question[32:])
    forged = friend.sealed(0x04, node.key, b"\x00" + bytes(8))
    for source, packet, reason in (
        (friend.endpoint, forged, "dht_request_id"),
        (public(99), good, "dht_unasked"),
        (friend.endpoint, friend.sealed(0x01, node.key, b"\x01" + bytes(8)), "dht_request_id"),
        (friend.endpoint, friend.sealed(0x01, node.key, b"\x00" + bytes(8)), "dht_ping_type"),
        (friend.endpoint, friend.sealed(0x01, node.key, b"\x01" + bytes(9)), "dht_ping_size"),
        (friend.endpoint, good[:-1] + bytes((good[-1] ^ 1,)), "dht_box"),
    ):
        before = node.drops()[reason]
        module_of(node).handle_packet(packet, source, world.now)
        assert node.drops()[reason] == before + 1
        assert len(keeper.close) == 0
    module_of(node).handle_packet(good, friend.endpoint, world.now)
    assert len(keeper.close) == 1
    module_of(node).handle_packet(good, friend.endpoint, world.now)
    assert node.drops()["dht_unasked"] == 2


def test_nothing_is_asked_of_ourselves(world: World, node: Node) -> None:
    keeper = keeper_of(node)
    keeper.asker.ask(public(5), node.key, node.key, world.now)
    keeper.asker.ping(public(5), node.key, world.now)
    keeper._handle_candidate(node.key, public(5), world.now)
    assert world.kinds[0x00] + world.kinds[0x02] == 0
    assert node.drops()["dht_own_key"] == 3


# Announce probes


def test_a_new_close_node_is_probed_and_marked_when_it_answers(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    answer = friend.handler
    assert answer is not None

    def announcing(packet: bytes, source: Endpoint) -> None:
        if packet[0] == 0x93:
            (text,) = friend.opened(0x93)
            assert len(packet) == 113
            assert len(text) == 40
            plain = text[:32] + b"\x00" + bytes(32) + b"\x01\x00" + text[32:]
            friend.send(source, friend.sealed(0x94, node.key, plain))
        else:
            answer(packet, source)

    friend.handler = announcing
    introduce(world, friend, node)
    world.run_for(1.0)
    snapshot = module_of(node).snapshot_of_table
    assert snapshot.rows[friend.key].announces
    assert snapshot.closest_packed(bytes(32), to_lan=False, only_announcers=True)[0] == 1


def test_a_search_answer_that_was_not_asked_for_marks_nobody(world: World, node: Node) -> None:
    friend = good_friend(world, "friend")
    introduce(world, friend, node)
    friend.send(node.endpoint, friend.sealed(0x94, node.key, bytes(32) + b"\x00" * 10))
    friend.send(node.endpoint, friend.sealed(0x94, node.key, bytes(20)))
    other = world.add_peer("other")
    other.send(node.endpoint, other.sealed(0x94, node.key, bytes(75)))
    world.run_for(1.0)
    drops = node.drops()
    assert (drops["dht_request_id"], drops["dht_search_size"], drops["dht_unasked"]) == (1, 1, 1)
    assert not module_of(node).snapshot_of_table.rows[friend.key].announces


def test_the_operator_sees_counts(world: World, node: Node) -> None:
    introduce(world, good_friend(world, "friend"), node)
    world.run_for(1.0)
    state = module_of(node).snapshot()
    assert (state["nodes_known"], state["pings_answered"]) == (1, 1)
    assert sum(state["table"]["buckets"].values()) == state["table"]["close_nodes"] == 1
