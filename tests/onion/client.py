"""An in-memory Tox client that builds onions, announces and searches with real boxes.

Written from the packet layouts and with PyNaCl alone, so that it shares no code with what it tests
but addresses.
"""

import hashlib
from typing import NamedTuple

import nacl.bindings as nacl

from core.crypto import KeyPair
from core.endpoint import Endpoint, pack_ip_port
from core.entropy import SeededEntropy


class Hop(NamedTuple):
    """A node of a path: where it listens, and its DHT key."""

    endpoint: Endpoint
    key: bytes


class AnnounceAnswer(NamedTuple):
    """An opened announce response."""

    kind: int
    sendback: bytes
    is_stored: int
    payload: bytes  # ping id or data key
    rest: bytes  # nodes (84); count, nodes and group announces (88)


class DataAnswer(NamedTuple):
    """An opened response to a data announcement request."""

    kind: int
    body: bytes
    ping_id: bytes


def box(secret: KeyPair, public: bytes, nonce: bytes, plain: bytes) -> bytes:
    """Boxes with the public bindings."""
    shared = nacl.crypto_box_beforenm(public, secret.secret.reveal())
    return nacl.crypto_box_afternm(plain, nonce, shared)


def unbox(secret: KeyPair, public: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Opens with the public bindings; raises nacl's CryptoError."""
    shared = nacl.crypto_box_beforenm(public, secret.secret.reveal())
    return nacl.crypto_box_open_afternm(sealed, nonce, shared)


class Client:
    """One client with a long-term key, a DHT key and a data key."""

    def __init__(self, name: str) -> None:
        self.entropy = SeededEntropy(name)
        self.real = KeyPair.generate(self.entropy)
        self.dht = KeyPair.generate(self.entropy)
        self.data = KeyPair.generate(self.entropy)

    def nonce(self) -> bytes:
        return self.entropy.bytes(24)

    def _layers(
        self, path: list[Hop], destination: Endpoint, payload: bytes, nonce: bytes
    ) -> tuple[bytes, bytes]:
        """Returns the text of the outermost layer and the nonce it is to be boxed with."""
        first, second = KeyPair.generate(self.entropy), KeyPair.generate(self.entropy)
        inner = pack_ip_port(destination) + payload
        middle = box(second, path[2].key, nonce, inner)
        text = pack_ip_port(path[2].endpoint) + second.public + middle
        outer = box(first, path[1].key, nonce, text)
        return pack_ip_port(path[1].endpoint) + first.public + outer, nonce

    def onion(self, path: list[Hop], destination: Endpoint, payload: bytes) -> bytes:
        """Builds packet 80 for a path of three nodes."""
        text, nonce = self._layers(path, destination, payload, self.nonce())
        return b"\x80" + nonce + self.dht.public + box(self.dht, path[0].key, nonce, text)

    def relay_onion(self, path: list[Hop], destination: Endpoint, payload: bytes) -> bytes:
        """Builds relay packet 08; the relay is path[0]."""
        text, nonce = self._layers(path, destination, payload, self.nonce())
        return b"\x08" + nonce + text

    def announce_request(
        self,
        node: bytes,
        requester: KeyPair,
        searched: bytes,
        ping_id: bytes = bytes(32),
        data_key: bytes = bytes(32),
        sendback: bytes = b"sendback",
        group: bytes | None = None,
    ) -> bytes:
        """Builds packet 83, or 87 when `group` (chat id and announce, may be empty) is given."""
        nonce = self.nonce()
        text = ping_id + searched + data_key + sendback + (group or b"")
        kind = b"\x83" if group is None else b"\x87"
        return kind + nonce + requester.public + box(requester, node, nonce, text)

    def data_request(self, destination: bytes, data_key: bytes, data: bytes) -> bytes:
        """Builds packet 85."""
        nonce, temporary = self.nonce(), KeyPair.generate(self.entropy)
        sealed = box(temporary, data_key, nonce, data)
        return b"\x85" + destination + nonce + temporary.public + sealed

    @staticmethod
    def open_announce(requester: KeyPair, node: bytes, packet: bytes) -> AnnounceAnswer:
        """Opens packet 84 or 88."""
        text = unbox(requester, node, packet[9:33], packet[33:])
        return AnnounceAnswer(packet[0], packet[1:9], text[0], text[1:33], text[33:])

    def open_data(self, packet: bytes) -> bytes:
        """Opens packet 86 with the client's data key."""
        return unbox(self.data, packet[25:57], packet[1:25], packet[57:])

    def _framed(self, kind: int, node: bytes, body: bytes, ping_id: bytes) -> bytes:
        nonce = self.nonce()
        head = bytes((kind,)) + self.dht.public + nonce
        return head + box(self.dht, node, nonce, body + ping_id)

    def data_search(
        self, node: bytes, data_key: bytes, last: bytes = b"", ping_id: bytes = b"pingping"
    ) -> bytes:
        """Builds packet 93; `last` is the body of the answer the client has already."""
        known = hashlib.sha256(last).digest() if last else b""
        return self._framed(0x93, node, data_key + known, ping_id)

    def data_retrieve(self, node: bytes, data_key: bytes, token: bytes) -> bytes:
        """Builds packet 95."""
        return self._framed(0x95, node, data_key + b"\x00" + token, b"pingping")

    def data_store(
        self, node: bytes, token: bytes, timeout: int, kind: int, content: bytes
    ) -> bytes:
        """Builds packet 97 for the client's data key."""
        nonce = self.nonce()
        text = token + timeout.to_bytes(4, "big") + bytes((kind,)) + content
        sealed = box(self.data, node, nonce, text)
        return self._framed(0x97, node, self.data.public + nonce + sealed, b"pingping")

    def open_data_answer(self, node: bytes, packet: bytes) -> DataAnswer:
        """Opens packets 94, 96 and 98."""
        assert packet[1:33] == node
        text = unbox(self.dht, node, packet[33:57], packet[57:])
        return DataAnswer(packet[0], text[:-8], text[-8:])


def group_announce(peer: bytes, address: bytes = b"", relay: bytes = b"") -> bytes:
    """Builds a group announce of packed parts."""
    return peer + bytes((bool(address), bool(relay))) + address + relay
