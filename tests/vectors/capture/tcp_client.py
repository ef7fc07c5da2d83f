"""Captures what a TCP-only libtoxcore client sends to a relay of ours:
`python -m tests.vectors.capture.tcp_client`.
"""

import socket

from core.crypto import KeyPair, PublicKey
from core.endpoint import from_text
from core.packets import NodeInfo
from core.packets.dht import DhtKeyPacket
from core.packets.relay import (
    FIRST_LINK,
    ClientHello,
    ConnectNotice,
    DisconnectNotice,
    HelloBody,
    OobSend,
    RelayData,
    RelayOnionResponse,
    RelayPing,
    RelayPong,
    RouteRequest,
    RouteResponse,
)
from tests.interop import peers
from tests.interop.driver import Client
from tests.vectors.capture.recorder import ENTROPY, HOST, Book, FakeNetwork, add_box
from tests.vectors.capture.store import Friend, Store
from tests.vectors.capture.stream import Stream, accept

MADE_BY = "libtoxcore 0.2.18"


class Relay:
    """A relay that serves the onion from fake stores and gives out one link."""

    def __init__(self, book: Book, network: FakeNetwork, store: Store, friend: Friend) -> None:
        self.keys = KeyPair.generate(ENTROPY)
        self._book, self._network, self._store, self._friend = book, network, store, friend
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self.streams: list[Stream] = []
        network.streams[self._listener] = self._accept

    def _accept(self) -> None:
        stream, hello = accept(self._listener, self.keys)
        vector = self._book.keep(ClientHello, hello, MADE_BY)
        add_box(vector, self.keys, ClientHello.decode(hello).sender, HelloBody)
        self.streams.append(stream)
        self._network.streams[stream.socket] = lambda: self._take(stream)

    def _take(self, stream: Stream) -> None:
        try:
            packet = stream.receive()
        except (EOFError, OSError):
            del self._network.streams[stream.socket]
            return
        kind = packet[0]
        if kind == 0x00:
            self._book.keep(RouteRequest, packet, MADE_BY)
            peer = RouteRequest.decode(packet).peer
            stream.send(RouteResponse(FIRST_LINK, peer).encode())
        elif kind == 0x04:
            self._book.keep(RelayPing, packet, MADE_BY)
            stream.send(RelayPong(RelayPing.decode(packet).ping_id).encode())
        elif kind == 0x06:
            self._book.keep(OobSend, packet, MADE_BY)
            stream.send(ConnectNotice(FIRST_LINK).encode())
        elif kind == 0x08:
            self._store.take_relayed(
                packet, lambda data: stream.send(RelayOnionResponse(data).encode())
            )
        elif kind >= FIRST_LINK:
            self._book.keep(RelayData, packet, MADE_BY, "from a client")
        elif kind == 0x03:
            self._book.keep(DisconnectNotice, packet, MADE_BY, "from a client")


def main() -> None:
    """Runs a client without UDP against the fake relay."""
    book, network, friend = Book(), FakeNetwork(10), Friend()
    store = Store(book, network, friend, MADE_BY)
    relay = Relay(book, network, store, friend)
    client = Client(peers.library(peers.OLD), udp=False)
    store.client_key = PublicKey(client.public_key)
    try:
        for node in network.nodes:
            client.call("bootstrap", host=HOST, port=node.port, key=node.keys.public.hex())
        client.call("add_tcp_relay", host=HOST, port=relay.port, key=relay.keys.public.hex())
        client.call("friend_add", address=friend.tox_id, text="a friend request")
        assert network.pump(lambda: any(store.client_data_key), 90), "the client is not announced"
        where = NodeInfo(relay.keys.public, from_text(HOST, relay.port), tcp=True)
        packet = DhtKeyPacket(1, friend.node.keys.public, (where,))
        data = store.letter(packet)
        relay.streams[0].send(RelayOnionResponse(data).encode())
        wanted = ("RouteRequest", "OobSend", "RelayData (from a client)", "RelayOnionRequest")
        assert network.pump(lambda: book.has(*wanted), 90), "the client does not look for a link"
    finally:
        client.close()
    book.save()


if __name__ == "__main__":
    main()
