"""Valid packets of every hot kind, and packets that are wrong in one place, for one world.

A case has a name that says what is wrong with it, so that a mismatch explains itself.
"""

import random
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from typing import NamedTuple, Protocol

from core import crypto
from core.crypto import KeyPair, Nonce, SecretKey, SharedKey
from core.endpoint import Endpoint, from_text, pack_compact
from core.entropy import SeededEntropy
from core.packets.announce import AnnounceResponse, AnnounceResponseBody
from core.packets.onion import OnionResponse3
from core.wire import WireError
from tests.equality.addresses import GOOD, ODD, Address
from tests.equality.rules import ReturnBoxes

_PAIRS = [KeyPair.generate(SeededEntropy(f"equality peer {number}")) for number in range(36)]
_NOISE = random.Random("equality noise").randbytes(1 << 16)
_KINDS = (0x00, 0x02, 0x80, 0x81, 0x82, 0x83, 0x85, 0x87, 0x8C, 0x8D, 0x8E)
_SMALL_ORDER = (
    "00" * 32,
    "01" + "00" * 31,
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ec" + "ff" * 30 + "7f",
    "ed" + "ff" * 30 + "7f",
    "ee" + "ff" * 30 + "7f",
)
_WEAK_KEYS = [
    key[:31] + bytes((key[31] | top,))
    for key in map(bytes.fromhex, _SMALL_ORDER)
    for top in (0, 0x80)
]  # nothing can be agreed on with these: RFC 7748, section 6.1
_NO_HOT_KINDS = (0x03, 0x05, 0x7F, 0x84, 0x86, 0x88, 0x8B, 0x8F, 0xF0, 0xFF)

class Case(NamedTuple):
    """A packet, who sends it, and how it was made."""

    packet: bytes
    source: Endpoint
    name: str


class Node(Protocol):
    """What a maker has to know of the node it makes packets for."""

    seed: str
    keys: KeyPair
    master: SecretKey
    now: float
    known: list[bytes]  # keys of the table
    sources: list[Endpoint]  # addresses of families that it has sockets for


class Peer(NamedTuple):
    """Who sends: the key that is named, and the key the box is made with."""

    public: bytes
    shared: SharedKey
    name: str


def broken(packet: bytes, chance: random.Random, low: int, high: int) -> tuple[bytes, str]:
    """Returns a packet that was changed on its way, and how; `low` and `high` are the least and
    the greatest size of its kind."""
    size = len(packet)
    at = 1 + int(chance.random() * (size - 1))
    match int(chance.random() * 13):
        case 0 | 1 | 2:
            bit = 1 << int(chance.random() * 8)
            return packet[:at] + bytes((packet[at] ^ bit,)) + packet[at + 1 :], f"flip at {at}"
        case 3:
            return packet[:at], f"cut at {at}"
        case 4:
            return packet[:-1], "one byte short"
        case 5:
            return packet + b"\x00", "one byte more"
        case 6:
            more = 1 + int(chance.random() * 200)
            return packet + _NOISE[at : at + more], f"{more} bytes more"
        case 7 | 8:
            wanted = chance.choice((low - 1, low, low + 1, high - 1, high, high + 1))
            return (packet + _NOISE)[:wanted], f"made {wanted} bytes"
        case 9:
            end = at + int(chance.random() * 40)
            return packet[:at] + packet[end:], f"{at} to {end} missing"
        case 10:
            end = min(size, at + int(chance.random() * 40))
            return packet[:at] + bytes(end - at) + packet[end:], f"{at} to {end} zero"
        case 11:
            kind = chance.choice((*_KINDS, *_NO_HOT_KINDS))
            return bytes((kind,)) + packet[1:], f"called {kind:02x}"
        case _:
            few = chance.choice((b"", packet[:1], packet[:2], packet[:33]))
            return few, f"{len(few)} bytes left"


