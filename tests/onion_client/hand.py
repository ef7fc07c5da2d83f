"""An onion client in the hand of a test: every node it talks to is the test itself."""

from collections import Counter
from typing import NamedTuple

from core.crypto import KeyPair, Nonce, PublicKey, SharedKey, precompute, seal
from core.endpoint import Endpoint, from_text
from core.onion_client import OnionClient
from core.packets.announce import (
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
    DataToRouteBody,
    DataToRouteRequest,
    DataToRouteResponse,
)
from core.packets.dht import DhtKeyPacket
from core.packets.nodes import NodeInfo
from core.packets.onion import (
    RETURN3_SIZE,
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1Body,
    OnionRequest2Body,
)
from core.packets.relay import RelayOnionRequest
from tests.onion_client.told import Told
from tests.simulation.chance import StreamedEntropy

START = 1000.0
UNIX = 1.6e9


def pair(name: str) -> KeyPair:
    """Returns the key pair of a name."""
    return KeyPair.generate(StreamedEntropy(f"pair/{name}"))


def shared(mine: KeyPair, theirs: bytes) -> SharedKey:
    """Returns a combined key."""
    key = precompute(mine.secret, theirs)
    assert key is not None
    return key


class FakeNode(NamedTuple):
    """A node whose secret key is known."""

    keys: KeyPair
    info: NodeInfo


def make_node(number: int, host: str = "") -> FakeNode:
    """Returns a node in a /24 of its own."""
    keys = pair(f"node {number}")
    endpoint = from_text(host or f"20.{number >> 8}.{number & 255}.1", 33445)
    return FakeNode(keys, NodeInfo(keys.public, endpoint))


class Request(NamedTuple):
    """An announce request as the node at the end of a path finds it."""

    hops: tuple[Endpoint, ...]
    node: FakeNode
    requester: PublicKey
    body: AnnounceRequestBody
    at: float


class Written(NamedTuple):
    """A letter as the storing node finds it."""

    hops: tuple[Endpoint, ...]
    destination: Endpoint
    request: DataToRouteRequest


