"""The same requests to tox-bootstrapd and to our module: the opened answers have to be the same."""

import hashlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from core.crypto import KeyPair
from core.endpoint import Endpoint, from_text, pack_compact, port_of
from core.messages import NodeRow
from core.packets.announce import GroupAnnounceResponseBody
from core.packets.data import DataSearchResponseBody
from core.packets.forwarding import Forwarding, ForwardRequest
from tests.interop import nodes, peers
from tests.interop.conftest import found
from tests.interop.driver import Client as LibraryClient
from tests.interop.driver import free_port
from tests.onion.client import Client, Hop, group_announce
from tests.onion.node import START, Network, Node
from tests.onion.test_groups import CHAT, FOUR, RELAY4, RELAY6, SIX

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
ANSWER_TIMEOUT_S = 3.0
NEIGHBOUR_TIMEOUT_S = 40.0  # bootstrapd asks the node it bootstraps from within some seconds


class Known(Protocol):
    """What a script has to know of a node."""

    @property
    def endpoint(self) -> Endpoint: ...

    @property
    def keys(self) -> KeyPair: ...


class Peer(Protocol):
    """Something that answers datagrams."""

    def ask(self, packet: bytes, silent: bool = False) -> bytes | None:
        """Sends one datagram and returns the one that comes back."""
        ...


class Reference:
    """tox-bootstrapd over a socket of loopback."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.door = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.door.bind((HOST, 0))

    def ask(self, packet: bytes, silent: bool = False) -> bytes | None:
        """Waits for the answer, skipping the node's own pings and searches."""
        self.door.sendto(packet, (HOST, self.port))
        patience = 0.25 if silent else ANSWER_TIMEOUT_S
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            self.door.settimeout(left)
            try:
                answer = self.door.recv(2048)
            except TimeoutError:
                return None
            if answer[0] not in (0x00, 0x02, 0x21, 0x93):
                return answer
        return None


class Ours:
    """Our module under the same key and address, and the same neighbour as far as it can be."""

    def __init__(self, node: Node, home: Endpoint, others: list[Node]) -> None:
        self.network = Network(node, *others)
        self.node, self.home = node, home

    def ask(self, packet: bytes, silent: bool = False) -> bytes | None:
        """Carries the datagram and what follows from it."""
        self.network.send(self.home, self.node.endpoint, packet, START + 4000)
        answers = self.network.take()
        return answers[0] if answers else None


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Reference, Ours, Node, Node]]:
    """Both nodes, and a second tox-bootstrapd that both know (ours by a copy of its key)."""
    peer = found(peers.bootstrapd)
    first_port, second_port = free_port(), free_port()
    second = Node("second", from_text(HOST, second_port))
    known = [NodeRow(second.keys.public, second.endpoint, b"", False, True)]
    node = Node("first", from_text(HOST, first_port), known=known)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    running = [
        nodes.start_bootstrapd(peer, tmp_path / "a", keys=second.keys, udp_port=second_port),
        nodes.start_bootstrapd(
            peer,
            tmp_path / "b",
            keys=node.keys,
            udp_port=first_port,
            bootstrap=((HOST, second_port, bytes(second.keys.public)),),
        ),
    ]
    reference = Reference(first_port)
    home = from_text(HOST, reference.door.getsockname()[1])
    try:
        yield reference, Ours(node, home, [second]), node, second
    finally:
        for process in running:
            process.stop()
        reference.door.close()


def await_neighbour(reference: Reference, node: Node, known: bytes) -> None:
    """Waits until the reference names its neighbour in data search answers."""
    client = Client("waiting")
    end = time.monotonic() + NEIGHBOUR_TIMEOUT_S
    while time.monotonic() < end:
        answer = reference.ask(client.data_search(node.keys.public, client.data.public))
        if answer is not None:
            opened = client.open_data_answer(node.keys.public, answer)
            if known in opened.body:
                return
        time.sleep(0.2)  # a real daemon on real time
    raise AssertionError("tox-bootstrapd does not know its neighbour")


def announces(peer: Peer, node: Known) -> list[object]:
    """Announces, refreshes and searches; returns the shapes of the answers."""
    alice, bob = Client("alice"), Client("bob")
    key, own = node.keys.public, alice.real.public
    path = [Hop(node.endpoint, key)] * 3
    shapes: list[object] = []
    payload = bytes(32)
    script = [
        (bob, bob.dht, own, b"zero", bytes(32)),
        (alice, alice.real, own, b"zero", alice.data.public),
        (alice, alice.real, own, b"given", alice.data.public),
        (alice, alice.real, own, b"zero", alice.data.public),
        (alice, alice.real, own, b"zero", bob.data.public),
        (bob, bob.dht, own, b"zero", bytes(32)),
        (alice, alice.real, bob.real.public, b"given", alice.data.public),
        (alice, alice.real, own, b"wrong", alice.data.public),
        (bob, bob.dht, own, b"given", bytes(32)),
        (alice, alice.real, own, b"given", bob.data.public),
        (bob, bob.dht, own, b"zero", bytes(32)),
    ]
    for client, requester, searched, use, data_key in script:
        ping_id = {b"zero": bytes(32), b"given": payload, b"wrong": b"\x01" * 32}[use]
        request = client.announce_request(key, requester, searched, ping_id, data_key)
        answer = peer.ask(client.onion(path, node.endpoint, request))
        assert answer is not None
        opened = client.open_announce(requester, key, answer)
        if requester is alice.real:
            payload = opened.payload
        named = "ping id"
        for owner in (alice, bob):
            if opened.payload == owner.data.public:
                named = "data key"
        shapes.append(
            (len(answer), opened.kind, opened.sendback, opened.is_stored, named, opened.rest)
        )
    request = bob.data_request(own, bob.data.public, b"hello")
    answer = peer.ask(bob.onion(path, node.endpoint, request))
    assert answer is not None
    shapes.append((len(answer), bob.open_data(answer)))
    nobody = bob.data_request(bob.real.public, bob.data.public, b"hello")
    shapes.append(peer.ask(bob.onion(path, node.endpoint, nobody), silent=True))
    for kind in (0x00, 0x02, 0x20, 0x80, 0x84, 0x87, 0xF0):
        refused = bob.onion(path, node.endpoint, bytes((kind,)) + bytes(77))
        shapes.append(peer.ask(refused, silent=True))
    return shapes