class Maker(ABC):
    """Makes packets of one kind: about half of them are valid."""

    kind: int
    low: int
    high: int
    spoilt = 0.25  # of the packets are broken on their way
    new_keys = 0.03  # come from somebody new

    def __init__(self, node: Node) -> None:
        self.node = node
        self.chance = random.Random(f"{type(self).__name__} {self.kind} {node.seed}")
        self._entropy = SeededEntropy(f"new keys {node.seed}")
        self.peers = [self._peer(pair, f"peer {n}") for n, pair in enumerate(_PAIRS)]
        own = crypto.precompute(node.keys.secret, node.keys.public)
        assert own is not None
        self._own = Peer(node.keys.public, own, "own key")

    def _peer(self, pair: KeyPair, name: str) -> Peer:
        shared = crypto.precompute(pair.secret, self.node.keys.public)
        assert shared is not None
        return Peer(pair.public, shared, name)

    def sender(self) -> Peer:
        """Chooses who sends: one who is known, new, ourselves, or one whose key is none."""
        chance = self.chance
        dice = chance.random()
        if dice < 0.95 - self.new_keys:
            return chance.choice(self.peers)
        if dice < 0.95:
            return self._peer(KeyPair.generate(self._entropy), "new key")
        if dice < 0.97:
            return self._own
        if dice < 0.985:
            return Peer(chance.choice(_WEAK_KEYS), SharedKey(bytes(32)), "low order")
        named, sealed = chance.sample(self.peers, 2)
        return Peer(named.public, sealed.shared, "another's box")

    def key(self) -> bytes:
        """Chooses a key that is searched."""
        chance = self.chance
        dice = chance.random()
        if dice < 0.4:
            return chance.randbytes(32)
        if dice < 0.6 and self.node.known:
            bits = chance.getrandbits(chance.choice((0, 1, 8, 60, 120, 129, 200, 247)))
            near = int.from_bytes(chance.choice(self.node.known), "big") ^ bits
            return near.to_bytes(32, "big")
        if dice < 0.9:
            mixed = int.from_bytes(self.node.keys.public, "big") ^ chance.getrandbits(
                chance.choice((1, 8, 120, 128, 129, 200, 250, 255))
            )
            return mixed.to_bytes(32, "big")
        return chance.choice((bytes(self.node.keys.public), bytes(32), b"\xff" * 32))

    def noise(self, size: int) -> bytes:
        """Returns bytes that mean nothing."""
        at = int(self.chance.random() * (len(_NOISE) - 2048))
        return _NOISE[at : at + size]

    def size(self, low: int, high: int) -> int:
        """Chooses a size of the whole packet: often small, at a limit, or one beside it."""
        chance = self.chance
        dice = chance.random()
        if dice < 0.12:
            return chance.choice((low, low + 1, high - 1, high))
        if dice < 0.16:
            return chance.choice((low - 1, high + 1))
        if dice < 0.8:
            return low + int(chance.random() * 200)
        return low + int(chance.random() * (high - low))

    def case(self) -> Case:
        """Makes the next packet."""
        packet, source, name = self.make()
        if self.chance.random() < self.spoilt:
            packet, how = broken(packet, self.chance, self.low, self.high)
            name += f", {how}"
        return Case(packet, source, f"{self.kind:02x} {name}")

    @abstractmethod
    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a packet that was not changed on its way."""

    def learn(self, sent: list[tuple[Endpoint, bytes]]) -> None:
        """Takes what the last packets led to; most kinds have no use for it."""
        del sent


class PingMaker(Maker):
    """00."""

    kind = 0x00
    low = high = 82

    def body(self) -> tuple[bytes, str]:
        """Makes what is inside the box."""
        chance = self.chance
        ping_id = chance.randbytes(8)
        dice = chance.random()
        if dice < 0.85:
            return b"\x00" + ping_id, "good"
        if dice < 0.93:
            kind = chance.choice((1, 2, 4, 0x80, 0xFF))
            return bytes((kind,)) + ping_id, f"type {kind:02x}"
        size = chance.choice((0, 1, 8, 10, 40))
        return (b"\x00" + ping_id * 5)[:size], f"body of {size}"

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a request."""
        peer = self.sender()
        body, name = self.body()
        nonce = self.chance.randbytes(24)
        packet = bytes((self.kind,)) + peer.public + nonce + crypto.seal(peer.shared, nonce, body)
        return packet, self.chance.choice(self.node.sources), f"{name} from {peer.name}"


