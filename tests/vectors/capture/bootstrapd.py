"""Captures what tox-bootstrapd 0.2.18 sends: `python -m tests.vectors.capture.bootstrapd`."""

import tempfile
from pathlib import Path
from typing import Any

from core import crypto
from core.crypto import NO_KEY, KeyPair, PublicKey
from core.packets.announce import (
    AnnounceRequest,
    AnnounceRequestBody,
    AnnounceResponse,
    AnnounceResponseBody,
    DataToRouteBody,
    DataToRouteRequest,
    DataToRouteResponse,
)
from core.packets.bootstrap import BootstrapInfo, BootstrapInfoRequest
from core.packets.data import (
    DataRetrieveRequest,
    DataRetrieveRequestBody,
    DataRetrieveResponse,
    DataRetrieveResponseBody,
    DataSearchRequest,
    DataSearchRequestBody,
    DataSearchResponse,
    DataSearchResponseBody,
    DataStoreContentBody,
    DataStoreRequest,
    DataStoreRequestBody,
    DataStoreResponse,
    DataStoreResponseBody,
    DataUnchangedBody,
)
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
from core.packets.forwarding import Forwarding, ForwardReply, ForwardRequest
from core.packets.onion import (
    OnionRequest0,
    OnionRequest0Body,
    OnionRequest1,
    OnionRequest1Body,
    OnionRequest2,
    OnionRequest2Body,
    OnionResponse1,
    OnionResponse2,
    OnionResponse3,
)
from core.wire import Body, Packet
from tests.interop import nodes as interop
from tests.interop import peers
from tests.vectors.capture.recorder import (
    ENTROPY,
    Book,
    FakeNetwork,
    FakeNode,
    add_box,
    box,
    described,
    new_nonce,
)

MADE_BY = "tox-bootstrapd 0.2.18"
OURS = "toxmesh, accepted by tox-bootstrapd 0.2.18"
INFO_SCRIPT = "c-toxcore 0.2.23, other/fun/bootstrap_node_info.py"  # these bytes are all it sends


def main() -> None:
    """Runs every capture against one daemon."""
    book = Book()
    network = FakeNetwork(6)
    with tempfile.TemporaryDirectory() as folder:
        first = network.nodes[0]
        daemon = interop.start_bootstrapd(
            peers.bootstrapd(),
            Path(folder),
            bootstrap=(("127.0.0.1", first.port, first.keys.public),),
            motd="toxmesh vectors",
        )
        try:
            capture_dht(book, network, daemon)
            capture_onion(book, network, daemon)
            capture_announce(book, network, daemon)
            capture_forwarding(book, network, daemon)
            capture_data(book, network, daemon)
        finally:
            daemon.stop()
    book.save()


def capture_dht(book: Book, network: FakeNetwork, daemon: interop.Node) -> None:
    """What the daemon sends of itself, and its answers to a ping and a nodes request."""
    kinds: dict[int, tuple[type[Packet], type[Body]]] = {
        0x00: (PingRequest, PingRequestBody),
        0x01: (PingResponse, PingResponseBody),
        0x02: (NodesRequest, NodesRequestBody),
        0x04: (NodesResponse, NodesResponseBody),
        0x93: (DataSearchRequest, DataSearchRequestBody),
    }

    def keep(node: FakeNode, data: bytes, port: int) -> None:
        if port == daemon.udp_port and data[0] in kinds:
            cls, body = kinds[data[0]]
            if data[0] == 0x04 and len(data) < 100:
                return  # one without nodes shows less
            add_box(book.keep(cls, data, MADE_BY), node.keys, daemon.key, body)

    network.handlers.append(keep)
    everybody = ("PingRequest", "NodesRequest", "DataSearchRequest")
    for node in network.nodes:
        node.ping(daemon.udp_port, daemon.key)
    network.pump(lambda: book.has(*everybody, "PingResponse"), 15)
    network.pump(lambda: False, 3)
    for node in network.nodes:
        node.ask_nodes(daemon.udp_port, daemon.key, PublicKey(node.keys.public))
    network.pump(lambda: book.has("NodesResponse"), 5)
    network.handlers.remove(keep)
    asker = network.nodes[0]
    request = BootstrapInfoRequest(b"0" * 77).encode()
    asker.send(daemon.udp_port, request)
    answer = network.wait_for(asker, 0xF0)
    book.keep(BootstrapInfo, answer, MADE_BY)
    vector = book.keep(BootstrapInfoRequest, request, INFO_SCRIPT)
    vector["answer"] = described(BootstrapInfo, answer)


