"""What we build are the reference's bytes, and what the reference built is taken by us."""

from collections import Counter
from typing import Any

import pytest

from core.crypto import KeyPair, Nonce, PublicKey, SecretKey, SharedKey, precompute
from core.endpoint import Endpoint, from_text
from core.onion_client.announcing import OwnAnnounce
from core.onion_client.asker import Asker
from core.onion_client.letters import Letters
from core.onion_client.paths import Path
from core.onion_client.pending import Asked
from core.onion_client.searching import FriendSearch
from core.packets.nodes import NodeInfo
from tests.onion_client.hand import Hand, make_node, pair
from tests.packets.vectors import load
from tests.simulation.chance import StreamedEntropy

VECTORS = {vector["name"]: vector for vector in load()}
NOW = 1000.0


def key(row: dict[str, Any]) -> SharedKey:
    """Returns the combined key of a vector's box."""
    shared = precompute(SecretKey(bytes.fromhex(row["secret"])), bytes.fromhex(row["public"]))
    assert shared is not None
    return shared


def raw(vector: dict[str, Any], name: str) -> bytes:
    """Returns a field of bytes."""
    return bytes.fromhex(vector["fields"][name])


def at(text: str) -> Endpoint:
    """Returns an address of a vector."""
    host, _, port = text.rpartition(":")
    return from_text(host.strip("[]"), int(port))


def public(vector: dict[str, Any], name: str) -> PublicKey:
    """Returns a field that is a key."""
    return PublicKey(raw(vector, name))


class Planned(StreamedEntropy):
    """Chance, but for sendbacks and nonces, which a vector laid down."""

    def __init__(self, sendback: bytes, *nonces: bytes) -> None:
        super().__init__("planned")
        self._planned = {8: [sendback], 24: list(nonces)}

    def bytes(self, size: int) -> bytes:
        waiting = self._planned.get(size)
        return waiting.pop(0) if waiting else super().bytes(size)


@pytest.mark.parametrize("name", ["OnionRequest0", "OnionRequest0 (IPv6)"])
def test_the_layers_of_a_path_are_those_of_libtoxcore(name: str) -> None:
    outer = VECTORS[name]
    first = outer["body"]
    second = first["body"]
    last = second["body"]["fields"]
    hops = (
        make_node(1).info,
        NodeInfo(PublicKey(bytes(32)), at(first["fields"]["next_hop"])),
        NodeInfo(PublicKey(bytes(32)), at(second["fields"]["next_hop"])),
    )
    keys = key(outer["keys"]), key(first["keys"]), key(second["keys"])
    path = Path(0, hops, keys, (public(first, "sender"), public(second, "sender")), NOW)
    payload = bytes.fromhex(last["payload"])
    made = path.wrap(public(outer, "sender"), raw(outer, "nonce"), at(last["destination"]), payload)
    assert made.hex() == outer["hex"]


def test_what_a_relay_gets_is_what_libtoxcore_gives_it() -> None:
    vector = VECTORS["RelayOnionRequest"]
    second = vector["body"]
    last = second["body"]["fields"]
    hops = (
        make_node(1).info._replace(tcp=True),
        NodeInfo(PublicKey(bytes(32)), at(vector["fields"]["next_hop"])),
        NodeInfo(PublicKey(bytes(32)), at(second["fields"]["next_hop"])),
    )
    keys = None, key(vector["keys"]), key(second["keys"])
    path = Path(0, hops, keys, (public(vector, "sender"), public(second, "sender")), NOW)
    payload = bytes.fromhex(last["payload"])
    made = path.wrap(pair("dht").public, raw(vector, "nonce"), at(last["destination"]), payload)
    assert made.hex() == vector["hex"]


def test_an_announce_request_is_libtoxcore_s() -> None:
    vector = VECTORS["AnnounceRequest"]
    body = vector["body"]["fields"]
    requester = KeyPair(public(vector, "requester"), pair("any").secret)
    hand = Hand()
    entropy = Planned(bytes.fromhex(body["sendback"]), raw(vector, "nonce"))
    asker = Asker(hand.dht, entropy, hand, Counter())
    data_key = PublicKey(bytes.fromhex(body["data_key"]))
    lookup = OwnAnnounce(requester, data_key, asker)
    node = hand.nodes[0].info
    ping_id = bytes.fromhex(body["ping_id"])
    assert asker.ask(lookup, node, NOW, key(vector["keys"]), ping_id)
    ((where, packet),) = hand.sent
    _, destination, payload = hand.peel(where, packet)
    assert destination == node.endpoint
    assert payload.hex() == vector["hex"][: -2 * 177]