class NewcomerMaker(PingMaker):
    """00 by many who were never heard before: more than are served at once."""

    new_keys = 0.7

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a request; most come from the first few sources."""
        packet, source, name = super().make()
        if self.chance.random() < 0.8:
            source = self.node.sources[0]
        return packet, source, name


class NodesMaker(PingMaker):
    """02."""

    kind = 0x02
    low = high = 113

    def body(self) -> tuple[bytes, str]:
        """Makes what is inside the box."""
        body = self.key() + self.chance.randbytes(8)
        if self.chance.random() < 0.93:
            return body, "good"
        size = self.chance.choice((0, 1, 39, 41, 9))
        return (body + body)[:size], f"body of {size}"


class HopMaker(Maker):
    """80, 81 and 82."""

    def __init__(self, node: Node, kind: int) -> None:
        self.kind = kind
        self._tail = (0, 59, 118)[kind - 0x80]  # the returns so far
        self.low = (227, 219, 211)[kind - 0x80]
        self.high = 1400
        super().__init__(node)

    def address(self) -> Address:
        """Chooses what a layer names."""
        return self.chance.choice(GOOD if self.chance.random() < 0.6 else ODD)

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a request; what is inside the layer is for others, and noise here."""
        chance = self.chance
        peer = self.sender()
        address = self.address()
        name = f"to {address.name} from {peer.name}"
        size = self.size(self.low, self.high) - 57 - 16 - 19 - self._tail
        inner = self.noise(size)
        if self.kind == 0x82 and inner:
            kind = chance.choice((0x83, 0x85, 0x87))
            if chance.random() < 0.1:
                kind = chance.choice((0x00, 0x80, 0x84, 0x86, 0x88, 0x82, 0x8C, 0xF0))
                name += f", payload {kind:02x}"
            inner = bytes((kind,)) + inner[1:]
        nonce = chance.randbytes(24)
        sealed = crypto.seal(peer.shared, nonce, address.packed + inner)
        packet = bytes((self.kind,)) + nonce + peer.public + sealed + self.noise(self._tail)
        return packet, chance.choice(self.node.sources), name