def data_announcements(peer: Peer, node: Known) -> list[object]:
    """Stores, keeps alive and retrieves; returns the shapes of the answers."""
    alice = Client("alice")
    key, data_key = node.keys.public, alice.data.public
    shapes: list[object] = []

    def ask(packet: bytes, silent: bool = False) -> bytes:
        answer = peer.ask(packet, silent)
        if answer is None:
            shapes.append(None)
            return b""
        opened = alice.open_data_answer(key, answer)
        body = opened.body
        if opened.kind == 0x94 and len(body) > 32:
            parsed = DataSearchResponseBody.decode(body + opened.ping_id)
            body = body.replace(parsed.token, b"<token>")
        if opened.kind == 0x98:
            body = body[:32]  # a life by uptime, and a clock
        shapes.append((opened.kind, opened.ping_id, body))
        return opened.body

    first = ask(alice.data_search(key, data_key))
    ask(alice.data_search(key, data_key, first))
    token = first[33:65]
    ask(alice.data_retrieve(key, data_key, token), silent=True)
    ask(alice.data_store(key, token, 300, 1, bytes(32)), silent=True)
    ask(alice.data_store(key, bytes(32), 300, 0, b"x"), silent=True)
    ask(alice.data_store(key, token, 300, 0, bytes(513)), silent=True)
    ask(alice.data_store(key, token, 300, 2, b"x"), silent=True)
    ask(alice.data_store(key, token, 300, 0, bytes(512)))
    ask(alice.data_search(key, data_key))
    ask(alice.data_retrieve(key, data_key, token))
    ask(alice.data_store(key, token, 300, 1, hashlib.sha256(bytes(512)).digest()))
    ask(alice.data_store(key, token, 300, 1, bytes(32)), silent=True)
    ask(alice.data_search(key, data_key))
    return shapes


def forwarded(peer: Peer, node: Node, second: Node) -> list[object]:
    """A search through the node to its neighbour, and one that goes to and fro."""
    alice = Client("alice")
    shapes: list[object] = []
    search = alice.data_search(second.keys.public, alice.data.public)
    to_second = ForwardRequest(second.keys.public, search).encode()
    answer = peer.ask(to_second)
    assert answer is not None
    reply = Forwarding.decode(answer)
    opened = alice.open_data_answer(second.keys.public, reply.data)
    shapes.append((reply.sendback, opened.kind, opened.body[:33]))
    shapes.append(peer.ask(ForwardRequest(alice.data.public, search).encode(), silent=True))
    return shapes


def test_the_reference_and_our_module_answer_alike(
    pair: tuple[Reference, Ours, Node, Node],
) -> None:
    reference, ours, node, second = pair
    neighbour = pack_compact(second.endpoint) + second.keys.public
    assert port_of(second.endpoint)
    await_neighbour(reference, node, neighbour)
    ours_announced = announces(ours, node)
    assert announces(reference, node) == ours_announced
    assert ours_announced[0] == (82 + 39, 0x84, b"sendback", 0, "ping id", neighbour)
    assert data_announcements(reference, node) == data_announcements(ours, node)
    assert forwarded(reference, node, second) == forwarded(ours, node, second)


def groups(peer: Peer, endpoint: Endpoint, key: bytes) -> list[object]:
    """Announces five peers of a group; returns the shapes of the answers."""
    path = [Hop(endpoint, key)] * 3
    shapes: list[object] = []
    parts = ((FOUR, b""), (b"", RELAY4), (SIX, RELAY6), (FOUR, RELAY6), (SIX, b""))
    for number, (address, relay) in enumerate(parts, 1):
        client = Client(f"peer {number}")
        group = CHAT + group_announce(bytes([number]) * 32, address, relay)
        request = client.announce_request(key, client.dht, CHAT, group=group)
        answer = peer.ask(client.onion(path, endpoint, request))
        assert answer is not None
        opened = client.open_announce(client.dht, key, answer)
        body = GroupAnnounceResponseBody.decode(bytes(33) + opened.rest)
        others = sorted(found.encode() for found in body.announces)
        shapes.append((len(answer), opened.kind, opened.sendback, opened.is_stored, others))
        # without a group announce, and one that leads nowhere
        empty = client.announce_request(key, client.dht, CHAT, group=b"")
        answer = peer.ask(client.onion(path, endpoint, empty))
        assert answer is not None
        shapes.append(client.open_announce(client.dht, key, answer).rest)
        broken = client.announce_request(key, client.dht, CHAT, group=CHAT + group[32:60])
        shapes.append(peer.ask(client.onion(path, endpoint, broken), silent=True))
    return shapes


def test_a_newer_library_and_our_module_answer_group_announces_alike() -> None:
    server = LibraryClient(found(lambda: peers.library(peers.NEW)), name="server")
    try:
        reference = Reference(server.port)
        expected = groups(reference, from_text(HOST, server.port), server.dht_id)
        reference.door.close()
    finally:
        server.close()
    node = Node("ours", from_text(HOST, 33445))
    ours = Ours(node, from_text(HOST, 1234), [])
    assert groups(ours, node.endpoint, node.keys.public) == expected
    assert node.drops == {"group_announce": 5}
