"""A sender whose key is not at hand: the datagram has no effect before it is given again."""

import pytest

from core.crypto import KeyMiss, KeyPair, SecretKey, precompute, seal
from core.dht import DhtModule
from core.dht.pending import PendingRequests
from core.endpoint import from_text
from core.entropy import SeededEntropy
from core.module import Collected, Context, NodeOptions

SOURCE = from_text("198.51.100.7", 33445)
NOW = 1000.0


def only_one(pending: PendingRequests) -> bytes:
    """Returns the id of the one request that waits."""
    assert pending._waiting is not None
    (request_id,) = pending._waiting
    return request_id


class Shard:
    """One dht shard, and a peer that seals for it."""

    def __init__(self, number: int) -> None:
        entropy = SeededEntropy("new keys")
        self.entropy = entropy
        self.keys = KeyPair.generate(entropy)
        self.peer = KeyPair.generate(entropy)
        shared = precompute(self.peer.secret, self.keys.public)
        assert shared is not None
        self.shared = shared
        self.out = Collected()
        self.context = Context(
            self.keys,
            SecretKey(entropy.bytes(32)),
            entropy,
            self.out,
            number,
            options=NodeOptions(lan_discovery=False),
            started=NOW,
        )
        self.module = DhtModule(self.context)
        self.cache = self.context.key_cache()

    def packet(self, kind: int, plain: bytes) -> bytes:
        """Returns a packet from the peer; a DHT request to this node for kind 20."""
        nonce = bytes(24)
        to = self.keys.public if kind == 0x20 else b""
        return bytes((kind,)) + to + self.peer.public + nonce + seal(self.shared, nonce, plain)

    def asked(self, kind: int) -> bytes:
        """Asks the peer something; returns its answer."""
        keeper = self.module.keeper
        assert keeper is not None
        if kind == 0x01:
            keeper.asker.ping(SOURCE, self.peer.public, NOW)
            request_id = only_one(keeper.asker.pings)
            return self.packet(kind, b"\x01" + request_id)
        if kind == 0x04:
            keeper.asker.ask(SOURCE, self.peer.public, self.keys.public, NOW)
            request_id = only_one(keeper.asker.requests)
            return self.packet(kind, b"\x00" + request_id)
        keeper.asker.probe(SOURCE, self.peer.public, NOW)
        request_id = only_one(keeper.asker.probes)
        return self.packet(kind, bytes(32) + request_id)


def request(shard: Shard, kind: int) -> bytes:
    """Returns a datagram of a kind that this shard opens."""
    if kind == 0x00:
        return shard.packet(kind, b"\x0012345678")
    if kind == 0x02:
        return shard.packet(kind, bytes(40))
    if kind == 0x20:
        return shard.packet(kind, b"\xfe\x0012345678")
    return shard.asked(kind)


@pytest.mark.parametrize("kind", [0x00, 0x02, 0x01, 0x04, 0x94, 0x20])
def test_a_deferred_datagram_does_what_it_would_have_done_at_once(kind: int) -> None:
    effects = []
    for deferred in (False, True):
        shard = Shard(0)
        packet = request(shard, kind)
        request_waits = kind == 0x94  # a probe, whose answer has no other effect here
        shard.out.sent.clear()
        shard.cache._young.clear()
        if deferred:
            before = shard.entropy._random.getstate()
            shard.cache.deferring = True
            with pytest.raises(KeyMiss):
                shard.module.handle_packet(packet, SOURCE, NOW)
            shard.cache.deferring = False
            assert before == shard.entropy._random.getstate()
            assert (shard.out.sent, shard.out.told, shard.out.drops) == ([], [], {})
        shard.module.handle_packet(packet, SOURCE, NOW)
        keeper = shard.module.keeper
        assert keeper is not None
        answered = request_waits and not len(keeper.asker.probes)
        state = shard.module.snapshot()
        effects.append((shard.out.sent, shard.out.told, shard.out.drops, state, answered))
    assert effects[0] == effects[1]
    # answered, proposed, taken in, or (kind 20, from nobody we look for) counted
    sent, told, drops, state, answered = effects[0]
    assert sent or told or drops or state["table"]["close_nodes"] or answered


def test_a_proposal_of_a_new_sender_comes_with_its_answer_and_only_once() -> None:
    shard = Shard(1)
    packet = request(shard, 0x00)
    shard.cache.deferring = True
    for _ in range(3):
        with pytest.raises(KeyMiss):
            shard.module.handle_packet(packet, SOURCE, NOW)
    shard.cache.deferring = False
    shard.module.handle_packet(packet, SOURCE, NOW)
    assert len(shard.out.told) == len(shard.out.sent) == 1
    assert shard.module.answers.pings == 1
