"""Data announcements and forwarding: search, store, keep alive and retrieve, also by others."""

import hashlib

import pytest

from core.endpoint import Endpoint, from_text, pack_compact
from core.messages import NodeRow
from core.onion.data_store import DataStore
from core.packets.data import DataSearchResponseBody
from core.packets.forwarding import Forwarding, ForwardReply, ForwardRequest
from tests.onion.client import Client, DataAnswer
from tests.onion.node import START, Network, Node, address
from tests.onion.test_announce import rows

HOME = from_text("198.51.100.50", 50000)
ELSEWHERE = from_text("198.51.100.51", 50000)
LATE = START + 10_000  # long enough up for the longest life


def ask(
    node: Node, client: Client, packet: bytes, now: float = LATE, source: Endpoint = HOME
) -> DataAnswer | None:
    """Sends one request; opens the answer, or returns None where there is none."""
    sent = node.handle(packet, source, now)
    if not sent:
        return None
    ((target, answer),) = sent
    assert target == source
    opened = client.open_data_answer(node.keys.public, answer)
    assert opened.kind == packet[0] + 1
    return opened


def search(
    node: Node, client: Client, now: float = LATE, source: Endpoint = HOME
) -> DataSearchResponseBody:
    """Searches the client's own data key."""
    packet = client.data_search(node.keys.public, client.data.public)
    answer = ask(node, client, packet, now, source)
    assert answer is not None
    return DataSearchResponseBody.decode(answer.body + answer.ping_id)


def store(
    node: Node,
    client: Client,
    content: bytes,
    kind: int = 0,
    timeout: int = 900,
    now: float = LATE,
) -> int | None:
    """Searches and stores; returns the granted seconds, or None where it is refused."""
    token = search(node, client, now).token
    packet = client.data_store(node.keys.public, token, timeout, kind, content)
    answer = ask(node, client, packet, now)
    if answer is None:
        return None
    assert answer.body[:32] == client.data.public
    assert int.from_bytes(answer.body[36:], "big") == int(1.6e9 + now)
    return int.from_bytes(answer.body[32:36], "big")


def retrieve(node: Node, client: Client, now: float = LATE) -> bytes | None:
    """Searches and retrieves."""
    token = search(node, client, now).token
    packet = client.data_retrieve(node.keys.public, client.data.public, token)
    answer = ask(node, client, packet, now)
    return None if answer is None else answer.body


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_data_is_stored_found_kept_alive_and_retrieved(shards: int) -> None:
    node = Node("n", address(0), shards, known=rows(9))
    for number in range(6):
        client = Client(f"client {number}")
        first = search(node, client)
        assert (first.exists, first.accepts, first.ping_id) == (0, 1, b"pingping")
        assert len(first.nodes) == 4
        assert all(found.key[0] % 2 for found in first.nodes)  # announcers only
        assert store(node, client, b"hello") == 900
        second = search(node, client)
        assert (second.exists, second.data_hash) == (1, hashlib.sha256(b"hello").digest())
        assert retrieve(node, client) == client.data.public + b"\x01hello"
        assert store(node, client, hashlib.sha256(b"hello").digest(), 1, now=LATE + 800) == 900
        assert retrieve(node, client, LATE + 1699) == client.data.public + b"\x01hello"
        assert search(node, client, LATE + 1700).exists == 0
    assert not node.drops


def test_an_unchanged_answer_is_short() -> None:
    node, client = Node("n", address(0)), Client("alice")
    node_key, key = node.keys.public, client.data.public
    full = ask(node, client, client.data_search(node_key, key))
    assert full is not None
    short = ask(node, client, client.data_search(node_key, key, full.body))
    assert short is not None
    assert short.body == key
    store(node, client, b"new")
    changed = ask(node, client, client.data_search(node_key, key, full.body))
    assert changed is not None
    assert changed.body[32] == 1


def test_a_keep_alive_with_another_hash_deletes() -> None:
    node, client = Node("n", address(0)), Client("alice")
    assert store(node, client, bytes(32), 1) is None
    store(node, client, b"hello")
    assert store(node, client, b"short", 1) is None
    assert store(node, client, bytes(32), 1) is None
    assert search(node, client).exists == 0
    assert node.drops == {"data_not_stored": 1, "data_store_size": 1, "data_other_hash": 1}


