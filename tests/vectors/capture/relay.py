"""Captures what tox-bootstrapd's relay sends: `python -m tests.vectors.capture.relay`."""

import tempfile
from pathlib import Path

from core.crypto import KeyPair
from core.packets.forwarding import Forwarding, ForwardReply
from core.packets.onion import (
    OnionRequest0Body,
    OnionRequest1Body,
    OnionRequest2Body,
    OnionResponse1,
)
from core.packets.onion import OnionRequest1 as FirstHopToSecond
from core.packets.relay import (
    ConnectNotice,
    DisconnectNotice,
    HelloBody,
    OobReceive,
    OobSend,
    RelayData,
    RelayForwarding,
    RelayForwardRequest,
    RelayHello,
    RelayOnionRequest,
    RelayOnionResponse,
    RelayPing,
    RelayPong,
    RouteRequest,
    RouteResponse,
)
from tests.interop import nodes as interop
from tests.interop import peers
from tests.vectors.capture.recorder import (
    ENTROPY,
    Book,
    FakeNetwork,
    add_box,
    box,
    described,
    new_nonce,
)
from tests.vectors.capture.stream import Stream, connect

MADE_BY = "tox-bootstrapd 0.2.18"
OURS = "toxmesh, accepted by tox-bootstrapd 0.2.18"


def main() -> None:
    """Connects two clients of ours to the daemon's relay and has them meet."""
    book = Book()
    network = FakeNetwork(2)
    with tempfile.TemporaryDirectory() as folder:
        daemon = interop.start_bootstrapd(peers.bootstrapd(), Path(folder))
        try:
            keys = [KeyPair.generate(ENTROPY) for _ in range(2)]
            left, hello = connect(daemon.tcp_port, keys[0], daemon.key)
            add_box(book.keep(RelayHello, hello, MADE_BY), keys[0], daemon.key, HelloBody)
            right, _ = connect(daemon.tcp_port, keys[1], daemon.key)
            capture_links(book, left, right, keys)
            capture_onion(book, network, left, daemon.udp_port)
            capture_forwarding(book, network, left, daemon.udp_port)
        finally:
            daemon.stop()
    book.save()


def capture_links(book: Book, left: Stream, right: Stream, keys: list[KeyPair]) -> None:
    """Pings, links, data, OOB."""
    for stream in (left, right):
        stream.send(RelayPing(7).encode())
        book.keep(RelayPong, stream.wait_for(0x05), MADE_BY)
    left.send(RouteRequest(keys[1].public).encode())
    data = left.wait_for(0x01)
    book.keep(RouteResponse, data, MADE_BY)
    link = RouteResponse.decode(data).link
    left.send(RouteRequest(keys[0].public).encode())
    book.keep(RouteResponse, left.wait_for(0x01), MADE_BY, "refused")
    right.send(RouteRequest(keys[0].public).encode())
    other = RouteResponse.decode(right.wait_for(0x01)).link
    book.keep(ConnectNotice, left.wait_for(0x02), MADE_BY)
    left.send(RelayData(link, b"over the link").encode())
    book.keep(RelayData, right.wait_for(other), MADE_BY)
    left.send(OobSend(keys[1].public, b"without a link").encode())
    book.keep(OobReceive, right.wait_for(0x07), MADE_BY)
    right.send(DisconnectNotice(other).encode())
    book.keep(DisconnectNotice, left.wait_for(0x03), MADE_BY)


def capture_onion(book: Book, network: FakeNetwork, left: Stream, port: int) -> None:
    """The relay as first hop of an onion path."""
    second, third = network.nodes
    key1, key2 = KeyPair.generate(ENTROPY), KeyPair.generate(ENTROPY)
    nonce = new_nonce()
    inner = OnionRequest2Body(third.endpoint, b"\x83 for the third hop")
    sealed = box(inner, key2, third.keys.public, nonce)
    middle = OnionRequest1Body(third.endpoint, key2.public, sealed)
    sealed = box(middle, key1, second.keys.public, nonce)
    outer = OnionRequest0Body(second.endpoint, key1.public, sealed)
    left.send(RelayOnionRequest(nonce, outer.next_hop, outer.sender, outer.sealed).encode())
    passed = FirstHopToSecond.decode(network.wait_for(second, 0x81))
    back = OnionResponse1(passed.onion_return, b"\x84" + bytes(81))
    second.send(port, back.encode())
    book.keep(RelayOnionResponse, left.wait_for(0x09), MADE_BY)


def capture_forwarding(book: Book, network: FakeNetwork, left: Stream, port: int) -> None:
    """The relay forwards to an address, and the answer comes back."""
    node = network.nodes[0]
    request = RelayForwardRequest(node.endpoint, b"a question of a TCP client").encode()
    left.send(request)
    there = network.wait_for(node, 0x91)
    vector = book.keep(RelayForwardRequest, request, OURS)
    vector["answer"] = described(Forwarding, there)
    reply = ForwardReply(Forwarding.decode(there).sendback, b"its answer").encode()
    node.send(port, reply)
    book.keep(RelayForwarding, left.wait_for(0x0B), MADE_BY)


if __name__ == "__main__":
    main()