@pytest.mark.parametrize(
    "name",
    [
        "AnnounceResponse (not stored)",
        "AnnounceResponse (stored by another)",
        "AnnounceResponse (stored by the sender)",
        "AnnounceResponse (IPv6)",
    ],
)
def test_every_answer_of_the_reference_is_taken(name: str) -> None:
    vector = VECTORS[name]
    body = vector["body"]["fields"]
    hand = Hand()
    friend = pair("friend").public
    hand.client.add_friend(friend, NOW)
    own = hand.client._announce
    lookup = hand.client._searches[friend] if body["is_stored"] == 1 else own
    path = lookup.pool.pick(None, NOW)
    assert path is not None
    node = make_node(77, "127.0.0.1").info  # as a node of the network in which it was made
    asked = Asked(lookup, node, key(vector["keys"]), path, NOW)
    pending = hand.client._asker.pending
    pending._waiting[raw(vector, "sendback")] = asked
    hand.client.handle_packet(bytes.fromhex(vector["hex"]), path.hops[0].endpoint, NOW)
    assert not hand.drops
    entry = lookup.nodes.find(node.key)
    assert entry is not None
    assert (entry.is_stored, entry.key.hex()) == (body["is_stored"], body["key"])
    named = {bytes.fromhex(info["key"]) for info in body["nodes"]}
    waiting = {row.node.key for row in pending._waiting.values()}
    assert waiting == named  # the nodes that it named are asked


@pytest.mark.parametrize(
    "name",
    [
        "DataToRouteRequest (with FriendRequest)",
        "DataToRouteRequest (with DhtKeyPacket)",
        "DataToRouteResponse",
    ],
)
def test_letters_of_the_reference_are_opened(name: str) -> None:
    vector = VECTORS[name]
    inner = vector["body"]
    packet = bytes.fromhex(vector["hex"])
    if packet[0] == 0x85:  # what the store makes of it
        packet = b"\x86" + packet[33:-177]
    data = KeyPair.from_secret(bytes.fromhex(vector["keys"]["secret"]))
    real = KeyPair.from_secret(bytes.fromhex(inner["keys"]["secret"]))
    letters = Letters(real, data, StreamedEntropy("letters"))
    letter = letters.open(packet, True, {}, NOW)
    assert letter.sender == public(inner, "real_key")
    assert letter.data.hex() == inner["body"]["hex"]


def test_a_letter_of_ours_is_the_reference_s_but_for_its_temporary_key() -> None:
    """The one secret of libtoxcore's letter that no vector has: so the inner box is compared."""
    vector = VECTORS["DataToRouteRequest (with FriendRequest)"]
    inner = vector["body"]
    hand = Hand()
    hand.connect()
    nonce = raw(vector, "nonce")
    asker = hand.client._asker
    search = FriendSearch(public(vector, "destination"), hand.real, pair("temporary"), asker)
    search._letters = key(inner["keys"])
    data_key = KeyPair.from_secret(bytes.fromhex(vector["keys"]["secret"]))
    path = search.pool.pick(None, NOW)
    assert path is not None
    node = hand.nodes[0].info
    search.take_answer(node, SharedKey(bytes(32)), 1, data_key.public, path, NOW)
    real = KeyPair(public(inner, "real_key"), pair("any").secret)
    entropy = Planned(bytes(8), nonce)
    hand.sent.clear()
    text = bytes.fromhex(inner["body"]["hex"])
    assert Letters(real, pair("data"), entropy).send(search, text, asker, NOW) == 1
    (written,) = hand.letters()
    assert written.request.destination == public(vector, "destination")
    assert written.request.nonce == Nonce(nonce)
    assert len(written.request.payload()) == len(vector["hex"]) // 2 - 177
    temporary = written.request.temporary_key
    opened = Letters(
        KeyPair.from_secret(bytes.fromhex(inner["keys"]["secret"])), data_key, entropy
    ).open(b"\x86" + nonce + temporary + written.request.sealed, True, {}, NOW)
    assert opened == (real.public, text)


def test_a_dht_key_in_a_dht_request_of_the_reference_is_heard() -> None:
    vector = VECTORS["DhtRequest (DHT key)"]
    request = vector["body"]
    hand = Hand()
    friend = PublicKey(bytes.fromhex(request["fields"]["real_key"]))
    hand.client.add_friend(friend, NOW)
    hand.client._searches[friend]._letters = key(request["keys"])
    plain = bytes.fromhex(request["hex"])
    hand.client.dht_key_heard(public(vector, "sender"), plain, NOW)
    ((real_key, dht_key, nodes),) = hand.found
    assert (real_key, dht_key) == (friend, public(vector, "sender"))
    assert [node.key.hex() for node in nodes] == [
        node["key"] for node in request["body"]["fields"]["nodes"]
    ]
