"""What liars, strangers and junk can do to an onion client: nothing, and each is counted."""

import pytest

from core.crypto import KeyPair, Nonce, PublicKey
from core.endpoint import from_text
from core.onion_client import OnionClient
from core.onion_client.letters import KNOWN_BURST, OTHER_BURST, STRANGER_BURST
from core.packets.announce import DataToRouteResponse
from core.packets.dht import DhtKeyPacket, DhtKeyRequestBody
from core.packets.nodes import NodeInfo
from tests.onion_client.hand import Hand, make_node, pair, shared

FRIEND = pair("friend")
FRIEND_DHT = pair("friend's dht").public
ELSEWHERE = from_text("198.51.100.9", 4000)


def with_friend() -> Hand:
    """Returns a connected client with a friend."""
    hand = Hand()
    hand.connect()
    hand.client.add_friend(FRIEND.public, hand.now)
    return hand


def by_request(sender: KeyPair, packet: DhtKeyPacket, hand: Hand, number: int = 1) -> bytes:
    """Returns the inside of a DHT request with a DHT key packet."""
    nonce = Nonce(number.to_bytes(24, "big"))
    sealed = packet.seal(shared(sender, hand.real.public), nonce)
    return DhtKeyRequestBody(sender.public, nonce, sealed).encode()


@pytest.mark.parametrize("packet", [b"", b"\x88" + bytes(100), b"\x83" * 177, b"\x1b" + bytes(9)])
def test_other_kinds_and_nothing_at_all_are_counted(packet: bytes) -> None:
    hand = Hand()
    hand.client.handle_packet(packet, ELSEWHERE, hand.now)
    assert hand.drops == {"onion_client_kind": 1}


@pytest.mark.parametrize("size", [1, 81, 287, 1400])
def test_an_answer_of_a_wrong_size_is_no_packet(size: int) -> None:
    hand = Hand()
    hand.client.handle_packet(b"\x84" + bytes(size - 1), ELSEWHERE, hand.now)
    assert hand.drops == {"wire:AnnounceResponse": 1}


def test_an_answer_counts_once_and_only_if_it_was_asked_for() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    hand.client.handle_packet(hand.answer_bytes(request, sendback=b"made up!"), ELSEWHERE, hand.now)
    assert hand.drops == {"onion_client_unasked": 1}
    hand.answer(request)
    assert hand.client.status(hand.now).live == 1
    hand.answer(request)
    assert hand.drops == {"onion_client_unasked": 2}


def test_an_answer_after_ten_seconds_is_too_late() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    packet = hand.answer_bytes(request)
    hand.now += 10
    hand.client.handle_packet(packet, request.hops[0], hand.now)
    assert hand.drops == {"onion_client_unasked": 1}


def test_junk_under_an_id_that_was_seen_on_its_way_does_not_spend_it() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    good = hand.answer_bytes(request)
    hand.client.handle_packet(good[:-1] + bytes((good[-1] ^ 1,)), ELSEWHERE, hand.now)
    assert hand.drops == {"wire:AnnounceResponseBody": 1}
    other = request._replace(node=make_node(7777))
    hand.client.handle_packet(hand.answer_bytes(other), ELSEWHERE, hand.now)
    assert hand.drops == {"wire:AnnounceResponseBody": 2}
    hand.answer(request)
    assert hand.client.status(hand.now).live == 1


def test_a_node_that_says_another_announced_our_key_is_not_believed() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    hand.answer(request, 1, b"another's data key".ljust(32))
    assert hand.drops == {"onion_client_not_ours": 1}
    assert hand.client.status(hand.now).live == 0
    again = [one for one in hand.go(9, serve=False) if one.node == request.node][-1]
    hand.answer(again, 1, hand.data_key)  # but with our own data key we are announced there
    assert hand.client.status(hand.now)[1:3] == (1, 1)


def test_a_node_that_says_we_announced_our_friend_is_not_believed() -> None:
    hand = with_friend()
    request = hand.go(0.5, serve=False)[0]
    assert request.requester not in (hand.real.public, hand.dht.public)
    hand.answer(request, 2)
    assert hand.drops == {"onion_client_not_ours": 1}


def test_a_data_key_of_low_order_is_refused() -> None:
    hand = with_friend()
    request = hand.go(0.5, serve=False)[0]
    hand.answer(request, 1, bytes(32))
    assert hand.drops == {"onion_client_weak_key": 1}
    status = hand.client.search_status(FRIEND.public, hand.now)
    assert status is not None
    assert status.storing == 0


def test_a_node_outside_may_not_name_addresses_inside_or_nowhere() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    key = make_node(500).info.key
    hosts = ("192.168.1.5", "127.0.0.1", "0.0.0.0", "224.0.0.1")
    hand.answer(request, nodes=tuple(NodeInfo(key, from_text(host, 33445)) for host in hosts))
    assert hand.drops == {"onion_client_address": 4}
    assert hand.take() == []
    other = hand.go(0.5, serve=False)[0]
    hand.answer(other, nodes=(NodeInfo(key, from_text("20.9.9.9", 0)),))
    assert hand.drops == {"onion_client_address": 5}


