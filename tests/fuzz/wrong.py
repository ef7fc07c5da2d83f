"""Datagrams that pass the first look: the right key, the right box, and nonsense inside.

An overflow in the reference's DHT (CVE-2021-44847) lay behind the decryption, where no random bytes
ever came. So this seals with real keys, and learns from the node's answers (ping ids, tokens,
onion returns) to get behind those doors as well.
"""

import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from core import crypto
from core.crypto import KEY_SIZE, NONCE_SIZE, KeyPair, Nonce, SharedKey
from core.endpoint import Endpoint, pack_compact, pack_ip_port
from core.entropy import SeededEntropy
from core.packets import UDP_PACKETS, announce, data, dht, onion
from core.wire import Record
from tests.fuzz.mutate import mutate
from tests.packets.samples import Dice, relay_packets, sample

T = TypeVar("T")

CALLERS = 24  # identities; few enough that one meets its own ping ids and entries again
POOL = 60  # bodies of each kind
KEPT = 64  # learned tokens, ping ids and returns of each sort

_SENDER_FIRST: dict[int, tuple[type[Record], ...]] = {  # kind · key · nonce · box
    0x00: (dht.PingRequestBody,),
    0x01: (dht.PingResponseBody,),
    0x02: (dht.NodesRequestBody,),
    0x04: (dht.NodesResponseBody,),
    0x93: (data.DataSearchRequestBody,),
    0x94: (data.DataSearchResponseBody, data.DataUnchangedBody),
    0x95: (data.DataRetrieveRequestBody,),
    0x97: (data.DataStoreRequestBody,),
}
_NONCE_FIRST: dict[int, tuple[tuple[type[Record], ...], int]] = {  # kind · nonce · key · box · tail
    0x80: ((onion.OnionRequest0Body,), 0),
    0x81: ((onion.OnionRequest1Body,), 59),
    0x82: ((onion.OnionRequest2Body,), 118),
    0x83: ((announce.AnnounceRequestBody,), 177),
    0x87: ((announce.GroupAnnounceRequestBody,), 177),
}
_RETURNS = {0x8C: 177, 0x8D: 118, 0x8E: 59}
_NEVER_FROM_CLIENTS = frozenset((0x01, 0x07, 0x09, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F))
_PEELED_BY = {size: kind for kind, size in _RETURNS.items()}
_TO_US = (dht.NatPingBody, dht.DhtKeyRequestBody)


def relay_talk(chance: random.Random) -> Iterator[bytes]:
    """Yields what a client may say to a relay, and now and then what closes the connection."""
    for packet in relay_packets(chance):
        if packet[0] in _NEVER_FROM_CLIENTS and chance.random() < 0.95:
            continue
        yield packet


