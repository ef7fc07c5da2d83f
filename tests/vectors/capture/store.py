"""Fake hops and announce stores: they open what a client sends through the onion, and answer it."""

from collections.abc import Callable
from typing import Any

from core import crypto
from core.crypto import NO_KEY, KeyPair, PublicKey
from core.packets.announce import (
    NO_RETURN,
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
    DataToRouteBody,
    DataToRouteRequest,
    DataToRouteResponse,
    FriendRequest,
    GroupAnnounce,
    GroupAnnounceRequest,
    GroupAnnounceRequestBody,
    GroupAnnounceResponse,
    GroupAnnounceResponseBody,
)
from core.packets.dht import DhtKeyPacket
from core.packets.onion import (
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1Body,
    OnionRequest2,
    OnionRequest2Body,
)
from core.packets.relay import RelayOnionRequest
from core.wire import Body, WireError
from tests.vectors.capture.recorder import (
    ENTROPY,
    Book,
    FakeNetwork,
    FakeNode,
    add_box,
    box,
    new_nonce,
)

Reply = Callable[[bytes], None]


class Friend:
    """A client that is not there: its keys are ours, its data arrives in the fake stores."""

    def __init__(self) -> None:
        self.real = KeyPair.generate(ENTROPY)
        self.data = KeyPair.generate(ENTROPY)
        self.node = FakeNode()
        self.node.mute = True

    @property
    def tox_id(self) -> str:
        """Returns the Tox ID in hex."""
        head = self.real.public + b"spam"
        check = [0, 0]
        for place, byte in enumerate(head):
            check[place & 1] ^= byte
        return (head + bytes(check)).hex()