def test_a_life_is_a_quarter_of_the_uptime_within_bounds() -> None:
    client = Client("alice")
    for uptime, asked, granted in (
        (0, 900, 10),
        (39, 900, 10),
        (44, 900, 11),
        (400, 900, 100),
        (400, 60, 60),
        (3600, 5000, 900),
        (90_000, 2**32 - 1, 900),
    ):
        node = Node("n", address(0))
        assert store(node, client, b"x", timeout=asked, now=START + uptime) == granted
        assert search(node, client, START + uptime + granted - 1).exists == 1
        assert search(node, client, START + uptime + granted).exists == 0
    node = Node("n", address(0))
    assert store(node, client, b"x", timeout=0) == 0
    assert search(node, client).exists == 0


def test_a_token_is_bound_to_key_requester_address_and_a_minute() -> None:
    alice = Client("alice")
    start = LATE // 60 * 60
    node = Node("n", address(0))
    token = search(node, alice, start).token
    store(node, alice, b"data", now=start)
    packet = alice.data_retrieve(node.keys.public, alice.data.public, token)
    assert ask(node, alice, packet, start + 119) is not None
    assert ask(node, alice, packet, start + 120) is None
    assert ask(node, alice, packet, start, ELSEWHERE) is None
    bob = Client("bob")
    packet = bob.data_retrieve(node.keys.public, alice.data.public, token)
    assert ask(node, bob, packet, start) is None
    packet = alice.data_retrieve(node.keys.public, bob.data.public, token)
    assert ask(node, alice, packet, start) is None
    packet = alice.data_store(node.keys.public, bytes(32), 60, 0, b"x")
    assert ask(node, alice, packet, start) is None
    assert node.drops == {"data_token": 5}


def test_what_is_misshapen_is_refused_and_counted() -> None:
    node, alice = Node("n", address(0)), Client("alice")
    key, token = alice.data.public, search(node, alice).token
    assert store(node, alice, bytes(512)) == 900
    assert store(node, alice, bytes(513)) is None
    assert store(node, alice, b"x", 2) is None
    assert ask(node, alice, alice._framed(0x93, node.keys.public, key + b"x", bytes(8))) is None
    short = alice._framed(0x95, node.keys.public, key + b"\x00", bytes(8))
    assert ask(node, alice, short) is None
    one = alice._framed(0x95, node.keys.public, key + b"\x01" + token, bytes(8))
    assert ask(node, alice, one) is None
    assert ask(node, alice, alice._framed(0x97, node.keys.public, key, bytes(8))) is None
    forged = key + bytes(24 + 16 + 37)
    assert ask(node, alice, alice._framed(0x97, node.keys.public, forged, bytes(8))) is None
    assert ask(node, alice, b"\x93" + bytes(112)) is None
    assert ask(node, alice, b"\x93" + b"\x09" * 112) is None
    assert ask(node, alice, b"\x93" + bytes(111)) is None
    assert node.drops == {
        "data_store_size": 2,
        "data_store_type": 1,
        "data_search_size": 1,
        "data_retrieve_size": 2,
        "data_store_not_opened": 1,
        "weak_key": 1,
        "data_announce_not_opened": 1,
        "data_announce_size": 1,
    }


def test_the_store_is_bounded_and_keeps_the_nearest() -> None:
    held = DataStore(bytes(32), capacity=100)
    keys = [(i * 2654435761 % 2**32).to_bytes(4, "big") + bytes(28) for i in range(1000)]
    for key in keys:
        assert held.would_accept(key, LATE) == held.put(key, b"x", LATE + 10, LATE)
    assert len(held) == 100
    assert [key for key in sorted(keys) if held.get(key, LATE)] == sorted(keys)[:100]
    assert not held.would_accept(b"\xff" * 32, LATE)
    assert held.would_accept(sorted(keys)[50], LATE)
    held.prolong(sorted(keys)[0], LATE + 20)
    assert held.put(b"\xff" * 32, b"y", LATE + 30, LATE + 10)  # expired ones go first
    assert len(held) == 100
    assert held.expire(LATE + 10, 1000) == 98
    assert held.get(b"\xff" * 32, LATE + 10)


