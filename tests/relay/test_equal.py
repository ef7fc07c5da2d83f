"""The relay's raw handshake and frames take exactly what the declared packets take.

What is meant to differ stands in `closes`: some kinds only a relay sends, a link has to be given
out, and what an onion or forward request names or weighs is the hop's affair, not the stream's.
"""

import random
from typing import Any

import pytest

from core import crypto
from core.crypto import KeyPair, Nonce, SecretKey, SharedKey, SharedKeys
from core.endpoint import from_text, unpack_compact
from core.entropy import SeededEntropy
from core.module import Collected, Context, NodeOptions
from core.onion import Forwarding, OnionHops, OnionModule
from core.packets.relay import (
    RELAY_PACKETS,
    ClientHello,
    ConnectNotice,
    DisconnectNotice,
    HelloBody,
    OobSend,
    RelayData,
    RelayForwardRequest,
    RelayHello,
    RelayOnionRequest,
    RelayPing,
    RelayPong,
    RouteRequest,
)
from core.relay import RelayShard
from core.relay.frames import CLOSE, OOB, PUSH, READ, ROOM, ROUTE, UNLINK
from core.relay.handshake import answer_hello
from core.wire import Record, WireError
from tests.fuzz.mutate import mutate
from tests.packets.samples import Dice, sample

COUNT = 2000
SERIAL, OTHER = 1, 2
LINKED, UP = 20, 21  # link ids that were given out; the other side of the second is there
FROM_CLIENTS: list[type[Record]] = [
    RouteRequest,
    ConnectNotice,
    DisconnectNotice,
    RelayPing,
    RelayPong,
    OobSend,
    RelayOnionRequest,
    RelayForwardRequest,
    RelayData,
]
PRIVATE = from_text("10.1.2.3", 1000)
MIN_ONION = RelayOnionRequest.MIN_SIZE