def test_a_node_of_a_local_network_may_name_its_neighbours() -> None:
    hand = Hand(0)
    hand.client.add_bootstrap(*reversed(hand.add_node(1, "192.168.1.1").info[:2]))
    neighbour = hand.add_node(2, "192.168.1.2")
    request = hand.go(0.5, serve=False)[0]
    hand.answer(request, nodes=(neighbour.info,))
    assert [one.node for one in hand.take()] == [neighbour]


def test_nodes_that_name_ever_nearer_ones_have_us_ask_a_few_in_a_second_and_no_more() -> None:
    hand = Hand()
    number = 1000
    asked = 0
    waiting = hand.go(0.5, serve=False)
    for _ in range(40):
        following = []
        for request in waiting:
            named = [hand.add_node(number + one) for one in range(4)]
            number += 4
            hand.answer(request, nodes=tuple(node.info for node in named))
            following += hand.take()
        asked += len(following)
        waiting = following[:8]
    assert hand.drops["onion_client_named_full"] > 0
    assert asked <= 64


def test_our_own_node_is_not_asked_when_it_is_named() -> None:
    hand = Hand()
    request = hand.go(0.5, serve=False)[0]
    hand.answer(request, nodes=(NodeInfo(hand.dht.public, ELSEWHERE),))
    assert hand.take() == []


def test_an_answer_about_somebody_who_is_no_friend_any_more_is_not_kept() -> None:
    hand = with_friend()
    request = hand.go(0.5, serve=False)[0]
    hand.client.remove_friend(FRIEND.public, hand.now)
    hand.answer(request, 1, pair("data").public)
    assert hand.drops == {"onion_client_unasked": 1}
    assert hand.client.status(hand.now).searches == 0


# Letters


def test_a_letter_for_another_data_key_or_no_letter_at_all_is_counted() -> None:
    hand = with_friend()
    hand.hear(hand.letter(FRIEND, b"\x20nosphello", data_key=pair("another").public))
    assert hand.drops == {"wire:DataToRouteBody": 1}
    hand.hear(b"\x86" + bytes(60))
    assert hand.drops["wire:DataToRouteResponse"] == 1
    hand.hear(b"\x86" + bytes(1300))
    assert hand.drops["wire:DataToRouteResponse"] == 2
    zero = DataToRouteResponse(Nonce(bytes(24)), PublicKey(bytes(32)), bytes(200)).encode()
    hand.hear(zero)
    assert hand.drops["onion_client_weak_key"] == 1


def test_nobody_writes_in_another_s_name() -> None:
    hand = with_friend()
    packet = hand.letter(FRIEND, b"\x20nosphello")
    assert packet
    eve = pair("eve")
    forged = hand.letter(eve._replace(public=FRIEND.public), b"\x20nosphello")
    hand.hear(forged)
    assert hand.drops == {"onion_client_forged": 1}
    assert hand.heard == []
    hand.hear(packet)
    assert hand.heard == [(FRIEND.public, b"\x20nosphello")]


def test_a_letter_in_the_name_of_a_key_of_low_order_is_refused() -> None:
    hand = with_friend()
    nobody = pair("eve")._replace(public=PublicKey(bytes(32)))
    hand.hear(hand.letter(nobody, b"\x20nosphello"))
    assert hand.drops == {"onion_client_weak_key": 1}


def test_strangers_are_heard_a_few_in_a_second_and_friends_all_the_same() -> None:
    hand = with_friend()
    for number in range(STRANGER_BURST + 10):
        hand.hear(hand.letter(pair(f"stranger {number}"), b"\x20nosphello", number=number))
    assert len(hand.heard) == STRANGER_BURST
    assert hand.drops == {"onion_client_strangers_full": 10}
    hand.hear(hand.letter(FRIEND, b"\x20nosphello"))
    assert hand.heard[-1][0] == FRIEND.public
    hand.now += 1
    hand.hear(hand.letter(pair("one more"), b"\x20nosphello"))
    assert hand.heard[-1][0] == pair("one more").public


def test_whoever_knows_our_address_alone_cannot_use_up_what_comes_by_our_paths() -> None:
    hand = with_friend()
    junk = DataToRouteResponse(Nonce(bytes(24)), pair("junk").public, bytes(200)).encode()
    for _ in range(OTHER_BURST + 10_000):
        hand.hear(junk, ELSEWHERE)
    assert hand.drops["onion_client_letters_astray"] == 10_000
    hand.hear(hand.letter(FRIEND, b"\x20nosphello"))
    assert hand.heard == [(FRIEND.public, b"\x20nosphello")]