class BackMaker(Maker):
    """8c, 8d and 8e, with returns that the node gave in this world, or that somebody made."""

    def __init__(self, node: Node, kind: int) -> None:
        self.kind = kind
        self._inner = {0x8C: 118, 0x8D: 59, 0x8E: 0}[kind]
        self._size = self._inner + 59
        self.low = 1 + self._size + 1
        self.high = 1400
        super().__init__(node)
        self._boxes = ReturnBoxes(node.master)
        self._requests = HopMaker(node, {0x8C: 0x82, 0x8D: 0x81, 0x8E: 0x80}[kind])
        self._given: deque[bytes] = deque(maxlen=48)

    def _address(self) -> Address:
        dice = self.chance.random()
        if dice < 0.6:
            return self.chance.choice(GOOD)
        if dice < 0.8 and self.kind == 0x8E:
            serial = self.chance.choice((0, 1, 77, 1 << 32, (1 << 64) - 1))
            return Address(b"\x0b" + serial.to_bytes(8, "big") + bytes(10), None, "relay client")
        return self.chance.choice(ODD)

    def _way_back(self) -> tuple[bytes, str]:
        chance = self.chance
        dice = chance.random()
        if dice < 0.35 and self._given:
            return chance.choice(self._given), "given"
        address = self._address()
        plain = address.packed + self.noise(self._inner)
        nonce = chance.randbytes(24)
        now = self.node.now
        if dice < 0.85:
            return self._boxes.seal(nonce, plain, now), f"to {address.name}"
        if dice < 0.95:
            before = max(0.0, now - chance.choice((1200.0, 7200.0, 14_400.0)))
            return self._boxes.seal(nonce, plain, before), f"to {address.name}, old"
        return self.noise(self._size), "made up"

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a response; one in ten is a request, for the return it is given."""
        chance = self.chance
        if chance.random() < 0.1:
            packet, source, name = self._requests.make()
            return packet, source, f"request {name}"
        way_back, name = self._way_back()
        size = self.size(self.low, self.high) - 1 - self._size
        payload = self.noise(size)
        if payload:
            kind = chance.choice((0x84, 0x86, 0x88))
            if chance.random() < 0.1:
                kind = chance.choice((0x00, 0x83, 0x85, 0x87, 0x8D, 0xFF))
                name += f", payload {kind:02x}"
            payload = bytes((kind,)) + payload[1:]
        packet = bytes((self.kind,)) + way_back + payload
        return packet, chance.choice(self.node.sources), name

    def learn(self, sent: list[tuple[Endpoint, bytes]]) -> None:
        """Keeps the returns in what the node sent on."""
        tail = {0x8C: (0x83, 0x85, 0x87), 0x8D: (0x82,), 0x8E: (0x81,)}[self.kind]
        for _, packet in sent:
            if packet[0] in tail:
                self._given.append(packet[-self._size :])


class Given(NamedTuple):
    """A ping id that the node gave."""

    peer: Peer
    source: Endpoint
    ping_id: bytes


class AnnounceMaker(Maker):
    """83: searches, first contacts, and announces with a ping id, mixed as `stored` says."""

    kind = 0x83
    low = high = 354
    announces = (b"\x84",)

    def __init__(self, node: Node, first: float, stored: float) -> None:
        """`first` and `stored`: which part of the packets is a first contact, and an announce; the
        rest are searches."""
        self._first, self._stored = first, stored
        super().__init__(node)
        self.given: deque[Given] = deque(maxlen=48)
        self._asked: OrderedDict[bytes, tuple[Peer, Endpoint]] = OrderedDict()  # by sendback

    def announced(self) -> bytes:
        """Chooses a key that may have been announced."""
        if self.given and self.chance.random() < 0.7:
            return self.chance.choice(self.given).peer.public
        return self.chance.choice(self.peers).public

    def _ask(self, peer: Peer, source: Endpoint) -> bytes:
        """Returns the sendback of a request whose answer has a ping id in it."""
        sendback = self.chance.randbytes(8)
        self._asked[sendback] = (peer, source)
        if len(self._asked) > 256:
            self._asked.popitem(last=False)
        return sendback

    def _data_key(self, peer: Peer) -> bytes:
        """The data key of a peer; now and then it has a new one."""
        if self.chance.random() < 0.1:
            return self.chance.randbytes(32)
        return peer.public[::-1]

    def body(self) -> tuple[bytes, Peer, Endpoint, str]:
        """Makes what is inside the box, and who sends it from where."""
        chance = self.chance
        dice = chance.random()
        if dice < self._stored and self.given:
            return self._announce()
        peer = self.sender()
        source = chance.choice(self.node.sources)
        if dice < self._stored + self._first:
            body = bytes(32) + peer.public + self._data_key(peer) + self._ask(peer, source)
            return body, peer, source, f"first of {peer.name}"
        ping_id = bytes(32)
        name = f"search by {peer.name}"
        if chance.random() < 0.1:
            ping_id = chance.randbytes(32)
            name += " with a ping id"
        searched = self.announced() if chance.random() < 0.6 else self.key()
        if chance.random() < 0.1:
            searched = peer.public
        data_key = bytes(32) if chance.random() < 0.8 else self._data_key(peer)
        return ping_id + searched + data_key + chance.randbytes(8), peer, source, name

    def _announce(self) -> tuple[bytes, Peer, Endpoint, str]:
        """Comes again with a ping id that was given, mostly as it should."""
        chance = self.chance
        peer, source, ping_id = self.given[-1 - int(chance.random() ** 2 * len(self.given))]
        name = f"announce of {peer.name}"
        dice = chance.random()
        if dice < 0.05:
            source = chance.choice(self.node.sources)
            name += " from elsewhere"
        elif dice < 0.1:
            peer = self.sender()
            name += " by another"
        elif dice < 0.15:
            at = int(chance.random() * 32)
            ping_id = ping_id[:at] + bytes((ping_id[at] ^ 1,)) + ping_id[at + 1 :]
            name += " with a bit wrong"
        searched = peer.public if chance.random() < 0.9 else self.key()
        body = ping_id + searched + self._data_key(peer) + self._ask(peer, source)
        return body, peer, source, name

    def extra(self) -> tuple[bytes, str]:
        """Makes what stands in the box behind the common part."""
        if self.chance.random() < 0.03:
            size = self.chance.choice((-105, -104, -1, 1, 32, 136))
            return (self.noise(size), f", {size} more") if size > 0 else (b"", "")
        return b"", ""

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a request as the third hop delivers it."""
        body, peer, source, name = self.body()
        more, how = self.extra()
        nonce = self.chance.randbytes(24)
        sealed = crypto.seal(peer.shared, nonce, body + more)
        packet = bytes((self.kind,)) + nonce + peer.public + sealed + self.noise(177)
        return packet, source, name + how

    def learn(self, sent: list[tuple[Endpoint, bytes]]) -> None:
        """Keeps the ping ids of answers to first contacts and announces."""
        for _, packet in sent:
            if packet[0] != 0x8C or packet[178] != 0x84:
                continue
            answer = AnnounceResponse.decode(OnionResponse3.decode(packet).payload)
            asked = self._asked.pop(answer.sendback, None)
            if asked is None:
                continue
            peer, source = asked
            try:
                body = AnnounceResponseBody.open(peer.shared, Nonce(answer.nonce), answer.sealed)
            except WireError:
                continue  # the box of another, with the sender's key changed on its way
            if body.is_stored != 1:
                self.given.append(Given(peer, source, body.key))