class Asked:
    """A relay shard with one connection, the same for each packet."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        entropy = SeededEntropy(f"equal {seed}")
        self.keys = KeyPair.generate(entropy)
        self.entropy = entropy
        master = SecretKey(entropy.bytes(32))
        options = NodeOptions(lan_discovery=False)
        self.out = Collected()
        context = Context(self.keys, master, entropy, self.out, options=options)
        forwarding = Forwarding(context, OnionModule(context).nodes)
        self.shard = RelayShard(
            SharedKeys(self.keys.secret),
            entropy,
            OnionHops(context).relay_onion_request,
            forwarding.relay_forward_request,
        )
        self.shared = SharedKey(self.chance.randbytes(32))
        self._epoch = 0

    def give(self, plain: bytes) -> tuple[list[Any], list[bytes]]:
        """Gives one frame to a fresh connection; returns the effects, and the packets sealed."""
        self._epoch += 1
        receive, send = bytes(24), bytes(24)
        links = [LINKED, 0, 0, UP, OTHER, 30]
        record = [SERIAL, b"k" * 32, self.shared, receive, send, True, PRIVATE, None, links, ROOM]
        box = crypto.seal(self.shared, Nonce(receive), plain)
        chunk = len(box).to_bytes(2, "big") + box
        items = [self._epoch, 1, 0, [], record, [], [], [SERIAL, len(chunk)], chunk]
        commit = self.shard.handle(items, 1000.0)
        assert commit is not None
        _, _, _, data, effects, _ = commit
        packets = []
        number = 0
        while data:
            size = int.from_bytes(data[:2], "big")
            opened = crypto.open_sealed(
                self.shared, Nonce(number.to_bytes(24, "big")), data[2 : 2 + size]
            )
            assert opened is not None
            packets.append(opened)
            data = data[2 + size :]
            number += 1
        return effects, packets


def declared(plain: bytes) -> Record | None:
    """The declared packet that this is, if it is one that clients send."""
    cls = RelayData if plain[0] >= 16 else RELAY_PACKETS.get(plain[0])
    if cls is None or cls not in FROM_CLIENTS:
        return None
    try:
        return cls.decode(plain)
    except WireError:
        return None


def closes(plain: bytes, packet: Record | None) -> bool:
    """Tells whether a relay closes the connection over this packet."""
    if plain[0] >= 16:
        return plain[0] not in (LINKED, UP)
    if isinstance(packet, DisconnectNotice):
        return packet.link not in (LINKED, UP)
    if plain[0] == RelayOnionRequest.kind:
        # c-toxcore closes for one that is too short; what is too large for a hop or names no UDP
        # address is dropped and counted there.
        return len(plain) < MIN_ONION
    if plain[0] == RelayForwardRequest.kind and packet is None:
        # An IPv4 address mapped into IPv6 is read as IPv4, as the reference does.
        try:
            _, end = unpack_compact(plain, 1)
        except WireError:
            return True
        return len(plain) - end > 1792
    return packet is None


@pytest.mark.parametrize("cls", FROM_CLIENTS, ids=lambda cls: cls.__name__)
def test_a_frame_is_taken_if_the_declared_packet_is(cls: type[Record]) -> None:
    asked = Asked(7)
    chance = asked.chance
    dice = Dice(chance)
    taken = 0
    for _ in range(COUNT):
        plain = sample(cls, dice).encode()
        if cls in (RelayData, DisconnectNotice) and chance.random() < 0.7:
            at = 0 if cls is RelayData else 1
            plain = plain[:at] + bytes((chance.choice((LINKED, UP)),)) + plain[at + 1 :]
        if chance.random() < 0.4:
            plain = plain[:1] + mutate(plain[1:], chance)
        elif chance.random() < 0.1:
            plain = mutate(plain, chance) or b"\x00"
        plain = plain[:2032]
        packet = declared(plain)
        effects, sealed = asked.give(plain)
        closed = any(effect[0] == CLOSE for effect in effects)
        assert closed == closes(plain, packet), plain.hex()
        assert (effects, sealed) == expected(plain, packet, effects, sealed), plain.hex()
        taken += not closed
    assert taken > COUNT / 10


def expected(
    plain: bytes, packet: Record | None, effects: list[Any], sealed: list[bytes]
) -> tuple[list[Any], list[bytes]]:
    """What a packet that was taken leads to, by its declared fields."""
    match packet:
        case RouteRequest():
            return [(ROUTE, SERIAL, packet.peer)], []
        case DisconnectNotice() if packet.link in (LINKED, UP):
            return [(UNLINK, SERIAL, packet.link)], []
        case RelayPing():
            return [], [RelayPong(packet.ping_id).encode()] if packet.ping_id else sealed
        case OobSend():
            return [(OOB, SERIAL, packet.peer, packet.data)], []
        case RelayData() if packet.link == UP:
            return [(PUSH, SERIAL, UP, packet.data)], []
        case RelayData() if packet.link == LINKED:
            return [], []
        case RelayPong():
            return [(READ, SERIAL, packet.ping_id.to_bytes(8, "big"))], []
        case ConnectNotice():
            return [], []
    return effects, sealed


def test_onion_and_forward_requests_go_on_as_the_declared_packets_say() -> None:
    asked = Asked(8)
    dice = Dice(asked.chance)
    sent = 0
    for _ in range(COUNT):
        onion = sample(RelayOnionRequest, dice)
        forward = sample(RelayForwardRequest, dice)
        asked.out.sent.clear()
        asked.out.drops.clear()
        asked.give(onion.encode())
        if not asked.out.drops:
            ((target, packet),) = asked.out.sent
            assert target == onion.next_hop
            assert packet[:-59] == b"\x81" + onion.nonce + onion.sender + onion.sealed
            sent += 1
        asked.out.sent.clear()
        asked.out.drops.clear()
        asked.give(forward.encode())
        if not asked.out.drops:
            ((target, packet),) = asked.out.sent
            assert target == forward.destination
            assert packet[2 + packet[1] :] == forward.data
            sent += 1
    assert sent > COUNT


def test_a_frame_s_size_is_that_of_a_box_with_something_inside() -> None:
    asked = Asked(9)
    for size in (1, 2, 1000, RelayData.MAX_SIZE - 1, RelayData.MAX_SIZE, RelayData.MAX_SIZE + 1):
        effects, _ = asked.give((bytes((LINKED,)) + bytes(size))[:size])
        fits = size <= RelayData.MAX_SIZE
        assert effects == ([] if fits else [(CLOSE, SERIAL, "frame_size")])
    effects, _ = asked.give(b"")
    assert effects == [(CLOSE, SERIAL, "frame_box")]


def test_a_hello_is_answered_if_the_declared_packet_takes_it() -> None:
    asked = Asked(10)
    chance = asked.chance
    client = KeyPair.generate(asked.entropy)
    shared = crypto.precompute(client.secret, asked.keys.public)
    assert shared is not None
    taken = 0
    for _ in range(COUNT // 2):
        temporary = KeyPair.generate(asked.entropy)
        body = temporary.public + chance.randbytes(24)
        if chance.random() < 0.2:
            body = bytes(32) + body[32:]  # a temporary key of low order
        nonce = Nonce(chance.randbytes(24))
        hello = client.public + nonce + crypto.seal(shared, nonce, body)
        if chance.random() < 0.5:
            hello = mutate(hello, chance)[:128].ljust(128, b"\x00")  # a stream gives 128 bytes
        try:
            packet = ClientHello.decode(hello)
            combined = crypto.precompute(asked.keys.secret, packet.sender)
            opened = (
                None if combined is None else HelloBody.open(combined, packet.nonce, packet.sealed)
            )
        except WireError:
            opened = None
        if opened is not None and opened.temporary_key == bytes(32):
            opened = None  # nothing can be agreed on with it
        accepted = answer_hello(hello, SharedKeys(asked.keys.secret), asked.entropy)
        assert (accepted is None) == (opened is None), hello.hex()
        if accepted is None or opened is None:
            continue
        taken += 1
        answer = RelayHello.decode(accepted.answer)
        said = HelloBody.open(shared, answer.nonce, answer.sealed)
        assert said.base_nonce == accepted.send_nonce
        assert opened.base_nonce == accepted.receive_nonce
        assert crypto.precompute(temporary.secret, said.temporary_key) == accepted.shared
    assert COUNT / 10 < taken < COUNT / 2