def search_of(node: FakeNode, daemon: interop.Node) -> AnnounceRequest:
    """Makes a search for the node's own key."""
    nonce = new_nonce()
    body = AnnounceRequestBody(bytes(32), node.keys.public, NO_KEY, b"sendback")
    sealed = box(body, node.keys, daemon.key, nonce)
    return AnnounceRequest(nonce, node.keys.public, sealed, ENTROPY.bytes(177))


def capture_onion(book: Book, network: FakeNetwork, daemon: interop.Node) -> None:
    """The daemon as first, second and third hop, there and back."""
    client, second, third, target = network.nodes[:4]
    key1, key2 = KeyPair.generate(ENTROPY), KeyPair.generate(ENTROPY)
    nonce = new_nonce()
    port = daemon.udp_port
    payload = search_of(target, daemon).payload()
    inner = OnionRequest2Body(target.endpoint, payload)
    middle = OnionRequest1Body(
        third.endpoint, key2.public, box(inner, key2, third.keys.public, nonce)
    )
    outer = OnionRequest0Body(
        second.endpoint, key1.public, box(middle, key1, second.keys.public, nonce)
    )
    sealed = box(outer, client.keys, daemon.key, nonce)
    client.send(port, OnionRequest0(nonce, client.keys.public, sealed).encode())
    data = network.wait_for(second, 0x81)
    vector = book.keep(OnionRequest1, data, MADE_BY)
    add_box(vector, second.keys, key1.public, OnionRequest1Body)
    back1 = OnionRequest1.decode(data).onion_return

    sealed = box(middle, key1, daemon.key, nonce)
    client.send(port, OnionRequest1(nonce, key1.public, sealed, ENTROPY.bytes(59)).encode())
    data = network.wait_for(third, 0x82)
    vector = book.keep(OnionRequest2, data, MADE_BY)
    add_box(vector, third.keys, key2.public, OnionRequest2Body)
    back2 = OnionRequest2.decode(data).onion_return

    sealed = box(inner, key2, daemon.key, nonce)
    client.send(port, OnionRequest2(nonce, key2.public, sealed, ENTROPY.bytes(118)).encode())
    data = network.wait_for(target, 0x83)
    book.keep(AnnounceRequest, data, OURS, "passed on by the third hop")
    back3 = data[-177:]

    answer = b"\x84" + bytes(81)
    target.send(port, OnionResponse3(back3, answer).encode())
    book.keep(OnionResponse2, network.wait_for(client, 0x8D), MADE_BY)
    third.send(port, OnionResponse2(back2, answer).encode())
    book.keep(OnionResponse1, network.wait_for(client, 0x8E), MADE_BY)
    second.send(port, OnionResponse1(back1, answer).encode())
    assert network.wait_for(client, 0x84) == answer


def announce(
    book: Book,
    network: FakeNetwork,
    daemon: interop.Node,
    node: FakeNode,
    body: AnnounceRequestBody,
    note: str,
) -> AnnounceResponseBody:
    """Sends an announce request and keeps the answer."""
    nonce = new_nonce()
    sealed = box(body, node.keys, daemon.key, nonce)
    onion_return = ENTROPY.bytes(177)
    request = AnnounceRequest(nonce, node.keys.public, sealed, onion_return)
    node.send(daemon.udp_port, request.encode())
    data = network.wait_for(node, 0x8C)
    book.keep(OnionResponse3, data, MADE_BY)
    carried = OnionResponse3.decode(data)
    assert carried.onion_return == onion_return
    vector = book.keep(AnnounceResponse, carried.payload, MADE_BY, note)
    add_box(vector, node.keys, daemon.key, AnnounceResponseBody)
    answer = AnnounceResponse.decode(carried.payload)
    assert answer.sendback == body.sendback
    return AnnounceResponseBody.open(node.shared(daemon.key), answer.nonce, answer.sealed)