class Wrong:
    """An endless supply of such datagrams for one node, repeatable from its seed."""

    def __init__(self, node: bytes, seed: int | str, homes: Sequence[Endpoint]) -> None:
        self.chance = random.Random(seed)
        self.entropy = SeededEntropy(f"wrong {seed}")
        self.node = node
        self.homes = homes  # where answers come to: addresses inside packets often name one
        self.speaker = 0
        self.callers: list[tuple[KeyPair, SharedKey]] = []
        for _ in range(CALLERS):
            pair = KeyPair.generate(self.entropy)
            shared = crypto.precompute(pair.secret, node)
            assert shared is not None
            self.callers.append((pair, shared))
        self.by_key = {bytes(pair.public): shared for pair, shared in self.callers}
        self.learned: dict[str, deque[bytes]] = {}
        self.ping_ids: dict[int, bytes] = {}  # by caller
        self.tokens: dict[int, bytes] = {}
        dice = Dice(self.chance)
        classes = {cls for row in _SENDER_FIRST.values() for cls in row}
        classes |= {cls for row, _ in _NONCE_FIRST.values() for cls in row}
        classes |= {*_TO_US, data.DataStoreContentBody}
        self._bodies = {
            cls: [sample(cls, dice).encode() for _ in range(POOL)]
            for cls in sorted(classes, key=lambda cls: cls.__name__)
        }
        self._group_announces = [
            sample(announce.GroupAnnounce, dice).encode() for _ in range(POOL)
        ]
        self._whole = [
            sample(cls, dice).encode()
            for classes_of_kind in UDP_PACKETS.values()
            for cls in classes_of_kind
            for _ in range(10)
        ]
        self._makers: tuple[Callable[[], bytes], ...] = (
            self._noise, self._sender_first, self._sender_first, self._nonce_first,
            self._nonce_first, self._nonce_first, self._dht_request, self._back, self._route,
            self._forward, self._forward, self._store, self._genuine, self._genuine,
        )  # fmt: skip

    def datagram(self) -> bytes:
        """Makes the next one."""
        packet = self._pick(self._makers)()
        if self.chance.random() < 0.05:
            packet = mutate(packet, self.chance, self._whole)
        return packet[:2048]

    def _pick(self, row: Sequence[T]) -> T:
        return row[int(self.chance.random() * len(row))]

    def _caller(self) -> tuple[KeyPair, SharedKey]:
        """Chooses who speaks: `speaker` tells which, and so from which address."""
        self.speaker = int(self.chance.random() * CALLERS)
        return self.callers[self.speaker]

    def home(self) -> Endpoint:
        """Returns the address of the one who spoke last."""
        return self.homes[self.speaker % len(self.homes)]

    def _body(self, cls: type[Record]) -> bytes:
        """Returns a valid or a broken body, perhaps with things in it that the node gave us."""
        body: bytes = self._pick(self._bodies[cls])
        for sort in ("token", "ping id", "key", "home"):
            if self.chance.random() < 0.3:
                body = self._plant(body, sort)
        if self.chance.random() < 0.5:
            body = mutate(body, self.chance, self._bodies[cls])
        return body

    def _plant(self, body: bytes, sort: str) -> bytes:
        """Overwrites a field: mostly at the places where such a thing belongs."""
        if sort == "key":
            piece = bytes(self._pick(self.callers)[0].public)
        elif sort == "home":
            piece = pack_ip_port(self.home())
        else:
            known = self.learned.get(sort)
            if not known:
                return body
            piece = self._pick(known)
        at = 0 if sort == "home" else self._pick((0, 32, 33, 64, 65))
        return body[:at] + piece + body[at + len(piece) :] if at <= len(body) else body

    def _noise(self) -> bytes:
        if self.chance.random() < 0.2:
            return self.chance.randbytes(self.chance.randrange(0, 600))
        return mutate(self._pick(self._whole), self.chance, self._whole)

    def _nonce(self) -> Nonce:
        return Nonce(self.chance.randbytes(NONCE_SIZE))

    def _sender_first(self) -> bytes:
        kind = self._pick(tuple(_SENDER_FIRST))
        pair, shared = self._caller()
        nonce = self._nonce()
        sealed = crypto.seal(shared, nonce, self._body(self._pick(_SENDER_FIRST[kind]))[:1900])
        return bytes((kind,)) + pair.public + nonce + sealed

    def _nonce_first(self) -> bytes:
        kind = self._pick(tuple(_NONCE_FIRST))
        classes, tail = _NONCE_FIRST[kind]
        pair, shared = self._caller()
        nonce = self._nonce()
        sealed = crypto.seal(shared, nonce, self._body(self._pick(classes))[:1900])
        if self.chance.random() < 0.05:
            tail = self.chance.randrange(200)
        return bytes((kind,)) + nonce + pair.public + sealed + self.chance.randbytes(tail)

    def _dht_request(self) -> bytes:
        pair, shared = self._caller()
        nonce = self._nonce()
        plain = self._body(self._pick(_TO_US))
        if self.chance.random() < 0.3:
            size = self._pick((0, 1, 919, 920, 1024, 1500, 1900))
            plain = (plain + bytes(size))[:size]
        addressee = self.node if self.chance.random() < 0.8 else self._pick(self.callers)[0].public
        return b"\x20" + addressee + pair.public + nonce + crypto.seal(shared, nonce, plain[:1900])

    def _back(self) -> bytes:
        kind = self._pick(tuple(_RETURNS))
        known = self.learned.get(f"return {kind}")
        back = self._pick(known) if known else self.chance.randbytes(_RETURNS[kind])
        return bytes((kind,)) + back + mutate(self._pick(self._whole), self.chance, self._whole)

    def _route(self) -> bytes:
        key = self._pick(self.callers)[0].public
        size = self.chance.randrange(0, 1400)
        return b"\x85" + key + self.chance.randbytes(size) + bytes(177)

    def _forward(self) -> bytes:
        packet = self._sender_first() if self.chance.random() < 0.7 else self._noise()
        if self.chance.random() < 0.5:
            sendback = self.chance.randbytes(self._pick((0, 1, 8, 41, 254, 255)))
            kind = self._pick((0x91, 0x91, 0x92))
            return bytes((kind, len(sendback))) + sendback + packet
        known = self.learned.get("sendback")
        if known and self.chance.random() < 0.5:
            sendback = self._pick(known)
            return b"\x92" + bytes((len(sendback),)) + sendback + packet
        for _ in range(self._pick((1, 1, 2, 4, 5, 9))):
            packet = b"\x90" + self._pick(self.callers)[0].public + packet
        return packet

    def _store(self) -> bytes:
        """A store request whose inner box is genuine as well."""
        pair, shared = self._caller()
        inner_nonce, nonce = self._nonce(), self._nonce()
        content = self._body(data.DataStoreContentBody)
        if self.chance.random() < 0.7:
            content = self.tokens.get(self.speaker, b"") + content[32:]
        inner = crypto.seal(shared, inner_nonce, content[:1500])
        plain = pair.public + inner_nonce + inner + self.chance.randbytes(8)
        return b"\x97" + pair.public + nonce + crypto.seal(shared, nonce, plain[:1900])

    def _genuine(self) -> bytes:
        """What a real client would say next, now and then with something broken in the box."""
        pair, shared = self._caller()
        own, number = bytes(pair.public), self.chance.randbytes(8)
        token = self.tokens.get(self.speaker, bytes(32))
        ping_id = self.ping_ids.get(self.speaker, bytes(32))
        kind, body = self._pick(
            (
                (0x93, own + number),
                (0x95, own + b"\x00" + token + number),
                (0x83, ping_id + own + own + number),
                (0x83, bytes(32) + self._pick(self.callers)[0].public + bytes(32) + number),
                (0x87, ping_id + own + own + number + own + self._pick(self._group_announces)),
            )
        )
        if self.chance.random() < 0.2:
            body = mutate(body, self.chance)
        nonce = self._nonce()
        sealed = crypto.seal(shared, nonce, body[:1900])
        if kind >= 0x90:
            return bytes((kind,)) + own + nonce + sealed
        return bytes((kind,)) + nonce + own + sealed + self.chance.randbytes(177)

    def _keep(self, sort: str, thing: bytes) -> None:
        if thing:
            self.learned.setdefault(sort, deque(maxlen=KEPT)).append(thing)

    def learn(self, packet: bytes) -> None:
        """Takes what the node sent, and keeps what opens further doors."""
        kind = packet[0] if packet else -1
        if kind in (0x81, 0x82, 0x83, 0x85, 0x87):
            size = {0x81: 59, 0x82: 118}.get(kind, 177)
            self._keep(f"return {_PEELED_BY[size]}", packet[-size:])
        elif kind == 0x8C and packet[178:179] == b"\x84":
            nonce, sealed = packet[187 : 187 + NONCE_SIZE], packet[187 + NONCE_SIZE :]
            for number, (_, shared) in enumerate(self.callers):
                plain = crypto.open_sealed(shared, nonce, sealed)
                if plain is not None:
                    self.ping_ids[number] = plain[1 : 1 + KEY_SIZE]
                    self._keep("ping id", plain[1 : 1 + KEY_SIZE])
                    break
        elif kind == 0x94:
            for number, (_, shared) in enumerate(self.callers):
                plain = crypto.open_sealed(shared, packet[33:57], packet[57:])
                if plain is not None and len(plain) > 66:
                    at = 33 + 32 * (plain[32] == 1)
                    self.tokens[number] = plain[at : at + 32]
                    self._keep("token", plain[at : at + 32])
                    break
        elif kind == 0x91 and len(packet) > 2:
            self._keep("sendback", packet[2 : 2 + packet[1]])

    def answer(self, packet: bytes) -> bytes | None:
        """Answers the node's pings and nodes requests like a node, so that it takes us in."""
        if len(packet) < 82 or packet[0] not in (0x00, 0x02):
            return None
        for number, (pair, shared) in enumerate(self.callers):
            plain = crypto.open_sealed(shared, packet[33:57], packet[57:])
            if plain is None:
                continue
            self.speaker = number
            nonce = self._nonce()
            if packet[0] == 0x00:
                body = b"\x01" + plain[1:]
                return b"\x01" + pair.public + nonce + crypto.seal(shared, nonce, body)
            other = int(self.chance.random() * CALLERS)
            home = self.homes[other % len(self.homes)]
            node = pack_compact(home) + self.callers[other][0].public
            body = b"\x01" + node + plain[32:]
            if self.chance.random() < 0.2:
                body = mutate(body, self.chance)
            return b"\x04" + pair.public + nonce + crypto.seal(shared, nonce, body)
        return None
