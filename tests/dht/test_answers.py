"""What every shard answers, and what it refuses: on raw slices, equal to the declared packets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.crypto import open_sealed
from core.dht.asking import read_nodes
from core.endpoint import Endpoint, from_text
from core.messages import Candidate, TableFull
from core.packets.dht import (
    NodesRequest,
    NodesResponse,
    NodesResponseBody,
    PingRequest,
    PingResponse,
    PingResponseBody,
)
from core.wire import WireError
from tests.dht.actors import good_friend, introduce, key_at, module_of, packed, public
from tests.dht.test_snapshot import row
from tests.simulation import Node, Peer, World


@pytest.fixture
def world() -> World:
    return World(seed=1, roles={"dht": 2})


@pytest.fixture
def node(world: World) -> Node:
    return world.add_node("node")


@pytest.fixture
def peer(world: World) -> Peer:
    return world.add_peer()


def ask(world: World, peer: Peer, node: Node, packet: bytes) -> list[tuple[Endpoint, bytes]]:
    """Sends a packet and returns what came back within a second, without candidate pings."""
    peer.received.clear()
    peer.send(node.endpoint, packet)
    world.run_for(0.5)
    return [(source, packet) for source, packet in peer.received if packet[0] not in (0x00, 0x02)]


def test_a_ping_is_answered_with_its_id(world: World, node: Node, peer: Peer) -> None:
    ((source, answer),) = ask(world, peer, node, peer.sealed(0x00, node.key, b"\x0012345678"))
    assert source == node.endpoint
    response = PingResponse.decode(answer)
    assert response.sender == node.key
    body = PingResponseBody.open(peer.shared(node.key), response.nonce, response.sealed)
    assert body.ping_id == b"12345678"


def test_the_raw_layout_is_that_of_the_declared_packets(node: Node, peer: Peer) -> None:
    ping = peer.sealed(0x00, node.key, b"\x0012345678")
    assert PingRequest.decode(ping).encode() == ping
    nodes = peer.sealed(0x02, node.key, bytes(32) + b"12345678")
    assert NodesRequest.decode(nodes).encode() == nodes


def test_a_nodes_request_to_a_node_that_knows_nobody_is_answered_with_none(
    world: World, node: Node, peer: Peer
) -> None:
    request = peer.sealed(0x02, node.key, bytes(32) + b"12345678")
    ((_, answer),) = ask(world, peer, node, request)
    assert len(answer) == 82
    assert open_sealed(peer.shared(node.key), answer[33:57], answer[57:]) == b"\x0012345678"


def test_a_nodes_answer_holds_the_closest_nodes_first_and_the_request_id(
    world: World, node: Node, peer: Peer
) -> None:
    rows = tuple(row(key_at(node.key, 2, n), public(n)) for n in range(6))
    for shard in range(2):
        module_of(node, shard).snapshot_of_table.handle_full(TableFull(1, node.key, rows))
    target = key_at(node.key, 2, 4)
    ((_, answer),) = ask(world, peer, node, peer.sealed(0x02, node.key, target + b"12345678"))
    response = NodesResponse.decode(answer)
    body = NodesResponseBody.open(peer.shared(node.key), response.nonce, response.sealed)
    number = int.from_bytes(target, "big")
    nearest = sorted(
        (each.key for each in rows), key=lambda key: int.from_bytes(key, "big") ^ number
    )[:4]
    assert [bytes(each.key) for each in body.nodes] == nearest
    assert body.request_id == b"12345678"


def test_a_requester_outside_learns_no_local_address(world: World) -> None:
    node = world.add_node("both")
    inside = good_friend(world, "inside", endpoint=from_text("192.168.1.9", 33445))
    introduce(world, inside, node)
    world.run_for(0.2)
    outside = world.add_peer("outside")
    local = world.add_peer("local", endpoint=from_text("10.0.0.9", 33445))
    for asker, expected in (
        (outside, b"\x00"),
        (local, b"\x01" + packed(inside.key, inside.endpoint)),
    ):
        asker.send(node.endpoint, asker.sealed(0x02, node.key, bytes(32) + b"12345678"))
        world.run_for(0.5)
        assert asker.opened(0x04) == [expected + b"12345678"]


@pytest.mark.parametrize(
    ("kind", "plain", "reason"),
    [
        (0x00, b"\x01" + b"12345678", "dht_ping_type"),  # an answer of ours, played back
        (0x00, b"\x00" + b"1234567", "dht_ping_size"),
        (0x00, b"\x00" + b"123456789", "dht_ping_size"),
        (0x02, bytes(32) + b"1234567", "dht_nodes_size"),
        (0x02, bytes(32) + b"123456789", "dht_nodes_size"),
    ],
)
def test_a_misshapen_request_is_counted_and_not_answered(
    world: World, node: Node, peer: Peer, kind: int, plain: bytes, reason: str
) -> None:
    assert ask(world, peer, node, peer.sealed(kind, node.key, plain)) == []
    assert node.drops()[reason] == 1


@pytest.mark.parametrize(("kind", "size"), [(0x00, 82), (0x02, 113)])
def test_a_request_that_does_not_open_is_counted(
    world: World, node: Node, peer: Peer, kind: int, size: int
) -> None:
    assert ask(world, peer, node, bytes((kind,)) + peer.key + bytes(size - 33)) == []
    assert node.drops()["dht_box"] == 1


@pytest.mark.parametrize(("kind", "size"), [(0x00, 82), (0x02, 113)])
def test_a_request_with_a_key_of_low_order_is_counted(
    world: World, node: Node, peer: Peer, kind: int, size: int
) -> None:
    assert ask(world, peer, node, bytes((kind,)) + bytes(size - 1)) == []
    assert node.drops()["dht_weak_key"] == 1


@pytest.mark.parametrize(("kind", "size"), [(0x00, 82), (0x02, 113)])
def test_a_request_in_our_own_name_is_counted(
    world: World, node: Node, peer: Peer, kind: int, size: int
) -> None:
    assert ask(world, peer, node, bytes((kind,)) + node.key + bytes(size - 33)) == []
    assert node.drops()["dht_own_key"] == 1


@pytest.mark.parametrize("shard", [0, 1])
def test_the_table_of_handlers_has_the_kinds_of_this_shard_alone(node: Node, shard: int) -> None:
    module = module_of(node, shard)
    kinds = {kind for kind, handler in enumerate(module.handlers) if handler is not None}
    assert kinds == ({0, 1, 2, 4, 0x20, 0x21, 0x94} if shard == 0 else {0, 2})
    before = module.out.drops.total()
    for kind in range(256):
        if kind not in kinds:
            module.handle_packet(bytes((kind,)) * 100, from_text("192.0.2.1", 1), 1.0)
    module.handle_packet(b"", from_text("192.0.2.1", 1), 1.0)
    assert module.out.drops.total() == before + 257 - len(kinds)


def test_kinds_of_the_table_are_refused_on_other_shards(world: World, node: Node) -> None:
    module_of(node, 1).handle_packet(b"\x04" + bytes(100), public(1), world.now)
    module_of(node, 1).handle_message(Candidate(bytes(32), public(1)), world.now)
    module_of(node, 1).handle_packet(b"", public(1), world.now)
    assert node.drops()["dht_wrong_shard"] == 3
    module_of(node, 0).handle_packet(b"\x77", public(1), world.now)
    module_of(node, 0).handle_packet(b"", public(1), world.now)
    assert node.drops()["dht_unknown_kind"] == 2


node_lists = st.lists(
    st.sampled_from(
        [
            packed(b"\x01" * 32, public(1)),
            packed(b"\x02" * 32, from_text("2001:db8::1", 1)),
            b"\x82" + bytes(38),
            b"\x0b" + bytes(38),
            bytes(5),
        ]
    ),
    max_size=6,
).map(b"".join)


@settings(deadline=None)
@given(st.integers(0, 6), node_lists)
def test_nodes_are_read_as_by_the_declared_body(count: int, nodes: bytes) -> None:
    body = bytes((count,)) + nodes + b"12345678"
    try:
        declared = [(node.key, node.endpoint) for node in NodesResponseBody.decode(body).nodes]
    except WireError:
        declared = None
    try:
        read = read_nodes(count, nodes)
    except WireError:
        read = None
    assert (read if count <= 4 else None) == declared
