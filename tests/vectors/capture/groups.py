"""Captures what libtoxcore 0.2.20 sends for its groups: `python -m tests.vectors.capture.groups`.

The founder of a public group announces it in fake stores, finds a peer of ours there, and shakes
hands with it. The founder's own store answers two group announcements of ours.
"""

from core import crypto
from core.crypto import NO_KEY, KeyPair, PublicKey
from core.endpoint import from_text
from core.packets import NodeInfo
from core.packets.announce import (
    GroupAnnounce,
    GroupAnnounceRequest,
    GroupAnnounceRequestBody,
    GroupAnnounceResponse,
    GroupAnnounceResponseBody,
)
from core.packets.group import GroupHandshake, GroupLossless, GroupLossy
from core.packets.onion import OnionResponse3
from tests.interop import peers
from tests.interop.driver import Client
from tests.vectors.capture.recorder import (
    ENTROPY,
    HOST,
    Book,
    FakeNetwork,
    FakeNode,
    add_box,
    box,
    new_nonce,
    shared_key,
)
from tests.vectors.capture.store import Friend, Store

MADE_BY = "libtoxcore 0.2.20"
_HANDSHAKE_RESPONSE = 1  # c-toxcore group_chats.c: GH_RESPONSE
_RESPONSE_ACK = 0xFF  # c-toxcore group_common.h: GP_HS_RESPONSE_ACK


class Peer:
    """A peer of the group that is ours: its node is muted, for it speaks of the group alone."""

    def __init__(self, book: Book, client: Client) -> None:
        self.keys = KeyPair.generate(ENTROPY)
        self.node = FakeNode()
        self.node.mute = True
        self._session = KeyPair.generate(ENTROPY)
        self._founder = NO_KEY
        self._founder_session = b""
        self._book, self._client = book, client

    def take(self, node: FakeNode, data: bytes, port: int) -> None:
        """Takes a datagram that some fake node received."""
        if node is not self.node:
            return
        if data[0] == 0x5A:
            self._take_handshake(data)
        elif data[0] in (0x5B, 0x5C) and self._founder_session:
            cls = GroupLossless if data[0] == 0x5B else GroupLossy
            vector = self._book.keep(cls, data, MADE_BY)
            add_box(vector, self._session, self._founder_session)
            self._send_lossless()

    def _take_handshake(self, data: bytes) -> None:
        packet = GroupHandshake.decode(data)
        shared = shared_key(self.keys, packet.sender)
        plain = crypto.open_sealed(shared, packet.nonce, packet.sealed)
        assert plain is not None
        add_box(self._book.keep(GroupHandshake, data, MADE_BY), self.keys, packet.sender)
        self._founder, self._founder_session = packet.sender, plain[1:33]
        nonce = new_nonce()
        answer = bytes((_HANDSHAKE_RESPONSE,)) + self._session.public + ENTROPY.bytes(32)
        answer += plain[65:67]
        sealed = crypto.seal(shared, nonce, answer)
        response = GroupHandshake(self.keys.public, packet.sender, nonce, sealed)
        self.node.send(self._client.port, response.encode())

    def _send_lossless(self) -> None:
        """Sends what the founder has to acknowledge with a lossy packet."""
        shared, nonce = shared_key(self._session, self._founder_session), new_nonce()
        sealed = crypto.seal(shared, nonce, bytes((_RESPONSE_ACK,)) + (3).to_bytes(8, "big"))
        packet = GroupLossless(self.keys.public, nonce, sealed)
        self.node.send(self._client.port, packet.encode())


def main() -> None:
    """Founds a group in a client whose world is ours."""
    book, network, friend = Book(), FakeNetwork(10), Friend()
    client, hop = Client(peers.library(peers.NEW)), Client(peers.library(peers.NEW))
    store = Store(book, network, friend, MADE_BY)
    peer = Peer(book, client)
    network.nodes.append(peer.node)
    network.handlers.append(peer.take)
    store.group = (GroupAnnounce(peer.keys.public, peer.node.endpoint, ()),)
    try:
        for one in (client, hop):
            for node in network.nodes[:4]:
                one.meet(HOST, node.port, 0, node.keys.public, udp=True)
        # nodes tell the client its own address: without one it has nothing to announce
        own = NodeInfo(PublicKey(client.dht_id), from_text(HOST, client.port))
        network.answers[client.dht_id] = (own,)
        client.call("group_new", name="toxmesh vectors", nick="founder")
        assert network.pump(lambda: 0x87 in store.payloads, 120), "the group is not announced"
        store.pass_on(0x87, hop.port, hop.dht_id, MADE_BY)
        capture_response(book, network, client)
        wanted = ("GroupHandshake", "GroupLossless", "GroupLossy")
        assert network.pump(lambda: book.has(*wanted), 120), "the founder does not shake hands"
    finally:
        client.close()
        hop.close()
    book.save()


def capture_response(book: Book, network: FakeNetwork, client: Client) -> None:
    """Announces two peers of one chat in the client's own store; the second sees the first."""
    node = network.nodes[0]
    chat_id = PublicKey(ENTROPY.bytes(32))
    relay = NodeInfo(PublicKey(ENTROPY.bytes(32)), from_text("192.0.2.7", 33445), tcp=True)
    there = from_text("2001:db8::7", 33446)
    for announce in (
        GroupAnnounce(PublicKey(ENTROPY.bytes(32)), there, (relay,)),
        GroupAnnounce(PublicKey(ENTROPY.bytes(32)), None, (relay,)),
        GroupAnnounce(PublicKey(ENTROPY.bytes(32)), from_text("192.0.2.9", 1), ()),
    ):
        requester, nonce = KeyPair.generate(ENTROPY), new_nonce()
        body = GroupAnnounceRequestBody(
            bytes(32), chat_id, NO_KEY, b"sendback", chat_id, announce
        )
        sealed = box(body, requester, client.dht_id, nonce)
        request = GroupAnnounceRequest(nonce, requester.public, sealed, ENTROPY.bytes(177))
        node.send(client.port, request.encode())
        answer = OnionResponse3.decode(network.wait_for(node, 0x8C)).payload
    vector = book.keep(GroupAnnounceResponse, answer, MADE_BY)
    shown = add_box(vector, requester, client.dht_id, GroupAnnounceResponseBody)
    assert len(shown["fields"]["announces"]) == 2


if __name__ == "__main__":
    main()
