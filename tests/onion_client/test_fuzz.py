"""Whatever bytes come, the client counts them, keeps its bounds, and goes on."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from core.onion_client.path_nodes import MAX_PATH_NODES, REMEMBERED
from core.onion_client.pending import CAPACITY, PER_SEARCH
from tests.onion_client.hand import Hand, make_node, pair

FRIEND = pair("friend")
SOURCE = make_node(1).info.endpoint


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([0x84, 0x86, 0x88, 0x9C, 0x00]), st.binary(max_size=1400))
def test_random_bytes_are_counted_and_nothing_else(kind: int, data: bytes) -> None:
    hand = Hand(3)
    packet = bytes((kind,)) + data
    hand.client.handle_packet(packet, SOURCE, hand.now)
    hand.client.handle_relay(make_node(2).info.key, packet, hand.now)
    hand.client.dht_key_heard(make_node(3).info.key, packet, hand.now)
    assert sum(hand.drops.values()) == 3
    assert (hand.found, hand.heard, hand.sent) == ([], [], [])


def test_real_packets_with_any_bit_turned_change_nothing_or_are_refused() -> None:
    chance = random.Random(1)
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    requests = hand.go(0.5, serve=False)
    packets = [hand.answer_bytes(requests[0]), hand.dht_key(FRIEND, 5, make_node(9).info.key)]
    for packet in packets:
        for _ in range(200):
            turned = bytearray(packet)
            place = chance.randrange(8, len(packet)) * 8 + chance.randrange(8)
            turned[place // 8] ^= 1 << place % 8
            if packet[0] == 0x84 and place // 8 < 9:
                continue  # another id
            if packet[0] == 0x86 and place == 56 * 8 + 7:
                continue  # RFC 7748, section 5: the top bit of a key is ignored
            hand.now += 0.05
            hand.client.handle_packet(
                bytes(turned), hand.client._asker.for_self.firsts[-1], hand.now
            )
    assert hand.found == []
    assert hand.client.search_status(FRIEND.public, hand.now) is not None


def test_a_hostile_network_of_many_keys_fills_nothing() -> None:
    """Every node is the attacker's, knows everything, names four new nodes each time."""
    hand = Hand(6)
    hand.client.add_friend(FRIEND.public, hand.now)
    number = 5000
    for _ in range(120):
        for request in hand.go(0.5, serve=False):
            named = [hand.add_node(number + one) for one in range(4)]
            number += 4
            own = request.requester == hand.real.public
            stored = 2 if own and request.body.ping_id != bytes(32) else int(not own)
            hand.answer(request, stored, pair("data").public, tuple(one.info for one in named))
    status = hand.client.status(hand.now)
    assert status.live <= 12
    assert status.path_nodes == 32
    assert status.pending <= CAPACITY + PER_SEARCH
    assert len(hand.client._asker.path_nodes._failures) <= REMEMBERED * MAX_PATH_NODES
    assert number - 5000 < 4 * 60 * 40  # it did not have us ask without end