def test_letters_by_our_own_paths_have_a_limit_too() -> None:
    hand = with_friend()
    junk = DataToRouteResponse(Nonce(bytes(24)), pair("junk").public, bytes(200)).encode()
    for _ in range(KNOWN_BURST + 5):
        hand.hear(junk)
    assert hand.drops["onion_client_letters_full"] == 5
    hand.now += 1
    hand.hear(hand.letter(FRIEND, b"\x20nosphello"))
    assert hand.heard == [(FRIEND.public, b"\x20nosphello")]


# DHT keys


def test_a_friend_s_dht_key_counts_once_and_never_an_older_one() -> None:
    hand = with_friend()
    node = make_node(3).info
    relay = NodeInfo(make_node(4).info.key, make_node(4).info.endpoint, True)
    packet = hand.dht_key(FRIEND, 50, FRIEND_DHT, (relay, node))
    hand.hear(packet)
    assert hand.found == [(FRIEND.public, FRIEND_DHT, (relay, node))]
    hand.hear(packet)
    assert hand.drops == {"onion_client_copy": 1}
    hand.hear(hand.dht_key(FRIEND, 49, pair("older").public))
    assert hand.drops["onion_client_replay"] == 1
    hand.hear(hand.dht_key(FRIEND, 51, pair("newer").public))
    assert [dht for _, dht, _ in hand.found] == [FRIEND_DHT, pair("newer").public]
    status = hand.client.search_status(FRIEND.public, hand.now)
    assert status is not None
    assert status.dht_key == pair("newer").public


def test_after_a_session_a_friend_with_a_clock_set_back_is_heard_again() -> None:
    hand = with_friend()
    hand.hear(hand.dht_key(FRIEND, 50, FRIEND_DHT))
    hand.client.set_online(FRIEND.public, True, hand.now)
    hand.client.set_online(FRIEND.public, False, hand.now)
    hand.hear(hand.dht_key(FRIEND, 7, pair("newer").public))
    assert len(hand.found) == 2


def test_a_stranger_s_dht_key_is_not_told() -> None:
    hand = with_friend()
    eve = pair("eve")
    hand.hear(hand.dht_key(eve, 1, pair("eve's dht").public))
    assert hand.drops == {"onion_client_stranger": 1}
    packet = DhtKeyPacket(1, pair("eve's dht").public, ())
    hand.client.dht_key_heard(packet.dht_key, by_request(eve, packet, hand), hand.now)
    assert hand.drops == {"onion_client_stranger": 2}
    assert hand.found == []


def test_a_dht_key_packet_that_is_none_is_counted() -> None:
    hand = with_friend()
    hand.hear(hand.letter(FRIEND, b"\x9c" + bytes(39)))
    hand.hear(hand.letter(FRIEND, b"\x9c" + bytes(8) + FRIEND_DHT + b"\x05" + bytes(38)))
    assert hand.drops == {"wire:DhtKeyPacket": 1, "wire:packed nodes": 1} or hand.found == []
    hand.client.dht_key_heard(FRIEND_DHT, b"\x9c" + bytes(20), hand.now)
    assert hand.drops["wire:DhtKeyRequestBody"] == 1


def test_our_own_letter_sent_back_to_us_tells_nothing() -> None:
    hand = with_friend()
    hand.hear(hand.dht_key(FRIEND, 50, hand.dht.public))
    assert hand.drops == {"onion_client_other_key": 1}
    assert hand.found == []


def test_a_dht_request_has_to_come_from_the_key_that_it_names() -> None:
    hand = with_friend()
    packet = DhtKeyPacket(9, FRIEND_DHT, ())
    plain = by_request(FRIEND, packet, hand)
    hand.client.dht_key_heard(pair("eve's dht").public, plain, hand.now)
    assert hand.drops == {"onion_client_other_key": 1}
    hand.client.dht_key_heard(FRIEND_DHT, plain[:-1] + bytes((plain[-1] ^ 1,)), hand.now)
    assert hand.drops["onion_client_forged"] == 1
    hand.client.dht_key_heard(FRIEND_DHT, plain, hand.now)
    assert hand.found == [(FRIEND.public, FRIEND_DHT, ())]


def test_a_relay_that_takes_nothing_is_counted_and_not_tried_without_end() -> None:
    hand = Hand(udp=False)
    relay = make_node(800).info
    hand.relays = [NodeInfo(relay.key, relay.endpoint, True)]
    hand.relay_takes = False
    hand.go(60)
    assert 1 <= hand.drops["onion_client_relay_refused"] <= 60


def test_no_secret_is_in_any_repr() -> None:
    hand = with_friend()
    hand.go(0.5, serve=False)
    secrets = (hand.real.secret.reveal().hex(), str(hand.real.secret.reveal()))
    shown = repr(hand.client) + repr(vars(OnionClient))
    for name in ("_asker", "_letters", "_announce", "_connection"):
        shown += repr(getattr(hand.client, name))
    for asked in hand.client._asker.pending._waiting.values():
        shown += repr(asked)
        assert repr(asked.shared) not in shown
    assert not any(secret in shown for secret in secrets)
