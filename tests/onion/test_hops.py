"""Three hops there and back, and everything a hop must refuse."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.endpoint import Endpoint, from_text, pack_ip_port
from core.messages import NodeRow
from core.module import NodeOptions
from core.onion.hops import (
    MAX_PACKET,
    MIN_REQUEST_0,
    MIN_REQUEST_1,
    MIN_REQUEST_2,
    REQUEST_PAYLOADS,
    RESPONSE_PAYLOADS,
)
from core.onion.return_keys import OVERLAP_S, ROTATION_S
from tests.onion.client import Client, Hop
from tests.onion.node import START, Network, Node, address

CLIENT = from_text("198.51.100.7", 40000)
DESTINATION = from_text("198.51.100.9", 41000)
PAYLOAD = b"\x83" + bytes(range(200))


def three_nodes(shards: int = 1) -> tuple[list[Node], list[Hop], Network]:
    """Returns nodes B, C and D as a path."""
    nodes = [Node(f"node {number}", address(number), shards) for number in range(3)]
    path = [Hop(node.endpoint, node.keys.public) for node in nodes]
    return nodes, path, Network(*nodes)


def go(
    network: Network, client: Client, path: list[Hop], payload: bytes, now: float = START
) -> list[bytes]:
    """Sends a payload through a path; returns what arrived outside."""
    packet = client.onion(path, DESTINATION, payload)
    network.send(CLIENT, path[0].endpoint, packet, now)
    return network.take()


@pytest.mark.parametrize("shards", [1, 2, 4])
def test_a_payload_goes_through_three_hops_and_its_answer_comes_back(shards: int) -> None:
    _, path, network = three_nodes(shards)
    (arrived,) = go(network, Client("alice"), path, PAYLOAD)
    assert arrived[:-177] == PAYLOAD
    kinds = [packet[0] for _, _, packet in network.carried]
    assert kinds == [0x80, 0x81, 0x82, 0x83]
    answer = b"\x84" + bytes(100)
    network.send(DESTINATION, path[2].endpoint, b"\x8c" + arrived[-177:] + answer, START)
    assert network.arrived == [(CLIENT, answer)]
    assert [packet[0] for _, _, packet in network.carried[4:]] == [0x8C, 0x8D, 0x8E, 0x84]


def test_sizes_shrink_by_the_reference_s_numbers_at_each_hop() -> None:
    _, path, network = three_nodes()
    (arrived,) = go(network, Client("alice"), path, PAYLOAD)
    sizes = [len(packet) for _, _, packet in network.carried]
    assert sizes == [1 + 225 + 201 - 1 + 1, 427 - 8, 427 - 16, 201 + 177]
    assert len(arrived) == 201 + 177


def test_the_least_and_the_greatest_request_pass_and_one_byte_beyond_is_refused() -> None:
    nodes, path, network = three_nodes()
    client = Client("alice")
    assert len(client.onion(path, DESTINATION, b"\x83")) == MIN_REQUEST_0
    assert go(network, client, path, b"\x83")
    largest = b"\x85" + bytes(MAX_PACKET - MIN_REQUEST_0)
    assert len(client.onion(path, DESTINATION, largest)) == MAX_PACKET
    assert go(network, client, path, largest)
    assert not go(network, client, path, b"")
    assert not go(network, client, path, largest + b"\x00")
    assert nodes[0].drops == {"onion_size": 2}


@pytest.mark.parametrize("kind", [0x80, 0x81, 0x82, 0x8C, 0x8D, 0x8E])
def test_every_length_of_garbage_sends_nothing(kind: int) -> None:
    node = Node("n", address(0))
    for size in range(0, 600):
        assert node.handle(bytes((kind,)) + bytes(size), CLIENT, START) == []
    assert sum(node.drops.values()) == 600


def test_minimum_sizes_are_those_of_the_reference() -> None:
    assert (MIN_REQUEST_0, MIN_REQUEST_1, MIN_REQUEST_2) == (227, 219, 211)


def test_s19_only_announce_and_data_payloads_leave_a_path() -> None:
    nodes, path, network = three_nodes()
    client = Client("alice")
    for kind in range(256):
        arrived = go(network, client, path, bytes((kind,)) + bytes(50))
        assert bool(arrived) == (kind in REQUEST_PAYLOADS)
        relayed = client.relay_onion(path, DESTINATION, bytes((kind,)) + bytes(50))
        assert nodes[0].relay_hops.relay_onion_request(relayed, 5, START)
        network.settle(nodes[0], START)
        assert bool(network.take()) == (kind in REQUEST_PAYLOADS)
    assert sorted(REQUEST_PAYLOADS) == [0x83, 0x85, 0x87]
    assert nodes[2].drops == {"onion_payload": 2 * 253}


def test_s19_only_announce_and_data_answers_come_back() -> None:
    nodes, path, network = three_nodes()
    (arrived,) = go(network, Client("alice"), path, PAYLOAD)
    network.carried.clear()
    for kind in range(256):
        answer = bytes((kind,)) + bytes(50)
        network.send(DESTINATION, path[2].endpoint, b"\x8c" + arrived[-177:] + answer, START)
        assert bool(network.take()) == (kind in RESPONSE_PAYLOADS)
    returns = {packet[0]: packet for _, _, packet in network.carried if packet[0] in (0x8D, 0x8E)}
    for node, level, size in ((nodes[1], 0x8D, 118), (nodes[0], 0x8E, 59)):
        for kind in range(256):
            packet = returns[level][: 1 + size] + bytes((kind,)) + bytes(50)
            assert bool(node.handle(packet, DESTINATION, START)) == (kind in RESPONSE_PAYLOADS)
    assert sorted(RESPONSE_PAYLOADS) == [0x84, 0x86, 0x88]
    assert all(node.drops == {"onion_payload": 253} for node in nodes)


def test_a_relay_client_s_request_comes_back_to_its_serial() -> None:
    nodes, path, network = three_nodes(2)
    packet = Client("tcp").relay_onion(path, DESTINATION, PAYLOAD)
    serial = 2**64 - 3
    assert nodes[0].relay_hops.relay_onion_request(packet, serial, START)
    network.settle(nodes[0], START)
    ((target, arrived),) = network.arrived
    assert target == DESTINATION
    answer = b"\x86" + bytes(300)
    network.send(DESTINATION, path[2].endpoint, b"\x8c" + arrived[-177:] + answer, START)
    assert nodes[0].relayed == [(serial, b"\x09" + answer)]


def test_a_relay_request_that_is_too_short_is_the_client_s_fault() -> None:
    node = Node("n", address(0))
    assert not node.relay_hops.relay_onion_request(b"\x08" + bytes(158), 1, START)
    for size in (159, 177, 178, 1359, 1360, 1500):
        assert node.relay_hops.relay_onion_request(b"\x08" + bytes(size), 1, START)
    assert node.settle(START) == []
    assert node.drops == {"target_family": 2, "onion_size": 4}


def test_s23_a_lone_node_is_all_three_hops_of_a_local_relay_client() -> None:
    here = from_text("127.0.0.1", 33445)
    node = Node("lone", here)
    path = [Hop(here, node.keys.public)] * 3
    network = Network(node)
    client = Client("tcp")
    request = client.announce_request(node.keys.public, client.real, client.real.public)
    packet = client.relay_onion(path, here, request)
    assert node.relay_hops.relay_onion_request(packet, 9, START, from_private=True)
    network.settle(node, START)
    ((serial, frame),) = node.relayed
    assert serial == 9
    answer = client.open_announce(client.real, node.keys.public, frame[1:])
    assert (frame[0], answer.kind, answer.is_stored) == (0x09, 0x84, 0)
    assert len(network.carried) == 6  # 81 82 83, 8c 8d 8e, and that is all
    assert not node.drops
    # a stranger may not do that
    assert node.relay_hops.relay_onion_request(packet, 9, START)
    assert node.settle(START) == []
    assert node.drops == {"target_private": 1}


FORBIDDEN = [
    ("0.0.0.0", 33445, "target_forbidden"),
    ("0.1.2.3", 33445, "target_forbidden"),
    ("127.0.0.1", 33445, "target_private"),
    ("127.8.9.1", 22, "target_private"),
    ("10.0.0.5", 33445, "target_private"),
    ("192.168.1.1", 53, "target_private"),
    ("172.16.0.1", 33445, "target_private"),
    ("169.254.169.254", 80, "target_private"),
    ("100.64.0.1", 33445, "target_private"),
    ("224.0.0.1", 33445, "target_forbidden"),
    ("239.255.255.250", 1900, "target_forbidden"),
    ("255.255.255.255", 33445, "target_forbidden"),
    ("8.8.8.8", 0, "target_port_zero"),
    ("::", 33445, "target_forbidden"),
    ("::1", 33445, "target_private"),
    ("::ffff:127.0.0.1", 33445, "target_private"),
    ("::ffff:0.0.0.0", 33445, "target_forbidden"),
    ("ff02::1", 33445, "target_forbidden"),
    ("ff0e::5", 33445, "target_forbidden"),
    ("fe80::1", 33445, "target_private"),
    ("fd00::1", 33445, "target_private"),
]


@pytest.mark.parametrize(("host", "port", "reason"), FORBIDDEN)
def test_s15_no_layer_sends_to_a_forbidden_address(host: str, port: int, reason: str) -> None:
    bad = from_text(host, port)
    packed = pack_ip_port(bad)
    if host.startswith("::ffff:"):  # from_text has made it IPv4; the wire may still say IPv6
        packed = b"\x0a" + bytes(10) + b"\xff\xff" + bad[4:8] + port.to_bytes(2, "big")
    for level in range(3):
        nodes, path, network = three_nodes()
        client = Client("mallory")
        path_bad = list(path)
        target: Endpoint = DESTINATION
        if level < 2:
            path_bad[level + 1] = Hop(bad, path[level + 1].key)
        else:
            target = bad
        network.send(CLIENT, path[0].endpoint, client.onion(path_bad, target, PAYLOAD), START)
        assert network.take() == []
        assert nodes[level].drops == {reason: 1}
        relayed = b"\x08" + bytes(24) + packed + bytes(300)
        assert nodes[0].relay_hops.relay_onion_request(relayed, 1, START)
        assert nodes[0].settle(START) == []


def test_s15_a_local_source_may_name_local_targets_but_no_forbidden_ones() -> None:
    local = from_text("192.168.1.4", 5000)
    for host, port, reason in FORBIDDEN:
        node = Node("n", address(0))
        hop = Hop(node.endpoint, node.keys.public)
        bad = Hop(from_text(host, port), node.keys.public)
        packet = Client("local").onion([hop, bad, hop], DESTINATION, PAYLOAD)
        sent = node.handle(packet, local, START)
        assert bool(sent) == (reason == "target_private")


def test_a_family_the_node_does_not_have_is_refused() -> None:
    for options, host in (
        (NodeOptions(has_ipv6=False), "2001:db8::1"),
        (NodeOptions(has_ipv4=False), "198.51.100.1"),
        (NodeOptions(has_ipv4=False), "::ffff:198.51.100.1"),
        (NodeOptions(udp_port=0), "198.51.100.1"),
    ):
        node = Node("n", address(0), options=options)
        hop = Hop(node.endpoint, node.keys.public)
        away = Hop(from_text(host, 33445), node.keys.public)
        packet = Client("c").onion([hop, away, hop], DESTINATION, PAYLOAD)
        assert node.handle(packet, CLIENT, START) == []
        assert node.drops == {"target_family": 1}


def test_broadcast_addresses_of_our_own_networks_are_refused() -> None:
    here = from_text("203.0.115.255", 0)
    node = Node("n", address(0), options=NodeOptions(lan_targets=(here,)))
    hop = Hop(node.endpoint, node.keys.public)
    away = Hop(from_text("203.0.115.255", 33445), node.keys.public)
    assert node.handle(Client("c").onion([hop, away, hop], CLIENT, PAYLOAD), CLIENT, START) == []
    assert node.drops == {"target_forbidden": 1}


@pytest.mark.parametrize("family", [0, 1, 3, 11, 12, 13, 14, 130, 138, 255])
def test_a_layer_may_only_name_udp_families(family: int) -> None:
    node = Node("n", address(0))
    packed = bytes((family,)) + pack_ip_port(DESTINATION)[1:]
    relayed = b"\x08" + bytes(24) + packed + bytes(300)
    assert node.relay_hops.relay_onion_request(relayed, 1, START)
    assert node.settle(START) == []
    assert node.drops == {"target_family": 1}


def test_s22_no_flipped_bit_of_a_sealed_return_is_forwarded() -> None:
    _, path, network = three_nodes()
    (arrived,) = go(network, Client("alice"), path, PAYLOAD)
    network.send(DESTINATION, path[2].endpoint, b"\x8c" + arrived[-177:] + b"\x84" * 60, START)
    packets = {packet[0]: (target, packet) for _, target, packet in network.carried}
    for kind, size in ((0x8C, 177), (0x8D, 118), (0x8E, 59)):
        target, packet = packets[kind]
        node = network.nodes[target]
        assert node.handle(packet, DESTINATION, START)
        for bit in range(8, 8 * (1 + size)):
            broken = bytearray(packet)
            broken[bit // 8] ^= 1 << bit % 8
            assert node.handle(bytes(broken), DESTINATION, START) == []


def test_s22_a_return_lives_through_the_overlap_and_not_longer() -> None:
    epoch_end = (START // ROTATION_S + 1) * ROTATION_S
    for later, works in ((0, True), (OVERLAP_S - 1, True), (OVERLAP_S, False), (9000, False)):
        _, path, network = three_nodes()
        (arrived,) = go(network, Client("alice"), path, PAYLOAD, epoch_end - 1)
        packet = b"\x8c" + arrived[-177:] + b"\x84answer"
        network.send(DESTINATION, path[2].endpoint, packet, epoch_end + later)
        assert bool(network.take()) == works


def test_s22_a_replay_is_forwarded_one_to_one_to_the_sealed_address() -> None:
    _, path, network = three_nodes()
    (arrived,) = go(network, Client("alice"), path, PAYLOAD)
    for _ in range(50):
        network.send(DESTINATION, path[2].endpoint, b"\x8c" + arrived[-177:] + b"\x84.", START)
    assert network.arrived == [(CLIENT, b"\x84.")] * 50


def test_any_shard_and_a_restarted_worker_open_what_another_sealed() -> None:
    nodes, path, network = three_nodes(4)
    client = Client("alice")
    for _ in range(20):
        (arrived,) = go(network, client, path, PAYLOAD)
        back = b"\x8c" + arrived[-177:] + b"\x84."
        for shard in nodes[2].shards:
            shard.handle_packet(back, CLIENT, START)
        assert len(nodes[2].settle(START)) == 4


def test_a_weak_key_and_a_wrong_key_are_counted() -> None:
    node = Node("n", address(0))
    for kind in (0x80, 0x81, 0x82):
        node.handle(bytes((kind,)) + bytes(400), CLIENT, START)
        node.handle(bytes((kind,)) + b"\x09" * 400, CLIENT, START)
    assert node.drops == {"weak_key": 3, "onion_not_opened": 3}


KINDS = [0x80, 0x81, 0x82, 0x83, 0x85, 0x87, 0x8C, 0x8D, 0x8E, *range(0x90, 0x98)]


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=1500), kind=st.sampled_from(KINDS))
def test_random_bytes_send_nothing_and_raise_nothing_unnamed(data: bytes, kind: int) -> None:
    row = NodeRow(bytes(32), address(3), b"", False, True)
    node = Node("n", address(0), known=[row])
    assert node.handle(bytes((kind,)) + data, CLIENT, START) == [] or (
        kind == 0x90 and data[:32] == bytes(32)
    )