class GroupMaker(AnnounceMaker):
    """87: an 83 with a chat id and a group announce. Every second one is an 83, for ping ids."""

    def __init__(self, node: Node) -> None:
        super().__init__(node, 0.2, 0.4)
        self.high = 490
        self._chats = [self.chance.randbytes(32) for _ in range(24)]
        self._members = [self.chance.randbytes(32) for _ in range(22)]

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes a request of either kind."""
        self.kind = 0x83 if self.chance.random() < 0.3 else 0x87
        return super().make()

    def extra(self) -> tuple[bytes, str]:
        """Makes chat id and announce."""
        chance = self.chance
        if self.kind == 0x83 or chance.random() < 0.05:
            return b"", ""
        # Most talk is about two chats: these have more than sixteen members.
        chat_id = self._chats[int(chance.random() ** 3 * len(self._chats))]
        announce, name = self._group_announce()
        more = chat_id + announce
        dice = chance.random()
        if dice < 0.05:
            more = more[: int(chance.random() * len(more))]
            name += ", cut"
        elif dice < 0.15:
            room = 136 - len(more)
            size = chance.choice((1, 7, room - 1, room, room + 1)) if room > 7 else room + 1
            more += self.noise(size)
            name += f", {size} behind"
        return more, name

    def _group_announce(self) -> tuple[bytes, str]:
        chance = self.chance
        member = chance.choice(self._members)
        has, relays = chance.choice(((1, 0), (0, 1), (1, 1), (1, 1), (1, 0), (0, 0)))
        if chance.random() < 0.03:
            has, relays = chance.choice(((2, 0), (0, 2), (1, 2), (255, 1)))
        address = relay = b""
        if has:
            address = self._compact((2, 10))
        if relays:
            relay = self._compact((130, 138, 130, 138, 2, 10)) + chance.randbytes(32)
        return member + bytes((has, relays)) + address + relay, f", has {has}, {relays} relays"

    def _compact(self, families: tuple[int, ...]) -> bytes:
        """Makes an address of 7 or 19 bytes: mostly of one of these families."""
        chance = self.chance
        family = chance.choice(families)
        if chance.random() < 0.05:
            family = chance.choice((0, 2, 10, 11, 130, 138, 255))
        if chance.random() < 0.04:
            return bytes((family,)) + pack_compact(from_text("::ffff:1.2.3.4", 5))[1:]
        size = 18 if family in (10, 138) else 6
        if size == 18 and chance.random() < 0.05:
            return bytes((family,)) + bytes(10) + b"\xff\xff" + chance.randbytes(6)
        return bytes((family,)) + chance.randbytes(size)


class DataMaker(AnnounceMaker):
    """85 for those who announced themselves; some packets are announces, so that there are some."""

    kind = 0x85

    def __init__(self, node: Node) -> None:
        super().__init__(node, 0.3, 0.7)
        self.low, self.high = 283, 1400

    def make(self) -> tuple[bytes, Endpoint, str]:
        """Makes data, or an announce."""
        chance = self.chance
        self.kind = 0x83
        if chance.random() < 0.2:
            return super().make()
        self.kind = 0x85
        destination, name = self.announced(), "data"
        if chance.random() < 0.1:
            destination, name = self.key(), "data for nobody"
        size = self.size(self.low, self.high)
        packet = b"\x85" + destination + self.noise(size - 33)
        return packet, chance.choice(self.node.sources), f"{name} of {size}"


MAKERS = {
    "00": ("dht", PingMaker),
    "00 new keys": ("dht", NewcomerMaker),
    "02": ("dht", NodesMaker),
    "80": ("onion", lambda node: HopMaker(node, 0x80)),
    "81": ("onion", lambda node: HopMaker(node, 0x81)),
    "82": ("onion", lambda node: HopMaker(node, 0x82)),
    "83 search": ("onion", lambda node: AnnounceMaker(node, 0.06, 0.14)),
    "83 first contact": ("onion", lambda node: AnnounceMaker(node, 0.85, 0.1)),
    "83 store": ("onion", lambda node: AnnounceMaker(node, 0.3, 0.65)),
    "85": ("onion", DataMaker),
    "87": ("onion", GroupMaker),
    "8c": ("onion", lambda node: BackMaker(node, 0x8C)),
    "8d": ("onion", lambda node: BackMaker(node, 0x8D)),
    "8e": ("onion", lambda node: BackMaker(node, 0x8E)),
}
"""By name: the role that takes the packets, and how their maker is made."""
