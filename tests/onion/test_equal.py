"""The raw onion handlers take exactly what the declared packets take.

Three things are meant to differ, and stand in `canonical`, `allowed` and `announced` below: hops
read an address as the reference does (bytes behind an IPv4 address do not matter, one mapped into
IPv6 is IPv4) and write it the strict way; what a packet may lead to has rules of its own (targets,
kinds of payloads); a group announce needs an address or a relay, may be absent as a whole, and may
have bytes behind it, which go no further.
"""

import random
from collections import Counter

import pytest

from core import crypto
from core.crypto import KeyPair, SharedKey
from core.endpoint import from_text, pack_ip_port, udp6, unpack_ip_port
from core.entropy import SeededEntropy
from core.module import NodeOptions
from core.onion.hops import REQUEST_PAYLOADS, RESPONSE_PAYLOADS
from core.onion.targets import Targets
from core.packets.announce import (
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
    DataToRouteRequest,
    DataToRouteResponse,
    GroupAnnounce,
    GroupAnnounceRequest,
    GroupAnnounceRequestBody,
    GroupAnnounceResponse,
    GroupAnnounceResponseBody,
)
from core.packets.data import (
    DataSearchRequest,
    DataSearchRequestBody,
    DataSearchResponse,
    DataSearchResponseBody,
)
from core.packets.onion import (
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1,
    OnionRequest1Body,
    OnionRequest2,
    OnionRequest2Body,
    OnionResponse1,
    OnionResponse2,
    OnionResponse3,
)
from core.wire import Body, WireError
from tests.fuzz.mutate import mutate
from tests.onion.node import START, Node
from tests.packets.samples import Dice, sample

SOURCE = from_text("192.168.1.7", 33445)  # a private one: it may name private targets
COUNT = 2000
Answers = list[bytes]


