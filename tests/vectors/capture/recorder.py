"""What the capturing scripts share: nodes with known keys, and the book the vectors are kept in.

A vector is only of use with a key that opens it. So the reference is made to talk to us: whatever
it seals for a key of ours can be opened by whoever has the vector.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey
from core.endpoint import from_text
from core.entropy import SystemEntropy
from core.packets import NodeInfo
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
from core.wire import Body, Record, WireError
from tests.packets import vectors

HOST = "127.0.0.1"
ENTROPY = SystemEntropy()


def new_nonce() -> Nonce:
    """Returns a fresh nonce."""
    return Nonce(ENTROPY.bytes(24))


def shared_key(own: KeyPair, peer: bytes) -> crypto.SharedKey:
    """Returns the combined key of our secret and the peer's public key."""
    shared = crypto.precompute(own.secret, peer)
    assert shared is not None
    return shared


class Book:
    """The vectors of one run."""

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Any]] = {}

    def keep(self, cls: type[Record], data: bytes, made_by: str, note: str = "") -> dict[str, Any]:
        """Keeps a packet under its class name, and the note in brackets; the first one stays."""
        name = f"{cls.__name__} ({note})" if note else cls.__name__
        if name in self._kept:
            return {}
        vector: dict[str, Any] = {"name": name, "made_by": made_by, **described(cls, data)}
        self._kept[name] = vector
        print(f"{name}: {len(data)} bytes by {made_by}", flush=True)
        return vector

    def has(self, *names: str) -> bool:
        """Tells whether all of these are kept."""
        return all(name in self._kept for name in names)

    def save(self) -> None:
        """Writes everything to the files in tests/vectors."""
        vectors.save(list(self._kept.values()))


def described(cls: type[Record], data: bytes) -> dict[str, Any]:
    """Returns class, bytes and fields; the bytes must be what we would encode."""
    record = cls.decode(data)
    assert record.encode() == data
    return {"packet": cls.__name__, "hex": data.hex(), "fields": vectors.shown(record)}


def add_box(
    vector: dict[str, Any],
    own: KeyPair,
    peer: bytes,
    body: type[Record] | None = None,
    nonce: bytes | None = None,
) -> dict[str, Any]:
    """Opens the box in a vector and puts key and content beside it; returns the content's vector.

    Without a `body` class the content is kept as bytes.
    """
    if not vector:
        return {}
    record: Any = vectors.CLASSES[vector["packet"]].decode(bytes.fromhex(vector["hex"]))
    nonce = record.nonce if nonce is None else nonce
    plain = crypto.open_sealed(shared_key(own, peer), nonce, record.sealed)
    assert plain is not None, f"the box in {vector['packet']} does not open"
    vector["keys"] = {"secret": own.secret.reveal().hex(), "public": peer.hex()}
    vector["keys"]["nonce"] = nonce.hex()
    inner = {"hex": plain.hex()} if body is None else described(body, plain)
    vector["body"] = inner
    return inner


class FakeNode:
    """A DHT node of ours: a socket on loopback and keys that anybody may know."""

    def __init__(self, host: str = HOST) -> None:
        self.keys = KeyPair.generate(ENTROPY)
        self._host = host
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.port: int = self.socket.getsockname()[1]
        self.endpoint = from_text(host, self.port)
        self.info = NodeInfo(self.keys.public, self.endpoint)
        self.mute = False
        """Answers nothing, as a node behind a NAT."""

    def send(self, port: int, data: bytes) -> None:
        """Sends a datagram to a port on loopback."""
        self.socket.sendto(data, (self._host, port))

    def shared(self, peer: bytes) -> crypto.SharedKey:
        """Returns the combined key with a peer."""
        return shared_key(self.keys, peer)

    def ping(self, port: int, peer: bytes) -> None:
        """Sends a ping request."""
        nonce = new_nonce()
        body = PingRequestBody(ENTROPY.bytes(8)).seal(self.shared(peer), nonce)
        self.send(port, PingRequest(self.keys.public, nonce, body).encode())

    def ask_nodes(self, port: int, peer: bytes, searched: PublicKey) -> None:
        """Sends a nodes request."""
        nonce = new_nonce()
        body = NodesRequestBody(searched, ENTROPY.bytes(8)).seal(self.shared(peer), nonce)
        self.send(port, NodesRequest(self.keys.public, nonce, body).encode())


Handler = Callable[[FakeNode, bytes, int], None]
"""Takes the node that received, the datagram, and the port it came from."""


class FakeNetwork:
    """Some fake nodes that answer pings and nodes requests, and hand on everything else."""

    def __init__(self, size: int, host: str = HOST) -> None:
        self.nodes = [FakeNode(host) for _ in range(size)]
        self.handlers: list[Handler] = []
        self.streams: dict[socket.socket, Callable[[], None]] = {}
        self.answers: dict[bytes, tuple[NodeInfo, ...]] = {}
        """Nodes that answers begin with, by searched key."""

    def pump(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Serves until `done`, or until the time is over; returns whether it is done."""
        end = time.monotonic() + timeout_s
        while not done():
            left = end - time.monotonic()
            if left <= 0:
                return False
            sockets: list[socket.socket] = [node.socket for node in self.nodes]
            ready, _, _ = select.select(sockets + list(self.streams), [], [], min(left, 0.2))
            for node in list(self.nodes):
                if node.socket in ready:
                    data, source = node.socket.recvfrom(2048)
                    self._take(node, data, source[1])
            for stream, reader in list(self.streams.items()):
                if stream in ready:
                    reader()
        return True

    def wait_for(self, node: FakeNode, kind: int, timeout_s: float = 5) -> bytes:
        """Returns the next datagram of this kind that the node receives."""
        found: list[bytes] = []

        def handler(receiver: FakeNode, data: bytes, port: int) -> None:
            if receiver is node and data and data[0] == kind:
                found.append(data)

        self.handlers.append(handler)
        self.pump(lambda: bool(found), timeout_s)
        self.handlers.remove(handler)
        assert found, f"no packet {kind:#x} within {timeout_s} s"
        return found[0]

    def _take(self, node: FakeNode, data: bytes, port: int) -> None:
        for handler in list(self.handlers):
            handler(node, data, port)
        if node.mute:
            return
        try:
            if data[:1] == b"\x00":
                ping = PingRequest.decode(data)
                shared = node.shared(ping.sender)
                asked = PingRequestBody.open(shared, ping.nonce, ping.sealed)
                nonce = new_nonce()
                sealed = PingResponseBody(asked.ping_id).seal(shared, nonce)
                node.send(port, PingResponse(node.keys.public, nonce, sealed).encode())
            elif data[:1] == b"\x02":
                self._answer_nodes(node, NodesRequest.decode(data), port)
        except WireError as error:
            print(f"node on {node.port}: {error}", flush=True)

    def _answer_nodes(self, node: FakeNode, request: NodesRequest, port: int) -> None:
        shared = node.shared(request.sender)
        body = NodesRequestBody.open(shared, request.nonce, request.sealed)
        first = self.answers.get(body.searched, ())
        start = ENTROPY.below(len(self.nodes))
        others = [other.info for other in self.nodes if not other.mute]
        turned = others[start:] + others[:start]
        nodes = (first + tuple(turned))[:4]
        nonce = new_nonce()
        sealed = NodesResponseBody(nodes, body.request_id).seal(shared, nonce)
        node.send(port, NodesResponse(node.keys.public, nonce, sealed).encode())


def box(body: Body, own: KeyPair, peer: bytes, nonce: bytes) -> bytes:
    """Seals a body from our key for a peer's."""
    return body.seal(shared_key(own, peer), nonce)
