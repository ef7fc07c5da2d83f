"""The raw answers of every dht shard take exactly what the declared packets take."""

import random

import pytest

from core import crypto
from core.crypto import KeyPair, SecretKey, SharedKey
from core.dht import DhtModule
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.module import Collected, Context, NodeOptions
from core.packets.dht import (
    NodesRequest,
    NodesRequestBody,
    NodesResponse,
    NodesResponseBody,
    PingRequest,
    PingRequestBody,
    PingResponse,
    PingResponseBody,
)
from core.wire import WireError
from tests.fuzz.mutate import mutate
from tests.packets.samples import Dice, sample

SOURCE = from_text("192.0.2.7", 33445)
Outer = type[PingRequest] | type[NodesRequest]
Inner = type[PingRequestBody] | type[NodesRequestBody]
REQUESTS: dict[int, tuple[Outer, Inner]] = {
    0x00: (PingRequest, PingRequestBody),
    0x02: (NodesRequest, NodesRequestBody),
}


class Asked:
    """One shard of a node, and peers that seal for it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        entropy = SeededEntropy(f"equal {seed}")
        self.keys = KeyPair.generate(entropy)
        self.out = Collected()
        master = SecretKey(entropy.bytes(32))
        options = NodeOptions(lan_discovery=False)
        self.module = DhtModule(Context(self.keys, master, entropy, self.out, 1, options=options))
        self.peers = [KeyPair.generate(entropy) for _ in range(4)]

    def shared(self, sender: bytes) -> SharedKey | None:
        """Combines the node's own key with a sender's; None for a key of low order."""
        return crypto.precompute(self.keys.secret, sender)

    def packet(self, kind: int) -> bytes:
        """Makes a request: right, wrong inside its box, or wrong outside."""
        chance = self.chance
        body = sample(REQUESTS[kind][1], Dice(chance)).encode()
        if chance.random() < 0.4:
            body = mutate(body, chance)
        peer = chance.choice((*self.peers, self.keys))
        nonce = chance.randbytes(24)
        shared = self.shared(peer.public)
        assert shared is not None
        packet = bytes((kind,)) + peer.public + nonce + crypto.seal(shared, nonce, body)
        if chance.random() < 0.3:
            packet = bytes((kind,)) + mutate(packet[1:], chance)
        elif chance.random() < 0.03:
            packet = bytes((kind,)) + bytes(32) + packet[33:]
        return packet

    def declared(self, kind: int, packet: bytes) -> PingRequestBody | NodesRequestBody | None:
        """What the declared packets make of it. A request under our own key is none (c-toxcore
        refuses it too), though its layout is right."""
        outer, inner = REQUESTS[kind]
        try:
            request = outer.decode(packet)
            shared = self.shared(request.sender)
            if shared is None or request.sender == self.keys.public:
                return None
            return inner.open(shared, request.nonce, request.sealed)
        except WireError:
            return None

    def answers(self, packet: bytes) -> list[bytes]:
        """What the shard sends back."""
        self.module.handle_packet(packet, SOURCE, 1000.0)
        sent = [each for _, each in self.out.sent]
        assert all(target == SOURCE for target, _ in self.out.sent)
        self.out.sent.clear()
        self.out.told.clear()
        return sent


@pytest.mark.parametrize("kind", [0x00, 0x02])
def test_a_request_is_answered_if_the_declared_packet_takes_it(kind: int) -> None:
    asked = Asked(kind)
    taken = 0
    for _ in range(2000):
        packet = asked.packet(kind)
        body = asked.declared(kind, packet)
        answers = asked.answers(packet)
        assert len(answers) == (body is not None), packet.hex()
        if body is None:
            continue
        taken += 1
        shared = asked.shared(packet[1:33])
        assert shared is not None
        if isinstance(body, PingRequestBody):
            pong = PingResponse.decode(answers[0])
            assert pong.sender == asked.keys.public
            assert PingResponseBody.open(shared, pong.nonce, pong.sealed).ping_id == body.ping_id
        else:
            nodes = NodesResponse.decode(answers[0])
            assert nodes.sender == asked.keys.public
            opened = NodesResponseBody.open(shared, nodes.nonce, nodes.sealed)
            assert opened.request_id == body.request_id
    assert 400 < taken < 1600
