"""A whole node of dht and onion shards answers the same with 1, 2 and 4 shards of each role."""

from collections import Counter

import pytest

from core.crypto import open_sealed, seal
from core.onion import OnionModule
from tests.simulation import Node, Peer, World

RETURN = bytes(range(177))  # what the hops before us sealed for themselves; opaque to us
NO_PING_ID = bytes(32)


def announce_request(
    peer: Peer, node: Node, ping_id: bytes, searched: bytes, data_key: bytes, number: int
) -> bytes:
    """Returns a 0x83 as it comes to the node from the last hop."""
    nonce = number.to_bytes(24, "big")
    sendback = number.to_bytes(8, "big")
    plain = ping_id + searched + data_key + sendback
    sealed = seal(peer.shared(node.key), nonce, plain)
    return b"\x83" + nonce + peer.key + sealed + RETURN


def announce_answer(peer: Peer, node: Node) -> bytes:
    """Returns the opened text of the one announce response that came."""
    (packet,) = (packet for _, packet in peer.received if packet[0] == 0x8C)
    peer.received.clear()
    assert packet[1:178] == RETURN
    payload = packet[178:]
    assert payload[0] == 0x84
    text = open_sealed(peer.shared(node.key), payload[9:33], payload[33:])
    assert text is not None
    return payload[1:9] + text


def story(shards: int) -> tuple[list[bytes], Counter[str]]:
    """Has 24 clients announce at a node, be found and get data; returns all that came back."""
    world = World(seed=11, roles={"dht": shards, "onion": shards}, real_frames=True)
    node = world.add_node("node")
    for number in range(12):
        world.add_node(f"other{number}", bootstrap=[node], roles={"dht": 1, "onion": 1})
        world.run_for(0.5)
    world.run_for(60.0)
    answers = []
    clients = [world.add_peer(f"client{number}") for number in range(24)]
    for number, client in enumerate(clients):
        search = announce_request(client, node, NO_PING_ID, client.key, client.key, number + 1)
        client.send(node.endpoint, search)
        world.run_for(0.2)
        answer = announce_answer(client, node)
        answers.append(answer)
        assert answer[8] == 0
        again = announce_request(client, node, answer[9:41], client.key, client.key, number + 100)
        client.send(node.endpoint, again)
        world.run_for(0.2)
        answers.append(announce_answer(client, node))
        assert answers[-1][8] == 2  # stored
    for number, client in enumerate(clients):
        seeker = world.add_peer(f"seeker{number}")
        search = announce_request(seeker, node, NO_PING_ID, client.key, bytes(32), number + 200)
        seeker.send(node.endpoint, search)
        world.run_for(0.2)
        answers.append(announce_answer(seeker, node))
        assert answers[-1][8:41] == b"\x01" + client.key  # its data key
        data = b"\x85" + client.key + bytes(24) + seeker.key + b"%100d" % number + RETURN
        seeker.send(node.endpoint, data)
        world.run_for(0.2)
        (arrived,) = (packet for _, packet in client.received if packet[0] == 0x8C)
        client.received.clear()
        assert arrived[178:] == b"\x86" + data[33:-177]
        answers.append(arrived)
    return answers, node.drops()


@pytest.mark.parametrize("shards", [2, 4])
def test_clients_meet_at_a_sharded_node_as_at_one_without_shards(shards: int) -> None:
    whole, drops_of_whole = story(1)
    split, drops_of_split = story(shards)
    assert len(whole) == 24 * 4
    assert split == whole
    assert drops_of_split == drops_of_whole


def test_the_nodes_of_a_network_learn_which_of_them_store_announcements() -> None:
    world = World(seed=12, roles={"dht": 2, "onion": 2})
    first = world.add_node()
    for _ in range(9):
        world.add_node(bootstrap=[first])
    world.run_for(30.0)
    for node in world.nodes:
        for module in node.modules["onion"]:
            assert isinstance(module, OnionModule)
            count, _ = module.nodes.closest_packed(bytes(32), to_lan=False, only_announcers=True)
            assert count == 4
