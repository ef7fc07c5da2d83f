"""Captures what libtoxcore's clients send: `python -m tests.vectors.capture.clients`.

The client's whole world is ours: nodes, hops, stores, and the friend it looks for.
"""

from typing import Any

from core import crypto
from core.crypto import KeyPair, Nonce, PublicKey
from core.packets.dht import DhtKeyPacket, DhtKeyRequestBody, DhtRequest, NatPingBody
from core.packets.net_crypto import (
    CookieRequest,
    CookieRequestBody,
    CookieResponse,
    CookieResponseBody,
    CryptoData,
    CryptoDataBody,
    CryptoHandshake,
    CryptoHandshakeBody,
)
from tests.interop import peers
from tests.interop.driver import Client
from tests.vectors.capture.recorder import (
    ENTROPY,
    HOST,
    Book,
    FakeNetwork,
    FakeNode,
    add_box,
    new_nonce,
    shared_key,
)
from tests.vectors.capture.store import Friend, Store

MADE_BY = "libtoxcore 0.2.18"
HOP = "libtoxcore 0.2.20"
INNER = ("FriendRequest", "DhtKeyPacket")


def main() -> None:
    """Runs a client over UDP against the fake network."""
    book = Book()
    network = FakeNetwork(10)
    friend = Friend()
    client = Client(peers.library(peers.OLD))
    hop = Client(peers.library(peers.NEW))
    store = Store(book, network, friend, MADE_BY)
    store.client_key = PublicKey(client.public_key)
    session = Session(book, friend, client)
    network.handlers.append(session.take)
    try:
        for one in (client, hop):
            for node in network.nodes[:4]:
                one.meet(HOST, node.port, 0, node.keys.public, udp=True)
        client.call("friend_add", address=friend.tox_id, text="a friend request")
        letters = tuple(f"DataToRouteRequest (with {name})" for name in INNER)
        assert network.pump(lambda: book.has(*letters), 90), "the client does not write"
        for kind in (0x83, 0x85):
            store.pass_on(kind, hop.port, hop.dht_id, HOP)
        network.pump(lambda: any(store.client_data_key), 60)
        network.nodes.append(friend.node)
        network.answers[friend.node.keys.public] = (friend.node.info,)
        letter = store.letter(DhtKeyPacket(1, friend.node.keys.public, ()))
        network.nodes[0].send(client.port, letter)
        requests = ("DhtRequest (NAT ping)", "DhtRequest (DHT key)")
        assert network.pump(lambda: book.has(*requests), 60), "no DHT requests"
        friend.node.mute = False
        session.ask_cookie()
        packets = ("CookieRequest", "CookieResponse", "CryptoHandshake", "CryptoData")
        assert network.pump(lambda: book.has(*packets), 60), "no session"
    finally:
        client.close()
        hop.close()
    book.save()


class Session:
    """The friend's side: DHT requests for it, and a net_crypto session as far as the first data."""

    def __init__(self, book: Book, friend: Friend, client: Client) -> None:
        self._book, self._friend, self._client = book, friend, client
        self._keys = KeyPair.generate(ENTROPY)
        self._handshake: dict[str, Any] = {}

    def take(self, node: FakeNode, data: bytes, port: int) -> None:
        """Takes a datagram that some fake node received."""
        if data[0] == 0x20 and data[1:33] == self._friend.node.keys.public:
            self._take_request(data)
        elif node is self._friend.node and port == self._client.port:
            handler = {
                0x18: self._take_cookie_request,
                0x19: self._take_cookie_response,
                0x1A: self._take_handshake,
                0x1B: self._take_data,
            }.get(data[0])
            if handler is not None:
                handler(data)

    def _take_request(self, data: bytes) -> None:
        node, packet = self._friend.node, DhtRequest.decode(data)
        plain = crypto.open_sealed(node.shared(packet.sender), packet.nonce, packet.sealed)
        assert plain is not None
        if plain[0] == 0xFE:
            vector = self._book.keep(DhtRequest, data, MADE_BY, "NAT ping")
            add_box(vector, node.keys, packet.sender, NatPingBody)
        elif plain[0] == 0x9C:
            vector = self._book.keep(DhtRequest, data, MADE_BY, "DHT key")
            shown = add_box(vector, node.keys, packet.sender, DhtKeyRequestBody)
            body = DhtKeyRequestBody.decode(plain)
            add_box(shown, self._friend.real, body.real_key, DhtKeyPacket)

    def ask_cookie(self) -> None:
        """Asks the client for a cookie."""
        node, nonce = self._friend.node, new_nonce()
        plain = self._friend.real.public + bytes(32) + b"echo  id"
        sealed = crypto.seal(node.shared(self._client.dht_id), nonce, plain)
        packet = CookieRequest(node.keys.public, nonce, sealed)
        node.send(self._client.port, packet.encode())

    def _take_cookie_response(self, data: bytes) -> None:
        vector = self._book.keep(CookieResponse, data, MADE_BY)
        add_box(vector, self._friend.node.keys, self._client.dht_id, CookieResponseBody)

    def _take_cookie_request(self, data: bytes) -> None:
        node, packet = self._friend.node, CookieRequest.decode(data)
        vector = self._book.keep(CookieRequest, data, MADE_BY)
        add_box(vector, node.keys, packet.sender, CookieRequestBody)
        shared, nonce = node.shared(packet.sender), new_nonce()
        plain = crypto.open_sealed(shared, packet.nonce, packet.sealed)
        assert plain is not None
        answer = crypto.seal(shared, nonce, ENTROPY.bytes(112) + plain[-8:])
        node.send(self._client.port, CookieResponse(nonce, answer).encode())

    def _take_handshake(self, data: bytes) -> None:
        friend, packet = self._friend, CryptoHandshake.decode(data)
        vector = self._book.keep(CryptoHandshake, data, MADE_BY)
        add_box(vector, friend.real, self._client.public_key, CryptoHandshakeBody)
        shared, nonce = shared_key(friend.real, self._client.public_key), new_nonce()
        plain = crypto.open_sealed(shared, packet.nonce, packet.sealed)
        assert plain is not None
        self._handshake = {"base": plain[:24], "session": plain[24:56]}
        cookie = plain[-112:]
        mine = new_nonce() + self._keys.public + crypto.sha512(cookie) + ENTROPY.bytes(112)
        answer = CryptoHandshake(cookie, nonce, crypto.seal(shared, nonce, mine))
        friend.node.send(self._client.port, answer.encode())

    def _take_data(self, data: bytes) -> None:
        if not self._handshake:
            return
        base, end = self._handshake["base"], int.from_bytes(data[1:3], "big")
        steps = (end - int.from_bytes(base[-2:], "big")) % 65536
        nonce = crypto.increment(Nonce(base), steps)
        shared = shared_key(self._keys, self._handshake["session"])
        if crypto.open_sealed(shared, nonce, data[3:]) is None:
            return  # of an earlier handshake
        vector = self._book.keep(CryptoData, data, MADE_BY)
        add_box(vector, self._keys, self._handshake["session"], CryptoDataBody, nonce)


if __name__ == "__main__":
    main()