class Asked:
    """A node of one shard, and wrong packets for it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.dice = Dice(self.chance)
        self.node = Node("equal", from_text("203.0.113.1", 33445))
        entropy = SeededEntropy(f"equal {seed}")
        self.peers = [KeyPair.generate(entropy) for _ in range(4)]
        self.targets = Targets(NodeOptions(lan_discovery=False), Counter())
        self.returns = self.node.shards[0].hops.returns

    def shared(self, sender: bytes) -> SharedKey | None:
        """Combines the node's own key with a sender's."""
        return crypto.precompute(self.node.keys.secret, sender)

    def boxed(self, kind: int, plain: bytes, tail: bytes) -> bytes:
        """Returns kind, nonce, key, box and tail."""
        peer = self.chance.choice(self.peers)
        nonce = self.chance.randbytes(24)
        shared = self.shared(peer.public)
        assert shared is not None
        return bytes((kind,)) + nonce + peer.public + crypto.seal(shared, nonce, plain) + tail

    def body(self, cls: type[Body], room: int) -> bytes:
        """Makes what stands in a box of at most `room` bytes: right, or wrong in some way."""
        plain = sample(cls, self.dice).encode()
        if len(plain) > room and self.chance.random() < 0.9:
            plain = plain[:room]
        return mutate(plain, self.chance) if self.chance.random() < 0.3 else plain

    def outside(self, packet: bytes) -> bytes:
        """Perhaps makes the packet wrong outside of its box."""
        if self.chance.random() < 0.3:
            return packet[:1] + mutate(packet[1:], self.chance)
        return packet

    def sent(self, packet: bytes) -> Answers:
        """What the node sends on."""
        return [each for _, each in self.node.handle(packet, SOURCE, START)]

    def opened(self, cls: type[Body], nonce: bytes, sender: bytes, sealed: bytes) -> bytes:
        """Opens a box as the declared packet names it; WireError if it does not open."""
        shared = self.shared(sender)
        plain = None if shared is None else crypto.open_sealed(shared, nonce, sealed)
        if plain is None:
            raise WireError(cls.__name__, "does not open")
        return plain

    def allowed(self, packed: bytes) -> bool:
        """Tells whether this source may make the node send there."""
        target = unpack_ip_port(packed)
        return target is not None and self.targets.refusal(target, True) is None


def canonical(plain: bytes) -> bytes:
    """Writes the address at the start of a layer the strict way, where it is a UDP address."""
    target = unpack_ip_port(plain) if len(plain) >= 19 else None
    return plain if target is None else pack_ip_port(target) + plain[19:]


def next_layer(asked: Asked, packet: bytes) -> bytes | None:
    """What a hop sends on by the declared packets, without the return that it adds."""
    if packet[0] == 0x80:
        first = OnionRequest0.decode(packet)
        plain = asked.opened(OnionRequest0Body, first.nonce, first.sender, first.sealed)
        body0 = OnionRequest0Body.decode(canonical(plain))
        inner = OnionRequest1(first.nonce, body0.sender, body0.sealed, bytes(59)).encode()[:-59]
        return inner if asked.allowed(plain) else None
    if packet[0] == 0x81:
        second = OnionRequest1.decode(packet)
        plain = asked.opened(OnionRequest1Body, second.nonce, second.sender, second.sealed)
        body1 = OnionRequest1Body.decode(canonical(plain))
        inner = OnionRequest2(second.nonce, body1.sender, body1.sealed, bytes(118)).encode()
        return inner[:-118] if asked.allowed(plain) else None
    third = OnionRequest2.decode(packet)
    plain = asked.opened(OnionRequest2Body, third.nonce, third.sender, third.sealed)
    payload = OnionRequest2Body.decode(canonical(plain)).payload
    return payload if asked.allowed(plain) and payload[0] in REQUEST_PAYLOADS else None


@pytest.mark.parametrize(
    ("kind", "cls", "tail", "adds"),
    [
        (0x80, OnionRequest0Body, 0, 59),
        (0x81, OnionRequest1Body, 59, 118),
        (0x82, OnionRequest2Body, 118, 177),
    ],
)
def test_a_hop_sends_on_what_the_declared_layers_hold(
    kind: int, cls: type[Body], tail: int, adds: int
) -> None:
    asked = Asked(kind)
    chance = asked.chance
    taken = 0
    for number in range(COUNT):
        plain = asked.body(cls, 1400 - 73 - tail)
        if number % 20 == 0:
            plain = plain[:9] + chance.randbytes(1) + plain[10:]  # behind an IPv4 address
        elif number % 20 == 1:
            mapped = b"\x0a" + bytes(10) + b"\xff\xff" + chance.randbytes(6)
            plain = mapped + plain[19:]
        if kind == 0x82 and len(plain) > 19 and chance.random() < 0.9:
            plain = plain[:19] + bytes((chance.choice(tuple(REQUEST_PAYLOADS)),)) + plain[20:]
        packet = asked.outside(asked.boxed(kind, plain, chance.randbytes(tail)))
        try:
            expected = next_layer(asked, packet)
        except WireError:
            expected = None
        sent = asked.sent(packet)
        assert len(sent) == (expected is not None), packet.hex()
        if expected is not None:
            taken += 1
            assert sent[0][:-adds] == expected
            assert len(sent[0]) == len(expected) + adds
    assert COUNT / 10 < taken < COUNT * 0.9


def peeled(asked: Asked, packet: bytes) -> bytes | None:
    """What a hop of the way back sends on by the declared packets."""
    answer: OnionResponse3 | OnionResponse2 | OnionResponse1
    if packet[0] == 0x8C:
        answer = OnionResponse3.decode(packet)
    elif packet[0] == 0x8D:
        answer = OnionResponse2.decode(packet)
    else:
        answer = OnionResponse1.decode(packet)
    way = answer.onion_return
    plain = asked.returns.open(way[:24], way[24:], START)
    if plain is None or unpack_ip_port(plain) is None:
        return None
    if answer.payload[0] not in RESPONSE_PAYLOADS:
        return None
    if packet[0] == 0x8C:
        return OnionResponse2(plain[19:], answer.payload).encode()
    if packet[0] == 0x8D:
        return OnionResponse1(plain[19:], answer.payload).encode()
    return answer.payload


@pytest.mark.parametrize(("kind", "inner"), [(0x8C, 118), (0x8D, 59), (0x8E, 0)])
def test_a_way_back_is_peeled_as_the_declared_packets_say(kind: int, inner: int) -> None:
    asked = Asked(kind)
    chance = asked.chance
    taken = 0
    for _ in range(COUNT):
        home = from_text("192.0.2.9", 4) if chance.random() < 0.5 else udp6(b"\x20" + bytes(15), 4)
        nonce = chance.randbytes(24)
        plain = pack_ip_port(home) + chance.randbytes(inner)
        sealed = crypto.seal(asked.returns.current(START), nonce, plain)
        first = bytes((chance.choice((*RESPONSE_PAYLOADS, 0x83)),))
        most = 1400 - 1 - 59 - inner
        size = chance.choice((0, 1, most - 1, most, chance.randrange(most)))
        packet = bytes((kind,)) + nonce + sealed + (first + chance.randbytes(size))[:size]
        packet = asked.outside(packet)
        try:
            expected = peeled(asked, packet)
        except WireError:
            expected = None
        assert asked.sent(packet) == ([] if expected is None else [expected]), packet.hex()
        taken += expected is not None
    assert COUNT / 10 < taken < COUNT * 0.9


def announced(asked: Asked, packet: bytes) -> tuple[bytes, SharedKey] | None:
    """The sendback and the key of the answer to 83 or 87, by the declared packets."""
    request: AnnounceRequest | GroupAnnounceRequest
    if packet[0] == 0x83:
        request = AnnounceRequest.decode(packet)
    elif len(packet) == AnnounceRequest.MAX_SIZE:  # c-toxcore answers an 87 without a group as well
        request = AnnounceRequest.decode(b"\x83" + packet[1:])
    else:
        request = GroupAnnounceRequest.decode(packet)
    plain = asked.opened(AnnounceRequestBody, request.nonce, request.requester, request.sealed)
    sendback = AnnounceRequestBody.decode(plain[:104]).sendback
    if len(plain) > 104:
        group, _ = GroupAnnounce.read(plain, 136, len(plain))  # what stands behind it is left out
        if group.endpoint is None and not group.relays:
            return None
    shared = asked.shared(request.requester)
    assert shared is not None
    return sendback, shared


@pytest.mark.parametrize("kind", [0x83, 0x87])
def test_an_announce_request_is_answered_if_the_declared_packet_takes_it(kind: int) -> None:
    asked = Asked(kind)
    cls = AnnounceRequestBody if kind == 0x83 else GroupAnnounceRequestBody
    taken = 0
    for _ in range(COUNT):
        plain = asked.body(cls, 2000)
        packet = asked.outside(asked.boxed(kind, plain, asked.chance.randbytes(177)))
        try:
            expected = announced(asked, packet)
        except WireError:
            expected = None
        sent = asked.sent(packet)
        assert len(sent) == (expected is not None), packet.hex()
        if expected is None:
            continue
        taken += 1
        sendback, shared = expected
        way = OnionResponse3.decode(sent[0])
        assert way.onion_return == packet[-177:]
        if kind == 0x83:
            answer = AnnounceResponse.decode(way.payload)
            AnnounceResponseBody.open(shared, answer.nonce, answer.sealed)
            assert answer.sendback == sendback
        else:
            group = GroupAnnounceResponse.decode(way.payload)
            GroupAnnounceResponseBody.open(shared, group.nonce, group.sealed)
            assert group.sendback == sendback
    assert COUNT / 10 < taken < COUNT * 0.9


def test_data_is_passed_on_if_the_declared_packet_takes_it() -> None:
    asked = Asked(0x85)
    owner = asked.peers[0].public
    way = bytes(range(177))
    asked.node.shards[0].announces.entries.put(owner, SOURCE, way, bytes(32), START)
    taken = 0
    for _ in range(COUNT):
        packet = sample(DataToRouteRequest, asked.dice).encode()
        packet = asked.outside(packet[:1] + owner + packet[33:])
        expected = []
        try:
            request = DataToRouteRequest.decode(packet)
        except WireError:
            pass
        else:
            if request.destination == owner:
                data = DataToRouteResponse(request.nonce, request.temporary_key, request.sealed)
                expected = [OnionResponse3(way, data.encode()).encode()]
        assert asked.sent(packet) == expected, packet.hex()
        taken += len(expected)
    assert COUNT / 10 < taken < COUNT * 0.9


def test_a_data_search_is_answered_if_the_declared_packet_takes_it() -> None:
    asked = Asked(0x93)
    chance = asked.chance
    taken = 0
    for _ in range(COUNT):
        peer = chance.choice(asked.peers)
        shared = asked.shared(peer.public)
        assert shared is not None
        nonce = chance.randbytes(24)
        sealed = crypto.seal(shared, nonce, asked.body(DataSearchRequestBody, 2000))
        packet = asked.outside(b"\x93" + peer.public + nonce + sealed)
        try:
            request = DataSearchRequest.decode(packet)
            plain = asked.opened(
                DataSearchRequestBody, request.nonce, request.sender, request.sealed
            )
            body = DataSearchRequestBody.decode(plain)
        except WireError:
            assert asked.sent(packet) == [], packet.hex()
            continue
        taken += 1
        (answer,) = asked.sent(packet)
        response = DataSearchResponse.decode(answer)
        shared = asked.shared(request.sender)
        assert shared is not None
        found = DataSearchResponseBody.open(shared, response.nonce, response.sealed)
        assert (found.data_key, found.ping_id) == (body.data_key, body.ping_id)
    assert COUNT / 10 < taken < COUNT * 0.9