def capture_announce(book: Book, network: FakeNetwork, daemon: interop.Node) -> None:
    """A key is announced, found by another, and written to."""
    owner, friend = network.nodes[4:6]
    data_keys = KeyPair.generate(ENTROPY)
    own = owner.keys.public
    wanted = AnnounceRequestBody(bytes(32), own, data_keys.public, b"announce")
    first = announce(book, network, daemon, owner, wanted, "not stored")
    assert first.is_stored == 0
    wanted = AnnounceRequestBody(first.key, own, data_keys.public, b"announce")
    second = announce(book, network, daemon, owner, wanted, "stored by the sender")
    assert second.is_stored == 2
    search = AnnounceRequestBody(bytes(32), own, NO_KEY, b"searches")
    found = announce(book, network, daemon, friend, search, "stored by another")
    assert (found.is_stored, found.key) == (1, data_keys.public)

    temporary = KeyPair.generate(ENTROPY)
    nonce = new_nonce()
    letter = crypto.seal(friend.shared(own), nonce, b"\x20" + bytes(4) + b"hello")
    sealed = box(DataToRouteBody(friend.keys.public, letter), temporary, found.key, nonce)
    request = DataToRouteRequest(own, nonce, temporary.public, sealed, bytes(177))
    friend.send(daemon.udp_port, request.encode())
    data = OnionResponse3.decode(network.wait_for(owner, 0x8C)).payload
    vector = book.keep(DataToRouteResponse, data, MADE_BY)
    inner = add_box(vector, data_keys, temporary.public, DataToRouteBody)
    add_box(inner, owner.keys, friend.keys.public, nonce=nonce)


def capture_forwarding(book: Book, network: FakeNetwork, daemon: interop.Node) -> None:
    """A request forwarded by the daemon, and its answer on the way back."""
    asker, target = network.nodes[:2]
    request = ForwardRequest(PublicKey(target.keys.public), b"a forwarded question").encode()
    asker.send(daemon.udp_port, request)
    there = network.wait_for(target, 0x91)
    book.keep(Forwarding, there, MADE_BY, "with sendback")
    book.keep(ForwardRequest, request, OURS)["answer"] = described(Forwarding, there)
    reply = ForwardReply(Forwarding.decode(there).sendback, b"a forwarded answer").encode()
    target.send(daemon.udp_port, reply)
    back = network.wait_for(asker, 0x91)
    book.keep(Forwarding, back, MADE_BY, "the answer")
    book.keep(ForwardReply, reply, OURS)["answer"] = described(Forwarding, back)


def capture_data(book: Book, network: FakeNetwork, daemon: interop.Node) -> None:
    """Data is searched, stored, searched again and retrieved."""
    node = network.nodes[0]
    owner = KeyPair.generate(ENTROPY)
    data_key = owner.public

    def ask(
        request: type[Any], kind: int, body: Body, answer: type[Packet], inner: type[Body],
        note: str = "",
    ) -> Any:  # fmt: skip
        nonce = new_nonce()
        sent = request(node.keys.public, nonce, box(body, node.keys, daemon.key, nonce)).encode()
        node.send(daemon.udp_port, sent)
        data = network.wait_for(node, kind)
        kept = book.keep(answer, data, MADE_BY, note)
        plain = add_box(kept, node.keys, daemon.key, inner)
        ours = book.keep(request, sent, OURS, note)
        if ours:
            shown = add_box(ours, node.keys, daemon.key, type(body))
            if isinstance(body, DataStoreRequestBody):
                add_box(shown, owner, daemon.key, DataStoreContentBody)
            ours["answer"] = {**described(answer, data)}
        return inner.decode(bytes.fromhex(plain["hex"]))

    search = DataSearchRequestBody(data_key, b"", b"search 1")
    found = ask(
        DataSearchRequest, 0x94, search, DataSearchResponse, DataSearchResponseBody, "not stored"
    )
    assert found.accepts == 1 and found.data_hash is None  # noqa: PT018
    nonce = new_nonce()
    content = DataStoreContentBody(found.token, 300, 0, b"what is stored")
    sealed = box(content, owner, daemon.key, nonce)
    store = DataStoreRequestBody(data_key, nonce, sealed, b"store  1")
    stored = ask(DataStoreRequest, 0x98, store, DataStoreResponse, DataStoreResponseBody)
    assert stored.data_key == data_key
    found = ask(
        DataSearchRequest, 0x94, search, DataSearchResponse, DataSearchResponseBody, "stored"
    )
    assert found.data_hash == crypto.sha256(b"what is stored")
    hashed = crypto.sha256(found.encode()[:-8])
    again = DataSearchRequestBody(data_key, hashed, b"search 2")
    ask(DataSearchRequest, 0x94, again, DataSearchResponse, DataUnchangedBody, "unchanged")
    retrieve = DataRetrieveRequestBody(data_key, found.token, b"retrieve")
    got = ask(
        DataRetrieveRequest, 0x96, retrieve, DataRetrieveResponse, DataRetrieveResponseBody
    )
    assert got.data == b"what is stored"


if __name__ == "__main__":
    main()