class Store:
    """All fake nodes as hops and announce stores for one client."""

    def __init__(self, book: Book, network: FakeNetwork, friend: Friend, made_by: str) -> None:
        self.book, self.network, self.friend, self.made_by = book, network, friend, made_by
        self.client_key = NO_KEY
        """The client's real key, when it is known."""
        self.client_data_key = NO_KEY
        self.group: tuple[GroupAnnounce, ...] = ()
        """What a search for a group finds."""
        self.note = ""
        """Goes into the name of the onion request that is kept."""
        self.payloads: dict[int, bytes] = {}
        """The first payload of each kind, as it came to the destination, and which that was."""
        self.targets: dict[int, FakeNode] = {}
        network.handlers.append(self._take)

    def _take(self, node: FakeNode, data: bytes, port: int) -> None:
        if data[:1] != b"\x80":
            return
        packet = OnionRequest0.decode(data)
        vector = self.book.keep(OnionRequest0, data, self.made_by, self.note)
        body = OnionRequest0Body.open(node.shared(packet.sender), packet.nonce, packet.sealed)
        shown = add_box(vector, node.keys, packet.sender, OnionRequest0Body)
        self._peel(shown, packet.nonce, body, lambda answer: node.send(port, answer))

    def take_relayed(self, data: bytes, reply: Reply) -> None:
        """Takes a relay packet 08."""
        packet = RelayOnionRequest.decode(data)
        vector = self.book.keep(RelayOnionRequest, data, self.made_by)
        self._peel(vector, packet.nonce, packet, reply)

    def _node_at(self, endpoint: bytes) -> FakeNode | None:
        return next((one for one in self.network.nodes if one.endpoint == endpoint), None)

    def _peel(
        self,
        shown: dict[str, Any],
        nonce: bytes,
        outer: OnionRequest0Body | RelayOnionRequest,
        reply: Reply,
    ) -> None:
        second = self._node_at(outer.next_hop)
        if second is None:
            return
        shown = add_box(shown, second.keys, outer.sender, OnionRequest1Body, nonce)
        middle = OnionRequest1Body.open(second.shared(outer.sender), nonce, outer.sealed)
        third = self._node_at(middle.next_hop)
        if third is None:
            return
        add_box(shown, third.keys, middle.sender, OnionRequest2Body, nonce)
        inner = OnionRequest2Body.open(third.shared(middle.sender), nonce, middle.sealed)
        target = self._node_at(inner.destination)
        if target is None:
            return
        kind = inner.payload[0]
        if kind not in self.payloads:
            self.payloads[kind], self.targets[kind] = inner.payload, target
        try:
            self._handle(target, inner.payload + NO_RETURN, reply)
        except WireError as error:
            print(f"store on {target.port}: {error}", flush=True)

    def _handle(self, node: FakeNode, data: bytes, reply: Reply) -> None:
        if data[0] == 0x83:
            self._answer(node, AnnounceRequest.decode(data), reply)
        elif data[0] == 0x87:
            self._answer_group(node, GroupAnnounceRequest.decode(data), reply)
        elif data[0] == 0x85:
            self._deliver(DataToRouteRequest.decode(data))

    def _answer(self, node: FakeNode, request: AnnounceRequest, reply: Reply) -> None:
        shared = node.shared(request.requester)
        body = AnnounceRequestBody.open(shared, request.nonce, request.sealed)
        ping_id = crypto.sha256(node.keys.public)
        stored, key = 0, ping_id
        if body.data_key != NO_KEY:
            stored = 2 if body.ping_id == ping_id else 0
            if request.requester == self.client_key:
                self.client_data_key = body.data_key
        elif body.searched == self.friend.real.public:
            stored, key = 1, self.friend.data.public
        nonce = new_nonce()
        nodes = tuple(other.info for other in self.network.nodes if not other.mute)[:4]
        answer = AnnounceResponseBody(stored, key, nodes).seal(shared, nonce)
        reply(AnnounceResponse(body.sendback, nonce, answer).encode())

    def _answer_group(self, node: FakeNode, request: GroupAnnounceRequest, reply: Reply) -> None:
        shared = node.shared(request.requester)
        body = GroupAnnounceRequestBody.open(shared, request.nonce, request.sealed)
        nonce = new_nonce()
        nodes = tuple(other.info for other in self.network.nodes if not other.mute)[:4]
        ping_id = crypto.sha256(node.keys.public)
        answer = GroupAnnounceResponseBody(0, ping_id, nodes, self.group).seal(shared, nonce)
        reply(GroupAnnounceResponse(body.sendback, nonce, answer).encode())

    def _deliver(self, request: DataToRouteRequest) -> None:
        """Opens what the client writes to the friend: a friend request or its DHT key."""
        friend = self.friend
        outer = crypto.precompute(friend.data.secret, request.temporary_key)
        assert outer is not None
        body = DataToRouteBody.open(outer, request.nonce, request.sealed)
        plain = crypto.open_sealed(
            crypto.precompute(friend.real.secret, body.real_key) or crypto.SharedKey(bytes(32)),
            request.nonce,
            body.sealed,
        )
        assert plain is not None
        inner: type[Body] = FriendRequest if plain[0] == 0x20 else DhtKeyPacket
        made_by = f"{self.made_by}, return (zeros) by toxmesh"
        note = f"with {inner.__name__}"
        vector = self.book.keep(DataToRouteRequest, request.encode(), made_by, note)
        shown = add_box(vector, friend.data, request.temporary_key, DataToRouteBody)
        add_box(shown, friend.real, body.real_key, inner, request.nonce)

    def letter(self, packet: DhtKeyPacket) -> bytes:
        """Makes the packet that tells the client the friend's DHT key, as the onion brings it."""
        friend, temporary, nonce = self.friend, KeyPair.generate(ENTROPY), new_nonce()
        letter = box(packet, friend.real, self.client_key, nonce)
        body = DataToRouteBody(friend.real.public, letter)
        sealed = box(body, temporary, self.client_data_key, nonce)
        return DataToRouteResponse(nonce, temporary.public, sealed).encode()

    def pass_on(self, kind: int, hop_port: int, hop_key: bytes, by: str) -> None:
        """Sends a payload of the client through a third hop that others wrote, and keeps it."""
        target, temporary, nonce = self.targets[kind], KeyPair.generate(ENTROPY), new_nonce()
        body = OnionRequest2Body(target.endpoint, self.payloads[kind])
        sealed = box(body, temporary, hop_key, nonce)
        packet = OnionRequest2(nonce, PublicKey(temporary.public), sealed, ENTROPY.bytes(118))
        target.send(hop_port, packet.encode())
        data = self.network.wait_for(target, kind)
        made_by = f"{self.made_by}, return by {by}"
        if kind == 0x83:
            vector = self.book.keep(AnnounceRequest, data, made_by)
            add_box(vector, target.keys, data[25:57], AnnounceRequestBody)
        elif kind == 0x87:
            vector = self.book.keep(GroupAnnounceRequest, data, made_by)
            add_box(vector, target.keys, data[25:57], GroupAnnounceRequestBody)
        else:
            vector = self.book.keep(DataToRouteRequest, data, made_by)
            add_box(vector, self.friend.data, data[57:89], DataToRouteBody)