def test_a_full_store_says_that_it_would_not_accept() -> None:
    node = Node("n", address(0), data_capacity=1)
    own = int.from_bytes(node.keys.public, "big")
    clients = [Client(f"client {number}") for number in range(4)]
    clients.sort(key=lambda client: own ^ int.from_bytes(client.data.public, "big"))
    assert store(node, clients[1], b"x") == 900
    assert search(node, clients[2]).accepts == 0
    assert store(node, clients[2], b"x") is None
    assert node.drops == {"data_store_full": 1}
    assert search(node, clients[0]).accepts == 1
    assert store(node, clients[0], b"x") == 900
    assert search(node, clients[1]).exists == 0


def chain(length: int, shards: int = 1) -> tuple[list[Node], Network]:
    """Nodes of which each knows all others."""
    names = [f"node {number}" for number in range(length)]
    alone = [Node(name, address(number)) for number, name in enumerate(names)]
    known = [NodeRow(node.keys.public, node.endpoint, b"", False, True) for node in alone]
    nodes = [Node(name, address(i), shards, known=known) for i, name in enumerate(names)]
    return nodes, Network(*nodes)


def nested(nodes: list[Node], data: bytes) -> bytes:
    """A forward request through all but the first node."""
    for node in reversed(nodes[1:]):
        data = ForwardRequest(node.keys.public, data).encode()
    return data


@pytest.mark.parametrize("shards", [1, 2, 4])
@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_request_is_forwarded_through_a_chain_and_the_answer_comes_back(
    length: int, shards: int
) -> None:
    nodes, network = chain(length, shards)
    alice = Client("alice")
    last = nodes[-1].keys.public
    results = []
    steps = ["search", "store", "retrieve"]
    token = b""
    for step in steps:
        packet = {
            "search": alice.data_search(last, alice.data.public),
            "store": alice.data_store(last, token, 900, 0, b"forwarded"),
            "retrieve": alice.data_retrieve(last, alice.data.public, token),
        }[step]
        network.send(HOME, nodes[0].endpoint, nested(nodes, packet), LATE)
        ((target, arrived),) = network.arrived
        network.take()
        assert target == HOME
        reply = Forwarding.decode(arrived)
        assert reply.sendback == b""
        answer = alice.open_data_answer(last, reply.data)
        if step == "search":
            token = DataSearchResponseBody.decode(answer.body + answer.ping_id).token
        results.append(answer)
    assert [answer.kind for answer in results] == [0x94, 0x98, 0x96]
    assert results[2].body == alice.data.public + b"\x01forwarded"
    assert all(not node.drops for node in nodes)


def test_a_token_is_bound_to_the_way_a_request_was_forwarded() -> None:
    nodes, network = chain(2)
    alice = Client("alice")
    last = nodes[1].keys.public
    search_packet = alice.data_search(last, alice.data.public)
    network.send(HOME, nodes[0].endpoint, nested(nodes, search_packet), LATE)
    (arrived,) = network.take()
    answer = alice.open_data_answer(last, arrived[2:])
    token = DataSearchResponseBody.decode(answer.body + answer.ping_id).token
    packet = alice.data_store(last, token, 900, 0, b"x")
    network.send(ELSEWHERE, nodes[0].endpoint, nested(nodes, packet), LATE)
    network.send(HOME, nodes[1].endpoint, packet, LATE)
    assert network.take() == []
    assert nodes[1].drops == {"data_token": 2}


def test_a_forwarder_sends_to_nodes_it_knows_and_no_further_than_four() -> None:
    nodes, network = chain(7)
    alice = Client("alice")
    for count in range(1, 7):
        packet = nested(nodes[: count + 1], alice.data_search(nodes[count].keys.public, bytes(32)))
        network.send(HOME, nodes[0].endpoint, packet, LATE)
        assert len(network.take()) == (count <= 4)
    assert nodes[0].drops == {"forward_chain": 2}
    unknown = ForwardRequest(alice.data.public, b"x").encode()
    assert nodes[0].handle(unknown, HOME, LATE) == []
    large = ForwardRequest(nodes[1].keys.public, bytes(1792)).encode()
    assert len(nodes[0].handle(large, HOME, LATE)) == 1
    assert nodes[0].handle(large + b"x", HOME, LATE) == []
    assert nodes[0].handle(large[:32], HOME, LATE) == []
    assert nodes[0].drops == {"forward_chain": 2, "forward_unknown_node": 1, "forward_size": 2}