class Hand(Told):
    """The client, its ways and its listener; nodes answer when the test says so."""

    def __init__(self, nodes: int = 12, udp: bool = True, give: bool = True) -> None:
        super().__init__()
        self.nodes = [make_node(number) for number in range(nodes)]
        self.by_endpoint = {node.info.endpoint: node for node in self.nodes}
        self.real, self.dht = pair("real"), pair("dht")
        self.given = [node.info for node in self.nodes] if give else []
        self.relays: list[NodeInfo] = []
        self.relay_takes = True
        self.udp = udp
        self.requests_by_dht: list[tuple[PublicKey, bytes]] = []
        self.routed = 1
        self.own = [make_node(900).info]
        self.sent: list[tuple[Endpoint | PublicKey, bytes]] = []
        """What left, until it is taken."""
        self.log: list[tuple[Endpoint | PublicKey, bytes]] = []
        """All that ever left."""
        self.drops: Counter[str] = Counter()
        self.now = START
        self._entropy = StreamedEntropy("hand")
        self.client = OnionClient(
            self.real, self.dht, StreamedEntropy("client"), self, self, self.drops, START, UNIX
        )

    def add_node(self, number: int, host: str = "") -> FakeNode:
        """Makes one more node that the test plays."""
        node = make_node(number, host)
        self.nodes.append(node)
        self.by_endpoint[node.info.endpoint] = node
        return node

    # OnionWays

    def send_udp(self, endpoint: Endpoint, packet: bytes) -> None:
        self.sent.append((endpoint, packet))
        self.log.append((endpoint, packet))

    def path_nodes(self) -> list[NodeInfo]:
        return list(self.given)

    def onion_relays(self) -> list[NodeInfo]:
        return list(self.relays)

    def send_onion(self, relay_key: PublicKey, packet: bytes, now: float) -> bool:
        if self.relay_takes:
            self.sent.append((relay_key, packet))
            self.log.append((relay_key, packet))
        return self.relay_takes

    def uses_udp(self) -> bool:
        return self.udp

    def send_dht_request(self, dht_key: PublicKey, plain: bytes, now: float) -> int:
        self.requests_by_dht.append((dht_key, plain))
        return self.routed

    def own_nodes(self, most: int) -> list[NodeInfo]:
        return self.own[:most]

    # What the test does

    def peel(
        self, where: Endpoint | PublicKey, packet: bytes
    ) -> tuple[tuple[Endpoint, ...], Endpoint, bytes]:
        """Opens the three layers as the hops do, by the declared packets; returns the hops, the
        destination and the payload."""
        if packet[0] == 8:
            relayed = RelayOnionRequest.decode(packet)
            first = [info.endpoint for info in self.relays if info.key == where]
            nonce, second = relayed.nonce, relayed.next_hop
            sender, sealed = relayed.sender, relayed.sealed
        else:
            outer = OnionRequest0.decode(packet)
            assert outer.sender == self.dht.public
            assert isinstance(where, bytes)
            first = [Endpoint(where)]
            keys = self.by_endpoint[first[0]].keys
            body = OnionRequest0Body.open(shared(keys, outer.sender), outer.nonce, outer.sealed)
            nonce, second, sender, sealed = outer.nonce, body.next_hop, body.sender, body.sealed
        keys = self.by_endpoint[second].keys
        middle = OnionRequest1Body.open(shared(keys, sender), nonce, sealed)
        keys = self.by_endpoint[middle.next_hop].keys
        inner = OnionRequest2Body.open(shared(keys, middle.sender), nonce, middle.sealed)
        return (first[0], second, middle.next_hop), inner.destination, inner.payload

    def take(self) -> list[Request]:
        """Returns the announce requests that left, opened, and forgets all that left."""
        found = []
        for where, packet in self.sent:
            hops, destination, payload = self.peel(where, packet)
            if payload[0] != 0x83:
                continue
            request = AnnounceRequest.decode(payload + bytes(RETURN3_SIZE))
            node = self.by_endpoint[destination]
            key = shared(node.keys, request.requester)
            body = AnnounceRequestBody.open(key, request.nonce, request.sealed)
            found.append(Request(hops, node, request.requester, body, self.now))
        self.sent.clear()
        return found

    def letters(self) -> list[Written]:
        """Returns the letters that left, and forgets all that left."""
        found = []
        for where, packet in self.sent:
            hops, destination, payload = self.peel(where, packet)
            if payload[0] == 0x85:
                letter = DataToRouteRequest.decode(payload + bytes(RETURN3_SIZE))
                found.append(Written(hops, destination, letter))
        self.sent.clear()
        return found

    def answer_bytes(
        self,
        request: Request,
        stored: int = 0,
        key: bytes = b"p" * 32,
        nodes: tuple[NodeInfo, ...] = (),
        sendback: bytes = b"",
    ) -> bytes:
        """Returns the answer of the node that was asked."""
        nonce = Nonce(self._entropy.bytes(24))
        box = shared(request.node.keys, request.requester)
        sealed = AnnounceResponseBody(stored, key, nodes).seal(box, nonce)
        return AnnounceResponse(sendback or request.body.sendback, nonce, sealed).encode()

    def answer(
        self,
        request: Request,
        stored: int = 0,
        key: bytes = b"p" * 32,
        nodes: tuple[NodeInfo, ...] = (),
    ) -> None:
        """Has the node answer."""
        packet = self.answer_bytes(request, stored, key, nodes)
        self.client.handle_packet(packet, request.hops[0], self.now)

    def serve(self, request: Request, storing: bytes = b"") -> None:
        """Answers as an honest node does that stores whoever proves itself; `storing` is the data
        key of the friend that is announced at every node."""
        if request.requester != self.real.public:
            self.answer(request, 1 if storing else 0, storing or b"p" * 32)
        elif request.body.ping_id == bytes(32):
            self.answer(request, 0, b"p" * 32)
        else:
            self.answer(request, 2, b"q" * 32)

    def go(self, seconds: float, storing: bytes = b"", serve: bool = True) -> list[Request]:
        """Lets time pass from timer to timer, and nodes answer at once; returns the requests."""
        end = self.now + seconds
        seen = []
        while True:
            for request in self.take_own():
                seen.append(request)
                if serve:
                    self.serve(request, storing)
            due = self.client.next_timer()
            if due is None or due > end:
                break
            self.now = max(self.now, due)
            self.client.handle_timer(self.now)
            after = self.client.next_timer()
            assert after is None or after > self.now, "it would be woken for nothing"
        self.now = end
        return seen

    def take_own(self) -> list[Request]:
        """Returns the announce requests that left; letters stay."""
        letters = [row for row in self.sent if self.peel(*row)[2][0] != 0x83]
        requests = self.take()
        self.sent = letters
        return requests

    def connect(self) -> None:
        """Has the client be announced at all nodes."""
        self.go(10)
        assert self.connections[-1:] == [True]

    @property
    def data_key(self) -> PublicKey:
        """The key to which others seal letters for the client."""
        return PublicKey(self.client._announce.data_key)

    def letter(self, sender: KeyPair, data: bytes, data_key: bytes = b"", number: int = 0) -> bytes:
        """Returns a data response with a letter to the client."""
        nonce = Nonce(self._entropy.bytes(24))
        temporary = pair(f"temporary {number}")
        text = DataToRouteBody(
            sender.public, seal(shared(sender, self.real.public), nonce, data)
        ).encode()
        sealed = seal(shared(temporary, data_key or self.data_key), nonce, text)
        return DataToRouteResponse(nonce, temporary.public, sealed).encode()

    def hear(self, packet: bytes, source: Endpoint | None = None) -> None:
        """Has a packet come, from a first hop of the client's own paths unless said otherwise."""
        firsts = self.client._asker.for_self.firsts
        self.client.handle_packet(packet, source or firsts[-1], self.now)

    def dht_key(
        self, sender: KeyPair, number: int, dht_key: PublicKey, nodes: tuple[NodeInfo, ...] = ()
    ) -> bytes:
        """Returns a letter with a DHT key packet."""
        return self.letter(sender, DhtKeyPacket(number, dht_key, nodes).encode())