def test_a_forwarder_takes_the_ipv6_address_first() -> None:
    six = from_text("2001:db8::1", 9)
    known = [NodeRow(b"k" * 32, address(1), six, False, False)]
    node = Node("n", address(0), known=known)
    ((target, packet),) = node.handle(b"\x90" + b"k" * 32 + b"data", HOME, LATE)
    assert target == six
    sent = Forwarding.decode(packet)
    assert sent.data == b"data"
    assert len(sent.sendback) == 32 + 1 + 7
    assert sent.sendback[32:] == b"\x00" + pack_compact(HOME)


def test_sendbacks_are_tagged_bound_and_live_an_hour() -> None:
    nodes, _ = chain(2)
    start = LATE // 3600 * 3600
    ((_, packet),) = nodes[0].handle(nested(nodes, b"data"), HOME, start)
    sendback = Forwarding.decode(packet).sendback
    reply = ForwardReply(sendback, b"answer").encode()
    for later, works in ((0, True), (7199, True), (7200, False)):
        sent = nodes[0].handle(reply, ELSEWHERE, start + later)
        assert sent == ([(HOME, b"\x91\x00answer")] if works else [])
    for bit in range(8 * 2, 8 * (2 + len(sendback))):
        broken = bytearray(reply)
        broken[bit // 8] ^= 1 << bit % 8
        assert nodes[0].handle(bytes(broken), ELSEWHERE, start) == []
    for cut in range(len(reply) - len(b"answer")):
        assert nodes[0].handle(reply[:cut], ELSEWHERE, start) == []
    assert nodes[0].handle(b"\x92" + bytes([255]) + bytes(400), HOME, start) == []


def test_forwarded_things_that_nobody_asked_for_are_dropped() -> None:
    node = Node("n", address(0))
    for packet, reason in (
        (b"\x91", "forward_size"),
        (b"\x91\x05abcd", "forward_size"),
        (b"\x91\x00" + bytes(200), "forward_not_asked"),
        (b"\x91\x05abcde", "forward_not_asked"),
        (b"\x91\x05abcde\x83" + bytes(353), "forward_kind"),
        (b"\x91\x05abcde\x94" + bytes(353), "forward_kind"),
        (b"\x91\xff" + bytes(255) + b"\x93" + bytes(353), "forward_size"),
    ):
        node.boxes[0].drops.clear()
        assert node.handle(packet, HOME, LATE) == []
        assert node.drops == {reason: 1}


@pytest.mark.parametrize("shards", [1, 2])
def test_a_relay_client_s_request_is_forwarded_and_answered_to_its_serial(shards: int) -> None:
    nodes, network = chain(2, shards)
    alice = Client("alice")
    last = nodes[1].keys.public
    data = alice.data_search(last, alice.data.public)
    packet = b"\x0a" + pack_compact(nodes[1].endpoint) + data
    assert nodes[0].relay_forwarding.relay_forward_request(packet, 77, LATE)
    network.settle(nodes[0], LATE)
    ((serial, frame),) = nodes[0].relayed
    assert (serial, frame[0]) == (77, 0x0B)
    assert alice.open_data_answer(last, frame[1:]).kind == 0x94
    assert not network.arrived


def test_s15_a_relay_client_forwards_to_no_forbidden_address() -> None:
    node = Node("n", address(0))
    forward = node.relay_forwarding.relay_forward_request
    for host, port in (("127.0.0.1", 80), ("10.1.1.1", 80), ("224.0.0.1", 80), ("8.8.8.8", 0)):
        assert forward(b"\x0a" + pack_compact(from_text(host, port)) + b"x", 1, LATE)
    assert node.settle(LATE) == []
    assert node.drops == {"target_private": 2, "target_forbidden": 1, "target_port_zero": 1}
    local = b"\x0a" + pack_compact(from_text("127.0.0.1", 80))
    assert forward(local + b"x", 1, LATE, True)
    assert len(node.settle(LATE)) == 1
    for malformed in (b"\x0a", b"\x0a\x02abc", b"\x0a\x82" + bytes(40), local + bytes(1793)):
        assert not forward(malformed, 1, LATE, True)


def test_a_request_for_a_kind_of_another_module_is_named() -> None:
    node = Node("n", address(0))
    for kind in (0x00, 0x84, 0x86, 0x94, 0x96, 0x98, 0xF0, 0xFF):
        assert node.handle(bytes((kind,)) + bytes(40), HOME, LATE) == []
    assert node.drops == {"onion_kind": 8}
    assert node.handle(b"", HOME, LATE) == []
    assert node.drops["wire"] == 1
